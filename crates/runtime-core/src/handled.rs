//! A handler's code in the child: called by its last steps, and the one place after the clone where memory is allocated. Not here: the steps
//! (`init::handler`), handlers (`api::handler`).
//!
//! The rule that the child allocates nothing ends where a handler's own code begins: an engine cannot keep it. It need not, either. The rule
//! is for children of threaded programs, in which another thread may have held the allocator's lock when the process was cloned; a handler
//! is refused where the runtime has more than one thread (`engine::handler`). The child is a copy of the whole process (no CLONE_VM), so what
//! the handler does to its memory concerns nobody else. And by then it is what the container's program would be: in its namespaces, its
//! cgroup and its root, with its ids, capabilities, filter and limits.

use crate::api::{HandlerProcess, HandlerStart};
use crate::sys::Argv;
use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exit status of a process whose handler panicked where panics unwind: that of SIGABRT, which ends it elsewhere.
const PANICKED: i32 = 128 + libc::SIGABRT;

/// What the handler is told. `exe` and `home` (`HOME=…`) are empty where nothing was looked up.
pub(crate) fn start(exe: &CStr, argv: &Argv, envp: &Argv, home: &CStr) -> HandlerStart {
    let strings = |list: &Argv| list.strings().iter().map(|s| owned(s)).collect::<Vec<_>>();
    let args = strings(argv);
    let mut env = strings(envp);
    if envp.reserved().is_some() && !home.is_empty() {
        env.pop();
        env.push(owned(home));
    }
    let program = if exe.is_empty() { args.first().cloned() } else { Some(owned(exe)) };
    HandlerStart { program: program.unwrap_or_default().into(), args, env }
}

fn owned(s: &CStr) -> OsString {
    OsString::from_vec(s.to_bytes().to_vec())
}

/// Has the handler load the program; what is wrong, if anything.
pub(crate) fn load(handler: &mut dyn HandlerProcess, start: &HandlerStart) -> Option<String> {
    match outcome(|| handler.load(start)) {
        Some(done) => done.err().map(|e| e.to_string()),
        None => Some("the handler panicked".to_owned()),
    }
}

/// Has the handler run the program; the exit status.
pub(crate) fn run(handler: &mut dyn HandlerProcess, start: &HandlerStart) -> i32 {
    outcome(|| handler.run(start)).unwrap_or(PANICKED)
}

/// Code of a handler must not unwind into a copy of the runtime; `None` when it panicked.
fn outcome<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_home_that_was_found_takes_the_place_of_the_default() {
        let argv = Argv::new(vec![c"x.wasm".into(), c"-a".into()]);
        let envp = || Argv::with_reserved(vec![c"A=1".into()], c"HOME=/".into());
        let s = start(c"/bin/x.wasm", &argv, &envp(), c"HOME=/root");
        assert_eq!((s.program.as_path(), s.args.len()), (Path::new("/bin/x.wasm"), 2));
        assert_eq!(s.env, ["A=1", "HOME=/root"]);
        let s = start(c"", &argv, &envp(), c"");
        assert_eq!((s.program.as_path(), &s.env[1]), (Path::new("x.wasm"), &OsString::from("HOME=/")));
        assert_eq!(start(c"", &argv, &Argv::new(vec![c"HOME=/h".into()]), c"").env, ["HOME=/h"]);
    }
}
