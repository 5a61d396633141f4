//! A null-terminated array of C strings, laid out before the clone so that the child can pass it to execve. Not here: execve.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};

/// Strings and the pointers to them, as execve(2) takes them.
#[derive(Default)]
pub(crate) struct Argv {
    strings: Vec<CString>,
    /// `Cell`, because the child, which has a copy of its own of all this, may replace the reserved one.
    pointers: Vec<Cell<*const c_char>>,
    reserved: bool,
}

impl Argv {
    /// Lays out `strings`.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        // A CString's buffer stays where it is when the CString moves, so the pointers stay valid as long as `strings` lives.
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).map(Cell::new).collect();
        Self { strings, pointers, reserved: false }
    }

    /// Lays out `strings` and behind them `last`, which may be replaced at execve.
    pub(crate) fn with_reserved(mut strings: Vec<CString>, last: CString) -> Self {
        strings.push(last);
        Self { reserved: true, ..Self::new(strings) }
    }

    /// The pointer that may be replaced.
    pub(crate) fn reserved(&self) -> Option<&Cell<*const c_char>> {
        // The last pointer is the null at the end.
        self.reserved.then(|| self.pointers.iter().nth_back(1)).flatten()
    }

    /// The first string.
    pub(crate) fn first(&self) -> Option<&CStr> {
        self.strings.first().map(|s| &**s)
    }

    /// All strings, the reserved one too.
    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// The null-terminated array. Valid while `self` lives.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        if self.pointers.is_empty() { EMPTY.0.as_ptr() } else { self.pointers.as_ptr().cast() }
    }
}

struct Empty([*const c_char; 1]);
// SAFETY: holds only a null pointer.
unsafe impl Sync for Empty {}
static EMPTY: Empty = Empty([std::ptr::null()]);

impl std::fmt::Debug for Argv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.strings).finish()
    }
}

impl PartialEq for Argv {
    fn eq(&self, other: &Self) -> bool {
        self.strings == other.strings
    }
}
