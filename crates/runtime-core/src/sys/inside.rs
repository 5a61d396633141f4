//! Opening a path inside a root: by openat2(2), and as strictly where that call is missing. Not here: making what is not there
//! (`init::resolve`).

use super::call::{Errno, Result};
use super::{close, fstat, fstatfs_type, openat, openat2, readlinkat};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// Longest path the kernel takes, with its end (limits.h, PATH_MAX).
pub(crate) const PATH_MAX: usize = 4096;

/// Links on the way that the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// How deep a walk goes without openat2(2). Each level is a descriptor.
const DEEPEST: usize = 128;

/// Any path, in memory of which no more is touched than the path is long. But a function with one on its stack touches all of it: it makes sure that
/// there is stack, page by page. So such functions are no part of others (`inline(never)`).
pub(crate) type PathBuffer = Buffer<PATH_MAX>;

/// Room for `self/fd/N/NAME`.
pub(crate) type ShortPath = Buffer<288>;

/// A path shorter than `N` bytes.
// In this order a short one lies in one page.
#[repr(C)]
pub(crate) struct Buffer<const N: usize> {
    len: usize,
    /// The first `len` are set, and one more, which is zero.
    bytes: [MaybeUninit<u8>; N],
}

impl<const N: usize> Buffer<N> {
    pub(crate) const fn new() -> Self {
        let mut bytes = [MaybeUninit::uninit(); N];
        bytes[0] = MaybeUninit::new(0);
        Self { bytes, len: 0 }
    }

    /// Replaces the content by the parts, one behind the other.
    pub(crate) fn set(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.len = 0;
        self.bytes[0] = MaybeUninit::new(0);
        self.push(parts)
    }

    /// Appends the parts, one behind the other. On an error those before the one that does not fit are there.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<()> {
        for part in parts {
            let end = self.len + part.len();
            // One byte is kept for the end mark.
            if end >= N {
                return Err(Errno(libc::ENAMETOOLONG));
            }
            self.bytes[self.len..end].write_copy_of_slice(part);
            self.bytes[end] = MaybeUninit::new(0);
            self.len = end;
        }
        Ok(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.with_end()[..self.len]
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(self.with_end()).unwrap_or(c"")
    }

    fn with_end(&self) -> &[u8] {
        // SAFETY: that many bytes are set (`new`, `push`), and MaybeUninit<u8> has the layout of u8.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.len + 1) }
    }
}

