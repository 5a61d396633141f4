//! Where built things live: `target/vm`, its keys, its lock, its scratch directories, and the progress lines of a build.
//!
//! Everything that takes long to make is kept under a name that ends in a hash of what made it, so a changed input is a
//! new name and an unchanged one costs nothing. Not here: what is built.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The directory that holds the workspace's `Cargo.toml`.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The cargo that runs us.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// The store of images, kernels, snapshots and downloaded packages.
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens `target/vm` of the workspace, or the directory that `PINNACE_VM_DIR` names, and removes the scratch
    /// directories of processes that are gone.
    pub fn open() -> Result<Store> {
        let root = match std::env::var_os("PINNACE_VM_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => workspace().join("target/vm"),
        };
        fs::create_dir_all(root.join("run")).with_context(|| format!("create {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("resolve {}", root.display()))?;
        let store = Store { root };
        store.remove_stale_scratch();
        Ok(store)
    }

    /// A path inside the store.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A directory inside the store, made if missing.
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Takes the build lock; other builders wait until the returned file is dropped.
    pub fn lock(&self) -> Result<File> {
        let path = self.path("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("xtask: waiting for another build in {}", self.root.display());
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Removes everything named `PREFIX-*` except `keep` and what begins with `keep` and a dot.
    pub fn remove_others(&self, prefix: &str, keep: &Path) -> Result<()> {
        let keep = keep.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in fs::read_dir(&self.root).with_context(|| format!("read {}", self.root.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let of_ours = name == keep || name.starts_with(&format!("{keep}."));
            if name.starts_with(&format!("{prefix}-")) && !of_ours {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A fresh directory for one run, removed when the value is dropped.
    pub fn scratch(&self) -> Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("run/{}.{count}", std::process::id()));
        remove(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Scratch { path })
    }

    fn remove_stale_scratch(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("run")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.split('.').next().unwrap_or_default();
            if !Path::new("/proc").join(pid).exists() {
                // Another process may be removing the same one.
                let _ = remove(&entry.path());
            }
        }
    }
}

/// A directory that lives as long as this value.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Removes a file or a directory with all that is in it; a missing one is fine.
pub fn remove(path: &Path) -> Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("remove {}", path.display())),
        _ => Ok(()),
    }
}

/// The inputs of something built, gathered into a short key.
pub struct Key {
    hasher: blake3::Hasher,
}

impl Key {
    /// Starts a key for one kind of thing; `format` changes when the code that makes it does.
    pub fn new(kind: &str, format: u32) -> Key {
        let mut key = Key { hasher: blake3::Hasher::new() };
        key.text(kind);
        key.text(&format.to_string());
        key
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds every file below `root`, by its relative name, mode and content.
    pub fn tree(&mut self, root: &Path) -> Result<()> {
        for file in files_below(root)? {
            self.text(&file.strip_prefix(root).unwrap_or(&file).to_string_lossy());
            self.bytes(&fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        Ok(())
    }

    /// The key: 16 hexadecimal digits.
    pub fn finish(&self) -> String {
        self.hasher.finalize().to_hex().as_str()[..16].to_owned()
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// The regular files below a directory, sorted by path.
pub fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Progress lines with the seconds since the start.
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Progress {
        Progress { start: Instant::now() }
    }

    /// Prints one line on standard error.
    pub fn say(&self, what: impl Display) {
        eprintln!("[{:6.1}s] {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Runs a program to its end; its output goes where ours goes, except that standard output joins standard error.
pub fn execute(command: &mut std::process::Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// Runs a program to its end and returns its standard output as text.
pub fn capture(command: &mut std::process::Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(std::process::Stdio::inherit()).output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
