//! A plugin in this process: dlopen(3), its symbols and calls of them. Not here: who asks it what (`serve`), which files are believed
//! (`trust`).
#![allow(unsafe_code)]

use runtime_core::{Context, Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// `struct libcrun_load_seccomp_notify_conf_s`: what a plugin is told of its container. All text, none owned.
#[repr(C)]
pub(crate) struct Conf {
    pub runtime_root_path: *const c_char,
    pub name: *const c_char,
    pub bundle_path: *const c_char,
    pub oci_config_path: *const c_char,
}

type Start = unsafe extern "C" fn(*mut *mut c_void, *mut Conf, usize) -> c_int;
type Handle = unsafe extern "C" fn(
    *mut c_void,
    *mut libc::seccomp_notif_sizes,
    *mut libc::seccomp_notif,
    *mut libc::seccomp_notif_resp,
    c_int,
    *mut c_int,
) -> c_int;
type Stop = unsafe extern "C" fn(*mut c_void) -> c_int;
type Version = unsafe extern "C" fn() -> c_int;

/// The version of the interface that is spoken here.
const VERSION: c_int = 1;

/// What a plugin made of a notification (`RUN_OCI_SECCOMP_NOTIFY_HANDLE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Another plugin's affair.
    No,
    /// The response is filled in.
    Answer,
    /// It answers by itself, later.
    Later,
    /// The call is to be made as it is; the response is filled in but for that.
    Continue,
}

/// A plugin that was started. It is never unloaded: its process ends with it.
pub(crate) struct Plugin {
    opaque: *mut c_void,
    handle: Handle,
    stop: Option<Stop>,
}

/// Buffers of the kernel's sizes, which may exceed those of the structures known here (seccomp_unotify(2)).
pub(crate) struct Exchange {
    sizes: libc::seccomp_notif_sizes,
    request: Vec<u64>,
    response: Vec<u64>,
}

impl Plugin {
    /// Loads and starts one.
    ///
    /// # Errors
    /// What the loader says, a missing symbol, another version, or that it could not start.
    pub(crate) fn load(path: &Path, conf: &mut Conf) -> Result<Self> {
        let shown = path.display();
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("a plugin's path contains a NUL byte"))?;
        // SAFETY: `name` is terminated. What the object's constructors do is up to the host's administrator, whose file it is.
        let object = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if object.is_null() {
            return Err(Error::other(format!("load the plugin `{shown}`: {}", loader_says())));
        }
        if let Some(version) = symbol(object, c"run_oci_seccomp_notify_version") {
            // SAFETY: the interface gives the function this type.
            let version = unsafe { std::mem::transmute::<*mut c_void, Version>(version)() };
            if version != VERSION {
                return Err(Error::invalid(format!("invalid version supported by the plugin `{shown}`: {version}, not {VERSION}")));
            }
        }
        let handle = symbol(object, c"run_oci_seccomp_notify_handle_request")
            .ok_or_else(|| Error::invalid(format!("plugin `{shown}` doesn't export `run_oci_seccomp_notify_handle_request`")))?;
        // SAFETY: the interface gives the function this type.
        let handle = unsafe { std::mem::transmute::<*mut c_void, Handle>(handle) };
        // SAFETY: as above.
        let stop = symbol(object, c"run_oci_seccomp_notify_stop").map(|f| unsafe { std::mem::transmute::<*mut c_void, Stop>(f) });
        let mut opaque = ptr::null_mut();
        if let Some(start) = symbol(object, c"run_oci_seccomp_notify_start") {
            // SAFETY: as above; `opaque` and `conf` live across the call, and the texts of `conf` as long as the plugin.
            let done = unsafe { std::mem::transmute::<*mut c_void, Start>(start)(&raw mut opaque, conf, size_of::<Conf>()) };
            if done != 0 {
                return Err(Error::sys(done.saturating_abs(), format!("start the plugin `{shown}`")));
            }
        }
        Ok(Self { opaque, handle, stop })
    }

    /// Asks it. `Err` is the error number it gives, or the word that it made up.
    pub(crate) fn handle(&self, exchange: &mut Exchange, notify: c_int) -> Result<Handled> {
        let mut handled = 0;
        // SAFETY: the buffers have the kernel's sizes, which are no smaller than the structures, and live across the call.
        let done = unsafe {
            (self.handle)(
                self.opaque,
                &raw mut exchange.sizes,
                exchange.request.as_mut_ptr().cast(),
                exchange.response.as_mut_ptr().cast(),
                notify,
                &raw mut handled,
            )
        };
        if done != 0 {
            return Err(Error::sys(done.saturating_abs(), "a plugin handles a notification"));
        }
        match handled {
            0 => Ok(Handled::No),
            1 => Ok(Handled::Answer),
            2 => Ok(Handled::Later),
            3 => Ok(Handled::Continue),
            other => Err(Error::invalid(format!("unknown action specified by the plugin `{other}`"))),
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop {
            // SAFETY: the interface gives the function this type; the plugin is not used any more. Nobody is left to be told of a failure.
            let _ = unsafe { stop(self.opaque) };
        }
    }
}

