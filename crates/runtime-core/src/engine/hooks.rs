//! Hooks that run in the runtime's namespaces. Not here: those of the container's (`init::hook`).

use crate::error::{Context, Error, Result};
use crate::plan::hooks::{Identity, state, timeout_ms};
use crate::spec::Hook;
use crate::sys;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
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
    hooks.iter().try_for_each(|h| one(h, &document))
}

/// Runs hooks whose failure must not stop anything; failures are logged.
pub(crate) fn run_all(hooks: &[Hook<'_>], who: &Identity<'_>, status: &str, pid: i32) {
    let document = if hooks.is_empty() { Vec::new() } else { state(who, status, pid) };
    for h in hooks {
        if let Err(e) = one(h, &document) {
            tracing::warn!("{e}");
        }
    }
}

fn one(h: &Hook<'_>, document: &[u8]) -> Result<()> {
    let what = || format!("error executing hook `{}`", h.path);
    let mut command = Command::new(&*h.path);
    if let Some((name, args)) = h.args.split_first() {
        command.arg0(&**name).args(args.iter().map(|a| &**a));
    }
    command.env_clear().envs(h.env.iter().filter_map(|e| e.split_once('=')));
    // A file, not a pipe: a hook that does not read it cannot block the runtime or end it by SIGPIPE.
    command.stdin(Stdio::from(sys::memory_file(document).context(what)?));
    sys::close_others(&mut command);
    tracing::debug!("hook `{}`", h.path);
    let mut child = command.spawn().context(what)?;
    let status = wait(&mut child, timeout_ms(h.timeout)?, h)?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Error::other(format!("{} (exit code: {code})", what()))),
        (None, signal) => Err(Error::other(format!("{} (killed by signal {})", what(), signal.unwrap_or(0)))),
    }
}

fn wait(child: &mut Child, timeout: i32, h: &Hook<'_>) -> Result<std::process::ExitStatus> {
    let failed = || format!("error executing hook `{}`", h.path);
    if timeout >= 0 {
        let fd = sys::pidfd(child.id().cast_signed()).context(failed)?;
        if !sys::poll_in(fd.as_raw_fd(), timeout).context(failed)? {
            child.kill().context(failed)?;
            child.wait().context(failed)?;
            return Err(Error::other(format!("timeout expired for `{}`", h.path)));
        }
    }
    child.wait().context(failed)
}
