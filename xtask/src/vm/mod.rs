//! The test machines: `cargo xtask vm build|check|run|shell|test|engines`.
//!
//! Here: the command line. Not here: building (`image.rs`, `kernel.rs`, `agent.rs`), starting (`qemu.rs`, `uml.rs`) and
//! speaking to a machine (`machine.rs`).

mod agent;
pub mod apt;
mod check;
pub mod image;
mod kernel;
mod machine;
mod qemu;
mod suite;
mod tally;
mod uml;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::termios::OptionalActions;
use vm_agent::Request;

use self::kernel::Which;
use self::machine::{Ending, Ground, Lane, Machine, Share, Stream};
use crate::store::{Progress, Store, capture, workspace};

const USAGE: &str = "\
usage: cargo xtask vm build [--kernel stable|backports]
       cargo xtask vm check
       cargo xtask vm run [OPTIONS] [--] COMMAND [ARG]...
       cargo xtask vm shell [OPTIONS] [[--] COMMAND [ARG]...]
       cargo xtask vm test [--all] [--lane fast|full] [--kernel stable|backports] [--user root|tester]...
                           [--runtime pinnace|crun]... [FILTER]...
       cargo xtask vm engines [the same]

  --lane fast|full              user-mode-linux (default) or QEMU
  --kernel stable|backports     kernel of the full lane
  --user USER                   as a unit of USER's manager; the image has the user 'tester'
  --share DIR[:PLACE]           a directory of the host, at the same path or at PLACE; up to four
  --env KEY=VALUE               an addition to the environment
  --dir DIR                     working directory in the machine
  --timeout SECONDS             end the command after so long: exit status 124
  --stdin                       pass standard input on (run)
  --stats                       say how long it took";

/// The status of a command that ran out of time, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// Entry of `cargo xtask vm`.
pub fn run(args: &[String]) -> Result<u8> {
    let Some((command, rest)) = args.split_first() else { bail!("{USAGE}") };
    match command.as_str() {
        "build" => build(&parse(rest)?),
        "check" if rest.is_empty() => check::run(),
        "run" => run_command(&parse(rest)?),
        "shell" => shell(&parse(rest)?),
        "test" => suite::run(suite::Which::Integration, rest),
        "engines" => suite::run(suite::Which::Engines, rest),
        other => bail!("unknown command vm {other}\n{USAGE}"),
    }
}

struct Options {
    lane: Lane,
    shares: Vec<Share>,
    request: Request,
    timeout: Option<Duration>,
    stdin: bool,
    stats: bool,
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options =
        Options { lane: Lane::Fast, shares: Vec::new(), request: Request::default(), timeout: None, stdin: false, stats: false };
    let mut full = false;
    let mut which = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().map(String::as_str).with_context(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--lane" => match value()? {
                "fast" => full = false,
                "full" => full = true,
                other => bail!("unknown lane {other}\n{USAGE}"),
            },
            "--kernel" => which = Some(kernel_named(value()?)?),
            "--user" => value()?.clone_into(&mut options.request.user),
            "--dir" => value()?.clone_into(&mut options.request.directory),
            "--share" => options.shares.push(share(value()?)?),
            "--env" => {
                let (key, value) = value()?.split_once('=').context("--env needs KEY=VALUE")?;
                options.request.environment.push((key.to_owned(), value.to_owned()));
            }
            "--timeout" => {
                let seconds: f64 = value()?.parse().context("--timeout needs seconds")?;
                options.timeout = Some(Duration::try_from_secs_f64(seconds).context("--timeout needs seconds")?);
            }
            "--stdin" => options.stdin = true,
            "--stats" => options.stats = true,
            "--" => {
                options.request.argv = rest.cloned().collect();
                break;
            }
            word if word.starts_with('-') => bail!("unknown option {word}\n{USAGE}"),
            word => {
                options.request.argv = std::iter::once(word.to_owned()).chain(rest.cloned()).collect();
                break;
            }
        }
    }
    // A kernel is a matter of the full lane, so naming one asks for that lane.
    if full || which.is_some() {
        options.lane = Lane::Full(which.unwrap_or(Which::Stable));
    }
    Ok(options)
}

/// The full lane's kernel of that name.
fn kernel_named(name: &str) -> Result<Which> {
    match name {
        "stable" => Ok(Which::Stable),
        "backports" => Ok(Which::Backports),
        other => bail!("unknown kernel {other}: stable or backports"),
    }
}

