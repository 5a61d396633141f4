//! What checkpoint and restore share: the directories of a checkpoint, the names by which a restore finds what was not dumped, the
//! configuration file. Not here: the verbs (`checkpoint`, `restore`), CRIU.

use crate::api::annotations::CRIU_CONFIG;
use crate::api::{Checkpointer, ImageDirs};
use crate::engine::{CreateOptions, Runtime};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::facts::Facts;
use crate::plan::{self, ContainerPlan, Place};
use crate::spec::{Linux, Spec};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Names of external namespaces, as runc and crun have them: type, its name in the configuration, the name in the images.
pub(super) const NAMESPACES: [(&str, &str, &str); 2] = [("net", "network", "extRootNetNS"), ("pid", "pid", "extRootPidNS")];
/// The name of the mount with the notification socket.
pub(super) const NOTIFY: &str = "notify-socket";
/// Where the descriptors 0 to 2 led to, a JSON array of three, beside the images; crun and runc have it, too.
const DESCRIPTORS: &str = "descriptors.json";
/// Configuration files of CRIU's that are looked for without an annotation, as crun does.
const CONFIGS: [&str; 2] = ["/etc/criu/crun.conf", "/etc/criu/runc.conf"];

/// The open directories of a checkpoint.
pub(super) struct Dirs {
    images: OwnedFd,
    images_path: PathBuf,
    /// Where it is another than the images'.
    work: Option<OwnedFd>,
    work_path: PathBuf,
}

impl Dirs {
    /// Opens them; with `make` they are made, mode 0700, where they are missing.
    ///
    /// # Errors
    /// Names the directory.
    pub(super) fn open(images: &Path, work: Option<&Path>, make: bool) -> Result<Self> {
        let opened = open(images, "image", make)?;
        // Logs are written at a restore, too.
        let work_dir = work.map(|path| open(path, "work", true)).transpose()?;
        Ok(Self { images: opened, images_path: images.to_owned(), work: work_dir, work_path: work.unwrap_or(images).to_owned() })
    }

    pub(super) fn for_request(&self) -> ImageDirs<'_> {
        let work = self.work.as_ref().unwrap_or(&self.images);
        ImageDirs { images: self.images.as_fd(), work: work.as_fd(), work_path: &self.work_path }
    }

    /// Writes down where the descriptors 0 to 2 lead to.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn write_descriptors(&self, list: &[String]) -> Result<()> {
        let what = || format!("write `{}`", self.images_path.join(DESCRIPTORS).display());
        let text = serde_json::to_vec(list).map_err(|e| Error::other(format!("{}: {e}", what())))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.images, DESCRIPTORS, flags, Mode::from_raw_mode(0o600)).context(what)?;
        File::from(fd).write_all(&text).context(what)
    }

    /// Where the descriptors 0 to 2 led to.
    ///
    /// # Errors
    /// It is no checkpoint, or the file is damaged.
    pub(super) fn read_descriptors(&self) -> Result<Vec<String>> {
        const LONGEST: u64 = 64 * 1024;
        let what = || format!("no checkpoint in `{}`: open `{DESCRIPTORS}`", self.images_path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.images, DESCRIPTORS, flags, Mode::empty()).context(what)?;
        let mut text = Vec::new();
        File::from(fd).take(LONGEST).read_to_end(&mut text).context(what)?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::invalid(format!("`{}` is damaged: {e}", self.images_path.join(DESCRIPTORS).display())))
    }

    /// Whether there is something below the images' directory under that name.
    pub(super) fn has(&self, path: &Path) -> bool {
        rustix::fs::statat(&self.images, path, rustix::fs::AtFlags::empty()).is_ok()
    }
}

fn open(path: &Path, which: &str, make: bool) -> Result<OwnedFd> {
    let what = || format!("open the {which} directory `{}`", path.display());
    if make {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e).context(|| format!("make the {which} directory `{}`", path.display())),
        }
    }
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)
}

/// CRIU's configuration file for a container: what its annotation names, or the one that is there.
///
/// # Errors
/// The one that is named is not there: its options would be missed in silence.
pub(super) fn config_file(spec: &Spec<'_>) -> Result<Option<PathBuf>> {
    let named = spec.annotation(CRIU_CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from);
    match named {
        Some(path) => {
            File::open(&path).context(|| format!("annotation {CRIU_CONFIG}: open `{}`", path.display()))?;
            Ok(Some(path))
        }
        None => Ok(CONFIGS.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
}

/// Mount points in a table of mounts (proc_pid_mountinfo(5)): the path of the mounted directory within its file system, and where it is.
pub(super) fn mounts(table: &str) -> impl Iterator<Item = (String, String)> {
    table.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((unescape(words.nth(3)?), unescape(words.next()?)))
    })
}

/// Mount points below `dir`, without it, relative and with a leading slash.
pub(super) fn below(table: &str, dir: &str) -> Vec<String> {
    let dir = dir.trim_end_matches('/');
    let rest = |at: String| at.strip_prefix(dir).filter(|rest| rest.len() > 1 && rest.starts_with('/')).map(str::to_owned);
    mounts(table).filter_map(|(_, at)| rest(at)).collect()
}

