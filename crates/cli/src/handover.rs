//! Handing a container over to the program that has the handler it asks for. A static program cannot load libraries, and nobody wants an engine
//! in a program that needs none: `pinnace-handlers` is the same command line built dynamically with other features. Not here: when a
//! container asks for one (`runtime_core::api::handler`).

use crate::persona::HANDLERS;
use runtime_core::{Error, ErrorKind};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packagers may put it instead of beside this program.
const LIBEXEC: &str = match option_env!("PINNACE_LIBEXEC_DIR") {
    Some(dir) => dir,
    None => "/usr/libexec/pinnace",
};

/// In the environment of a program that was handed a container.
const HANDED_OVER: &str = "PINNACE_HANDED_OVER";

/// Executes the program with the handlers in place of this one, with the same arguments, since this one lacks what `missing` says. Nothing
/// has been made yet. Returns only when that fails, and says why; so it does where this is that program already, built without what is missing.
pub(crate) fn to_handlers(argv0: &OsStr, arguments: &[OsString], missing: &Error) -> Error {
    if env::var_os(HANDED_OVER).is_some() {
        return Error::new(ErrorKind::NoHandler, format!("{missing}, in `{HANDLERS}` either"));
    }
    let at = places(argv0, env::var_os("PATH").as_deref(), env::current_exe().ok().as_deref());
    let Some(program) = at.iter().map(|dir| dir.join(HANDLERS)).find(|path| path.is_file()) else {
        let tried = at.iter().map(|dir| format!("`{}`", dir.display())).collect::<Vec<_>>().join(", ");
        return Error::new(ErrorKind::NoHandler, format!("{missing}, and there is no `{HANDLERS}` in {tried}"));
    };
    let e = Command::new(&program).arg0(argv0).args(arguments).env(HANDED_OVER, "1").exec();
    Error::sys(e.raw_os_error().unwrap_or(0), format!("{missing}: execute `{}`", program.display()))
}

/// Directories it may be in: those of this program, by the name it was called by and by what the kernel says, which after a second
/// execution (`protect_own_program`) is nothing useful; then the one for packagers.
fn places(argv0: &OsStr, path: Option<&OsStr>, exe: Option<&Path>) -> Vec<PathBuf> {
    let called = Path::new(argv0);
    let named = called.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_path_buf);
    let searched = || env::split_paths(path?).find(|dir| dir.is_absolute() && dir.join(called).is_file());
    // A detached mount or a copy in memory shows as a name in `/`.
    let shown = exe.and_then(Path::parent).filter(|dir| *dir != Path::new("/")).map(Path::to_path_buf);
    let mut all: Vec<PathBuf> = Vec::new();
    for dir in named.or_else(searched).into_iter().chain(shown).chain([PathBuf::from(LIBEXEC)]) {
        if !all.contains(&dir) {
            all.push(dir);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_program_and_for_packagers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pinnace"), "").unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), Path::new("."), dir.path()]).unwrap();
        let found = |argv0: &str, exe: Option<&str>| places(OsStr::new(argv0), Some(&path), exe.map(Path::new));
        let libexec = PathBuf::from(LIBEXEC);
        assert_eq!(found("/opt/bin/pinnace", None), [PathBuf::from("/opt/bin"), libexec.clone()]);
        assert_eq!(found("pinnace", Some("/pinnace")), [dir.path().to_path_buf(), libexec.clone()]);
        assert_eq!(found("other", Some("/usr/bin/pinnace")), [PathBuf::from("/usr/bin"), libexec.clone()]);
        assert_eq!(found("other", Some("/memfd:pinnace (deleted)")), [libexec]);
    }

    #[test]
    fn what_is_nowhere_is_told() {
        let missing = Error::new(ErrorKind::NoHandler, "unknown handler `x`");
        let text = to_handlers(OsStr::new("/nonexistent/pinnace"), &[], &missing).to_string();
        assert!(text.starts_with("unknown handler `x`, and there is no `pinnace-handlers` in `/nonexistent`, "), "{text}");
    }
}
