//! What `--version` prints. Not here: the features document (`cmd::features`).

use crate::persona::Persona;
use crate::wire;
use runtime_core::features::OCI_VERSION_MAX;
use std::path::Path;

/// The program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub(crate) const COMMIT: &str = env!("PINNACE_COMMIT");

/// Five lines: name and version, commit, state directory (which need not exist), specification, what is built in.
pub(crate) fn text(persona: Persona, root: &Path) -> String {
    format!(
        "{} version {VERSION}\ncommit: {COMMIT}\nrundir: {}\nspec: {OCI_VERSION_MAX}\n{}\n",
        persona.name(),
        root.display(),
        wire::tags().join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_find_the_name_in_the_first_line() {
        let text = text(Persona::Crun, Path::new("/run/crun"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], format!("crun version {VERSION}"));
        assert!(lines[1].len() > "commit: ".len());
        assert_eq!(lines[2], "rundir: /run/crun");
        assert!(lines[4].split(' ').all(|tag| tag.starts_with('+')));
    }
}
