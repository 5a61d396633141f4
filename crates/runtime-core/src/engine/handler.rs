//! The parent's part of running a program by a handler: finding it, and what the child needs to know. Not here: choosing one by the
//! configuration (`api::handler`), the child's part (`init::handler`).

use super::Runtime;
use crate::api::Handler;
use crate::api::handler::{self, HandlerProcess, MOST_KEPT};
use crate::error::{Context, Error, Result};
use crate::plan::step::Step;
use crate::spec::Spec;
use crate::sys::{OwnStat, Shown};
use crate::validate;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

impl Runtime {
    /// The handler that a configuration asks for, which has adjusted it then.
    ///
    /// # Errors
    /// [`ErrorKind::NoHandler`](crate::ErrorKind::NoHandler), or the configuration doesn't fit it.
    pub(super) fn handler(&self, chosen: Option<&str>, spec: &mut Spec<'_>) -> Result<Option<&dyn Handler>> {
        let Some(name) = handler::wanted(chosen, spec)? else { return Ok(None) };
        let handler = handler::find(&self.backends.handlers, name)?;
        handler.usable().map_err(|e| e.context(format!("the handler `{}` cannot be used", handler.name())))?;
        validate::validate(spec)?;
        handler.adjust(spec)?;
        tracing::debug!("the handler `{}` runs the program", handler.name());
        Ok(Some(handler))
    }
}

/// The descriptors that a handler keeps.
///
/// # Errors
/// They are more than there is room for.
pub(super) fn kept(process: &dyn HandlerProcess) -> Result<Vec<RawFd>> {
    let keep = process.keeps();
    if keep.len() > MOST_KEPT {
        return Err(Error::other(format!("the handler keeps {} descriptors, at most {MOST_KEPT} are possible", keep.len())));
    }
    Ok(keep)
}

/// What the child writes over its arguments and environment: the container's arguments, and nothing.
///
/// # Errors
/// This process has more than one thread: in a copy of it only what allocates nothing could go on. Or /proc doesn't say.
pub(super) fn forgotten(proc: &OwnedFd, steps: &[Step]) -> Result<Vec<(Shown, Vec<u8>)>> {
    let own = OwnStat::read(proc.as_raw_fd()).context(|| "read `/proc/self/stat`")?;
    if own.threads != 1 {
        return Err(Error::other(format!("a handler needs a runtime with one thread, this one has {}", own.threads)));
    }
    let mut args = Vec::new();
    for step in steps {
        if let Step::Load { argv, .. } = step {
            args.extend(argv.strings().iter().flat_map(|s| s.as_bytes_with_nul()));
        }
    }
    // The last byte stays a zero, or the kernel takes the environment for more of them.
    args.truncate(own.args.len().saturating_sub(1));
    Ok(vec![(own.args, args), (own.env, Vec::new())])
}
