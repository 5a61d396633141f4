//! Reading and writing cgroup files with as few system calls as they take, and turning error numbers into errors. Not here: which
//! file gets which value.

use runtime_core::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read, write};
use std::path::{Path, PathBuf};

/// Says what was tried when a system call failed.
pub(crate) trait Sys<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Sys<T> for std::result::Result<T, Errno> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::sys(e.raw_os_error(), what()))
    }
}

/// A cgroup in one hierarchy: its absolute path, and its descriptor where there is one, which files are then opened relative to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dir<'a> {
    pub(crate) path: &'a Path,
    pub(crate) fd: Option<BorrowedFd<'a>>,
}

impl<'a> Dir<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path, fd: None }
    }

    /// Opens a file of the cgroup.
    pub(crate) fn open(&self, file: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        match self.fd {
            Some(fd) => openat(fd, file, flags, Mode::empty()),
            None => openat(CWD, self.path.join(file), flags, Mode::empty()),
        }
    }

    /// Reads a file of the cgroup.
    pub(crate) fn read(&self, file: &str) -> std::result::Result<String, Errno> {
        slurp(&self.open(file, OFlags::RDONLY)?, SHORT)
    }

    /// [`read`](Self::read), with the file to be closed later.
    pub(crate) fn read_on(&self, file: &str, spent: &mut Vec<OwnedFd>) -> std::result::Result<String, Errno> {
        let file = self.open(file, OFlags::RDONLY)?;
        let text = slurp(&file, SHORT);
        spent.push(file);
        text
    }

    /// Writes a file of the cgroup with one write(2).
    pub(crate) fn write(&self, file: &str, value: &str) -> std::result::Result<(), Errno> {
        put(self.open(file, OFlags::WRONLY)?.as_fd(), value)
    }

    /// The names of what is in the directory.
    pub(crate) fn names(&self) -> std::result::Result<Vec<String>, Errno> {
        let dir = openat(CWD, self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut out = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            out.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(out)
    }

    /// The path of a file, for messages.
    pub(crate) fn file(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }
}

/// Reads a file of the cgroup that `dir` is open on.
pub(crate) fn read_at(dir: BorrowedFd<'_>, file: &str) -> std::result::Result<String, Errno> {
    slurp(&openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, SHORT)
}

/// Reads a file of /proc, whose records may be long.
pub(crate) fn read_proc(file: &str) -> std::result::Result<String, Errno> {
    slurp(&openat(CWD, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, 0)
}

/// The files of a cgroup have short records, and seq_file fills the buffer with as many as fit: a read that returned less than this was
/// the last one, which saves the one that would return nothing.
const SHORT: usize = 2048;

/// One write(2): the files of the kernel take a value whole or not at all.
pub(crate) fn put(fd: BorrowedFd<'_>, value: &str) -> std::result::Result<(), Errno> {
    loop {
        match write(fd, value.as_bytes()) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// Reads until a read returns nothing, or less than `short` bytes in all.
fn slurp(fd: &OwnedFd, short: usize) -> std::result::Result<String, Errno> {
    let mut out = vec![0; 4096];
    let mut have = 0;
    loop {
        if have == out.len() {
            out.resize(out.len() * 4, 0);
        }
        match read(fd, &mut out[have..]) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
            Ok(0) => break,
            Ok(n) => {
                have += n;
                if have < short {
                    break;
                }
            }
        }
    }
    out.truncate(have);
    Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The number in a file that holds only that; `max` is `None`.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of `key` in a flat keyed file (cgroup-v2.rst, "Format").
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, 2047, 2048, 4095, 4096, 4097, 100_000] {
            let text = "x".repeat(len);
            std::fs::write(dir.path().join("f"), &text).unwrap();
            assert_eq!(Dir::new(dir.path()).read("f").unwrap(), text);
        }
        assert_eq!(Dir::new(dir.path()).read("g"), Err(Errno::NOENT));
    }

    #[test]
    fn keyed_values() {
        let text = "oom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((keyed(text, "oom_kill"), keyed(text, "oom"), keyed(text, "low")), (Some(2), Some(3), None));
    }
}
