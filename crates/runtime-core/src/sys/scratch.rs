//! Large memory of a container's child that is not on its stack, where all of it would be touched. Not here: what it is used for (`init`).

use super::{EntryBuffer, PathBuffer};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the child remembers of paths and directories.
pub(crate) struct Scratch {
    /// The executable found.
    pub exe: PathBuffer,
    /// `HOME=…`, where it was looked up and found.
    pub home: PathBuffer,
    /// What is in the container's `/proc`, for the paths that are covered there.
    pub entries: EntryBuffer,
}

struct Place(UnsafeCell<Scratch>);

// SAFETY: `scratch` gives it away once, so that one thread has it.
unsafe impl Sync for Place {}

static PLACE: Place = Place(UnsafeCell::new(Scratch { exe: PathBuffer::new(), home: PathBuffer::new(), entries: EntryBuffer::new() }));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A process's one and only; nothing the second time. The parent never takes it, so that each child, which has memory of its own, can.
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: nobody had a reference before this one, and nobody is given another.
    (!TAKEN.swap(true, Ordering::Relaxed)).then(|| unsafe { &mut *PLACE.0.get() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_away_once() {
        let first = scratch().unwrap();
        first.exe.set(&[b"/bin/", b"sh"]).unwrap();
        assert!(scratch().is_none());
        assert_eq!((first.exe.as_c_str(), first.home.as_bytes()), (c"/bin/sh", &b""[..]));
    }
}