fn share(text: &str) -> Result<Share> {
    let (host, guest) = text.split_once(':').map_or((text, None), |(host, guest)| (host, Some(guest)));
    let host = std::path::Path::new(host).canonicalize().with_context(|| format!("resolve {host}"))?;
    let guest = guest.map_or_else(|| host.to_string_lossy().into_owned(), str::to_owned);
    if !guest.starts_with('/') {
        bail!("share at a relative path: {guest}");
    }
    Ok(Share { host, guest })
}

fn build(options: &Options) -> Result<u8> {
    let store = Store::open()?;
    let progress = Progress::start();
    let which = match options.lane {
        Lane::Full(which) => which,
        Lane::Fast => Which::Stable,
    };
    let fast = Ground::build(&store, Lane::Fast, &progress)?;
    let full = Ground::build(&store, Lane::Full(which), &progress)?;
    progress.say("all is built");
    let manifest = std::fs::read_to_string(&full.image.manifest).context("read the manifest")?;
    let wanted = std::fs::read_to_string(workspace().join("xtask/vm/packages")).context("read the packages")?;
    let wanted = image::list(&wanted);
    println!("image {} ({}), all packages in {}", full.image.key, image::SUITE, full.image.manifest.display());
    for line in manifest.lines().filter(|line| line.split(' ').next().is_some_and(|name| wanted.contains(&name))) {
        println!("  {line}");
    }
    println!("fast lane: user-mode-linux {}", fast.kernel.release);
    println!("full lane: Linux {}", full.kernel.release);
    let qemu = capture(std::process::Command::new("qemu-system-x86_64").arg("--version"))?;
    println!("  {}", qemu.lines().next().unwrap_or_default());
    Ok(0)
}

fn run_command(options: &Options) -> Result<u8> {
    if options.request.argv.is_empty() {
        bail!("no command\n{USAGE}");
    }
    let start = Instant::now();
    let store = Store::open()?;
    let ground = Ground::build(&store, options.lane, &Progress::start())?;
    let mut machine = Machine::boot(&store, &ground, &options.shares)?;
    let ready = start.elapsed();
    let ending = if options.stdin {
        machine.run_with_input(&options.request, options.timeout, &mut pass_on)?
    } else {
        machine.run(&options.request, options.timeout, &mut pass_on)?
    };
    let done = start.elapsed();
    drop(machine);
    if options.stats {
        let [ready, command, all] = [ready, done - ready, start.elapsed()].map(|time| time.as_secs_f64());
        eprintln!("xtask: ready after {ready:.2} s, command {command:.2} s, all {all:.2} s");
    }
    Ok(status(ending, options.timeout))
}

fn status(ending: Ending, limit: Option<Duration>) -> u8 {
    match ending {
        Ending::Exit(status) => u8::try_from(status).unwrap_or(255),
        Ending::TimedOut => {
            let limit = limit.unwrap_or_default().as_secs_f64();
            eprintln!("xtask: the command was ended after {limit} seconds");
            TIMED_OUT
        }
    }
}

fn pass_on(stream: Stream, bytes: &[u8]) -> Result<()> {
    let outcome = match stream {
        Stream::Output => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Stream::Error => std::io::stderr().write_all(bytes),
    };
    outcome.context("write the command's output")
}

/// Our terminal in raw mode; as it was when dropped.
struct Raw {
    before: rustix::termios::Termios,
}

impl Raw {
    fn enter() -> Result<Raw> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).context("read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw).context("set the terminal's mode")?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

fn shell(options: &Options) -> Result<u8> {
    if !rustix::termios::isatty(rustix::stdio::stdin()) {
        bail!("standard input is no terminal: use vm run");
    }
    let mut request = options.request.clone();
    if request.argv.is_empty() {
        request.argv = vec!["/bin/bash".into(), "-l".into()];
    }
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).context("read the terminal's size")?;
    request.terminal = Some((size.ws_row, size.ws_col));
    if let Ok(term) = std::env::var("TERM") {
        request.environment.push(("TERM".into(), term));
    }
    let store = Store::open()?;
    let ground = Ground::build(&store, options.lane, &Progress::start())?;
    let mut machine = Machine::boot(&store, &ground, &options.shares)?;
    let raw = Raw::enter()?;
    let ending = machine.run_with_input(&request, options.timeout, &mut pass_on);
    drop(raw);
    Ok(status(ending?, options.timeout))
}
