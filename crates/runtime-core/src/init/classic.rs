//! The same mounts without the calls for detached ones (open_tree, fsopen, move_mount, mount_setattr): before kernel 5.12, or under a filter
//! that answers ENOSYS. Not here: what is mounted where.
//!
//! A mount is made at a place of its own, gets its attributes there, and is moved to its target by descriptor: what reads
//! `/proc/self/fd/N` here is the trusted procfs of the parent, so nothing is resolved by name a second time. The place is a tmpfs that
//! covers the old root's `/proc` for as long as one mount takes.

use super::{
    Child, Done, Fail, PATH_MAX, mounts::clone_tree, resolve, resolve::Buffer, resolve::PathBuffer, resolve::ShortPath, wire::Code,
};
use crate::plan::mount_flags::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY, ATTR_STRICTATIME,
};
use crate::plan::step::FsOptions;
use crate::sys::{self, Errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

const STAGE: &CStr = c"/proc";
/// The one entry of the stage.
const ENTRY: &CStr = c"m";

const MS_NOSYMFOLLOW: u64 = 256;
/// MOUNT_ATTR_*, MS_*, ST_* (statfs(2)) of the same meaning.
const FLAGS: [(u64, u64, u64); 7] = [
    (ATTR_RDONLY, libc::MS_RDONLY, 0x1),
    (ATTR_NOSUID, libc::MS_NOSUID, 0x2),
    (ATTR_NODEV, libc::MS_NODEV, 0x4),
    (ATTR_NOEXEC, libc::MS_NOEXEC, 0x8),
    (ATTR_NODIRATIME, libc::MS_NODIRATIME, 0x800),
    (ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW, 0x2000),
    (ATTR_NOATIME, libc::MS_NOATIME, 0x400),
];
const ST_RELATIME: u64 = 0x1000;

/// Changes to a mount's attributes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    pub set: u64,
    pub clear: u64,
    /// MS_PRIVATE and so on; 0 for none.
    pub propagation: u64,
}

