//! Engines that are C libraries, loaded when a container needs them: what they have in common. The room with the unsafe code about them. Not
//! here: what is checked before a library sees a program (`module`).
//!
//! A library is loaded by the parent, from where the system looks for libraries, since the container's root has none. All else happens in the
//! child, and what is made there is never freed: the process ends with its program.
#![allow(unsafe_code)]

#[cfg(any(feature = "wamr", feature = "wasmedge"))]
mod strings;
#[cfg(feature = "wamr")]
pub(crate) mod wamr;
#[cfg(feature = "wasmedge")]
pub(crate) mod wasmedge;
#[cfg(feature = "wasmer")]
pub(crate) mod wasmer;

use crate::handler::one_line;
use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};
use runtime_core::{Error, ErrorKind, Result};
use std::ffi::{CStr, CString, c_char};
use std::mem::ManuallyDrop;

/// A loaded library.
struct Library {
    name: &'static str,
    /// Never unloaded: an engine leaves handlers of signals and variables of threads behind.
    loaded: ManuallyDrop<Loaded>,
}

impl Library {
    /// Loads it by the name that the system's loader knows it by.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the loader's words.
    fn open(name: &'static str) -> Result<Self> {
        // A static program has a loader only in part: it would load another C library beside its own.
        if cfg!(target_feature = "crt-static") {
            return Err(Error::new(ErrorKind::Unsupported, format!("cannot load `{name}`: this program is linked statically")));
        }
        // SAFETY: what runs is the initialisation of the library that the host's administrator installed, by a name without a slash, and
        // its requirements are those of any program linked with it.
        let loaded = unsafe { Loaded::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        let failed = |e: libloading::Error| {
            let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Error::new(ErrorKind::Unsupported, format!("failed to open `{name}`: {}", one_line(&why)))
        };
        Ok(Self { name, loaded: ManuallyDrop::new(loaded.map_err(failed)?) })
    }

    /// The function of a name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: the library's version has none.
    ///
    /// # Safety
    /// `T` is the type of a pointer to that function.
    unsafe fn function<T: Copy>(&self, name: &str) -> Result<T> {
        // SAFETY: the caller's promise.
        let found = unsafe { self.loaded.get::<T>(name.as_bytes()) };
        found.map(|f| *f).map_err(|_| Error::new(ErrorKind::Unsupported, format!("`{}` has no function `{name}`", self.name)))
    }
}

/// Declares `Api`, a library's functions by their names, and how it is made of the library, which must have them all. The types are promised to
/// be those of the header that the file names.
macro_rules! api {
    ($library:literal: $($function:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[derive(Clone, Copy)]
        #[allow(non_snake_case)]
        struct Api {
            $($function: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            /// # Errors
            /// The library is not there, or has not got a function.
            fn load() -> runtime_core::Result<Self> {
                let library = $crate::c::Library::open($library)?;
                Ok(Self {
                    $($function: {
                        // SAFETY: the type is the header's. The library stays, so that the pointer is good for ever.
                        unsafe { library.function(stringify!($function)) }?
                    },)*
                })
            }
        }
    };
}
use api;

fn text(text: impl Into<Vec<u8>>) -> std::result::Result<CString, String> {
    CString::new(text).map_err(|_| "an argument or a variable contains a NUL byte".to_owned())
}

/// A message of a library's; `None` for null.
///
/// # Safety
/// Null, or a string of C that lives through the call.
unsafe fn said(message: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!message.is_null()).then(|| one_line(&unsafe { CStr::from_ptr(message) }.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_or_function_that_is_missing_is_named_in_one_line() {
        let e = Library::open("libpinnace-nobody-has-this.so.7").map(drop).unwrap_err();
        let text = e.to_string();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(text.starts_with("failed to open `libpinnace-nobody-has-this.so.7`: ") && !text.contains('\n'), "{text}");
        let c = Library::open("libc.so.6").unwrap();
        // SAFETY: the type of abs(3), and of nothing, since there is no such function.
        let found = unsafe { (c.function::<extern "C" fn(i32) -> i32>("abs"), c.function::<extern "C" fn()>("no_such_function")) };
        assert_eq!(found.0.unwrap()(-3), 3);
        assert_eq!(found.1.unwrap_err().to_string(), "`libc.so.6` has no function `no_such_function`");
    }
}
