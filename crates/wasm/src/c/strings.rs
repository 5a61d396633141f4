//! Arrays of strings for a library. Not here: what is in them.

use super::text;
use std::ffi::{CString, c_char};

/// Strings of C in an array.
pub(super) struct Strings {
    /// What the array points to.
    _texts: Vec<CString>,
    array: Vec<*const c_char>,
}

impl Strings {
    /// # Errors
    /// NUL in one of them.
    pub(super) fn of<T: Into<Vec<u8>>>(texts: impl IntoIterator<Item = T>) -> std::result::Result<Self, String> {
        let texts = texts.into_iter().map(text).collect::<std::result::Result<Vec<_>, _>>()?;
        let array = texts.iter().map(|t| t.as_ptr()).collect();
        Ok(Self { _texts: texts, array })
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.array.as_ptr()
    }

    pub(super) fn len(&self) -> u32 {
        // The kernel has room for fewer arguments.
        u32::try_from(self.array.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_of_strings_without_nul() {
        assert_eq!(Strings::of(["a\0b"]).err().unwrap(), "an argument or a variable contains a NUL byte");
        let two = Strings::of(["a", "b c"]).unwrap();
        assert_eq!(two.len(), 2);
        // SAFETY: the array has two elements, which end in zeros.
        assert_eq!(unsafe { std::ffi::CStr::from_ptr(*two.as_ptr().add(1)) }, c"b c");
    }
}
