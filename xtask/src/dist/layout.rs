//! What a package of pinnace installs: one table, from which the tarballs are made and which the metadata for the .deb and the .rpm in
//! `crates/cli/Cargo.toml` must equal; and the names under which engines find the program. Not here: making any of it.

/// Where a file of a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The program that cargo built.
    Program,
    /// What the program's own command line tells: a file of the directory of man pages and completions.
    Generated(&'static str),
    /// All of those in a directory of it.
    GeneratedDir(&'static str),
    /// A file of the project, relative to its root.
    Project(&'static str),
}

/// A file, or all files of a directory, in a package.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub source: Source,
    /// Path below the prefix, `/usr` in packages; ends in `/` where the source keeps its own name.
    pub to: &'static str,
    /// Permission bits.
    pub mode: u32,
}

const fn file(source: Source, to: &'static str) -> Entry {
    Entry { source, to, mode: 0o644 }
}

/// Every file of a package but its list of licences, which the formats make in ways of their own.
pub const ENTRIES: [Entry; 14] = [
    Entry { source: Source::Program, to: "bin/pinnace", mode: 0o755 },
    file(Source::GeneratedDir("man"), "share/man/man1/"),
    file(Source::Generated("completions/pinnace"), "share/bash-completion/completions/"),
    file(Source::Generated("completions/_pinnace"), "share/zsh/site-functions/"),
    file(Source::Generated("completions/pinnace.fish"), "share/fish/vendor_completions.d/"),
    file(Source::Project("README.md"), "share/doc/pinnace/"),
    file(Source::Project("CHANGELOG.md"), "share/doc/pinnace/"),
    file(Source::Project("docs/*.md"), "share/doc/pinnace/docs/"),
    file(Source::Project("dist/containers/*"), "share/pinnace/engines/containers/"),
    file(Source::Project("dist/containerd/*"), "share/pinnace/engines/containerd/"),
    file(Source::Project("dist/crio/*"), "share/pinnace/engines/crio/"),
    file(Source::Project("dist/docker/*"), "share/pinnace/engines/docker/"),
    file(Source::Project("dist/kubernetes/*"), "share/pinnace/engines/kubernetes/"),
    file(Source::Project("dist/nomad/*"), "share/pinnace/engines/nomad/"),
];

/// Names of the program by which engines choose a handler: links to it, installed with `pinnace-handlers` (docs/packaging.md).
pub const LINKS: [&str; 2] = ["pinnace-wasm", "pinnace-krun"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_is_installed_twice_or_outside_the_prefix_and_programs_alone_are_executable() {
        let mut seen = BTreeSet::new();
        for entry in ENTRIES {
            assert!(!entry.to.starts_with('/') && !entry.to.contains(".."), "{}", entry.to);
            assert!(seen.insert((entry.to, format!("{:?}", entry.source))), "{}", entry.to);
            assert_eq!(entry.mode == 0o755, entry.source == Source::Program, "{}", entry.to);
        }
    }
}
