//! What a package of pinnace installs: one table, of which a directory is made that tarballs, .deb and .rpm are packed from. Not here: packing, and
//! `crates/cli/Cargo.toml`, whose metadata say where that directory's parts go.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::archive;
use super::build::Build;
use super::notices;
use crate::store::remove;

/// Where a file of a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The program that cargo built.
    Program,
    /// What is made of the sources: a file of the directory of man pages, completions and licences.
    Generated(&'static str),
    /// A file of the project, relative to its root; for both `*` stands for all names, before a suffix or none.
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

/// Every file of a package. A .deb gets its copyright file and a .rpm its licence's name beside.
pub const ENTRIES: [Entry; 17] = [
    Entry { source: Source::Program, to: "bin/pinnace", mode: 0o755 },
    file(Source::Generated("man/*"), "share/man/man1/"),
    file(Source::Generated("completions/pinnace"), "share/bash-completion/completions/"),
    file(Source::Generated("completions/_pinnace"), "share/zsh/site-functions/"),
    file(Source::Generated("completions/pinnace.fish"), "share/fish/vendor_completions.d/"),
    file(Source::Project("README.md"), "share/doc/pinnace/"),
    file(Source::Project("CHANGELOG.md"), "share/doc/pinnace/"),
    file(Source::Project("LICENSE-APACHE"), "share/doc/pinnace/"),
    file(Source::Project("LICENSE-MIT"), "share/doc/pinnace/"),
    file(Source::Generated(notices::NAME), "share/doc/pinnace/"),
    file(Source::Project("docs/*.md"), "share/doc/pinnace/docs/"),
    file(Source::Project("dist/containers/*"), "share/pinnace/engines/containers/"),
    file(Source::Project("dist/containerd/*"), "share/pinnace/engines/containerd/"),
    file(Source::Project("dist/crio/*"), "share/pinnace/engines/crio/"),
    file(Source::Project("dist/docker/*"), "share/pinnace/engines/docker/"),
    file(Source::Project("dist/kubernetes/*"), "share/pinnace/engines/kubernetes/"),
    file(Source::Project("dist/nomad/*"), "share/pinnace/engines/nomad/"),
];

/// Where manual pages go.
const MANUAL: &str = "share/man/";

/// A file as a package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Where it lies.
    pub file: PathBuf,
    /// Path below the prefix.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
}

/// Lays out all files of a package in `stage`, with their modes and one time, and gives them sorted by path.
///
/// # Errors
/// A file of the table is missing, or two have one path.
pub fn stage(build: &Build, program: &Path, paperwork: &Path, stage: &Path) -> Result<Vec<Staged>> {
    remove(stage)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(build.epoch);
    let mut all = Vec::new();
    for entry in ENTRIES {
        let sources = match entry.source {
            Source::Program => vec![program.to_path_buf()],
            Source::Generated(pattern) => matching(paperwork, pattern)?,
            Source::Project(pattern) => matching(&build.source, pattern)?,
        };
        for source in sources {
            let name = source.file_name().and_then(|name| name.to_str()).with_context(|| format!("the name of {}", source.display()))?;
            let to = if entry.to.ends_with('/') { format!("{}{name}", entry.to) } else { entry.to.to_owned() };
            // Debian's policy wants manual pages packed, and every reader of them unpacks.
            let packed = to.starts_with(MANUAL);
            let to = if packed { to + ".gz" } else { to };
            let file = stage.join(&to);
            let parent = file.parent().unwrap_or(stage);
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            if file.exists() {
                bail!("two files of the package are called {to}");
            }
            copy(&source, &file, packed).with_context(|| format!("copy {} to {}", source.display(), file.display()))?;
            let opened = File::options().write(true).open(&file).with_context(|| format!("open {}", file.display()))?;
            opened.set_permissions(Permissions::from_mode(entry.mode)).with_context(|| format!("set the mode of {}", file.display()))?;
            opened.set_times(FileTimes::new().set_modified(time)).with_context(|| format!("set the time of {}", file.display()))?;
            all.push(Staged { file, to, mode: entry.mode });
        }
    }
    all.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(all)
}

fn copy(from: &Path, to: &Path, packed: bool) -> std::io::Result<()> {
    if !packed {
        return fs::copy(from, to).map(drop);
    }
    let mut gzip = archive::gzip(File::create(to)?);
    gzip.write_all(&fs::read(from)?)?;
    gzip.finish().map(drop)
}

