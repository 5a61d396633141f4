//! Compiled code of earlier containers. Not here: compiling.
//!
//! Code is looked up by what the engine says that compiled code depends on, its version and settings and the processor, and by the content of the
//! program, which the parent reads in the image. A program that is not there, such as one on a mount of the container, is compiled each time. The child compiles, confined as the container is, and writes what it made to a file without a
//! name that the parent has opened, and which the child closes then, before it executes anything of the image's; until then it cannot be
//! traced (`Step::Undumpable`). So what is in the file is this program's work when the parent gives it its name.
//!
//! The parent, whose memory is not the container's, only ever has a piece of a file at hand; the child reads the code.
//!
//! The directory is a private one, and files are believed if they are no one else's business (`runtime_core::private_dir`).

use crate::handler::MOST_PROGRAM;
use runtime_core::api::handler::HandlerRequest;
use runtime_core::private_dir::PrivateDir;
use runtime_core::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, linkat, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Files that are kept, and bytes of them: the state directory is in memory.
const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 256 << 20;
/// What the key begins with.
const CONTEXT: &str = "pinnace wasmtime compiled code";
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Bytes of the hash at the end of a file.
const TAIL: u64 = blake3::OUT_LEN as u64;

/// Nobody else has anything to do with compiled code.
const OTHERS: u32 = 0o077;

/// The directory.
pub(crate) struct Cache(PrivateDir);

/// The place of one program's code.
pub(crate) struct Slot {
    cache: Cache,
    /// What the key is made of, but for the program.
    seed: blake3::Hasher,
    key: blake3::Hash,
    /// What is there, and was whole when it was found.
    code: Option<File>,
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

    /// The place for the program of a container; `None` where that cannot be read in the image. `version` is what compiled code depends on beside
    /// the program.
    ///
    /// # Errors
    /// What is there is not ours, or a system call failed.
    pub(crate) fn slot(self, request: &HandlerRequest<'_>, version: impl Hash) -> Result<Option<Slot>> {
        let seed = seed(version);
        let program = || "read the program";
        let Some(mut file) = in_image(request) else { return Ok(None) };
        let Some(key) = hash(seed.clone(), &mut file, MOST_PROGRAM).context(program)? else { return Ok(None) };
        let code = self.find(&key)?;
        let draft = match code {
            Some(_) => None,
            None => {
                let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
                let fd = openat(&self.0, ".", flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from);
                Some(File::from(fd.context(|| "make a file for compiled code")?))
            }
        };
        Ok(Some(Slot { cache: self, seed, key, code, draft }))
    }

    fn find(&self, key: &blake3::Hash) -> Result<Option<File>> {
        let name = key.to_hex();
        let Some((mut file, _)) = self.0.file(&name, OTHERS)? else { return Ok(None) };
        if whole(&mut file).context(|| format!("read `{name}`"))? {
            return Ok(Some(file));
        }
        // Or the place would never be free for a good one.
        let _ = unlinkat(&self.0, name.as_str(), AtFlags::empty());
        Ok(None)
    }

