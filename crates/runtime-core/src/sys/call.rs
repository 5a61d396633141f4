//! One way to make a raw system call and to read its error. Not here: the calls.

/// A raw error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub i32);

/// Result of a raw system call.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

impl crate::error::Errno for Errno {
    fn raw(&self) -> i32 {
        self.0
    }
    fn text(&self) -> String {
        crate::error::strerror(self.0)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Self(e.raw_os_error())
    }
}

/// Turns the C library's -1 convention into a result.
pub(super) fn check(ret: libc::c_long) -> Result<usize> {
    if ret == -1 {
        // SAFETY: __errno_location returns the calling thread's own errno slot, valid for the thread's life.
        Err(Errno(unsafe { *libc::__errno_location() }))
    } else {
        Ok(ret as usize)
    }
}

/// `call!(SYS_x, a, b)`: the raw call with each argument widened to a register.
macro_rules! call {
    ($nr:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::call::check(libc::syscall(libc::$nr $(, $arg as libc::c_long)*))
    };
}
pub(super) use call;
