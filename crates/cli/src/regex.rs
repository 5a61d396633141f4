//! POSIX extended regular expressions, by the C library. Not here: anything about containers.
//!
//! `--regex` promises the syntax that crun's users know, which is the C library's own; and no crate is needed for it.
#![allow(unsafe_code)]

use runtime_core::{Error, Result};
use std::ffi::CString;
use std::mem::MaybeUninit;

/// A compiled expression.
pub(crate) struct Regex(Box<libc::regex_t>);

impl Regex {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// ``invalid regular expression `X` ``, with the C library's reason.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("invalid regular expression `{pattern}`{why}"));
        let text = CString::new(pattern).map_err(|_| invalid(""))?;
        // On the heap, and filled in there: the C library may keep pointers into it.
        let mut compiled: Box<MaybeUninit<libc::regex_t>> = Box::new_uninit();
        // SAFETY: regcomp writes a regex_t to a place of that size, and reads a C string that lives through the call.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if code != 0 {
            return Err(invalid(&format!(": {}", reason(code))));
        }
        // SAFETY: regcomp reported success, so it has initialised the value.
        Ok(Self(unsafe { compiled.assume_init() }))
    }

    /// Whether the expression matches anywhere in `text`.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression was compiled by regcomp and not freed; `text` is a C string; no matches are asked for, so none are
        // written (nmatch is 0).
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: the expression was compiled by regcomp, and is freed this once.
        unsafe { libc::regfree(&raw mut *self.0) }
    }
}

fn reason(code: i32) -> String {
    let mut text = [0u8; 128];
    // SAFETY: regerror writes at most `text.len()` bytes to `text`; the expression may be null (POSIX).
    unsafe { libc::regerror(code, std::ptr::null(), text.as_mut_ptr().cast(), text.len()) };
    String::from_utf8_lossy(text.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_syntax_found_anywhere() {
        for (pattern, text, matches) in [
            ("ctr", "my-ctr-1", true),
            ("^ctr", "my-ctr-1", false),
            ("^(a|b)[0-9]+$", "b12", true),
            ("^(a|b)[0-9]+$", "c12", false),
            ("a{2}", "baab", true),
            ("", "x", true),
            ("[[:digit:]]$", "x7", true),
        ] {
            assert_eq!(Regex::new(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        // The reasons are the C library's, and differ between its versions.
        for pattern in ["(", "[", "a{2,1}", "[[:frob:]]"] {
            let text = Regex::new(pattern).err().unwrap().to_string();
            let reason = text.strip_prefix(&format!("invalid regular expression `{pattern}`: ")).unwrap();
            assert!(reason.len() > 5 && !reason.contains('\0'), "{text}");
        }
        assert!(Regex::new("(").err().unwrap().to_string().contains("nmatched"));
    }
}
