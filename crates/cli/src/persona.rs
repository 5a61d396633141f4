//! The name the program was called by. Not here: what a handler chosen by it does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Who the program is, for its user: called `crun`, or as crun is for a handler (`krun`, `crun-NAME`), it says so and looks where crun keeps its
/// containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persona {
    Pinnace,
    Crun,
}

impl Persona {
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        match argv0.and_then(|a| Path::new(a).file_name()) {
            Some(name) if name == "crun" || name == KRUN || after(name, "crun-").is_some() => Self::Crun,
            _ => Self::Pinnace,
        }
    }

    /// The handler that the program was called for: `krun`, or what follows `crun-` or `pinnace-`. The name of the program with all handlers
    /// chooses none.
    pub(crate) fn handler(argv0: Option<&OsStr>) -> Option<String> {
        let name = argv0.and_then(|a| Path::new(a).file_name())?;
        let chosen = if name == KRUN { Some(KRUN) } else { after(name, "crun-").or_else(|| after(name, "pinnace-")) };
        chosen.filter(|_| name != HANDLERS).map(str::to_owned)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pinnace => "pinnace",
            Self::Crun => "crun",
        }
    }

    /// The state directory where none is given: below `XDG_RUNTIME_DIR` where that is set and not empty, for root too, as crun has it.
    pub(crate) fn default_root(self, xdg_runtime_dir: Option<OsString>) -> PathBuf {
        let base = xdg_runtime_dir.filter(|d| !d.is_empty()).map_or_else(|| PathBuf::from("/run"), PathBuf::from);
        base.join(self.name())
    }
}

const KRUN: &str = "krun";
/// The name of the program that has the handlers which a static one cannot have.
pub(crate) const HANDLERS: &str = "pinnace-handlers";

fn after<'n>(name: &'n OsStr, start: &str) -> Option<&'n str> {
    name.to_str()?.strip_prefix(start).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_counts() {
        for (argv0, persona) in [
            ("crun", Persona::Crun),
            ("/usr/bin/crun", Persona::Crun),
            ("/usr/bin/krun", Persona::Crun),
            ("crun-wasm", Persona::Crun),
            ("crun-", Persona::Pinnace),
            ("pinnace", Persona::Pinnace),
            ("pinnace-wasm", Persona::Pinnace),
            ("/usr/bin/crun/x", Persona::Pinnace),
            ("", Persona::Pinnace),
        ] {
            assert_eq!(Persona::of(Some(OsStr::new(argv0))), persona, "{argv0}");
        }
        assert_eq!(Persona::of(None), Persona::Pinnace);
    }

    #[test]
    fn some_names_choose_a_handler() {
        for (argv0, handler) in [
            ("pinnace", None),
            ("crun", None),
            ("/usr/bin/pinnace-handlers", None),
            ("crun-", None),
            ("/usr/bin/krun", Some("krun")),
            ("/crun-wasm/crun-wasmedge", Some("wasmedge")),
            ("pinnace-wasm", Some("wasm")),
        ] {
            assert_eq!(Persona::handler(Some(OsStr::new(argv0))).as_deref(), handler, "{argv0}");
        }
        assert_eq!(Persona::handler(None), None);
    }

    #[test]
    fn state_directories() {
        assert_eq!(Persona::Pinnace.default_root(None), Path::new("/run/pinnace"));
        assert_eq!(Persona::Crun.default_root(Some("".into())), Path::new("/run/crun"));
        assert_eq!(Persona::Crun.default_root(Some("/run/user/7".into())), Path::new("/run/user/7/crun"));
    }
}
