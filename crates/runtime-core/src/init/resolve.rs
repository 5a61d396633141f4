//! Paths inside the container's root, by descriptor: nothing is resolved by name again after it was checked. Not here: mounts.

use super::{Fail, wire::Code};
use crate::sys::{self, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

pub(super) use crate::sys::{Buffer, PathBuffer, ShortPath, open_inside as open};

/// Opens a file below `dir` on the way to which there is no symbolic link at all: for the trusted procfs.
pub(super) fn open_beneath(dir: RawFd, path: &CStr, flags: i32) -> Result<RawFd, Errno> {
    match sys::openat2(dir, path, flags, 0, sys::RESOLVE_BENEATH | sys::RESOLVE_NO_MAGICLINKS) {
        // The tree below is the kernel's own, which has no traps.
        Err(Errno(libc::ENOSYS)) => sys::openat(dir, path, flags | libc::O_NOFOLLOW, 0),
        r => r,
    }
}

/// What is behind `directory`, which ends with a slash, in a path that begins with it.
pub(super) fn below<'p>(path: &'p CStr, directory: &[u8]) -> Option<&'p CStr> {
    CStr::from_bytes_with_nul(path.to_bytes_with_nul().strip_prefix(directory)?).ok()
}

/// Opens a directory inside `root`, making what is missing (mode 0755).
pub(super) fn ensure_dir(root: RawFd, path: &CStr, no_symlinks: bool) -> Result<RawFd, Fail> {
    match open(root, path, DIRECTORY, no_symlinks) {
        Err(Errno(libc::ENOENT)) => make_dirs(root, path, no_symlinks),
        r => Ok(r?),
    }
}

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Makes the missing end of a path. Mostly that is the last component only, so the search for what exists starts there.
#[inline(never)]
pub(super) fn make_dirs(root: RawFd, path: &CStr, no_symlinks: bool) -> Result<RawFd, Fail> {
    let bytes = path.to_bytes();
    let mut prefix = PathBuffer::new();
    let mut end = bytes.len();
    let mut at = loop {
        end = bytes[..end].iter().rposition(|b| *b == b'/').unwrap_or(0);
        if end == 0 {
            break root;
        }
        prefix.set(&[&bytes[..end]])?;
        match open(root, prefix.as_c_str(), DIRECTORY, no_symlinks) {
            Err(Errno(libc::ENOENT)) => {}
            r => break r?,
        }
    };
    for name in bytes[end..].split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        at = make_dir(at, name)?;
    }
    Ok(at)
}

#[inline(never)]
fn make_dir(at: RawFd, name: &[u8]) -> Result<RawFd, Fail> {
    let mut component = PathBuffer::new();
    component.set(&[name])?;
    match sys::mkdirat(at, component.as_c_str(), 0o755) {
        Ok(()) => {}
        // It was not there a moment ago, so it is a dangling symbolic link, or somebody races.
        Err(Errno(libc::EEXIST)) => return Err(Fail::new(libc::ENOENT, Code::Unsafe)),
        Err(e) => return Err(e.into()),
    }
    Ok(sys::openat(at, component.as_c_str(), libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?)
}

/// The directory of `path` inside `root`, made when missing, and the last component.
#[inline(never)]
pub(super) fn parent(root: RawFd, path: &CStr) -> Result<(RawFd, &CStr), Fail> {
    let bytes = path.to_bytes_with_nul();
    let Some(slash) = bytes.iter().rposition(|b| *b == b'/') else { return Ok((root, path)) };
    let mut dir = PathBuffer::new();
    dir.set(&[&bytes[..slash]])?;
    let name = CStr::from_bytes_with_nul(&bytes[slash + 1..]).map_err(|_| Errno(libc::EINVAL))?;
    Ok((ensure_dir(root, dir.as_c_str(), false)?, name))
}

/// Opens (O_PATH) what is at `path` inside `root`, making an empty regular file when there is nothing.
pub(super) fn ensure_file(root: RawFd, path: &CStr) -> Result<RawFd, Fail> {
    match open(root, path, libc::O_PATH, false) {
        Err(Errno(libc::ENOENT)) => {}
        r => return Ok(r?),
    }
    let (dir, name) = parent(root, path)?;
    match make_file(dir, name) {
        Err(Errno(libc::EEXIST)) => Err(Fail::new(libc::ENOENT, Code::Unsafe)),
        r => Ok(r?),
    }
}

/// Makes an empty regular file that was not there.
pub(super) fn make_file(dir: RawFd, name: &CStr) -> Result<RawFd, Errno> {
    sys::openat(dir, name, libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_RDONLY, 0o755)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, std::fs::File, CString) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("/a", root.join("abs")).unwrap();
        symlink("../../outside", root.join("rel")).unwrap();
        symlink(dir.path().join("outside"), root.join("out")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let outside = CString::new(dir.path().join("outside").to_str().unwrap()).unwrap();
        (dir, std::fs::File::open(root).unwrap(), outside)
    }

    #[test]
    fn links_are_resolved_inside_the_root() {
        let (_dir, root, outside) = tree();
        let fd = root.as_raw_fd();
        let inside = open(fd, c"abs/b", libc::O_PATH, false).unwrap();
        assert_eq!(sys::fstat(inside), sys::fstatat(fd, c"a/b", 0));
        assert_eq!(open(fd, c"rel", libc::O_PATH, false), Err(Errno(libc::ENOENT)));
        assert_eq!(open(fd, c"abs", libc::O_PATH, true), Err(Errno(libc::ELOOP)));
        let made = ensure_dir(fd, c"abs/x/y", false).unwrap();
        assert_eq!(sys::fstat(made), sys::fstatat(fd, c"a/x/y", 0));
        assert!(ensure_dir(fd, c"rel/evil", false).is_err());
        assert!(ensure_dir(fd, c"dangling/evil", false).is_err());
        assert!(ensure_file(fd, c"dangling").is_err());
        assert!(ensure_file(fd, c"new/deep/file").is_ok());
        let entries = std::fs::read_dir(outside.to_str().unwrap()).unwrap().count();
        assert_eq!(entries, 0, "something was made outside");
    }
}
