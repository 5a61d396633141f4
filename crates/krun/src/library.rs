//! libkrun itself, loaded when a container needs it: its functions behind safe ones. The one room of the crate with unsafe code. Not here: what
//! is to be called (`calls`).
//!
//! The types are those of libkrun.h 1.19, which older versions agree with. A function that a version lacks is an error that names it, and only
//! where it is needed.
#![allow(unsafe_code)]

use crate::calls::Call;
use crate::settings::{MOST_CPUS, Variant};
use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};
use runtime_core::{Error, ErrorKind, Result, strerror};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::ptr;

type New = unsafe extern "C" fn() -> i32;
type OfContext = unsafe extern "C" fn(u32) -> i32;
type Feature = unsafe extern "C" fn(u64) -> c_int;
type Text = unsafe extern "C" fn(u32, *const c_char) -> i32;
type Number = unsafe extern "C" fn(u32, u32) -> i32;
type Flag = unsafe extern "C" fn(u32, bool) -> i32;
type VmConfig = unsafe extern "C" fn(u32, u8, u32) -> i32;
type Virtiofs = unsafe extern "C" fn(u32, *const c_char, *const c_char, u64) -> i32;
type Kernel = unsafe extern "C" fn(u32, *const c_char, u32, *const c_char, *const c_char) -> i32;
type Exec = unsafe extern "C" fn(u32, *const c_char, *const *const c_char, *const *const c_char) -> i32;
type Net = unsafe extern "C" fn(u32, *const c_char, c_int, *const u8, u32, u32) -> i32;
type PasstFd = unsafe extern "C" fn(u32, c_int) -> i32;

/// `KRUN_FEATURE_GPU`.
pub const FEATURE_GPU: u64 = 2;
/// `COMPAT_NET_FEATURES`: checksums and segmentation, which passt can do.
const NET_FEATURES: u32 = 1 | 1 << 1 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 14;
/// `NET_FLAG_DHCP_CLIENT`: the guest asks passt for its address (libkrun 1.18; before, it did so without being told).
const NET_DHCP: u32 = 1 << 1;
/// The guest's address on its link with passt, where nothing else is: the one that libkrun takes by itself.
const MAC: [u8; 6] = [0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xee];

/// A loaded library.
#[derive(Debug)]
pub struct Library {
    name: &'static str,
    /// Never unloaded: whether the library's state allows that is not known.
    loaded: ManuallyDrop<Loaded>,
}

