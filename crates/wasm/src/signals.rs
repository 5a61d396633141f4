//! Signals that end the program. Not here: signals to the program itself, of which WASI has none.
#![allow(unsafe_code)]

/// What ends a process by default, unless it is the first of its pid namespace, to which the kernel gives no signal that it has no handler for.
const ENDING: [i32; 7] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGTERM];

extern "C" fn end(signal: i32) {
    // SAFETY: _exit may be called by a signal handler (signal-safety(7)).
    unsafe { libc::_exit(128 + signal) }
}

/// Makes the first process of a pid namespace end by signals as any other would, with the exit status that shells give for them: WebAssembly
/// has no way to install a handler, and would have to be killed.
pub(crate) fn end_the_first_process() {
    if std::process::id() != 1 {
        return;
    }
    for signal in ENDING {
        // SAFETY: plain old data, for which all zeros is a value: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = end as extern "C" fn(i32) as libc::sighandler_t;
        // SAFETY: `action` names a function of the type that a handler without SA_SIGINFO has; the old action is not asked for.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}
