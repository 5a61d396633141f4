//! Properties that this host's systemd does not know, remembered from one container to the next. Not here: finding out.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest file read: there are fewer properties than fit.
const LONGEST: u64 = 64 << 10;

/// The file with the names, one a line. It lies in the state directory, which does not outlive a boot, and so no upgrade of systemd for long.
#[derive(Debug)]
pub(crate) struct Missing {
    file: PathBuf,
}

impl Missing {
    /// `<root>/.cache/systemd-missing-properties`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { file: root.join(".cache/systemd-missing-properties") }
    }

    /// The names; none where the file is missing or not to be read, since they only save a refusal.
    pub(crate) fn names(&self) -> Vec<String> {
        match fs::metadata(&self.file).and_then(|m| if m.len() > LONGEST { Ok(String::new()) } else { fs::read_to_string(&self.file) }) {
            Ok(text) => text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Adds a name. Runtimes may do so at the same time: a short line is appended whole.
    pub(crate) fn remember(&self, name: &str) {
        if let Err(e) = self.append(name) {
            tracing::debug!("remember the property `{name}` in `{}`: {e}", self.file.display());
        }
    }

    fn append(&self, name: &str) -> std::io::Result<()> {
        if let Some(dir) = self.file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.file)?;
        file.write_all(format!("{name}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_last() {
        let root = tempfile::tempdir().unwrap();
        let missing = Missing::below(&root.path().join("state"));
        assert!(missing.names().is_empty());
        missing.remember("MemoryZSwapMax");
        missing.remember("AllowedCPUs");
        assert_eq!(Missing::below(&root.path().join("state")).names(), ["MemoryZSwapMax", "AllowedCPUs"]);
        fs::write(root.path().join("state/.cache/systemd-missing-properties"), "x".repeat(70_000)).unwrap();
        assert!(missing.names().is_empty());
    }
}
