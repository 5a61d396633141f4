//! What the seccomp filter of the container says to system calls, found by making them, and without one being done: a thread adds a
//! filter that hands every call to a listener. The kernel takes the stricter of two answers, so what the container's filter refuses is
//! refused by it, and what it allows comes to the listener, which answers with a number that no call gives. Not here: filters that
//! kill or trap, which end the probe.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::libc;
use serde_json::{Value, json};

/// The error number of an allowed call.
pub(crate) const ALLOWED: i32 = 4000;
/// uretprobe(2) and uprobe(2), which the kernel takes from its own trampolines past any filter.
const NO_CALLS: [i64; 2] = [335, 336];

/// Values that profiles compare with, and neighbours.
const INTERESTING: [u64; 16] =
    [0, 1, 2, 8, 9, 10, 16, 40, 0x2_0000, 0x2_0008, 0x1000_0000, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0010, 0x1_ffff_ffff, u64::MAX];

/// Argument lists: the interesting values in the first place and, in another order, in the others.
fn samples() -> Vec<[u64; 6]> {
    let at = |n: usize| INTERESTING[n % INTERESTING.len()];
    (0..INTERESTING.len() * 2).map(|n| std::array::from_fn(|place| at(n + place * (3 + n / INTERESTING.len())))).collect()
}

/// For every number below `count` the error numbers that the argument lists got; [`ALLOWED`] for what is allowed.
pub(crate) fn all(count: i64) -> Result<Value, String> {
    let samples = samples();
    let calls: Vec<i64> = (0..count).filter(|n| !NO_CALLS.contains(n)).collect();
    let (listener, done) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
    let results: Arc<[AtomicI32]> = (0..calls.len() * samples.len()).map(|_| AtomicI32::new(0)).collect();
    let (theirs, finished, asked, into) = (listener.clone(), done.clone(), (calls.clone(), samples.clone()), results.clone());
    // Never joined: from the filter on it can end in no way but with the process.
    std::thread::spawn(move || {
        // From here on there are only the calls under test: nothing allocates, nothing locks.
        let fd = install();
        theirs.store(fd, Ordering::SeqCst);
        if fd > 0 {
            let arguments = asked.0.iter().flat_map(|number| asked.1.iter().map(move |args| (*number, args)));
            for (slot, (number, args)) in into.iter().zip(arguments) {
                slot.store(outcome(number, args), Ordering::SeqCst);
            }
        }
        finished.store(true, Ordering::SeqCst);
        loop {
            std::hint::spin_loop();
        }
    });
    let fd = loop {
        match listener.load(Ordering::SeqCst) {
            0 => std::thread::yield_now(),
            fd => break fd,
        }
    };
    if fd < 0 {
        return Err(format!("seccomp: error {}", -fd));
    }
    while !done.load(Ordering::SeqCst) {
        answer(fd);
    }
    let of =
        |n: usize| results[n * samples.len()..(n + 1) * samples.len()].iter().map(|slot| slot.load(Ordering::SeqCst)).collect::<Vec<_>>();
    Ok(calls.iter().enumerate().map(|(n, number)| json!([number, of(n)])).collect())
}

/// Adds the filter to this thread; the listener, or a negative error number.
fn install() -> RawFd {
    let mut program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::SECCOMP_RET_USER_NOTIF }];
    let fprog = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: `fprog` describes `program`, and both live across the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &raw const fprog)
    };
    if fd < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap_or(1) } else { fd as RawFd }
}

/// Makes a call that is not done, whoever answers it.
fn outcome(number: i64, args: &[u64; 6]) -> i32 {
    let a = args.map(|value| value as i64);
    // SAFETY: under the two filters no call reaches the kernel's tables, so no argument is used.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { -1 }
}

/// Answers the next notification, if one comes soon.
fn answer(fd: RawFd) {
    let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as said; then plain old data that the ioctls fill and read, zeroed as the kernel demands.
    unsafe {
        if libc::poll(&mut ready, 1, 20) != 1 {
            return;
        }
        let mut seen: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut seen) == 0 {
            let response = libc::seccomp_notif_resp { id: seen.id, val: 0, error: -ALLOWED, flags: 0 };
            libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &response);
        }
    }
}
