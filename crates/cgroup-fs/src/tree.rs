//! Walking a cgroup and everything below it. Not here: what is done there.
//!
//! A container may own its subtree and nest it as deep as it likes, deeper than PATH_MAX or the number of descriptors: the walk goes
//! down by name and up by `..`, with one descriptor at a time.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::Path;

type Io<T> = std::result::Result<T, Errno>;

/// Calls `visit` for every cgroup, the deepest first, `top` last; `leave` gets the parent and the name of each but `top` afterwards.
/// Cgroups that vanish meanwhile are passed over.
fn post_order(
    top: &Path,
    visit: &mut dyn FnMut(BorrowedFd<'_>) -> Io<()>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CString) -> Io<()>,
) -> Io<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here: OwnedFd = match openat(CWD, top, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut stack = vec![(CString::default(), children(&here)?)];
    while let Some((_, pending)) = stack.last_mut() {
        if let Some(child) = pending.pop() {
            match openat(&here, &child, flags, Mode::empty()) {
                Ok(fd) => {
                    stack.push((child, children(&fd)?));
                    here = fd;
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
            continue;
        }
        visit(here.as_fd())?;
        let name = stack.pop().map(|f| f.0).unwrap_or_default();
        if !stack.is_empty() {
            let parent = openat(&here, "..", flags, Mode::empty())?;
            leave(parent.as_fd(), &name)?;
            here = parent;
        }
    }
    Ok(())
}

fn children(dir: &OwnedFd) -> Io<Vec<CString>> {
    let mut out = Vec::new();
    for entry in Dir::read_from(dir)? {
        match entry {
            Ok(e) if e.file_type() == FileType::Directory && !matches!(e.file_name().to_bytes(), b"." | b"..") => {
                out.push(e.file_name().to_owned());
            }
            Ok(_) => {}
            // Removed while it was read.
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// The processes of a cgroup and everything below it, each once, in order. Those outside of the caller's pid namespace show as 0.
pub(crate) fn pids(top: &Path) -> Io<Vec<i32>> {
    let mut out = Vec::new();
    let mut visit = |dir: BorrowedFd<'_>| {
        match crate::files::read_at(dir, "cgroup.procs") {
            Ok(text) => out.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
            // Gone, or the inside of a threaded subtree, whose processes the domain above lists.
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    };
    post_order(top, &mut visit, &mut |_, _| Ok(()))?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// Removes a cgroup and everything below it.
///
/// # Errors
/// EBUSY where something could not be removed because it is in use; the rest is removed all the same.
pub(crate) fn remove(top: &Path) -> Io<()> {
    let mut leave = |parent: BorrowedFd<'_>, name: &CString| match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
        Err(e) => Err(e),
    };
    post_order(top, &mut |_| Ok(()), &mut leave)?;
    rmdir(top)
}

/// Removes a cgroup without children.
pub(crate) fn rmdir(path: &Path) -> Io<()> {
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn trees_deeper_than_a_path_and_wider_than_a_page() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("t");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.procs"), "7\n3\n").unwrap();
        for i in 0..300 {
            fs::create_dir(path.join(format!("wide{i}"))).unwrap();
        }
        // 60 times 100 bytes are beyond PATH_MAX, so the levels are made one below the other.
        let mut at = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        let name = "d".repeat(100);
        for _ in 0..60 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, OFlags::RDONLY, Mode::empty()).unwrap();
        }
        drop(openat(&at, "cgroup.procs", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
        assert_eq!(pids(&path).unwrap(), [3, 7]);
        unlinkat(&at, "cgroup.procs", AtFlags::empty()).unwrap();
        fs::remove_file(path.join("cgroup.procs")).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        remove(&path).unwrap();
        assert_eq!(pids(&path).unwrap(), [] as [i32; 0]);
    }
}
