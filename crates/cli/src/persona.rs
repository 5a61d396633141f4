//! The name the program was called by. Not here: handlers chosen by name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Who the program is, for its user: called `crun`, it says so and looks where crun keeps its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persona {
    Pinnace,
    Crun,
}

impl Persona {
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        match argv0.and_then(|a| Path::new(a).file_name()) {
            Some(name) if name == "crun" => Self::Crun,
            _ => Self::Pinnace,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_counts() {
        for (argv0, persona) in [
            ("crun", Persona::Crun),
            ("/usr/bin/crun", Persona::Crun),
            ("pinnace", Persona::Pinnace),
            ("/usr/bin/crun/x", Persona::Pinnace),
            ("", Persona::Pinnace),
        ] {
            assert_eq!(Persona::of(Some(OsStr::new(argv0))), persona, "{argv0}");
        }
        assert_eq!(Persona::of(None), Persona::Pinnace);
    }

    #[test]
    fn state_directories() {
        assert_eq!(Persona::Pinnace.default_root(None), Path::new("/run/pinnace"));
        assert_eq!(Persona::Crun.default_root(Some("".into())), Path::new("/run/crun"));
        assert_eq!(Persona::Crun.default_root(Some("/run/user/7".into())), Path::new("/run/user/7/crun"));
    }
}
