//! What the tests of WebAssembly need beside our own program: the engines that are C libraries, and a program of Rust's. Not here: the order of the
//! work (`handlers.rs`), our own program (`binaries.rs`).
//!
//! | engine | what the tests have |
//! |---|---|
//! | WasmEdge | the machine's own library, or else Debian's, with the C library that it needs |
//! | WAMR | built from source, which the package `wamr-sys` of crates.io carries: of 2020, with the exit code that later versions have |
//! | Wasmer | a stand-in (`crates/wasm/tests/stand-in/wasmer.rs`): no package has the library, and to build it takes longer than all tests |
//!
//! The program finds them because a copy of it has their directories, and the loader of that C library, written into it (patchelf(1)). So the
//! machine stays as it is, and a library of Debian 13 works on Debian 12.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::host::{self, Manager, Need, Sign};
use crate::store::{self, Key, Progress, Store, capture, execute, workspace};
use crate::vm::{apt, image};

/// What the work below calls.
const NEEDS: [Need; 5] = [
    Need::new(Sign::Program("cmake"), "builds WAMR, an engine for the tests", "cmake", "cmake"),
    Need::new(Sign::Program("patchelf"), "tells a copy of the program where its libraries are", "patchelf", "patchelf"),
    Need::new(Sign::File(RUSTC), "compiles a program to WebAssembly", "rustc", "rust"),
    Need::new(Sign::RustTarget(&TARGETS), "its standard library", "libstd-rust-dev-wasm32", "rust-std-static-wasm32-wasip1"),
    Need::new(Sign::Program("wasm-ld"), "links it", "lld", "lld"),
];
/// The distribution's compiler, whose targets are packages; rustup's are not to be had everywhere.
const RUSTC: &str = "/usr/bin/rustc";
/// WASI preview 1, by its present name and its former one.
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasi"];

/// Change when the code here makes something else of the same inputs.
const FORMAT: u32 = 1;
const WAMR_SOURCE: &str = "wamr-sys";
const WAMR_VERSION: &str = "0.1.1";
/// WasmEdge's package, and what it and our program load: every package by its name, since not all that they ask for are names.
const WASMEDGE: [&str; 18] = [
    "libwasmedge0",
    "libbsd0",
    "libc6",
    "libedit2",
    "libffi8",
    "libfmt10",
    "libgcc-s1",
    "libllvm19",
    "liblzma5",
    "libmd0",
    "libseccomp2",
    "libspdlog1.15",
    "libstdc++6",
    "libtinfo6",
    "libxml2",
    "libz3-4",
    "libzstd1",
    "zlib1g",
];

