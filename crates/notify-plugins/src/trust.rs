//! Which files are believed to be plugins: those that nobody but root and the caller can write or exchange. Not here: loading them.

use runtime_core::{Context, Error, Result};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path behind all links, each of whose directories, and itself, is root's or the caller's and no one else may write to it.
///
/// # Errors
/// Names the plugin, and what about it is not so.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    let what = || format!("seccomp notify plugin `{}`", path.display());
    let real = path.canonicalize().context(what)?;
    let me = rustix::process::geteuid().as_raw();
    for part in real.ancestors() {
        let meta = part.symlink_metadata().context(what)?;
        if let Some(why) = doubt(&meta, me) {
            return Err(Error::invalid(format!("`{}` {why}", part.display())).context(what()));
        }
    }
    if !real.metadata().context(what)?.is_file() {
        return Err(Error::invalid("not a regular file").context(what()));
    }
    Ok(real)
}

fn doubt(meta: &Metadata, me: u32) -> Option<String> {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    if meta.uid() != 0 && meta.uid() != me {
        return Some(format!("belongs to user {}", meta.uid()));
    }
    // In a sticky directory nobody can exchange what is another's.
    let shared = meta.mode() & OTHERS_MAY_WRITE != 0 && !(meta.is_dir() && meta.mode() & STICKY != 0);
    shared.then(|| format!("may be written by others (mode {:04o})", meta.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn files_that_others_could_have_written_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("x.so"), dir.path().join("link.so"));
        fs::write(&file, "").unwrap();
        symlink("x.so", &link).unwrap();
        let at = |mode: u32, dirs: u32| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(dirs)).unwrap();
            resolve(&link).map_err(|e| e.to_string())
        };
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(at(0o644, 0o755), Ok(real.join("x.so")));
        assert_eq!(at(0o644, 0o1777), Ok(real.join("x.so")));
        let plugin = format!("seccomp notify plugin `{}`: ", link.display());
        assert_eq!(at(0o664, 0o755), Err(format!("{plugin}`{}` may be written by others (mode 0664)", real.join("x.so").display())));
        assert_eq!(at(0o644, 0o777), Err(format!("{plugin}`{}` may be written by others (mode 0777)", real.display())));
        assert_eq!(
            resolve(&real).unwrap_err().to_string(),
            format!("seccomp notify plugin `{0}`: `{0}` may be written by others (mode 0777)", real.display())
        );
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(resolve(&real).unwrap_err().to_string().ends_with("not a regular file"));
    }
}
