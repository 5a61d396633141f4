//! The state directory: one entry a container. Not here: what is in an entry (`dir`).

use super::ContainerDir;
use super::dir::no_container;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::ContainerId;
use rustix::io::Errno;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Access to a state directory, which need not exist.
#[derive(Clone, Copy)]
pub(crate) struct Store<'a> {
    root: &'a Path,
}

impl<'a> Store<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    fn path(self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Makes the directory of a new container, mode 0700, and the state directory where that is missing. Making it is what reserves the
    /// id.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the id is taken.
    pub(crate) fn create(self, id: &ContainerId) -> Result<ContainerDir> {
        let path = self.path(id);
        let mode = rustix::fs::Mode::RWXU;
        let mut made = rustix::fs::mkdir(&path, mode);
        if made == Err(Errno::NOENT) {
            self.make_root()?;
            made = rustix::fs::mkdir(&path, mode);
        }
        match made {
            Err(Errno::EXIST) => return Err(Error::new(ErrorKind::AlreadyExists, format!("container `{id}` already exists"))),
            r => r.context(|| format!("mkdir `{}`", path.display()))?,
        }
        let opened = ContainerDir::open(path.clone(), id, true);
        if opened.is_err() {
            // It is empty, and the error to be told is that one.
            let _ = rustix::fs::rmdir(&path);
        }
        opened.context(|| format!("open `{}`", path.display()))
    }

    /// The state directory, mode 0700; directories above it get the usual mode.
    fn make_root(self) -> Result<()> {
        let name = || format!("mkdir `{}`", self.root.display());
        if let Some(above) = self.root.parent() {
            std::fs::create_dir_all(above).context(name)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            r => r.context(name),
        }
    }

    /// The directory of a container.
    ///
    /// # Errors
    /// [`ErrorKind::NoContainer`] when there is none.
    pub(crate) fn open(self, id: &ContainerId) -> Result<ContainerDir> {
        let path = self.path(id);
        match ContainerDir::open(path.clone(), id, false) {
            Err(Errno::NOENT) => Err(no_container(id, &path)),
            r => r.context(|| format!("open `{}`", path.display())),
        }
    }

    /// What could be a container by its name, sorted: all containers, and perhaps some in the making.
    ///
    /// # Errors
    /// The state directory exists and cannot be read.
    pub(crate) fn names(self) -> Result<Vec<ContainerId>> {
        let name = || format!("read `{}`", self.root.display());
        let entries = match std::fs::read_dir(self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            r => r.context(name)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.context(name)?.file_name();
            ids.extend(entry.to_str().and_then(|n| ContainerId::new(n).ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// All containers, sorted. Entries that are none (caches, containers in the making) are passed over.
    ///
    /// # Errors
    /// The state directory exists and cannot be read.
    pub(crate) fn ids(self) -> Result<Vec<ContainerId>> {
        let mut ids = self.names()?;
        ids.retain(|id| self.open(id).is_ok_and(|dir| dir.has_status()));
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Gate, Record};
    use std::os::unix::fs::PermissionsExt;

    fn id(text: &str) -> ContainerId {
        ContainerId::new(text).unwrap()
    }

    fn record() -> Record {
        Record { pid: 1, rootfs: "/r".into(), bundle: "/b".into(), ..Record::default() }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_container_that_is_not_kept_leaves_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("above/root");
        let store = Store::new(&root);
        let dir = store.create(&id("a")).unwrap();
        assert_eq!((mode(&root), mode(&root.join("a"))), (0o700, 0o700));
        Gate::make(&dir).unwrap();
        assert_eq!(mode(&root.join("a/exec.fifo")), 0o600);
        dir.write_config(b"{}").unwrap();
        std::fs::create_dir_all(root.join("a/deep/deeper")).unwrap();
        std::fs::write(root.join("a/deep/file"), "").unwrap();
        std::fs::write(tmp.path().join("kept"), "kept").unwrap();
        std::os::unix::fs::symlink(tmp.path(), root.join("a/deep/link")).unwrap();
        drop(dir);
        assert!(!root.join("a").exists());
        assert_eq!(std::fs::read_to_string(tmp.path().join("kept")).unwrap(), "kept");
    }

    #[test]
    fn ids_are_taken_once() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        let mut dir = store.create(&id("a")).unwrap().keep();
        let e = store.create(&id("a")).map(drop).unwrap_err();
        assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::AlreadyExists, "container `a` already exists"));
        dir.remove().unwrap();
        store.create(&id("a")).unwrap();
    }

    #[test]
    fn what_is_missing_is_said_in_words_engines_match() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        let text = format!("container `a` does not exist: open `{}/a/status`: No such file or directory", tmp.path().display());
        let e = store.open(&id("a")).map(drop).unwrap_err();
        assert_eq!((e.kind(), e.to_string()), (ErrorKind::NoContainer, text.clone()));
        let dir = store.create(&id("a")).unwrap();
        let e = dir.read_status().unwrap_err();
        assert_eq!((e.kind(), e.to_string()), (ErrorKind::NoContainer, text));
    }

    #[test]
    fn only_containers_are_listed() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        assert_eq!(Store::new(&tmp.path().join("missing")).ids().unwrap(), []);
        for name in ["b", "a", "half"] {
            let dir = store.create(&id(name)).unwrap().keep();
            if name != "half" {
                dir.write_status(&record()).unwrap();
                assert_eq!(dir.read_status().unwrap().rootfs, "/r");
            }
        }
        std::fs::create_dir(tmp.path().join(".cache")).unwrap();
        std::fs::write(tmp.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(tmp.path().join("a"), tmp.path().join("link")).unwrap();
        assert_eq!(store.ids().unwrap(), [id("a"), id("b")]);
    }

    #[test]
    fn a_note_is_no_status_and_goes_when_that_comes() {
        use crate::api::CgroupRecord;
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        let mut dir = store.create(&id("a")).unwrap().keep();
        assert_eq!(dir.noted(), None);
        for path in ["/first", "/a/\"b\".scope/c"] {
            let noted = CgroupRecord { manager: "m".into(), path: path.into(), scope: Some("s".into()), named: None };
            dir.note(&noted).unwrap();
            assert_eq!(dir.noted(), Some(noted));
        }
        assert_eq!(dir.read_status().unwrap_err().kind(), ErrorKind::NoContainer);
        assert_eq!(store.ids().unwrap(), []);
        dir.write_status(&record()).unwrap();
        assert_eq!((dir.noted(), dir.read_status().unwrap().rootfs.as_str()), (None, "/r"));
        dir.remove().unwrap();
        assert!(!tmp.path().join("a").exists());
    }

    #[test]
    fn files_are_not_followed_out_of_the_directory() {
        let tmp = tempfile::tempdir().unwrap();
        let victim = tmp.path().join("victim");
        std::fs::write(&victim, "whole").unwrap();
        let store = Store::new(tmp.path());
        let dir = store.create(&id("a")).unwrap();
        for name in ["config.json", "status.tmp", "status"] {
            std::os::unix::fs::symlink(&victim, tmp.path().join("a").join(name)).unwrap();
        }
        assert_eq!(dir.write_config(b"x").unwrap_err().errno(), Some(libc::ELOOP));
        assert_eq!(dir.write_status(&record()).unwrap_err().errno(), Some(libc::ELOOP));
        assert_eq!(dir.read_status().map(drop).unwrap_err().errno(), Some(libc::ELOOP));
        drop(dir);
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "whole");
    }

    #[test]
    fn a_gate_opens_once() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        let dir = store.create(&id("a")).unwrap();
        assert!(!Gate::is_closed(&dir));
        let gate = Gate::make(&dir).unwrap();
        assert!(Gate::is_closed(&dir));
        let released = Gate::release(&dir).unwrap();
        assert!(!Gate::is_closed(&dir));
        let mut byte = [1];
        assert_eq!(rustix::io::read(gate.reader(), &mut byte).unwrap(), 1);
        assert_eq!(byte, [0]);
        assert_eq!(Gate::release(&dir).map(drop).unwrap_err().errno(), Some(libc::ENOENT));
        drop(gate);
        released.wait_for_exec().unwrap();
    }

    #[test]
    fn a_gate_whose_process_died_says_so() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::new(tmp.path());
        let dir = store.create(&id("a")).unwrap();
        drop(Gate::make(&dir).unwrap());
        assert_eq!(Gate::release(&dir).map(drop).unwrap_err().kind(), ErrorKind::NotRunning);
    }
}
