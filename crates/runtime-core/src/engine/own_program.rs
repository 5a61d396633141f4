//! The runtime's own program, which a container reaches by `/proc/PID/exe` of the process that becomes its own, and must not be able to
//! write to (CVE-2019-5736). `docs/self-protection.md` argues each case. Not here: who calls this; the library never does by itself.

use crate::error::{Context, Result};
use crate::plan::mount_flags::ATTR_RDONLY;
use crate::sys::{self, Argv, Errno};
use rustix::fs::{Access, CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::fs::{access, fcntl_add_seals, fcntl_get_seals, memfd_create, openat, sendfile};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The program of this process, whatever happened to its name.
const OWN: &CStr = c"/proc/self/exe";
/// Nothing of a file with these can be changed any more, nor can they be taken away.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);
/// Owner of files whose owner the user namespace does not map (`kernel.overflowuid`).
const UNMAPPED: u32 = 65_534;

/// Why no process of a container can write to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// It is reached by a mount that is read-only.
    ReadOnlyMount,
    /// It has the attribute of immutable files.
    Immutable,
    /// Its content is under fs-verity.
    Verity,
    /// Another user's, whom no user namespace of this process maps, and who alone may write.
    OfAnother,
    /// A copy in memory that is sealed.
    Sealed,
}

/// Sees to it that no container can write to this process's program, if need be by mapping it anew from a read-only mount of its own, or from a
/// sealed copy in memory. Where that cannot be done the program is executed again from there, with the same arguments and environment. It returns
/// when nothing is to be done any more, which is also what the second program finds.
///
/// Call it first thing in a program that makes containers and that root can write to, before there is a second thread: whatever the program did
/// before may be done again.
///
/// # Errors
/// There is no way to do it here.
pub fn protect_own_program() -> Result<Protection> {
    let what = || "protect the runtime's own program";
    if let Some(held) = held().context(what)? {
        return Ok(held);
    }
    // Without the calls or the right to mount: the copy.
    if let Ok(held) = read_only().and_then(take_place) {
        return Ok(held);
    }
    sealed().and_then(take_place).context(what)
}

/// Makes `program`, which has the content of this process's own, the one that `/proc/PID/exe` leads to.
fn take_place(program: OwnedFd) -> Result<Protection, Errno> {
    // The mapping needs a descriptor that can be read from.
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // What the kernel then finds is what counts.
    match sys::move_program(file.as_fd()).map(|()| held()) {
        Ok(Ok(Some(held))) => Ok(held),
        _ => execute(&program).map(|never| match never {}),
    }
}

/// What protects the program as it is.
fn held() -> Result<Option<Protection>> {
    if sys::held_at_entry() {
        return Ok(Some(Protection::ReadOnlyMount));
    }
    let denied = access(OWN, Access::WRITE_OK).err();
    if denied == Some(rustix::io::Errno::ROFS) {
        return Ok(Some(Protection::ReadOnlyMount));
    }
    let st = sys::statx(OWN).context(|| "statx `/proc/self/exe`")?;
    let has = |attribute: i32| st.stx_attributes & attribute as u64 != 0;
    let file = File {
        owner: st.stx_uid,
        mode: st.stx_mode.into(),
        immutable: has(libc::STATX_ATTR_IMMUTABLE),
        verity: has(libc::STATX_ATTR_VERITY),
    };
    // Who it is matters only to whom something is denied.
    let held = judge(denied, &file, denied.map_or(0, |_| rustix::process::geteuid().as_raw()));
    if held.is_some() || st.stx_nlink != 0 {
        return Ok(held);
    }
    // Without a name, so it may be the copy.
    let program = openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| "open `/proc/self/exe`")?;
    let sealed = fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SEALS));
    Ok(sealed.then_some(Protection::Sealed))
}

/// What matters of a file.
struct File {
    owner: u32,
    mode: u32,
    immutable: bool,
    verity: bool,
}

