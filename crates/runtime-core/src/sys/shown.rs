//! The memory that the kernel shows as a process's arguments and environment. Not here: what is to stand there.

use super::call::{Errno, Result};
use super::mount::{openat, read};
use std::os::fd::RawFd;

/// This process, as `/proc/self/stat` tells of it.
pub(crate) struct OwnStat {
    /// Number of its threads.
    pub threads: u64,
    /// Where its arguments are.
    pub args: Shown,
    /// Where its environment is.
    pub env: Shown,
}

/// A range of this process's memory that the kernel put strings in. Only [`OwnStat::read`] makes one.
#[derive(Debug)]
pub(crate) struct Shown {
    address: usize,
    len: usize,
}

impl OwnStat {
    /// Reads it; `proc` is a trusted procfs.
    pub(crate) fn read(proc: RawFd) -> Result<Self> {
        let fd = openat(proc, c"self/stat", libc::O_RDONLY, 0)?;
        let mut buf = [0; 4096];
        let n = read(fd, &mut buf);
        super::close(fd);
        Self::parse(&String::from_utf8_lossy(&buf[..n?])).ok_or(Errno(libc::EBADMSG))
    }

    /// Fields 20 and 48 to 51 of proc_pid_stat(5).
    fn parse(text: &str) -> Option<Self> {
        // The second field is the only one with spaces, in parentheses; the third comes first here.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let range = |field| {
            let (first, end) = (usize::try_from(number(field)?).ok()?, usize::try_from(number(field + 1)?).ok()?);
            Some(Shown { address: first, len: end.checked_sub(first)? })
        };
        Some(Self { threads: number(20)?, args: range(48)?, env: range(50)? })
    }
}

impl Shown {
    /// Bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts `text` there, as much as there is room for, and zeros behind it. For a process that is about to become another program: nothing
    /// in it may read its arguments or environment afterwards as what they were.
    pub(crate) fn overwrite(&self, text: &[u8]) {
        let at = std::ptr::with_exposed_provenance_mut::<u8>(self.address);
        let n = text.len().min(self.len);
        // SAFETY: the kernel named the range for this process, or for the one it is a copy of (no CLONE_VM), and put its strings there when
        // it was executed: on the stack, which is writable and never unmapped. The process has one thread, so nobody else looks on, and
        // `text` is another object.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), at, n);
            std::ptr::write_bytes(at.add(n), 0, self.len - n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_kernel_has_put_arguments_and_environment() {
        let fields: Vec<String> = (4..=52).map(|n| (n * 10).to_string()).collect();
        let stat = OwnStat::parse(&format!("7 (a) b) R {}\n", fields.join(" "))).unwrap();
        assert_eq!((stat.threads, stat.args.address, stat.args.len, stat.env.address, stat.env.len), (200, 480, 10, 500, 10));
        assert!(OwnStat::parse("7 (a) R 1 2\n").is_none());
        let own = OwnStat::parse(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.args.len(), std::fs::read("/proc/self/cmdline").unwrap().len());
        assert_eq!(own.env.len(), std::fs::read("/proc/self/environ").unwrap().len());
        assert!(own.threads >= 1);
    }
}
