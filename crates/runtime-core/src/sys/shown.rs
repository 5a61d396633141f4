//! What the kernel shows of this process's memory, and the arguments and environment in it. Not here: what is to stand there.

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
    /// Where the kernel thinks that the rest is.
    pub(super) memory: Memory,
}

/// Addresses: startcode to startstack, and start_data to start_brk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub code: [u64; 2],
    pub stack: u64,
    pub data: [u64; 2],
    pub brk: u64,
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
        Self::read_file(openat(proc, c"self/stat", libc::O_RDONLY, 0)?)
    }

    /// Reads it from the file itself, and closes that.
    pub(super) fn read_file(fd: RawFd) -> Result<Self> {
        let mut buf = [0; 4096];
        let n = read(fd, &mut buf);
        super::close(fd);
        Self::parse(&String::from_utf8_lossy(&buf[..n?])).ok_or(Errno(libc::EBADMSG))
    }

    /// Fields 20, 26 to 28 and 45 to 51 of proc_pid_stat(5).
    fn parse(text: &str) -> Option<Self> {
        // The second field is the only one with spaces, in parentheses; the third comes first here.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let range = |field| {
            let (first, end) = (usize::try_from(number(field)?).ok()?, usize::try_from(number(field + 1)?).ok()?);
            Some(Shown { address: first, len: end.checked_sub(first)? })
        };
        let memory = Memory { code: [number(26)?, number(27)?], stack: number(28)?, data: [number(45)?, number(46)?], brk: number(47)? };
        Some(Self { threads: number(20)?, args: range(48)?, env: range(50)?, memory })
    }
}

impl Shown {
    /// The first address, and the one behind the last.
    pub(super) fn ends(&self) -> [u64; 2] {
        [self.address as u64, (self.address + self.len) as u64]
    }

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
        assert_eq!(stat.memory, Memory { code: [260, 270], stack: 280, data: [450, 460], brk: 470 });
        assert_eq!(stat.args.ends(), [480, 490]);
        assert!(OwnStat::parse("7 (a) R 1 2\n").is_none());
        let own = OwnStat::parse(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.args.len(), std::fs::read("/proc/self/cmdline").unwrap().len());
        assert_eq!(own.env.len(), std::fs::read("/proc/self/environ").unwrap().len());
        assert!(own.threads >= 1);
    }
}