impl Exchange {
    /// Buffers for this kernel.
    ///
    /// # Errors
    /// What seccomp(2) says.
    pub(crate) fn new() -> Result<Self> {
        let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        // SAFETY: the kernel fills `sizes`, which lives across the call.
        let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
        if done != 0 {
            return Err(std::io::Error::last_os_error()).context(|| "ask for the sizes of notifications");
        }
        let words = |kernel: u16, known: usize| vec![0; usize::from(kernel).max(known).div_ceil(size_of::<u64>())];
        let request = words(sizes.seccomp_notif, size_of::<libc::seccomp_notif>());
        let response = words(sizes.seccomp_notif_resp, size_of::<libc::seccomp_notif_resp>());
        Ok(Self { sizes, request, response })
    }

    /// Takes a notification; `false` where there is none after all. The response is empty then, but for the id.
    ///
    /// # Errors
    /// The descriptor is no listener.
    pub(crate) fn receive(&mut self, notify: c_int) -> Result<bool> {
        self.request.fill(0);
        self.response.fill(0);
        // SAFETY: the buffer is zero, as the kernel demands, of the kernel's size and lives across the call.
        let got = unsafe { libc::ioctl(notify, libc::SECCOMP_IOCTL_NOTIF_RECV, self.request.as_mut_ptr()) };
        if got != 0 {
            return match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(false),
                errno => Err(Error::sys(errno.unwrap_or(0), "receive a notification")),
            };
        }
        // The id is the first field of both.
        self.response[0] = self.request[0];
        Ok(true)
    }

    /// The response, of which the id is given.
    pub(crate) fn response(&mut self) -> &mut libc::seccomp_notif_resp {
        // SAFETY: the buffer is aligned for u64, no smaller than the structure, and any bytes are a value of that.
        unsafe { &mut *self.response.as_mut_ptr().cast() }
    }

    /// Sends the response. That its receiver is gone is no error.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn send(&mut self, notify: c_int) -> Result<()> {
        // SAFETY: the buffer is of the kernel's size and lives across the call.
        let sent = unsafe { libc::ioctl(notify, libc::SECCOMP_IOCTL_NOTIF_SEND, self.response.as_mut_ptr()) };
        match std::io::Error::last_os_error().raw_os_error() {
            _ if sent == 0 => Ok(()),
            Some(libc::ENOENT) => Ok(()),
            errno => Err(Error::sys(errno.unwrap_or(0), "answer a notification")),
        }
    }
}

fn symbol(object: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: `object` is a handle of dlopen that is never closed, and `name` is terminated.
    let found = unsafe { libc::dlsym(object, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn loader_says() -> String {
    // SAFETY: this process has one thread; the text is valid until the next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: as above, and terminated.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