/// Opens a path inside `root`: symbolic links are resolved as if `root` were `/`, `..` stays inside. `path` is relative and normal.
///
/// # Errors
/// Those of openat2(2): with `no_symlinks` ELOOP for any link on the way, always for a link that is none but in name (`/proc/PID/fd`).
pub(crate) fn open_inside(root: RawFd, path: &CStr, flags: i32, no_symlinks: bool) -> Result<RawFd> {
    let path = if path.is_empty() { c"." } else { path };
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | if no_symlinks { RESOLVE_NO_SYMLINKS } else { 0 };
    // EAGAIN: a rename raced with the walk (openat2(2)); the kernel cannot vouch for `..` then.
    for _ in 0..128 {
        match openat2(root, path, flags, 0, resolve) {
            Err(Errno(libc::EAGAIN)) => {}
            Err(Errno(libc::ENOSYS)) => return walk(root, path, flags, no_symlinks),
            r => return r,
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// The same without openat2 (before kernel 5.6, or under a filter), component by component. The kernel follows no link here, so nothing that
/// is renamed meanwhile leads out: a link's text is walked in its turn, and `..` is the directory that the walk came from.
#[cold]
#[inline(never)]
fn walk(root: RawFd, path: &CStr, flags: i32, no_symlinks: bool) -> Result<RawFd> {
    let mut walk = Walk { root, above: [0; DEEPEST], depth: 0 };
    let found = walk.follow(path, flags, no_symlinks);
    walk.back_to(0);
    found
}

/// The directories from the root to where a walk is.
struct Walk {
    root: RawFd,
    above: [RawFd; DEEPEST],
    depth: usize,
}

/// What a component turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Directory,
    Link,
    Other,
}

impl Walk {
    fn here(&self) -> RawFd {
        self.depth.checked_sub(1).map_or(self.root, |last| self.above[last])
    }

    fn back_to(&mut self, depth: usize) {
        while self.depth > depth {
            self.depth -= 1;
            close(self.above[self.depth]);
        }
    }

    fn follow(&mut self, path: &CStr, flags: i32, no_symlinks: bool) -> Result<RawFd> {
        let (mut rest, mut name, mut links) = (PathBuffer::new(), PathBuffer::new(), 0);
        rest.set(&[path.to_bytes()])?;
        let mut at = 0;
        while let Some(part) = component(rest.as_bytes(), at) {
            name.set(&[&rest.as_bytes()[part.clone()]])?;
            at = part.end;
            match name.as_bytes() {
                b"." => continue,
                b".." => {
                    self.back_to(self.depth.saturating_sub(1));
                    continue;
                }
                _ => {}
            }
            let last = at == rest.as_bytes().len();
            let fd = openat(self.here(), name.as_c_str(), libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            let kind = kind(fd);
            if kind == Ok(Found::Link) && !(last && flags & libc::O_NOFOLLOW != 0) {
                links += 1;
                let next = if no_symlinks || links > MOST_LINKS { Err(Errno(libc::ELOOP)) } else { target(fd, &rest.as_bytes()[at..]) };
                close(fd);
                rest = next?;
                at = 0;
                if rest.as_bytes().first() == Some(&b'/') {
                    self.back_to(0);
                }
                continue;
            }
            match (kind, last) {
                (Ok(kind), true) => return self.reopen(name.as_c_str(), fd, kind, flags),
                (Ok(Found::Directory), false) if self.depth < DEEPEST => {
                    self.above[self.depth] = fd;
                    self.depth += 1;
                }
                (kind, _) => {
                    close(fd);
                    let deep = kind? == Found::Directory;
                    return Err(Errno(if deep { libc::ENAMETOOLONG } else { libc::ENOTDIR }));
                }
            }
        }
        openat(self.here(), c".", flags & !libc::O_NOFOLLOW, 0)
    }

    /// The end of the walk, as the caller wants it opened.
    fn reopen(&self, name: &CStr, fd: RawFd, kind: Found, flags: i32) -> Result<RawFd> {
        let wrong = if flags & libc::O_DIRECTORY != 0 && kind != Found::Directory { Err(Errno(libc::ENOTDIR)) } else { Ok(fd) };
        if flags & libc::O_PATH != 0 {
            return wrong.inspect_err(|_| close(fd));
        }
        close(fd);
        // What may have taken its place meanwhile is no way out, either.
        wrong.and_then(|_| openat(self.here(), name, flags | libc::O_NOFOLLOW, 0))
    }
}

/// Where the next component is.
fn component(path: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let start = at + path[at..].iter().position(|b| *b != b'/')?;
    let length = path[start..].iter().position(|b| *b == b'/').unwrap_or(path.len() - start);
    Some(start..start + length)
}

fn kind(fd: RawFd) -> Result<Found> {
    Ok(match fstat(fd)?.mode & libc::S_IFMT {
        libc::S_IFDIR => Found::Directory,
        libc::S_IFLNK => Found::Link,
        _ => Found::Other,
    })
}

/// What a link says, with the rest of the path behind it.
fn target(link: RawFd, rest: &[u8]) -> Result<PathBuffer> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    // Which links of procfs lead where their text says cannot be seen from their text.
    if fstatfs_type(link)? == PROC_SUPER_MAGIC {
        return Err(Errno(libc::ELOOP));
    }
    let mut text = [0; PATH_MAX];
    let length = readlinkat(link, c"", &mut text)?;
    let mut path = PathBuffer::new();
    path.set(&[&text[..length], rest])?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "").unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        let links = [
            ("/a", "absolute"),
            ("a/b", "relative"),
            ("absolute/b/../b", "a/through"),
            ("../../../a/b", "a/b/up"),
            ("../../outside", "out"),
            ("/../outside/file", "out-of-the-root"),
            ("nowhere", "dangling"),
            ("loop", "loop"),
            (".", "here"),
            ("/", "root"),
            ("a/file", "file"),
            ("a/b/", "slash"),
            ("/proc/self/root", "proc"),
        ];
        for (text, link) in links {
            symlink(text, root.join(link)).unwrap();
        }
        // One that is just within the kernel's limit, and one more.
        symlink("/a/b", root.join("l1")).unwrap();
        for i in 2..=41 {
            symlink(format!("l{}", i - 1), root.join(format!("l{i}"))).unwrap();
        }
        let root = File::open(root).unwrap();
        (dir, root)
    }

    /// How many descriptors this process has of what is below `dir`.
    fn descriptors(dir: &tempfile::TempDir) -> usize {
        let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(dir.path()))).count()
    }

    #[test]
    fn the_walk_finds_what_openat2_finds() {
        let (dir, tree) = tree();
        let root = tree.as_raw_fd();
        let names = [
            ".",
            "..",
            "a",
            "a/b",
            "a/b/../../a/b",
            "absolute",
            "absolute/b",
            "relative/c",
            "a/through",
            "a/through/c",
            "a/b/up",
            "out",
            "out/file",
            "out-of-the-root",
            "dangling",
            "dangling/x",
            "loop",
            "here/here/a",
            "root/a",
            "root",
            "file",
            "file/x",
            "file/..",
            "slash",
            "slash/c",
            "a/file/",
            "a//b/./c/",
            "proc",
            "proc/etc",
            "nowhere",
            "a/nowhere",
            "../../../../a",
            "../outside",
            "a/../../outside/file",
            "l40",
            "l41",
            "l40/c",
        ];
        let path = libc::O_PATH;
        let ways = [
            path,
            path | libc::O_DIRECTORY,
            path | libc::O_NOFOLLOW,
            path | libc::O_NOFOLLOW | libc::O_DIRECTORY,
            0,
            libc::O_DIRECTORY,
            libc::O_NOFOLLOW,
        ];
        for name in names.map(|name| std::ffi::CString::new(name).unwrap()) {
            for (flags, no_symlinks) in ways.into_iter().flat_map(|flags| [(flags, false), (flags, true)]) {
                let what = |found: Result<RawFd>| found.map(|fd| (fstat(fd), close(fd)).0);
                let (walked, opened) = (what(walk(root, &name, flags, no_symlinks)), what(open_inside(root, &name, flags, no_symlinks)));
                assert_eq!(walked, opened, "{name:?}, flags {flags:o}, no links: {no_symlinks}");
            }
        }
        assert_eq!(descriptors(&dir), 1, "that of the root");
    }

    #[test]
    fn a_walk_goes_as_deep_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let deep = |n: usize| "d/".repeat(n);
        fs::create_dir_all(dir.path().join(deep(DEEPEST + 2))).unwrap();
        let root = File::open(dir.path()).unwrap();
        let walked = |n: usize| {
            let path = std::ffi::CString::new(deep(n)).unwrap();
            walk(root.as_raw_fd(), &path, libc::O_PATH, false).map(close)
        };
        assert_eq!(walked(DEEPEST), Ok(()));
        assert_eq!(walked(DEEPEST + 1), Err(Errno(libc::ENAMETOOLONG)));
        assert_eq!(descriptors(&dir), 1);
    }
}