/// Whether a file that is on a writable mount holds by itself; `denied` is what the kernel answers the user `euid` who wants to write.
fn judge(denied: Option<rustix::io::Errno>, file: &File, euid: u32) -> Option<Protection> {
    if file.verity {
        return Some(Protection::Verity);
    }
    if file.immutable {
        return Some(Protection::Immutable);
    }
    // This process has all rights that a container of its could have: a denial means that capabilities do not reach the file. But an owner
    // may change the mode, and a group that is mapped may have members in the container. The first user is in no range of others' ids.
    let anothers = if euid == 0 { file.owner == UNMAPPED } else { file.owner == 0 };
    let only_the_owner = file.mode & 0o022 == 0;
    (denied == Some(rustix::io::Errno::ACCESS) && anothers && only_the_owner).then_some(Protection::OfAnother)
}

/// The program by a mount of nobody's namespace, through which nothing can be written. It lives as long as something is executed from it.
fn read_only() -> Result<OwnedFd, Errno> {
    sys::detached_tree_with(OWN, false, false, ATTR_RDONLY, 0, 0)
}

/// A copy that cannot be changed.
fn sealed() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know that a file is to be executed, and let all of them.
    let copy = memfd_create(c"pinnace", flags | MemfdFlags::EXEC).or_else(|_| memfd_create(c"pinnace", flags))?;
    let program = openat(CWD, OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    const MOST: usize = 1 << 30;
    while sendfile(&copy, &program, None, MOST)? > 0 {}
    fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}

/// Executes a program in place of this one; returns only what went wrong.
fn execute(program: &OwnedFd) -> std::result::Result<std::convert::Infallible, Errno> {
    let strings = |list: Vec<OsString>| list.into_iter().map(|s| CString::new(s.into_vec())).collect::<Result<Vec<_>, _>>();
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    let argv = strings(std::env::args_os().collect()).map_err(|_| Errno(libc::EINVAL))?;
    let envp = strings(std::env::vars_os().map(variable).collect()).map_err(|_| Errno(libc::EINVAL))?;
    Err(sys::execveat(program.as_raw_fd(), &Argv::new(argv), &Argv::new(envp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno as Denial;

    #[test]
    fn files_that_hold_by_themselves() {
        let file = |owner, mode| File { owner, mode, immutable: false, verity: false };
        for (denied, owner, mode, euid, want) in [
            (None, 0, 0o755, 0, None),
            (Some(Denial::ACCESS), 0, 0o755, 1000, Some(Protection::OfAnother)),
            (Some(Denial::ACCESS), UNMAPPED, 0o755, 0, Some(Protection::OfAnother)),
            // His own file without the right to write, which he can give himself.
            (Some(Denial::ACCESS), 1000, 0o555, 1000, None),
            // Perhaps one of his subordinate ids.
            (Some(Denial::ACCESS), 100_000, 0o755, 1000, None),
            // Root, and no capability to pass the mode over.
            (Some(Denial::ACCESS), 0, 0o555, 0, None),
            (Some(Denial::ACCESS), 1000, 0o755, 0, None),
            (Some(Denial::ACCESS), 0, 0o775, 1000, None),
            (Some(Denial::PERM), 0, 0o755, 0, None),
        ] {
            assert_eq!(judge(denied, &file(owner, mode), euid), want, "{denied:?} {owner} {mode:o} {euid}");
        }
        assert_eq!(judge(None, &File { verity: true, ..file(0, 0o755) }, 0), Some(Protection::Verity));
        assert_eq!(judge(Some(Denial::PERM), &File { immutable: true, ..file(0, 0o755) }, 0), Some(Protection::Immutable));
    }

    #[test]
    fn a_copy_is_the_program_and_cannot_be_changed() {
        let copy = sealed().unwrap();
        assert!(fcntl_get_seals(&copy).unwrap().contains(SEALS));
        assert!(rustix::io::write(&copy, b"x").is_err() && rustix::fs::ftruncate(&copy, 0).is_err());
        let (mut copied, own) = (vec![0; 4096], std::fs::read("/proc/self/exe").unwrap());
        rustix::io::pread(&copy, &mut copied, 0).unwrap();
        assert_eq!((&copied[..], rustix::fs::fstat(&copy).unwrap().st_size as usize), (&own[..4096], own.len()));
    }
}
