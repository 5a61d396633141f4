//! Finds the static probe, or builds it. What it does is in `src/bin/probe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::runtime::target_dir;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The path of the probe.
///
/// # Panics
/// If there is none and it can't be built: the text names the command.
pub(crate) fn path() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        if let Some(path) = std::env::var_os("PINNACE_PROBE").filter(|v| !v.is_empty()) {
            let path = PathBuf::from(path);
            assert!(is_static(&path), "PINNACE_PROBE={} is no static program", path.display());
            return path;
        }
        let dir = target_dir().join(TRIPLE);
        let newest = ["release", "debug"]
            .iter()
            .map(|profile| dir.join(profile).join("probe"))
            .filter(|path| is_static(path))
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .max();
        newest.map_or_else(build, |(_, path)| path)
    })
}

/// cargo's own lock keeps several test programs from building it at once.
fn build() -> PathBuf {
    let target = target_dir();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["build", "--release", "-p", "pinnace-tests", "--bin", "probe", "--target", TRIPLE];
    let out = Command::new(cargo)
        .args(args)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|e| panic!("no probe: set PINNACE_PROBE (cargo {}: {e})", args.join(" ")));
    let path = target.join(TRIPLE).join("release/probe");
    assert!(
        out.status.success() && is_static(&path),
        "building the probe failed; set PINNACE_PROBE, or run RUSTFLAGS='-C target-feature=+crt-static' cargo {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    path
}

/// An ELF file without an interpreter. Reads the program headers of a 64-bit little-endian file (elf(5)).
fn is_static(path: &Path) -> bool {
    let Ok(body) = fs::read(path) else {
        return false;
    };
    let half = |at: usize| body.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    if !body.starts_with(b"\x7fELF\x02\x01") || body.len() < 64 {
        return false;
    }
    let mut offset = [0u8; 8];
    offset.copy_from_slice(&body[32..40]);
    let start = usize::try_from(u64::from_le_bytes(offset)).unwrap_or(usize::MAX);
    let (size, count) = (half(54), half(56));
    const PT_INTERP: [u8; 4] = [3, 0, 0, 0];
    !(0..count).any(|n| body.get(start + n * size..start + n * size + 4) == Some(&PT_INTERP[..]))
}
