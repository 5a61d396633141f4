//! What must stay as it was: a tree of the host outside every container, open to anyone, with all the names that a runtime makes or
//! mounts on. Not here: what tempts the runtime to go there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The tree and how it was.
pub struct Canary {
    pub dir: PathBuf,
    before: Vec<String>,
    _place: tempfile::TempDir,
}

impl Canary {
    /// Makes it: `full` has every name, `empty` none, `empty-file` is one. It lies where no mount of a container covers the same path in
    /// there, so not beside the other things of a test.
    pub fn make() -> Self {
        let place = tempfile::Builder::new().prefix("pinnace-canary-").tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let dir = place.path().join("canary");
        fill(&dir);
        let before = snapshot(&dir);
        Canary { dir, before, _place: place }
    }

    /// What is not as it was: `-` before, `+` now.
    pub fn changes(&self) -> Vec<String> {
        let now = snapshot(&self.dir);
        let gone = self.before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
        let new = now.iter().filter(|line| !self.before.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }

    /// Whether a path leads into the tree.
    pub fn has(&self, path: &Path) -> bool {
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let wanted = fs::metadata(path).map(id).unwrap();
        let mut walk = vec![self.dir.clone()];
        while let Some(path) = walk.pop() {
            if fs::symlink_metadata(&path).map(id).unwrap() == wanted {
                return true;
            }
            if path.is_dir() && !path.is_symlink() {
                walk.extend(fs::read_dir(&path).unwrap().flatten().map(|e| e.path()));
            }
        }
        false
    }

    /// The same names inside a root file system, at the same absolute path, for links that are resolved there.
    pub fn mirror(&self, rootfs: &Path) {
        fill(&rootfs.join(self.dir.strip_prefix("/").unwrap()));
    }
}

fn fill(dir: &Path) {
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for name in ["empty", "full/pts", "full/shm", "full/mqueue", "full/fs/cgroup", "full/sub/deep", "full/secrets", "full/in"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let files =
        ["file", "hostname", "null", "zero", "tty", "console", "ptmx", "random", "secrets/x", "x", "sub/node"].map(|f| format!("full/{f}"));
    for name in files.iter().map(String::as_str).chain(["empty-file"]) {
        fs::write(dir.join(name), format!("{name} of the host\n")).unwrap();
    }
    fs::write(dir.join("full/passwd"), "root:x:0:0::/host:/bin/sh\n").unwrap();
    symlink("file", dir.join("full/link")).unwrap();
    let mut all = vec![dir.to_path_buf()];
    while let Some(path) = all.pop() {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            all.extend(fs::read_dir(&path).unwrap().flatten().map(|e| e.path()));
            open(&path, 0o777);
        } else {
            open(&path, 0o666);
        }
    }
}

/// Name, mode, owner, size, links, device number, times of modification and change, content or target.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut walk = vec![dir.to_path_buf()];
    while let Some(path) = walk.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = match meta.file_type() {
            t if t.is_file() => fs::read_to_string(&path).unwrap_or_else(|e| e.to_string()),
            t if t.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            t if t.is_dir() => {
                walk.extend(fs::read_dir(&path).unwrap().flatten().map(|e| e.path()));
                String::new()
            }
            _ => String::new(),
        };
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let who = (meta.uid(), meta.gid(), meta.size(), meta.nlink(), meta.rdev());
        found.push(format!("{} {:o} {who:?} {times:?} {content:?}", path.display(), meta.mode()));
    }
    found.sort();
    found
}

#[test]
fn the_canary_notices() {
    let canary = Canary::make();
    assert!(canary.changes().is_empty());
    fs::write(canary.dir.join("empty/made"), "").unwrap();
    assert_eq!(canary.changes().len(), 3, "a new file, and its directory as it was and as it is: {:?}", canary.changes());
    let canary = Canary::make();
    fs::set_permissions(canary.dir.join("full/null"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(canary.changes().len(), 2, "the time of change alone: {:?}", canary.changes());
}
