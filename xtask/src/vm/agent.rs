//! The guest agent's static binary and the initramfs made of it.
//!
//! Not here: the agent itself (`xtask/agent`) and which modules an initramfs needs (`kernel.rs`).

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::store::{self, Key, Store, execute, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PACKAGE: &str = "pinnace-vm-agent";
const FORMAT: u32 = 1;

/// A key over the agent's source.
pub fn key() -> Result<String> {
    let source = workspace().join("xtask/agent");
    let mut key = Key::new("agent", FORMAT);
    key.tree(&source.join("src"))?;
    key.text(&fs::read_to_string(source.join("Cargo.toml")).context("read the agent's Cargo.toml")?);
    Ok(key.finish())
}

/// Builds the agent with a static C library and returns the binary.
fn build(store: &Store) -> Result<PathBuf> {
    // A directory of its own: the flags differ, and cargo may hold the lock of the usual one.
    let target = store.dir("agent-build")?;
    let mut command = Command::new(store::cargo());
    command.args(["build", "--quiet", "--release", "--package", PACKAGE, "--target", TARGET, "--target-dir"]);
    command.arg(&target).current_dir(workspace());
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    execute(&mut command).context("build the guest agent")?;
    Ok(target.join(TARGET).join("release").join(PACKAGE))
}

/// Writes an initramfs: the agent as `/init` and `modules`, to be loaded in their order.
pub fn write_initramfs(store: &Store, modules: &[(String, Vec<u8>)], file: &Path) -> Result<()> {
    let agent = build(store)?;
    let agent = fs::read(&agent).with_context(|| format!("read {}", agent.display()))?;
    let draft = file.with_extension("draft");
    let output = File::create(&draft).with_context(|| format!("create {}", draft.display()))?;
    let mut archive = Archive { output: BufWriter::new(output), entries: 0 };
    for dir in ["dev", "proc", "root", "modules"] {
        archive.add(dir, 0o040_755, &[])?;
    }
    // The kernel gives its first process this terminal; without it, the first errors would be unseen.
    archive.add_node("dev/console", 0o020_600, 5, 1)?;
    archive.add("init", 0o100_755, &agent)?;
    for (name, bytes) in modules {
        archive.add(&format!("modules/{name}"), 0o100_644, bytes)?;
    }
    let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    archive.add("modules/order", 0o100_644, order.as_bytes())?;
    archive.finish().with_context(|| format!("write {}", draft.display()))?;
    fs::rename(&draft, file).with_context(|| format!("write {}", file.display()))
}

/// A cpio archive in the "newc" form, the one that the kernel unpacks (its `buffer-format.rst`).
struct Archive<W: Write> {
    output: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(name, mode, bytes, (0, 0))
    }

    fn add_node(&mut self, name: &str, mode: u32, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, mode, &[], (major, minor))
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8], device: (u32, u32)) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        write!(self.output, "070701")?;
        // inode, mode, uid, gid, links, mtime, size, device of the file, device of the node, name's size, checksum
        let (major, minor) = device;
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(self.output, "{field:08x}")?;
        }
        self.output.write_all(name.as_bytes())?;
        // The header has 110 bytes; name (with its zero) and content are padded to a multiple of four.
        self.pad_zeros(1 + (4 - (110 + name.len() + 1) % 4) % 4)?;
        self.output.write_all(bytes)?;
        self.pad_zeros((4 - bytes.len() % 4) % 4)
    }

    fn pad_zeros(&mut self, count: usize) -> io::Result<()> {
        self.output.write_all(&[0; 4][..count])
    }

    fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_entries_are_aligned() {
        for (name, bytes) in [("a", &b""[..]), ("ab", b"1"), ("abc", b"12"), ("abcd", b"123"), ("abcde", b"1234")] {
            let mut output = Vec::new();
            let mut archive = Archive { output: &mut output, entries: 0 };
            archive.add(name, 0o100_644, bytes).expect("add");
            let start = (110 + name.len() + 1).next_multiple_of(4);
            assert_eq!(output.len(), (start + bytes.len()).next_multiple_of(4));
            assert_eq!(&output[110..110 + name.len()], name.as_bytes());
            assert_eq!(output[110 + name.len()], 0);
            assert_eq!(&output[start..start + bytes.len()], bytes);
        }
    }

    #[test]
    fn header_has_thirteen_fields() {
        let mut output = Vec::new();
        let mut archive = Archive { output: &mut output, entries: 0 };
        archive.add_node("dev/console", 0o020_600, 5, 1).expect("add");
        let header = std::str::from_utf8(&output[..110]).expect("text");
        assert_eq!(&header[..6], "070701");
        let field = |index: usize| &header[6 + 8 * index..14 + 8 * index];
        assert_eq!((field(1), field(9), field(10), field(11)), ("00002180", "00000005", "00000001", "0000000c"));
    }
}