/// What the tests get.
pub struct Engines {
    /// The program, which finds the libraries below.
    pub program: PathBuf,
    /// Engines that the program can use, as containers ask for them.
    pub names: Vec<&'static str>,
    /// Those that it cannot, and why.
    pub missing: Vec<(&'static str, String)>,
    /// `tests/wasm/tell.rs`, compiled.
    pub tell: PathBuf,
}

/// Prepares all of it for a `pinnace-handlers`.
pub fn prepare(handlers: &Path, progress: &Progress) -> Result<Engines> {
    let installed = host::ensure(&NEEDS.iter().collect::<Vec<_>>())?;
    if !installed.is_empty() {
        progress.say(format!("installed {}", installed.join(", ")));
    }
    let store = Store::open()?;
    let _lock = store.lock()?;
    let tell = tell(&store)?;
    let mut names = vec!["wasmtime", "wasmi", "wamr", "wasmer"];
    let mut missing = Vec::new();
    let mut directories = vec![wamr(&store, progress)?, wasmer(&store)?];
    let mut interpreter = None;
    if host::library("libwasmedge.so.0").is_some() {
        names.push("wasmedge");
    } else if Manager::find() == Some(Manager::Apt) {
        let libraries = wasmedge(&store, progress)?;
        let own = capture(Command::new("patchelf").arg("--print-interpreter").arg(handlers))?;
        let name = Path::new(own.trim()).file_name().context("the program has no loader")?;
        interpreter = Some(libraries.join(name));
        directories.push(libraries);
        names.push("wasmedge");
    } else {
        missing.push(("wasmedge", "needs libwasmedge.so.0 (install it)".to_owned()));
    }
    let program = store.dir("engines")?.join("pinnace-handlers");
    fs::copy(handlers, &program).with_context(|| format!("copy {} to {}", handlers.display(), program.display()))?;
    let path = directories.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let mut patch = Command::new("patchelf");
    // Not RUNPATH, which counts for what the program itself names only.
    patch.args(["--force-rpath", "--set-rpath"]).arg(path);
    if let Some(interpreter) = interpreter {
        patch.arg("--set-interpreter").arg(interpreter);
    }
    execute(patch.arg(&program))?;
    Ok(Engines { program, names, missing, tell })
}

/// The program of Rust's.
fn tell(store: &Store) -> Result<PathBuf> {
    let target = TARGETS.iter().find(|name| host::rust_target(name)).context("no target for WASI")?;
    let to = store.dir("engines")?.join("tell.wasm");
    let mut command = Command::new(RUSTC);
    command.args(["--edition", "2021", "--target", target, "-O", "-C", "strip=symbols", "-C", "linker=wasm-ld"]);
    // The WAMR of the tests keeps arrays in the program's memory while it is called, and asks these two for it.
    command.args(["-C", "link-arg=--export=malloc", "-C", "link-arg=--export=free", "-o"]).arg(&to);
    // What the environment says is meant for another compiler.
    command.env_remove("RUSTFLAGS");
    execute(command.arg(workspace().join("tests/wasm/tell.rs")))?;
    Ok(to)
}

/// A directory with `libiwasm.so`.
fn wamr(store: &Store, progress: &Progress) -> Result<PathBuf> {
    let mut key = Key::new("wamr", FORMAT);
    key.text(WAMR_VERSION);
    let dir = store.path(format!("wamr-{}", key.finish()));
    if dir.exists() {
        return Ok(dir);
    }
    progress.say(format!("build WAMR from {WAMR_SOURCE} {WAMR_VERSION}"));
    let scratch = store.scratch()?;
    let source = scratch.join("source");
    execute(Command::new("cp").arg("--recursive").arg(crate_source(&scratch.join("fetch"), WAMR_SOURCE, WAMR_VERSION)?).arg(&source))?;
    keep_the_exit_code(&source.join("wasm-micro-runtime/core/iwasm/libraries/libc-wasi/libc_wasi_wrapper.c"))?;
    let (build, draft) = (scratch.join("build"), scratch.join("draft"));
    let mut configure = Command::new("cmake");
    // Its assembler does not say that it needs no executable stack, with which newer C libraries load nothing.
    configure.args(["-Wno-dev", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,noexecstack", "-S"]);
    // What it says meanwhile is a page.
    capture(configure.arg(source.join("libiwasm")).arg("-B").arg(&build))?;
    capture(Command::new("cmake").arg("--build").arg(&build).args(["--target", "iwasm", "--parallel"]))?;
    fs::create_dir(&draft).with_context(|| format!("create {}", draft.display()))?;
    fs::copy(build.join("libiwasm.so"), draft.join("libiwasm.so")).context("copy libiwasm.so")?;
    fs::rename(&draft, &dir).with_context(|| format!("write {}", dir.display()))?;
    store.remove_others("wamr", &dir)?;
    Ok(dir)
}

/// Where cargo has unpacked a package, after it has fetched it for a workspace in `at`. It is not built: its own build makes bindings for Rust.
fn crate_source(at: &Path, name: &str, version: &str) -> Result<PathBuf> {
    fs::create_dir_all(at.join("src")).with_context(|| format!("create {}", at.display()))?;
    let manifest = format!("[package]\nname = \"fetch\"\nedition = \"2024\"\n[dependencies]\n{name} = \"={version}\"\n[workspace]\n");
    fs::write(at.join("Cargo.toml"), manifest).context("write a manifest")?;
    fs::write(at.join("src/lib.rs"), "").context("write a library")?;
    let cargo = store::cargo();
    let told = capture(Command::new(cargo).args(["metadata", "--quiet", "--format-version", "1"]).current_dir(at))?;
    let told: serde_json::Value = serde_json::from_str(&told).context("read what cargo says")?;
    let package = told["packages"].as_array().into_iter().flatten().find(|package| package["name"] == name);
    let path = package.and_then(|package| package["manifest_path"].as_str()).with_context(|| format!("cargo does not know {name}"))?;
    Ok(Path::new(path).parent().unwrap_or(at).to_path_buf())
}

/// Has `proc_exit` keep its argument, and adds the function that asks for it, which came with version 1.0.
fn keep_the_exit_code(file: &Path) -> Result<()> {
    const EXITS: &str = "    wasm_runtime_set_exception(module_inst, \"wasi proc exit\");\n}\n";
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let Some((before, after)) = text.split_once(EXITS) else { bail!("{} has no `proc_exit` as it was", file.display()) };
    let (head, own) = before.rsplit_once("static void\n").context("`proc_exit` has no type")?;
    let new = format!(
        "{head}static uint32 exit_code;\n\nstatic void\n{own}    exit_code = rval;\n{EXITS}\nuint32\nwasm_runtime_get_wasi_exit_code(wasm_module_inst_t module_inst)\n\
         {{\n    (void)module_inst;\n    return exit_code;\n}}\n{after}"
    );
    fs::write(file, new).with_context(|| format!("write {}", file.display()))
}

/// The directory of Debian's libraries with WasmEdge and its C library.
fn wasmedge(store: &Store, progress: &Progress) -> Result<PathBuf> {
    let mut key = Key::new("wasmedge", FORMAT);
    key.text(image::SUITE);
    key.text(&WASMEDGE.join(","));
    let root = store.path(format!("wasmedge-{}", key.finish()));
    if !root.exists() {
        progress.say(format!("fetch WasmEdge from Debian {}", image::SUITE));
        let packages: Vec<String> = WASMEDGE.iter().map(|name| (*name).to_owned()).collect();
        let debs = apt::Apt::open(store, image::SUITE, &[image::SUITE])?.download(&packages)?;
        let scratch = store.scratch()?;
        let draft = scratch.join("root");
        for deb in debs {
            execute(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&draft))?;
        }
        fs::rename(&draft, &root).with_context(|| format!("write {}", root.display()))?;
        store.remove_others("wasmedge", &root)?;
    }
    let lib = root.join("usr/lib");
    let found = fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))?.flatten().map(|entry| entry.path());
    let found = found.into_iter().find(|dir| dir.join("libwasmedge.so.0").exists());
    found.with_context(|| format!("no libwasmedge.so.0 below {}", lib.display()))
}

/// A directory with the stand-in by the name of `libwasmer.so`.
fn wasmer(store: &Store) -> Result<PathBuf> {
    let dir = store.dir("wasmer")?;
    let built = binaries::wasmer_stand_in()?;
    fs::copy(&built, dir.join("libwasmer.so")).with_context(|| format!("copy {}", built.display()))?;
    Ok(dir)
}
