//! `cargo xtask handlers`: builds `pinnace-handlers`, the program with the engines, lints it on the way, and runs the tests that need it.
//!
//! It is apart from `cargo xtask test` because the engines are most of the time of a build: whoever changes nothing about them need not wait.
//! Here: the order, and where the program goes. Not here: building (`binaries.rs`), the
//! engines that are libraries (`engines.rs`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::engines;
use crate::host;
use crate::store::{Progress, workspace};

const USAGE: &str = "usage: cargo xtask handlers [--build]\n\n  --build   only build the program\n";
/// The tests that need the program.
const TESTS: &str = "wasm::";

/// Entry of `cargo xtask handlers`.
pub fn run(args: &[String]) -> Result<u8> {
    let only_build = match args {
        [] => false,
        [word] if word == "--build" => true,
        [word] if word == "--help" || word == "-h" => {
            print!("{USAGE}");
            return Ok(0);
        }
        _ => bail!("unknown words {}\n{USAGE}", args.join(" ")),
    };
    host::ensure(&host::BUILD.iter().collect::<Vec<_>>())?;
    let progress = Progress::start();
    let start = Instant::now();
    progress.say("build the program with the handlers, and lint what is ours");
    let handlers = program()?;
    let size = fs::metadata(&handlers).with_context(|| format!("look at {}", handlers.display()))?.len();
    progress.say(format!("built {}, {} MB, in {} s", handlers.display(), size / 1_000_000, start.elapsed().as_secs()));
    if only_build {
        return Ok(0);
    }
    progress.say("run the unit tests of the engines");
    let mut good = true;
    for test in binaries::engine_tests()? {
        good &= passes(Command::new(&test.path).current_dir(&test.directory))?;
    }
    let engines = engines::prepare(&handlers, &progress)?;
    for (name, why) in &engines.missing {
        progress.say(format!("no containers by {name}: {why}"));
    }
    progress.say(format!("run the tests of containers that are WebAssembly, by {}", engines.names.join(", ")));
    let suite = binaries::suite(false)?;
    let runtime = binaries::pinnace()?;
    let mut command = Command::new(&suite.integration);
    command.arg(TESTS).current_dir(workspace().join("tests")).env_remove("RUNTIME").env("RUST_BACKTRACE", "0");
    command.env("PINNACE_BIN", &runtime).env("PINNACE_HANDLERS", &engines.program).env("PINNACE_HANDLERS_ALONE", &handlers);
    command.env("PINNACE_ENGINES", engines.names.join(",")).env("PINNACE_WASM_PROGRAM", &engines.tell);
    command.env("PINNACE_PROBE", &suite.probe).env("PINNACE_IN_VIEW", &suite.in_view);
    good &= passes(&mut command)?;
    Ok(u8::from(!good))
}

fn passes(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    Ok(status.success())
}

/// Builds the program and gives it its name.
fn program() -> Result<PathBuf> {
    let built = binaries::handlers()?;
    let named = built.with_file_name("pinnace-handlers");
    fs::copy(&built, &named).with_context(|| format!("copy {} to {}", built.display(), named.display()))?;
    Ok(named)
}
