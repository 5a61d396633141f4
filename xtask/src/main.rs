//! Developer commands of pinnace: `cargo xtask COMMAND`.
//!
//! Here: the dispatch by the first word, and how errors and exit statuses leave the process. Not here: the commands
//! themselves, each a module with a `run(&[String]) -> Result<u8>` that returns the exit status of the process.

mod bench;
mod binaries;
mod chroot;
mod conformance;
mod contain;
mod debian;
mod demo;
mod dist;
mod engines;
mod fuzz;
mod handlers;
mod host;
mod order;
mod store;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo                      builds pinnace and runs a container
  test [OPTIONS] [FILTER]   all checks and tests that this machine can run
  conformance               makes docs/conformance.md: what is promised, and the tests that show it
  bench [OPTIONS]           pinnace beside other runtimes and the kernel's floor (docs/performance.md)
  tidy                      the project's rules that no lint checks
  vm build|run|shell|test   the test machines: real systemd, cgroup v2, CRIU, engines (docs/vm.md)
  fuzz [--minutes N] [NAME] feeds arbitrary bytes to everything that reads what others write
  handlers [--build]        builds pinnace-handlers, with the engines for WebAssembly, and runs its tests
  order                     finds out which functions a start executes, for the order they have in packages
  dist [--out DIR | --check] tarballs, .deb and .rpm; or whether two builds are the same (docs/packaging.md)
  chroot [OPTIONS] -- CMD   run CMD in the test machines' root file system on this kernel
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "bench" => bench::run(rest),
        bench::INNER => bench::run_in_view(rest),
        "demo" => demo::run(rest),
        "dist" => dist::run(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "vm" => vm::run(rest),
        "conformance" => conformance::run(rest),
        "fuzz" => fuzz::run(rest),
        "handlers" => handlers::run(rest),
        "order" => order::run(rest),
        order::INNER => order::run_in_view(rest),
        "chroot" => chroot::run(rest),
        contain::OUTER | contain::INNER => contain::run(command, rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(0)
        }
        other => Err(anyhow::anyhow!("unknown command {other}\n{USAGE}")),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            // As a shell reports a command that a signal ended.
            let signal = error.downcast_ref::<contain::Interrupted>().map(|interrupted| interrupted.0);
            ExitCode::from(signal.and_then(|signal| u8::try_from(128 + signal as i32).ok()).unwrap_or(1))
        }
    }
}