    /// Makes room for `bytes` more, oldest first.
    fn evict(&self, bytes: u64) -> Result<()> {
        let here = || "list the compiled code";
        let mut files = Vec::new();
        for item in rustix::fs::Dir::read_from(&self.0).map_err(io::Error::from).context(here)? {
            let name = item.map_err(io::Error::from).context(here)?.file_name().to_owned();
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
        self.seed.clone().update(program).finalize() == self.key
    }

    /// In the child: the code that is there.
    pub(crate) fn code(&mut self) -> Option<Vec<u8>> {
        let mut file = self.code.take()?;
        let size = file.metadata().ok()?.len().checked_sub(TAIL)?;
        let mut code = Vec::new();
        file.rewind().ok()?;
        file.take(size).read_to_end(&mut code).ok()?;
        Some(code)
    }

    /// In the child: writes what was compiled, once. Nothing the container runs later has the file open for writing.
    pub(crate) fn write(&mut self, code: &[u8]) -> io::Result<()> {
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
        if !whole(&mut draft).context(what)? {
            return Ok(());
        }
        self.cache.evict(size)?;
        let path = format!("/proc/self/fd/{}", draft.as_raw_fd());
        match linkat(CWD, &*path, &self.cache.0, self.key.to_hex().as_str(), AtFlags::SYMLINK_FOLLOW) {
            // Another container was quicker.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(io::Error::from(e)).context(what),
        }
    }
}

/// Whether a file ends in the hash of what stands before it. It is read from its beginning.
fn whole(file: &mut File) -> io::Result<bool> {
    let Some(size) = file.metadata()?.len().checked_sub(TAIL).filter(|size| *size <= MOST_BYTES) else { return Ok(false) };
    file.rewind()?;
    let Some(found) = hash(blake3::Hasher::new(), &mut file.take(size), size)? else { return Ok(false) };
    let mut tail = [0; blake3::OUT_LEN];
    file.read_exact(&mut tail)?;
    Ok(found == tail)
}

/// The hash of what can be read, piece by piece; `None` where it is more than `most` bytes.
fn hash(mut hasher: blake3::Hasher, from: &mut impl Read, most: u64) -> io::Result<Option<blake3::Hash>> {
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(Some(hasher.finalize())),
            Ok(count) => {
                hasher.update(piece.get(..count).unwrap_or_default());
                total += count as u64;
                if total > most {
                    return Ok(None);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
    }
}

/// What keys are made of, but for the program. The version takes a fixed number of bytes, so that no program can look like a part of it.
fn seed(version: impl Hash) -> blake3::Hasher {
    let mut fed = Fed(blake3::Hasher::new());
    version.hash(&mut fed);
    let mut seed = blake3::Hasher::new_derive_key(CONTEXT);
    seed.update(fed.0.finalize().as_bytes());
    seed
}

/// Has `Hash` write to BLAKE3, whose result is longer than that trait's.
struct Fed(blake3::Hasher);

impl std::hash::Hasher for Fed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not asked for.
    fn finish(&self) -> u64 {
        0
    }
}

/// The program as the image has it: an absolute path, or one below the working directory. What is no regular file is not opened.
fn in_image(request: &HandlerRequest<'_>) -> Option<File> {
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
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size.cast_unsigned() > MOST_PROGRAM {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::spec::Spec;

    const CONFIG: &[u8] = br#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["/x.wasm"]}}"#;

    /// A slot for the program of an image, with what compiled code depends on.
    fn slot(dir: &Path, version: &str) -> Option<Slot> {
        let spec = Spec::parse(CONFIG).unwrap();
        let request = HandlerRequest { spec: &spec, config: CONFIG, rootfs: &dir.join("image"), cache: dir };
        Cache::open(dir).unwrap().slot(&request, version).unwrap()
    }

    fn image(program: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("image")).unwrap();
        std::fs::write(dir.path().join("image/x.wasm"), program).unwrap();
        dir
    }

    /// What the child does, whose descriptor is another one than the parent's, and then the parent.
    fn kept(mut slot: Slot, code: &[u8]) {
        let parents = slot.draft.as_ref().unwrap().try_clone().unwrap();
        slot.write(code).unwrap();
        assert!(slot.draft.is_none(), "nothing that runs later can write to it");
        slot.draft = Some(parents);
        slot.keep().unwrap();
    }

    #[test]
    fn code_is_found_by_the_program_and_by_what_it_depends_on() {
        let dir = image(b"a program");
        let mut first = slot(dir.path(), "one").unwrap();
        assert!(first.code().is_none() && first.is_of(b"a program") && !first.is_of(b"another"));
        kept(first, b"compiled by one");
        assert_eq!(slot(dir.path(), "one").unwrap().code().unwrap(), b"compiled by one");
        // Another version of the engine never sees it, and has a place of its own.
        let mut other = slot(dir.path(), "two").unwrap();
        assert!(other.code().is_none());
        kept(other, b"compiled by two");
        assert_eq!(slot(dir.path(), "two").unwrap().code().unwrap(), b"compiled by two");
        assert_eq!(slot(dir.path(), "one").unwrap().code().unwrap(), b"compiled by one");
        std::fs::write(dir.path().join("image/x.wasm"), "another").unwrap();
        assert!(slot(dir.path(), "one").unwrap().code().is_none());
    }

    #[test]
    fn what_is_not_whole_makes_room_for_what_is() {
        let dir = image(b"a program");
        let first = slot(dir.path(), "v").unwrap();
        let path = dir.path().join("wasm").join(first.key.to_hex().as_str());
        kept(first, &[7; 3 * PIECE + 1]);
        let good = std::fs::read(&path).unwrap();
        assert_eq!(slot(dir.path(), "v").unwrap().code().unwrap(), [7; 3 * PIECE + 1]);
        for bad in [&good[1..], &good[..good.len() - 1], &good[..9], b""] {
            std::fs::write(&path, bad).unwrap();
            assert!(slot(dir.path(), "v").unwrap().code().is_none());
            assert!(!path.exists());
            std::fs::write(&path, &good).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        // Nothing was written: nothing is kept.
        std::fs::remove_file(&path).unwrap();
        slot(dir.path(), "v").unwrap().keep().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_large_program_is_not_looked_up() {
        let dir = image(b"");
        let file = File::options().write(true).open(dir.path().join("image/x.wasm")).unwrap();
        file.set_len(MOST_PROGRAM + 1).unwrap();
        assert!(slot(dir.path(), "v").is_none());
        // One that grows is no different.
        assert_eq!(hash(blake3::Hasher::new(), &mut &[0; 9][..], 8).unwrap(), None);
        assert_eq!(hash(blake3::Hasher::new(), &mut &[0; 8][..], 8).unwrap(), Some(blake3::hash(&[0; 8])));
    }
}
