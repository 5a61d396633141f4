//! Copies of programs that can be executed at once. A process that is forked while a program is being written has the
//! descriptor, too, until it executes something itself, and so long the program is busy (ETXTBSY, execve(2)). So no process
//! is started while one is copied. Not here: what is copied and started.

use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

static COPYING: RwLock<()> = RwLock::new(());

/// Copies a program with its mode.
///
/// # Panics
/// If it can't be copied.
pub fn copy(from: &Path, to: &Path) {
    let _alone = COPYING.write().unwrap_or_else(PoisonError::into_inner);
    fs::copy(from, to).unwrap_or_else(|e| panic!("copy {} to {}: {e}", from.display(), to.display()));
}

/// Held from before a process is forked until it has executed its program.
pub(crate) fn starting() -> RwLockReadGuard<'static, ()> {
    COPYING.read().unwrap_or_else(PoisonError::into_inner)
}