impl Library {
    /// Loads the library of a variant from where the system looks for libraries.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in the loader's words.
    pub fn open(variant: Variant) -> Result<Self> {
        let name = variant.library();
        // A static program has a loader only in part: it would load another C library beside its own.
        if cfg!(target_feature = "crt-static") {
            return Err(Error::new(ErrorKind::Unsupported, format!("cannot load `{name}`: this program is linked statically")));
        }
        // SAFETY: what runs is the initialisation of the library that the host's administrator installed, by a name without a slash, and
        // its requirements are those of any program linked with it.
        let loaded = unsafe { Loaded::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        let failed = |e: libloading::Error| {
            let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Error::new(ErrorKind::Unsupported, format!("failed to open `{name}`: {}", why.trim_end()))
        };
        Ok(Self { name, loaded: ManuallyDrop::new(loaded.map_err(failed)?) })
    }

    /// The function of a name.
    ///
    /// # Safety
    /// `T` is the type of a pointer to that function.
    unsafe fn function<T: Copy>(&self, name: &str) -> Result<T> {
        // SAFETY: the caller's promise.
        let found = unsafe { self.loaded.get::<T>(name.as_bytes()) };
        found.map(|f| *f).map_err(|_| Error::new(ErrorKind::Unsupported, format!("`{}` has no function `{name}`", self.name)))
    }

    /// Whether there is a function of that name.
    pub fn has(&self, name: &str) -> bool {
        // SAFETY: the pointer is not used, so that its type is nobody's.
        unsafe { self.function::<*const ()>(name) }.is_ok()
    }

    /// A new machine's number. The library opens the one with the guest's kernel now, since the container has none.
    ///
    /// # Errors
    /// The library's.
    pub fn create(&self) -> Result<u32> {
        // SAFETY: the type is libkrun.h's.
        let new: New = unsafe { self.function("krun_create_ctx") }?;
        // SAFETY: takes nothing.
        let id = unsafe { new() };
        u32::try_from(id).map_err(|_| refused(id, "create the virtual machine"))
    }

    /// From now on the library tells on standard error what it does: 0 nothing, 1 errors, 2 warnings, 3, 4 and 5 more and more. To be called
    /// at most once in a process. A failure is not worth a word: it is about words.
    pub fn set_log_level(&self, level: u32) {
        // SAFETY: the type is libkrun.h's.
        if let Ok(set) = unsafe { self.function::<OfContext>("krun_set_log_level") } {
            // SAFETY: takes a number, and this is the only call of it.
            unsafe { set(level) };
        }
    }

    /// Whether the library was built with something (`KRUN_FEATURE_*`); `None` where it is too old to tell.
    pub fn feature(&self, number: u64) -> Option<bool> {
        // SAFETY: the type is libkrun.h's.
        let has = unsafe { self.function::<Feature>("krun_has_feature") }.ok()?;
        // SAFETY: takes a number.
        match unsafe { has(number) } {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Whether the host's KVM has guests of guests; `None` where the library cannot tell.
    pub fn nested_virt(&self) -> Option<bool> {
        // SAFETY: the type is libkrun.h's.
        let check = unsafe { self.function::<New>("krun_check_nested_virt") }.ok()?;
        // SAFETY: takes nothing.
        let answer = unsafe { check() };
        (answer >= 0).then_some(answer == 1)
    }

    /// Whether a call can be made at all.
    ///
    /// # Errors
    /// The function that is missing.
    pub fn require(&self, call: &Call) -> Result<()> {
        let older = matches!(call, Call::Net(_)) && self.has("krun_set_passt_fd");
        if older || self.has(call.symbol()) {
            return Ok(());
        }
        let missing = format!("`{}` has no function `{}`", self.name, call.symbol());
        Err(Error::new(ErrorKind::Unsupported, missing).context(call.describe()))
    }

    /// Makes a call for the machine `id`.
    ///
    /// # Errors
    /// The function is missing, or the library's.
    pub fn apply(&self, id: u32, call: &Call) -> Result<()> {
        let answer = match call {
            Call::VmConfig { cpus, ram_mib } => {
                // SAFETY: the type is libkrun.h's; takes numbers.
                unsafe { self.function::<VmConfig>(call.symbol())?(id, cpus.unwrap_or_else(available), *ram_mib) }
            }
            Call::Gpu(flags) => {
                // SAFETY: the type is libkrun.h's; takes numbers.
                unsafe { self.function::<Number>(call.symbol())?(id, *flags) }
            }
            Call::NestedVirt => {
                // SAFETY: the type is libkrun.h's; takes numbers.
                unsafe { self.function::<Flag>(call.symbol())?(id, true) }
            }
            Call::Root(text) | Call::RootDisk(text) | Call::TeeConfig(text) | Call::ConsoleOutput(text) => {
                // SAFETY: the type is libkrun.h's for all four; the string lives through the call, which copies it.
                unsafe { self.function::<Text>(call.symbol())?(id, text.as_ptr()) }
            }
            Call::Virtiofs { tag, path, shm_size } => {
                // SAFETY: the type is libkrun.h's; the strings live through the call, which copies them.
                unsafe { self.function::<Virtiofs>(call.symbol())?(id, tag.as_ptr(), path.as_ptr(), *shm_size) }
            }
            Call::Kernel { path, format, initrd, cmdline } => {
                let (initrd, cmdline) = (or_null(initrd.as_deref()), or_null(cmdline.as_deref()));
                // SAFETY: the type is libkrun.h's; the strings live through the call, which copies them, and the last two may be null.
                unsafe { self.function::<Kernel>(call.symbol())?(id, path.as_ptr(), *format, initrd, cmdline) }
            }
            Call::Exec { path, args, env } => {
                let (args, env) = (array(args), array(env));
                // SAFETY: the type is libkrun.h's; the strings and the arrays, which end in null, live through the call, which copies them.
                unsafe { self.function::<Exec>(call.symbol())?(id, path.as_ptr(), args.as_ptr(), env.as_ptr()) }
            }
            Call::Net(fd) => self.net(id, *fd)?,
        };
        if answer < 0 { Err(refused(answer, call.describe())) } else { Ok(()) }
    }

    fn net(&self, id: u32, fd: RawFd) -> Result<i32> {
        // SAFETY: the type is libkrun.h's.
        let Ok(add) = (unsafe { self.function::<Net>("krun_add_net_unixstream") }) else {
            // SAFETY: the type is libkrun.h's; takes numbers. From now on the descriptor is the library's.
            return Ok(unsafe { self.function::<PasstFd>("krun_set_passt_fd")?(id, fd) });
        };
        // SAFETY: no path, since there is a descriptor, which from now on is the library's; six bytes of an address, which it copies.
        let add = |flags| unsafe { add(id, ptr::null(), fd, MAC.as_ptr(), NET_FEATURES, flags) };
        // Versions without the flag refuse it before they do anything.
        Ok(match add(NET_DHCP) {
            refused if refused == -libc::EINVAL => add(0),
            answer => answer,
        })
    }

    /// Runs the machine. The process mostly ends with the guest, and has its exit status; after an enclave the call comes back with that.
    ///
    /// # Errors
    /// The function is missing, or the library's.
    pub fn start(&self, id: u32) -> Result<i32> {
        // SAFETY: the type is libkrun.h's.
        let enter: OfContext = unsafe { self.function("krun_start_enter") }?;
        // SAFETY: takes a number; the process is single-threaded until the library makes threads.
        let answer = unsafe { enter(id) };
        if answer < 0 { Err(refused(answer, "run the virtual machine")) } else { Ok(answer) }
    }
}

/// How many processors this process may run on, as far as a machine can have them.
fn available() -> u8 {
    let count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    u8::try_from(count).unwrap_or(MOST_CPUS).clamp(1, MOST_CPUS)
}

fn refused(answer: i32, what: impl Into<String>) -> Error {
    // What it answers where it refuses is a negative error number.
    if answer < 0 && !strerror(-answer).starts_with("Unknown error") {
        Error::sys(-answer, what)
    } else {
        Error::other(format!("libkrun answers {answer}")).context(what)
    }
}

fn or_null(text: Option<&CStr>) -> *const c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}

fn array(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|t| t.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_in_one_line() {
        // Hardly anybody has this one.
        let Err(e) = Library::open(Variant::AwsNitro) else { return };
        let text = e.to_string();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(text.contains("`libkrun-awsnitro.so.1`") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn answers_of_the_library_become_errors() {
        assert_eq!(refused(-libc::EINVAL, "x").to_string(), "x: Invalid argument");
        assert_eq!(refused(-9999, "x").to_string(), "x: libkrun answers -9999");
        assert_eq!(refused(0, "x").to_string(), "x: libkrun answers 0");
        assert_eq!(refused(i32::MIN + 1, "x").errno(), None);
    }

    #[test]
    fn processors_are_counted_from_one_to_the_most() {
        assert!((1..=MOST_CPUS).contains(&available()));
    }
}
