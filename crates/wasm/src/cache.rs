//! Compiled code of earlier containers. Not here: compiling.
//!
//! Code is looked up by the content of the program, which the parent reads in the image. A program that is not there, such as one on a mount
//! of the container, is compiled each time. The child compiles, confined as the container is, and writes what it made to a file without a
//! name that the parent has opened, and which the child closes then, before it executes anything of the image's; until then it cannot be
//! traced (`Step::Undumpable`). So what is in the file is this program's work when the parent gives it its name.
//!
//! The directory is a private one, and files are believed if they are no one else's business (`runtime_core::private_dir`).

use runtime_core::api::handler::HandlerRequest;
use runtime_core::private_dir::PrivateDir;
use runtime_core::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, linkat, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Largest program that is looked up.
const MOST_READ: u64 = 256 << 20;
/// Files that are kept, and bytes of them: the state directory is in memory.
const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 256 << 20;
/// What `Hash` begins with: the engine's version makes another key.
const CONTEXT: &str = "pinnace wasmtime 48 compiled code";

/// Nobody else has anything to do with compiled code.
const OTHERS: u32 = 0o077;

/// The directory.
pub(crate) struct Cache(PrivateDir);

/// The place of one program's code.
pub(crate) struct Slot {
    cache: Cache,
    key: blake3::Hash,
    /// What is there.
    code: Option<Vec<u8>>,
    /// Where it is to go otherwise.
    draft: Option<File>,
}

impl Cache {
    /// Opens the directory `wasm` below `parent`, made if it is missing.
    ///
    /// # Errors
    /// It is a symbolic link, someone else's, or open to others; or a system call failed.
    pub(crate) fn open(parent: &Path) -> Result<Self> {
        PrivateDir::open(&parent.join("wasm")).map(Self)
    }

    /// The place for the program of a container; `None` where that cannot be read in the image.
    ///
    /// # Errors
    /// What is there is not ours, or a system call failed.
    pub(crate) fn slot(self, request: &HandlerRequest<'_>) -> Result<Option<Slot>> {
        let Some(program) = in_image(request) else { return Ok(None) };
        let key = key(&program);
        let code = self.find(&key)?;
        let draft = match code {
            Some(_) => None,
            None => {
                let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
                let fd = openat(&self.0, ".", flags, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from);
                Some(File::from(fd.context(|| "make a file for compiled code")?))
            }
        };
        Ok(Some(Slot { cache: self, key, code, draft }))
    }

    fn find(&self, key: &blake3::Hash) -> Result<Option<Vec<u8>>> {
        let name = key.to_hex();
        let Some((file, _)) = self.0.file(&name, OTHERS)? else { return Ok(None) };
        let mut code = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut code).context(|| format!("read `{name}`"))?;
        let good = whole(&code).map(<[u8]>::to_vec);
        if good.is_none() {
            // Or the place would never be free for a good one.
            let _ = unlinkat(&self.0, name.as_str(), AtFlags::empty());
        }
        Ok(good)
    }

    /// Makes room for `bytes` more, oldest first.
    fn evict(&self, bytes: u64) -> Result<()> {
        let here = || "list the compiled code";
        let mut files = Vec::new();
        for item in rustix::fs::Dir::read_from(&self.0).map_err(std::io::Error::from).context(here)? {
            let name = item.map_err(std::io::Error::from).context(here)?.file_name().to_owned();
            // One that is gone by now was evicted by another process.
            if let Ok(stat) = statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            {
                files.push((stat.st_mtime, stat.st_mtime_nsec, stat.st_size.cast_unsigned(), name));
            }
        }
        files.sort();
        let (mut count, mut total) = (files.len() + 1, bytes + files.iter().map(|f| f.2).sum::<u64>());
        for (_, _, size, name) in files {
            if count <= MOST_FILES && total <= MOST_BYTES {
                break;
            }
            let _ = unlinkat(&self.0, &name, AtFlags::empty());
            (count, total) = (count - 1, total - size);
        }
        Ok(())
    }
}

impl Slot {
    /// Whether this is the program that the parent has seen.
    pub(crate) fn is_of(&self, program: &[u8]) -> bool {
        key(program) == self.key
    }

    pub(crate) fn code(&self) -> Option<&[u8]> {
        self.code.as_deref()
    }

    /// In the child: writes what was compiled, once. Nothing the container runs later has the file open for writing.
    pub(crate) fn write(&mut self, code: &[u8]) -> std::io::Result<()> {
        let Some(mut draft) = self.draft.take() else { return Ok(()) };
        draft.write_all(code)?;
        // Last, so that a file that was not written whole shows.
        draft.write_all(blake3::hash(code).as_bytes())
    }

    /// In the parent: gives what the child wrote its name.
    ///
    /// # Errors
    /// A system call failed.
    pub(crate) fn keep(self) -> Result<()> {
        let Some(mut draft) = self.draft else { return Ok(()) };
        let what = || "keep compiled code";
        let size = draft.metadata().context(what)?.len();
        // Nothing was written, or more than there is room for.
        if size == 0 || size > MOST_BYTES {
            return Ok(());
        }
        let mut code = Vec::new();
        std::io::Seek::rewind(&mut draft).context(what)?;
        draft.read_to_end(&mut code).context(what)?;
        if whole(&code).is_none() {
            return Ok(());
        }
        self.cache.evict(size)?;
        let path = format!("/proc/self/fd/{}", draft.as_raw_fd());
        match linkat(CWD, &*path, &self.cache.0, self.key.to_hex().as_str(), AtFlags::SYMLINK_FOLLOW) {
            // Another container was quicker.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(std::io::Error::from(e)).context(what),
        }
    }
}

/// The code of a file's content, before its hash.
fn whole(content: &[u8]) -> Option<&[u8]> {
    let (code, hash) = content.split_at_checked(content.len().checked_sub(blake3::OUT_LEN)?)?;
    (blake3::hash(code).as_bytes() == hash).then_some(code)
}

fn key(program: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_derive_key(CONTEXT).update(program).finalize()
}

/// The program as the image has it: an absolute path, or one below the working directory. What is no regular file is not opened.
fn in_image(request: &HandlerRequest<'_>) -> Option<Vec<u8>> {
    let process = request.spec.process.as_ref()?;
    let name: &str = process.args.first()?;
    if !name.contains('/') {
        return None;
    }
    let path = PathBuf::from(&*process.cwd).join(name);
    let root = openat(CWD, request.rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(&root, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?;
    let stat = fstat(&fd).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size.cast_unsigned() > MOST_READ {
        return None;
    }
    let mut program = Vec::new();
    let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    file.take(MOST_READ).read_to_end(&mut program).ok()?;
    Some(program)
}