impl Child<'_> {
    /// Does something about mounts; where it lacks a call for detached ones, once more with mount(2), and so with all that follows.
    pub(super) fn with_fallback<T>(&mut self, deed: impl Fn(&mut Self) -> Result<T, Fail>) -> Result<T, Fail> {
        match deed(self) {
            Err(Fail { errno: libc::ENOSYS, .. }) if !self.classic => {
                self.classic = true;
                deed(self)
            }
            r => r,
        }
    }

    /// A copy of the tree at a path, or at the descriptor itself where the path is empty, that is to be attached next.
    pub(super) fn tree(&mut self, dir: RawFd, path: &CStr, recursive: bool, link: bool) -> Result<RawFd, Fail> {
        if self.classic { self.classic_tree(dir, path, recursive, link) } else { Ok(clone_tree(dir, path, recursive, link)?) }
    }

    #[inline(never)]
    fn classic_tree(&mut self, dir: RawFd, path: &CStr, recursive: bool, link: bool) -> Result<RawFd, Fail> {
        let follow = if link { libc::O_NOFOLLOW } else { 0 };
        let source = if path.is_empty() { dir } else { sys::openat(dir, path, libc::O_PATH | follow, 0)? };
        let original = sys::fstat(source)?;
        let place = self.stage(original.is_dir())?;
        let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
        self.by_descriptor(Some(source), place, flags, None)?;
        let tree = self.staged()?;
        if sys::fstat(tree)? != original {
            return Err(Fail::new(libc::EXDEV, Code::Unsafe));
        }
        if !path.is_empty() {
            sys::close(source);
        }
        Ok(tree)
    }

    /// A new file system made with mount(2); `flags` are MS_* of the file system.
    #[inline(never)]
    pub(super) fn classic_new(&mut self, fstype: &CStr, source: &CStr, flags: u64, data: &CStr, attrs: u64) -> Result<RawFd, Fail> {
        let place = self.stage(true)?;
        // Read-only is for the mount and not for the file system, so it comes later.
        let flags = mount_flags(attrs & !ATTR_RDONLY) | flags;
        let mut path = ShortPath::new();
        descriptor_path(&mut path, place)?;
        self.in_proc(|| sys::mount(Some(source), path.as_c_str(), Some(fstype), flags, Some(data)))?;
        let tree = self.staged()?;
        if attrs & ATTR_RDONLY != 0 {
            self.change(tree, false, Change { set: ATTR_RDONLY, ..Change::default() })?;
        }
        Ok(tree)
    }

    /// Changes attributes of a mount, and those of the mounts below it.
    pub(super) fn change(&self, mount: RawFd, recursive: bool, change: Change) -> Done {
        let Change { set, clear, propagation } = change;
        if self.classic {
            self.classic_change(mount, recursive, change)
        } else {
            Ok(sys::mount_setattr(mount, recursive, set, clear, propagation)?)
        }
    }

    #[inline(never)]
    fn classic_change(&self, mount: RawFd, recursive: bool, change: Change) -> Done {
        let Change { set, clear, propagation } = change;
        if propagation != 0 {
            let flags = propagation | if recursive { libc::MS_REC } else { 0 };
            self.by_descriptor(None, mount, flags, None)?;
        }
        if set | clear == 0 {
            return Ok(());
        }
        let mut path = ShortPath::new();
        descriptor_path(&mut path, mount)?;
        self.in_proc(|| remount(mount, path.as_c_str(), change))?;
        if recursive && self.stage.is_some() { self.change_below(change) } else { Ok(()) }
    }

    /// Changes every mount below the staged one.
    fn change_below(&self, change: Change) -> Done {
        let stage = self.stage.ok_or(Errno(libc::EBADF))?;
        let table = sys::openat(self.wire.proc, c"self/mountinfo", libc::O_RDONLY, 0)?;
        let mut lines = Lines { fd: table, buffer: [0; 2 * PATH_MAX], used: 0, start: 0 };
        while let Some(line) = lines.next()? {
            let Some(escaped) = line.split(|b| *b == b' ').nth(4).and_then(|p| p.strip_prefix(b"/proc/")) else { continue };
            if !escaped.starts_with(b"m/") {
                continue;
            }
            let mut path = PathBuffer::new();
            unescape(&mut path, escaped)?;
            let mount = resolve::open(stage, path.as_c_str(), libc::O_PATH, true)?;
            descriptor_path(&mut path, mount)?;
            self.in_proc(|| remount(mount, path.as_c_str(), change))?;
            sys::close(mount);
        }
        sys::close(table);
        Ok(())
    }

    /// Attaches what `tree` or `new_fs` made.
    pub(super) fn attach(&mut self, tree: RawFd, target: RawFd) -> Done {
        if !self.classic {
            return Ok(sys::move_mount(tree, target)?);
        }
        self.by_descriptor(Some(tree), target, libc::MS_MOVE, None)?;
        self.clear_stage()
    }

    /// Binds one descriptor's object over another's, where no attributes matter.
    pub(super) fn bind(&mut self, source: RawFd, target: RawFd) -> Done {
        self.with_fallback(|c| {
            if c.classic {
                return c.by_descriptor(Some(source), target, libc::MS_BIND, None);
            }
            let tree = clone_tree(source, c"", false, false)?;
            Ok(sys::move_mount(tree, target)?)
        })
    }

    /// Changes the file system that is mounted at `target`.
    pub(super) fn reconfigure(&self, target: RawFd, options: &FsOptions) -> Done {
        if self.classic {
            // Attributes of the mount are part of the same flags, so those it has are kept.
            let kept = mount_flags(attributes(sys::mount_flags(target)?));
            return self.by_descriptor(None, target, libc::MS_REMOUNT | kept | options.flags, Some(&options.data));
        }
        let fs = sys::fspick(target)?;
        for (key, value) in &options.pairs {
            sys::fsconfig_set(fs, key, value.as_deref())?;
        }
        sys::fsconfig_reconfigure(fs)?;
        sys::close(fs);
        Ok(())
    }

    /// A new and empty place for a mount: a directory or a file.
    fn stage(&mut self, directory: bool) -> Result<RawFd, Fail> {
        self.clear_stage()?;
        // Nothing of this may travel to the host.
        sys::mount(None, STAGE, None, libc::MS_PRIVATE, None)?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        sys::mount(Some(c"tmpfs"), STAGE, Some(c"tmpfs"), flags, Some(c"mode=700,size=64k"))?;
        let stage = sys::openat(libc::AT_FDCWD, STAGE, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        self.stage = Some(stage);
        // A recursive bind mount of what the stage covers shall not contain it.
        sys::mount(None, STAGE, None, libc::MS_UNBINDABLE, None)?;
        if !directory {
            return Ok(resolve::make_file(stage, ENTRY)?);
        }
        sys::mkdirat(stage, ENTRY, 0o700)?;
        Ok(sys::openat(stage, ENTRY, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?)
    }

    /// The root of the mount at the place.
    fn staged(&self) -> Result<RawFd, Fail> {
        let stage = self.stage.ok_or(Errno(libc::EBADF))?;
        Ok(sys::openat(stage, ENTRY, libc::O_PATH | libc::O_NOFOLLOW, 0)?)
    }

    pub(super) fn clear_stage(&mut self) -> Done {
        if let Some(stage) = self.stage.take() {
            sys::close(stage);
            sys::umount2(STAGE, libc::MNT_DETACH)?;
        }
        Ok(())
    }

    /// mount(2) of what descriptors stand for.
    fn by_descriptor(&self, source: Option<RawFd>, target: RawFd, flags: u64, data: Option<&CStr>) -> Done {
        let (mut from, mut to) = (ShortPath::new(), ShortPath::new());
        if let Some(source) = source {
            descriptor_path(&mut from, source)?;
        }
        descriptor_path(&mut to, target)?;
        let source = source.map(|_| from.as_c_str());
        self.in_proc(|| sys::mount(source, to.as_c_str(), None, flags, data))
    }

    /// As [`in_proc`](Self::in_proc), and stays there where nothing that depends on the working directory follows: only hooks do, before the
    /// change to the root sets it anew.
    pub(super) fn stay_in_proc(&mut self, call: impl FnOnce() -> Result<(), Errno>) -> Done {
        // Else the process would keep a directory of the host.
        if self.has_hooks || !self.leaves_proc {
            return self.in_proc(call);
        }
        if !self.lives_in_proc {
            sys::fchdir(self.wire.proc)?;
            self.lives_in_proc = true;
        }
        Ok(call()?)
    }

    /// Makes a call with the trusted procfs as working directory, for paths that begin with `self/fd/`.
    pub(super) fn in_proc(&self, call: impl FnOnce() -> Result<(), Errno>) -> Done {
        let before = sys::openat(libc::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0);
        sys::fchdir(self.wire.proc)?;
        let done = call();
        // Hooks start where the runtime was, unless the container's root may not go there.
        if let Ok(before) = before {
            let _ = sys::fchdir(before);
            sys::close(before);
        }
        Ok(done?)
    }
}

/// `self/fd/N`.
pub(super) fn descriptor_path<const N: usize>(path: &mut Buffer<N>, fd: RawFd) -> Result<(), Errno> {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut rest = fd.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return path.set(&[b"self/fd/", &digits[at..]]);
        }
    }
}