/// The files that a pattern of the table means, sorted; at least one.
fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let Some((dir, suffix)) = pattern.split_once('*') else {
        return Ok(vec![root.join(pattern)]);
    };
    let dir = root.join(dir);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_string_lossy().ends_with(suffix) {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        bail!("{} has no files {pattern}", root.display());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::workspace;
    use serde_json::Value;
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

    /// The metadata for cargo-deb and cargo-generate-rpm.
    fn metadata() -> Value {
        let manifest = fs::read_to_string(workspace().join("crates/cli/Cargo.toml")).expect("the manifest is there");
        let manifest: Value = toml::from_str(&manifest).expect("TOML");
        manifest["package"]["metadata"].clone()
    }

    /// Parts of the staged directory with their place in the system and their mode, in the words of both tools: source, destination, mode.
    fn parts(assets: &Value, key: [&str; 3]) -> Vec<(String, String, String)> {
        let text = |asset: &Value, n: usize| asset[n].as_str().or(asset[key[n]].as_str()).expect("a word").to_owned();
        assets.as_array().expect("a list").iter().map(|asset| (text(asset, 0), text(asset, 1), text(asset, 2))).collect()
    }

    #[test]
    fn both_packages_take_all_that_is_staged_to_its_place() {
        let metadata = metadata();
        let deb = parts(&metadata["deb"]["assets"], ["source", "dest", "mode"]);
        let rpm = parts(&metadata["generate-rpm"]["assets"], ["source", "dest", "mode"]);
        for (parts, root) in [(deb, ""), (rpm, "/")] {
            for entry in ENTRIES {
                let takes = |(source, to, mode): &&(String, String, String)| {
                    let below = source.strip_prefix("target/release/package/").and_then(|source| source.split('*').next()).expect("staged");
                    entry.to.starts_with(below)
                        && to.as_str() == format!("{root}usr/{below}")
                        && u32::from_str_radix(mode, 8) == Ok(entry.mode)
                };
                assert_eq!(parts.iter().filter(takes).count(), 1, "{} in {parts:?}", entry.to);
            }
            for (source, ..) in &parts {
                let below = source.strip_prefix("target/release/package/").and_then(|source| source.split('*').next()).expect("staged");
                assert!(ENTRIES.iter().any(|entry| entry.to.starts_with(below)), "nothing is staged for {source}");
            }
        }
    }

    /// rpm knows no directory as the package's own, and leaves them behind.
    #[test]
    fn the_rpm_removes_its_directories_the_deepest_first() {
        let metadata = metadata();
        let script = metadata["generate-rpm"]["post_uninstall_script"].as_str().expect("a script").to_owned();
        let removed: Vec<&str> = script.split('"').filter(|word| word.starts_with('/')).collect();
        let mut own = BTreeSet::new();
        for entry in ENTRIES {
            // A trailing slash is no part of a path.
            let mut dir = Some(Path::new(entry.to)).filter(|_| entry.to.ends_with('/')).or(Path::new(entry.to).parent());
            while let Some(path) = dir.filter(|path| path.components().any(|part| part.as_os_str() == "pinnace")) {
                own.insert(format!("/usr/{}", path.display().to_string().trim_end_matches('/')));
                dir = path.parent();
            }
        }
        assert_eq!(removed, own.iter().rev().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_staged_has_its_mode_and_the_time_of_the_sources() {
        let dir = tempfile::tempdir().expect("a directory");
        let paperwork = dir.path().join("paperwork");
        for name in ["man/pinnace.1", "completions/pinnace", "completions/_pinnace", "completions/pinnace.fish", notices::NAME] {
            let path = paperwork.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(&path, name).expect("write");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
        }
        let build = Build::here().expect("the project").elsewhere(workspace(), dir.path().join("target"));
        let files = stage(&build, &paperwork.join("man/pinnace.1"), &paperwork, &dir.path().join("stage")).expect("stage");
        assert!(files.is_sorted_by(|a, b| a.to < b.to));
        for wanted in
            ["bin/pinnace", "share/man/man1/pinnace.1.gz", "share/pinnace/engines/docker/daemon.json", "share/doc/pinnace/docs/engines.md"]
        {
            let file = files.iter().find(|file| file.to == wanted).unwrap_or_else(|| panic!("{wanted} is not staged"));
            let found = fs::metadata(&file.file).expect("it is there");
            assert_eq!(found.permissions().mode() & 0o7777, file.mode, "{wanted}");
            let age = found.modified().expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            assert_eq!(age, Duration::from_secs(build.epoch));
        }
        let page = fs::read(dir.path().join("stage/share/man/man1/pinnace.1.gz")).expect("the page is there");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(page.as_slice()), &mut text).expect("gzip");
        assert_eq!(text, "man/pinnace.1");
        fs::remove_file(paperwork.join("completions/_pinnace")).expect("remove");
        let error = stage(&build, &paperwork.join("man/pinnace.1"), &paperwork, &dir.path().join("stage")).expect_err("a file is missing");
        assert!(format!("{error:#}").contains("_pinnace"), "{error:#}");
    }
}
