//! The directory of compiled filters. Not here: what is in a file (`entry`), what makes a key (`lib`).
//!
//! The directory is a private one, its files are believed if no one else can write them (`runtime_core::private_dir`).
//! A hit is eight system calls: geteuid, openat and fstat of the directory, openat, fstat and read of the file, two close.

use crate::entry;
use runtime_core::api::SeccompFilter;
use runtime_core::private_dir::{PrivateDir, not_ours};
use runtime_core::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// The hash that names a filter.
pub(crate) type Key = [u8; 32];

/// Filters kept; an insertion beyond it drops the oldest. A machine rarely has more than a few profiles.
const MAX_ENTRIES: usize = 128;
/// Prefix of files being written.
const DRAFT: &str = ".new-";
/// Seconds after which a draft is no longer being written: its writer was killed.
const STALE: i64 = 60;

/// Others may read a filter, which is no secret, but not write it.
const OTHERS: u32 = 0o022;

/// An open cache directory that passed the checks.
pub(crate) struct Dir(PrivateDir);

impl Dir {
    /// Opens the directory, made with its parents if missing.
    ///
    /// # Errors
    /// It is a symbolic link, someone else's, or open to others; or a system call failed.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        PrivateDir::open(path).map(Self)
    }

    /// Looks a filter up. `None`: not there, or damaged.
    pub(crate) fn find(&self, key: &Key) -> Result<Option<SeccompFilter>> {
        let name = hex(key);
        let Some((mut file, stat)) = self.0.file(&name, OTHERS)? else { return Ok(None) };
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > entry::MAX_SIZE {
            return Err(not_ours(&name));
        }
        let mut bytes = vec![0; size];
        // A file that was shortened meanwhile is damaged.
        match file.read_exact(&mut bytes) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other.context(|| format!("read `{name}`"))?,
        }
        Ok(entry::decode(key, bytes))
    }

    /// Puts a filter in, whole or not at all, in place of what is there under its name.
    pub(crate) fn insert(&self, key: &Key, filter: &SeccompFilter) -> Result<()> {
        let Some(bytes) = entry::encode(key, filter) else { return Ok(()) };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let draft = format!("{DRAFT}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = hex(key);
        self.evict()?;
        let written = self.write(&draft, &bytes).and_then(|()| {
            renameat(&self.0, &draft, &self.0, &name).map_err(std::io::Error::from).context(|| format!("rename to `{name}`"))
        });
        if written.is_err() {
            // The first failure is the one to report.
            let _ = unlinkat(&self.0, &draft, AtFlags::empty());
        }
        written
    }

    fn write(&self, draft: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(&self.0, draft, flags, Mode::RUSR | Mode::WUSR);
        let fd = match create() {
            // Left by a killed process that had our number.
            Err(Errno::EXIST) => {
                unlinkat(&self.0, draft, AtFlags::empty()).map_err(std::io::Error::from).context(|| format!("remove `{draft}`"))?;
                create()
            }
            other => other,
        };
        let fd = fd.map_err(std::io::Error::from).context(|| format!("create `{draft}`"))?;
        File::from(fd).write_all(bytes).context(|| format!("write `{draft}`"))
    }

    /// Makes room for one more, oldest first, and removes forgotten drafts.
    fn evict(&self) -> Result<()> {
        let here = || "list the seccomp cache";
        let mut files = Vec::new();
        for item in rustix::fs::Dir::read_from(&self.0).map_err(std::io::Error::from).context(here)? {
            let name = item.map_err(std::io::Error::from).context(here)?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // It may be gone by now: another process evicts too.
            let Ok(stat) = statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            files.push(((stat.st_mtime, stat.st_mtime_nsec), name));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
        let (drafts, mut entries): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(_, name)| name.to_bytes().starts_with(DRAFT.as_bytes()));
        entries.sort();
        let surplus = (entries.len() + 1).saturating_sub(MAX_ENTRIES);
        let stale = drafts.into_iter().filter(|((seconds, _), _)| now - seconds > STALE);
        for (_, name) in entries.into_iter().take(surplus).chain(stale) {
            // As above; what cannot be removed stays and is tried again.
            let _ = unlinkat(&self.0, &name, AtFlags::empty());
        }
        Ok(())
    }
}

fn hex(key: &Key) -> String {
    key.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn filter(n: u8) -> SeccompFilter {
        SeccompFilter { program: vec![n; 16], flags: u32::from(n), listener: None }
    }

    fn key(n: u8) -> Key {
        [n; 32]
    }

    fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        (dir, path)
    }

    #[test]
    fn a_filter_comes_back_and_a_damaged_one_does_not() {
        let (_tmp, path) = scratch();
        let dir = Dir::open(&path).unwrap();
        assert_eq!(dir.find(&key(1)).unwrap(), None);
        dir.insert(&key(1), &filter(1)).unwrap();
        assert_eq!(dir.find(&key(1)).unwrap(), Some(filter(1)));
        assert_eq!(dir.find(&key(2)).unwrap(), None);
        let file = path.join(hex(&key(1)));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for damage in [&b""[..], b"pnncbpf1", &fs::read(&file).unwrap()[..60]] {
            fs::write(&file, damage).unwrap();
            assert_eq!(dir.find(&key(1)).unwrap(), None);
        }
        dir.insert(&key(1), &filter(1)).unwrap();
        assert_eq!(dir.find(&key(1)).unwrap(), Some(filter(1)));
    }

    #[test]
    fn directories_open_to_others_and_links_are_refused() {
        let (tmp, path) = scratch();
        drop(Dir::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        for mode in [0o755, 0o770, 0o1777, 0o500] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Dir::open(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let link = tmp.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Dir::open(&link).is_err());
        assert!(Dir::open(&path).is_ok());
    }

    #[test]
    fn only_plain_files_that_others_cannot_write_are_read() {
        let (tmp, path) = scratch();
        let dir = Dir::open(&path).unwrap();
        dir.insert(&key(1), &filter(1)).unwrap();
        let file = path.join(hex(&key(1)));
        let outside = tmp.path().join("outside");
        fs::copy(&file, &outside).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(dir.find(&key(1)).is_err());
        fs::remove_file(&file).unwrap();
        symlink(&outside, &file).unwrap();
        assert!(dir.find(&key(1)).is_err());
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(dir.find(&key(1)).is_err());
        // An insertion puts a good file in the place of whatever is there.
        dir.insert(&key(1), &filter(1)).unwrap();
        assert_eq!(dir.find(&key(1)).unwrap(), Some(filter(1)));
    }

    #[test]
    fn the_oldest_make_room_and_drafts_do_not_stay() {
        let (_tmp, path) = scratch();
        let dir = Dir::open(&path).unwrap();
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        for n in 0..=200 {
            dir.insert(&key(n), &filter(n)).unwrap();
            // The file system's clock is too coarse to order them.
            let age = std::time::Duration::from_secs(u64::from(n));
            fs::File::open(path.join(hex(&key(n)))).unwrap().set_modified(past + age).unwrap();
        }
        let draft = path.join(format!("{DRAFT}1-1"));
        fs::write(&draft, "half").unwrap();
        fs::File::open(&draft).unwrap().set_modified(past).unwrap();
        dir.insert(&key(201), &filter(201)).unwrap();
        assert!(!draft.exists());
        assert_eq!(fs::read_dir(&path).unwrap().count(), MAX_ENTRIES);
        assert_eq!(dir.find(&key(0)).unwrap(), None);
        assert_eq!(dir.find(&key(200)).unwrap(), Some(filter(200)));
        assert_eq!(dir.find(&key(201)).unwrap(), Some(filter(201)));
    }
}