/// MS_* flags of attributes. Without a word about access times mount(2) chooses the same as the kernel's other calls.
pub(super) fn mount_flags(attrs: u64) -> u64 {
    let strict = if attrs & ATTR_STRICTATIME != 0 { libc::MS_STRICTATIME } else { 0 };
    FLAGS.iter().filter(|(attr, ..)| attrs & attr != 0).fold(strict, |flags, (_, flag, _)| flags | flag)
}

/// Attributes of a mount, from statfs(2).
fn attributes(st: u64) -> u64 {
    let strict = if st & (ST_RELATIME | 0x400) == 0 { ATTR_STRICTATIME } else { 0 };
    FLAGS.iter().filter(|(.., known)| st & known != 0).fold(strict, |attrs, (attr, ..)| attrs | attr)
}

/// Sets all attributes anew: mount(2) knows no single ones.
fn remount(mount: RawFd, path: &CStr, change: Change) -> Result<(), Errno> {
    let attrs = attributes(sys::mount_flags(mount)?) & !change.clear | change.set;
    // Of the modes of access time one holds.
    let attrs = if change.set & ATTR_ATIME != 0 { attrs & !ATTR_ATIME | change.set & ATTR_ATIME } else { attrs };
    // "Relative" has no attribute, and without a word the mode that is there stays.
    let relative = if attrs & ATTR_ATIME == 0 { libc::MS_RELATIME } else { 0 };
    sys::mount(None, path, None, libc::MS_REMOUNT | libc::MS_BIND | relative | mount_flags(attrs), None)
}

