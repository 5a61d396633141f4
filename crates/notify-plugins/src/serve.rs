//! The process that answers: how it is made, what it keeps, its loop and its end. Not here: the plugins (`loaded`).
#![allow(unsafe_code)]

use crate::loaded::{Conf, Exchange, Handled, Plugin};
use runtime_core::api::PluginsRequest;
use runtime_core::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{Error as Io, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` (linux/seccomp.h).
const CONTINUE: u32 = 1;

/// Where the descriptors are in the process that answers.
const NOTIFY: c_int = 3;
const WORDS: c_int = 4;

/// Starts it, and returns when its plugins are loaded.
///
/// # Errors
/// What a plugin could not do; there is no process then.
pub(crate) fn in_background(plugins: &[PathBuf], request: &PluginsRequest<'_>, notify: &OwnedFd) -> Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("a path contains a NUL byte"));
    let texts = [text(request.root)?, text(Path::new(request.id.as_str()))?, text(request.bundle)?, text(request.config)?];
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(Io::from).context(|| "pipe")?;
    // SAFETY: what follows in the child may allocate, because the program that makes containers has one thread, which the documentation of
    // the trait demands.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // The one between the two ends at once, so that nobody has to wait for the one that answers.
        // SAFETY: as above.
        let status = match unsafe { libc::fork() } {
            0 => alone(plugins, &texts, notify, &theirs),
            -1 => 1,
            _ => 0,
        };
        // SAFETY: ends the process without what the runtime has to do at its own end.
        unsafe { libc::_exit(status) };
    }
    drop(theirs);
    if child < 0 {
        return Err(std::io::Error::last_os_error()).context(|| "fork the process of the seccomp notify plugins");
    }
    // SAFETY: takes no pointer that is not null.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    said(ours.into())
}

/// What the process says of its beginning: a byte for success, else a text, and nothing where it has died.
fn said(mut pipe: File) -> Result<()> {
    let mut words = Vec::new();
    pipe.read_to_end(&mut words).context(|| "read what the seccomp notify plugins say")?;
    match words.as_slice() {
        b"\0" => Ok(()),
        [] => Err(Error::other("the process of the seccomp notify plugins has died")),
        text => Err(Error::other(String::from_utf8_lossy(text).into_owned())),
    }
}

/// The life of the process; its exit status.
fn alone(plugins: &[PathBuf], texts: &[CString; 4], notify: &OwnedFd, words: &OwnedFd) -> c_int {
    if let Err(e) = withdraw(notify, words) {
        let _ = write(words, e.to_string().as_bytes());
        return 1;
    }
    // SAFETY: `withdraw` has just put them there, and nothing else here closes them.
    let (notify, words) = unsafe { (BorrowedFd::borrow_raw(NOTIFY), BorrowedFd::borrow_raw(WORDS)) };
    let mut conf = Conf {
        runtime_root_path: texts[0].as_ptr(),
        name: texts[1].as_ptr(),
        bundle_path: texts[2].as_ptr(),
        oci_config_path: texts[3].as_ptr(),
    };
    let loaded = plugins.iter().map(|path| Plugin::load(path, &mut conf)).collect::<Result<Vec<_>>>();
    let ready = loaded.and_then(|loaded| Ok((loaded, Exchange::new()?)));
    let (loaded, mut exchange) = match ready {
        Ok(ready) => ready,
        Err(e) => {
            let _ = write(words, e.to_string().as_bytes());
            return 1;
        }
    };
    let _ = write(words, b"\0");
    // SAFETY: the descriptor is this process's, and `words` is not used any more.
    unsafe { libc::close(WORDS) };
    i32::from(answer(&loaded, &mut exchange, notify).is_err())
}

/// Leaves everything of the runtime's caller alone: its session, directory, streams, signals and descriptors. What waits for the end of a
/// stream must not wait for this process.
fn withdraw(notify: &OwnedFd, words: &OwnedFd) -> Result<()> {
    let what = || "detach the process of the seccomp notify plugins";
    rustix::process::setsid().map_err(Io::from).context(what)?;
    rustix::process::chdir("/").map_err(Io::from).context(what)?;
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Io::from).context(what)?;
    rustix::stdio::dup2_stdin(&null).map_err(Io::from).context(what)?;
    rustix::stdio::dup2_stdout(&null).map_err(Io::from).context(what)?;
    rustix::stdio::dup2_stderr(&null).map_err(Io::from).context(what)?;
    // Out of the way first: either may be where the other goes.
    let high = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 10);
    let (notify, words) = (high(notify).map_err(Io::from).context(what)?, high(words).map_err(Io::from).context(what)?);
    for (from, to) in [(&notify, NOTIFY), (&words, WORDS)] {
        // SAFETY: takes no pointers. What had the number is of no use here.
        if unsafe { libc::dup3(from.as_raw_fd(), to, libc::O_CLOEXEC) } < 0 {
            return Err(std::io::Error::last_os_error()).context(what);
        }
    }
    // SAFETY: closes what this process has inherited and will not touch again; the owners of the numbers above are forgotten.
    unsafe {
        std::mem::forget((null, notify, words));
        if libc::syscall(libc::SYS_close_range, WORDS + 1, c_int::MAX, 0) < 0 {
            (WORDS + 1..1024).for_each(|fd| _ = libc::close(fd));
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    Ok(())
}

/// Answers until no process has the filter any more.
fn answer(plugins: &[Plugin], exchange: &mut Exchange, notify: BorrowedFd<'_>) -> Result<()> {
    loop {
        let mut fds = [PollFd::new(&notify, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            r => r.map_err(Io::from).context(|| "poll the notifications")?,
        };
        if !fds[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        if exchange.receive(NOTIFY)? && ask(plugins, exchange) {
            // A response that the kernel refuses leaves the caller to its signals; the next one is no worse for it.
            let _ = exchange.send(NOTIFY);
        }
    }
}

/// Fills in the response by the first plugin that handles the notification; `false` where that answers later.
fn ask(plugins: &[Plugin], exchange: &mut Exchange) -> bool {
    for plugin in plugins {
        match plugin.handle(exchange, NOTIFY) {
            Ok(Handled::No) => {}
            Ok(Handled::Answer) => return true,
            Ok(Handled::Later) => return false,
            Ok(Handled::Continue) => {
                exchange.response().flags |= CONTINUE;
                return true;
            }
            Err(e) => return refuse(exchange, e.errno().unwrap_or(libc::EIO)),
        }
    }
    refuse(exchange, libc::ENOTSUP)
}

fn refuse(exchange: &mut Exchange, errno: i32) -> bool {
    let response = exchange.response();
    (response.val, response.error, response.flags) = (0, -errno, 0);
    true
}
