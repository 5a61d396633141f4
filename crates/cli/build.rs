//! Tells the program which commit it was built from: `PINNACE_COMMIT` where that is set (packagers), else what git says, else nothing.
//! No time and no host name goes in, so that equal sources give equal binaries.

use std::path::Path;
use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned())
}

/// The files that change when the commit does: HEAD and the branch it names.
fn watch() {
    for name in ["HEAD", "packed-refs"].map(str::to_owned).into_iter().chain(git(&["symbolic-ref", "--quiet", "HEAD"])) {
        if let Some(path) = git(&["rev-parse", "--git-path", &name]).filter(|p| Path::new(p).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn target(name: &str) -> String {
    std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default()
}

fn is_static() -> bool {
    target("FEATURE").split(',').any(|feature| feature == "crt-static")
}

/// A static program's C code has its memory from the program's own allocator (`src/c_allocator.rs`). In a dynamic one that would be every library's.
fn replace_malloc() {
    println!("cargo::rustc-check-cfg=cfg(c_allocator)");
    if is_static() && target("ENV") == "gnu" && std::env::var_os("CARGO_FEATURE_TRAP_ALLOC").is_none() {
        println!("cargo::rustc-cfg=c_allocator");
    }
}

/// A static program is entered at `pinnace_start` (`src/entry.rs`), if it is optimised for speed: otherwise that could call functions which cannot be called yet.
fn enter_early() {
    println!("cargo::rustc-check-cfg=cfg(static_start)");
    let is_optimised = std::env::var("OPT_LEVEL").is_ok_and(|level| ["2", "3"].contains(&level.as_str()));
    if is_static() && is_optimised && ["x86_64", "aarch64"].contains(&target("ARCH").as_str()) {
        println!("cargo::rustc-cfg=static_start");
        println!("cargo::rustc-link-arg-bin=pinnace=-Wl,--entry=pinnace_start");
        // In the file as in memory, so that one call maps all that can be written to. A word of lld's; GNU's linker passes it over.
        println!("cargo::rustc-link-arg-bin=pinnace=-Wl,-z,separate-loadable-segments");
    }
}

fn main() {
    replace_malloc();
    enter_early();
    println!("cargo::rerun-if-env-changed=PINNACE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("PINNACE_COMMIT").ok().filter(|c| !c.is_empty());
    let commit = given.or_else(|| {
        watch();
        git(&["rev-parse", "HEAD"])
    });
    println!("cargo::rustc-env=PINNACE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}