/// Lines of a file, in memory on the stack.
struct Lines {
    fd: RawFd,
    buffer: [u8; 2 * PATH_MAX],
    used: usize,
    start: usize,
}

impl Lines {
    /// The next line without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, Errno> {
        loop {
            if let Some(length) = self.buffer[self.start..self.used].iter().position(|b| *b == b'\n') {
                let line = self.start..self.start + length;
                self.start += length + 1;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.copy_within(self.start..self.used, 0);
            (self.used, self.start) = (self.used - self.start, 0);
            if self.used == self.buffer.len() {
                return Err(Errno(libc::ENAMETOOLONG));
            }
            match sys::read(self.fd, &mut self.buffer[self.used..])? {
                0 => return Ok(None),
                n => self.used += n,
            }
        }
    }
}

/// A path of mountinfo (proc(5)): space, tab, line end and backslash stand there as three octal digits.
fn unescape(path: &mut PathBuffer, escaped: &[u8]) -> Result<(), Errno> {
    let mut plain = [0; PATH_MAX];
    let mut length = 0;
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            _ => (*first, tail),
        };
        *plain.get_mut(length).ok_or(Errno(libc::ENAMETOOLONG))? = byte;
        (length, rest) = (length + 1, after);
    }
    path.set(&[&plain[..length]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn descriptors_as_paths() {
        let mut path = ShortPath::new();
        for (fd, want) in [(0, c"self/fd/0"), (10, c"self/fd/10"), (i32::MAX, c"self/fd/2147483647")] {
            descriptor_path(&mut path, fd).unwrap();
            assert_eq!(path.as_c_str(), want);
        }
    }

    #[test]
    fn attributes_survive_the_way_through_mount_flags() {
        for bits in 0..1 << FLAGS.len() {
            let of = |what: fn(&(u64, u64, u64)) -> u64| {
                FLAGS.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0).fold(0, |all, (_, flag)| all | what(flag))
            };
            assert_eq!(mount_flags(of(|f| f.0)), of(|f| f.1));
            assert_eq!(attributes(of(|f| f.2) | ST_RELATIME), of(|f| f.0));
        }
        assert_eq!(attributes(0), ATTR_STRICTATIME);
        assert_eq!(mount_flags(ATTR_STRICTATIME), libc::MS_STRICTATIME);
    }

    #[test]
    fn paths_of_the_mount_table() {
        let mut path = PathBuffer::new();
        unescape(&mut path, br"/proc/m/a\040b\011\134\012c\9").unwrap();
        assert_eq!(path.as_c_str().to_bytes(), b"/proc/m/a b\t\\\nc\\9");
        assert_eq!(unescape(&mut path, &[b'x'; PATH_MAX]), Err(Errno(libc::ENAMETOOLONG)));
    }

    #[test]
    fn lines_across_reads() {
        let mut file = tempfile::tempfile().unwrap();
        let long = "x".repeat(PATH_MAX + 7);
        let text = format!("first\n{long}\n\n{long}\nlast\ncut");
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut lines = Lines { fd: file.as_raw_fd(), buffer: [0; 2 * PATH_MAX], used: 0, start: 0 };
        for want in ["first", &long, "", &long, "last"] {
            assert_eq!(lines.next().unwrap(), Some(want.as_bytes()));
        }
        assert_eq!(lines.next().unwrap(), None);
    }
}
