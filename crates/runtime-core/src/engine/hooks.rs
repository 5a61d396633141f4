//! Hooks that run in the runtime's namespaces. Not here: those of the container's (`init::hook`).

use super::failure::last_lines;
use crate::api::annotations::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::error::{Context, Error, Result};
use crate::plan::hooks::{Identity, state, timeout_ms};
use crate::spec::Hook;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs hooks one after the other; `status` and `pid` are what their standard input says of the container.
///
/// # Errors
/// The first hook that fails, with crun's text ``error executing hook `PATH` (exit code: N)``.
pub(crate) fn run(hooks: &[Hook<'_>], who: &Identity<'_>, status: &str, pid: i32) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let document = state(who, status, pid);
    let output = Output::open(who)?;
    hooks.iter().try_for_each(|h| one(h, &document, &output))
}

/// Runs hooks whose failure must not stop anything; failures are logged.
pub(crate) fn run_all(hooks: &[Hook<'_>], who: &Identity<'_>, status: &str, pid: i32) {
    if hooks.is_empty() {
        return;
    }
    let document = state(who, status, pid);
    let output = Output::open(who).unwrap_or_else(|e| {
        tracing::warn!("{e}");
        Output::default()
    });
    for h in hooks {
        if let Err(e) = one(h, &document, &output) {
            tracing::warn!("{e}");
        }
    }
}

/// Where hooks write to.
#[derive(Default)]
struct Output {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Output {
    fn open(who: &Identity<'_>) -> Result<Self> {
        let file = |annotation| who.annotations.get(annotation).map(|path| output_file(annotation, Path::new(&**path))).transpose();
        Ok(Self { stdout: file(HOOKS_STDOUT)?, stderr: file(HOOKS_STDERR)? })
    }
}

/// Opens a file for hooks to append to; made, mode 0700 as in crun, where there is none.
///
/// # Errors
/// Names the annotation and the file; a symbolic link is none.
pub(crate) fn output_file(annotation: &str, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::from_raw_mode(0o700)).context(|| format!("annotation {annotation}: open `{}`", path.display()))
}

fn one(h: &Hook<'_>, document: &[u8], output: &Output) -> Result<()> {
    let what = || format!("error executing hook `{}`", h.path);
    let mut command = Command::new(&*h.path);
    if let Some((name, args)) = h.args.split_first() {
        command.arg0(&**name).args(args.iter().map(|a| &**a));
    }
    command.env_clear().envs(h.env.iter().filter_map(|e| e.split_once('=')));
    // A file, not a pipe: a hook that does not read it cannot block the runtime or end it by SIGPIPE.
    command.stdin(Stdio::from(sys::memory_file(document).context(what)?));
    let copy = |fd: &OwnedFd| fd.try_clone().map(Stdio::from).context(what);
    command.stdout(output.stdout.as_ref().map_or(Ok(Stdio::null()), copy)?);
    // As crun, nothing of it comes out where there is no file; but errors are kept for the message. Not by a pipe: what it starts in the
    // background may write later, and must not die of it.
    let kept = if output.stderr.is_none() { sys::sealable_file().ok() } else { None };
    command.stderr(output.stderr.as_ref().or(kept.as_ref()).map_or(Ok(Stdio::null()), copy)?);
    sys::inherit_little(&mut command);
    tracing::debug!("hook `{}`", h.path);
    let mut child = command.spawn().context(what)?;
    let status = wait(&mut child, timeout_ms(h.timeout)?);
    let said = kept.map_or_else(Vec::new, last);
    let failed = |text: String| Err(Error::other(last_lines(text, &said)));
    match status.context(what)? {
        None => failed(format!("timeout expired for `{}`", h.path)),
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => failed(format!("{} (exit code: {code})", what())),
            (None, signal) => failed(format!("{} (killed by signal {})", what(), signal.unwrap_or(0))),
        },
    }
}

/// The end of what a hook said.
fn last(kept: OwnedFd) -> Vec<u8> {
    const END: u64 = 1024;
    let end = || -> std::io::Result<Vec<u8>> {
        // Processes it left behind may go on writing, but nobody would ever read it.
        sys::seal_size(kept.as_raw_fd()).map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
        let mut file = File::from(kept);
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end)?;
        Ok(end)
    };
    end().unwrap_or_default()
}

/// Looks again and again whether it has ended.
fn ends_within(child: &mut Child, timeout: i32) -> std::io::Result<bool> {
    const PAUSE: i32 = 10;
    for _ in 0..timeout / PAUSE {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(std::time::Duration::from_millis(PAUSE as u64));
    }
    Ok(false)
}

/// `None` when the time is over; the hook is gone then too.
fn wait(child: &mut Child, timeout: i32) -> std::io::Result<Option<std::process::ExitStatus>> {
    let raw = |e: sys::Errno| std::io::Error::from_raw_os_error(e.0);
    if timeout >= 0 {
        let ended = match sys::pidfd(child.id().cast_signed()) {
            // Before kernel 5.3, or under a filter.
            Err(sys::Errno(libc::ENOSYS)) => ends_within(child, timeout)?,
            r => sys::poll_in(r.map_err(raw)?.as_raw_fd(), timeout).map_err(raw)?,
        };
        if !ended {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
    child.wait().map(Some)
}