/// Blanks and backslashes are written in octal.
fn unescape(word: &str) -> String {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&b, after)) = rest.split_first() {
        let octal = |d: &[u8]| d.iter().try_fold(0u32, |n, b| (b'0'..=b'7').contains(b).then(|| n * 8 + u32::from(b - b'0')));
        match (b == b'\\').then(|| after.get(..3).and_then(octal)).flatten().and_then(|n| u8::try_from(n).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(b);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The plan of the container as it was made, which says what of it is the host's. `manager` is the one of its cgroup, if it has any.
///
/// # Errors
/// The configuration is not acceptable.
pub(super) fn plan(spec: &Spec<'_>, facts: &Facts, manager: Option<&str>, place: Place<'_>) -> Result<ContainerPlan> {
    let options = CreateOptions { cgroup_manager: manager.unwrap_or("disabled").to_owned(), ..CreateOptions::default() };
    plan::compile(spec, facts, &options, place, None)
}

/// The file of a namespace that is joined, by its type's word in the configuration.
pub(super) fn joined<'s>(linux: &'s Linux<'_>, kind: &str) -> Option<&'s str> {
    linux.namespaces.iter().find(|n| n.kind == kind)?.path.as_deref().filter(|path| !path.is_empty())
}

/// Where a path leads in a root file system that is seen at `root`, absolute: symbolic links in it are followed, `..` stays inside. What is
/// not there is taken as it stands. The result is a name for comparisons; the container can change its links at any time.
pub(super) fn resolve(root: &Path, path: &str) -> String {
    /// As many links as the kernel follows (MAXSYMLINKS).
    const MOST: usize = 40;
    let mut at: Vec<String> = Vec::new();
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "" | "." => {}
            ".." => drop(at.pop()),
            _ => {
                at.push(part);
                let Ok(link) = std::fs::read_link(root.join(at.join("/"))) else { continue };
                links += 1;
                let Some(link) = link.to_str().filter(|_| links <= MOST) else { continue };
                at.pop();
                if link.starts_with('/') {
                    at.clear();
                }
                todo.extend(link.split('/').rev().map(str::to_owned));
            }
        }
    }
    format!("/{}", at.join("/"))
}

impl Runtime {
    /// What dumps and restores.
    ///
    /// # Errors
    /// It was not compiled in.
    pub(super) fn checkpointer(&self) -> Result<&dyn Checkpointer> {
        let missing = || Error::new(ErrorKind::Unsupported, "checkpoint and restore: this runtime was built without the feature `criu`");
        self.backends.checkpointer.as_deref().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 0:1 / / rw - tmpfs t rw\n23 22 0:5 /run/c/notify /run/a\\040b rw,x shared:1 - tmpfs t rw\n\
                         24 22 0:6 / /v rw - tmpfs t rw\n25 24 0:7 / /v/in rw - tmpfs t rw\n26 22 0:8 / /vx rw - tmpfs t rw\n";

    #[test]
    fn mount_points_with_blanks() {
        assert_eq!(mounts(TABLE).nth(1), Some(("/run/c/notify".into(), "/run/a b".into())));
        assert_eq!(unescape("a\\134b\\04"), "a\\b\\04");
    }

    #[test]
    fn mounts_below_a_directory() {
        assert_eq!(below(TABLE, "/v"), ["/in"]);
        assert_eq!(below(TABLE, "/v/"), ["/in"]);
        assert!(below(TABLE, "/v/in").is_empty());
        assert_eq!(below(TABLE, "/"), ["/run/a b", "/v", "/v/in", "/vx"]);
    }

    #[test]
    fn links_of_the_container_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, dir.path().join(at)).unwrap();
        std::fs::create_dir_all(dir.path().join("run/deep")).unwrap();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        link("/run", "var/run");
        link("../../../run/deep", "var/up");
        link("loop", "loop");
        for (path, want) in [
            ("/var/run/x", "/run/x"),
            ("var/up/../y", "/run/y"),
            ("/var/missing/z", "/var/missing/z"),
            ("/../a", "/a"),
            ("/", "/"),
            ("/loop/x", "/loop/x"),
        ] {
            assert_eq!(resolve(dir.path(), path), want, "{path}");
        }
    }

    #[test]
    fn descriptors_come_back_or_are_missed() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        let refused = Dirs::open(&images, None, false).err().unwrap().to_string();
        assert_eq!(refused, format!("open the image directory `{}`: No such file or directory", images.display()));
        let dirs = Dirs::open(&images, Some(&dir.path().join("work")), true).unwrap();
        let missing = dirs.read_descriptors().unwrap_err().to_string();
        assert_eq!(missing, format!("no checkpoint in `{}`: open `descriptors.json`: No such file or directory", images.display()));
        let list = ["/dev/null", "pipe:[1]", "pipe:[2]"].map(str::to_owned);
        dirs.write_descriptors(&list).unwrap();
        assert_eq!(std::fs::read_to_string(images.join(DESCRIPTORS)).unwrap(), r#"["/dev/null","pipe:[1]","pipe:[2]"]"#);
        assert_eq!(dirs.read_descriptors().unwrap(), list);
        std::fs::write(images.join(DESCRIPTORS), r#"["/dev/nu"#).unwrap();
        assert!(dirs.read_descriptors().unwrap_err().to_string().contains("descriptors.json` is damaged"));
    }

    #[test]
    fn a_named_configuration_file_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("criu.conf");
        let text = format!(r#"{{"ociVersion":"1.0.0","annotations":{{"org.criu.config":"{}"}}}}"#, path.display());
        let spec = Spec::parse(text.as_bytes()).unwrap();
        let refused = config_file(&spec).unwrap_err().to_string();
        assert_eq!(refused, format!("annotation org.criu.config: open `{}`: No such file or directory", path.display()));
        std::fs::write(&path, "tcp-established\n").unwrap();
        assert_eq!(config_file(&spec).unwrap(), Some(path));
    }
}
