//! `cargo xtask vm check`: what the test machines promise when something goes wrong.
//!
//! Exit statuses and both streams pass; a command that hangs is ended and the machine goes on; a boot that fails or hangs and an
//! agent that is stopped or killed give an error in time, with the end of the console; no process stays behind, not even when
//! this program is killed. Not here: the integration suite (`suite.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use vm_agent::Request;

use super::kernel::Which;
use super::machine::{Ending, Ground, Lane, Machine, Stream};
use super::qemu;
use crate::contain::Interrupted;
use crate::store::{Progress, Store};

/// Enough for anything here that is not meant to hang.
const LIMIT: Duration = Duration::from_secs(60);
/// How the memory's file of a restored machine may be cut short.
const TORN: u64 = 1 << 20;

type Check = (&'static str, fn(&Store, &Ground) -> Result<()>);

const BOTH: [Check; 5] = [
    ("exit status and output pass", status_and_output),
    ("a hanging command is ended, the machine goes on", hanging_command),
    ("a stopped agent is noticed", stopped_agent),
    ("a killed agent ends the machine", killed_agent),
    ("nothing outlives a killed xtask", killed_xtask),
];
const FAST: [Check; 3] =
    [("a boot without its disk fails", no_disk), ("a kernel that panics is noticed", panic), ("a hanging boot is ended", hanging_boot)];
const FULL: [Check; 1] = [("a torn snapshot is noticed", torn_snapshot)];

/// Entry of `cargo xtask vm check`.
pub fn run() -> Result<u8> {
    let progress = Progress::start();
    let store = Store::open()?;
    let mut failed = 0;
    for (lane, name, own) in [(Lane::Fast, "fast", &FAST[..]), (Lane::Full(Which::Stable), "full", &FULL[..])] {
        let ground = Ground::build(&store, lane, &progress)?;
        for (what, check) in BOTH.iter().chain(own) {
            let outcome = check(&store, &ground).and_then(|()| nothing_left());
            match outcome {
                Ok(()) => progress.say(format!("{name}: {what}: ok")),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    failed += 1;
                    progress.say(format!("{name}: {what}: FAILED: {error:#}"));
                }
            }
        }
    }
    println!("{} passed, {failed} failed", 2 * BOTH.len() + FAST.len() + FULL.len() - failed);
    Ok(u8::from(failed > 0))
}

fn shell(script: &str) -> Request {
    Request { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), ..Request::default() }
}

fn run_in(machine: &mut Machine, script: &str, limit: Duration) -> Result<(Ending, String, String)> {
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let ending = machine.run(&shell(script), Some(limit), &mut |stream, bytes| {
        if stream == Stream::Output {
            output.extend_from_slice(bytes)
        } else {
            error.extend_from_slice(bytes)
        }
        Ok(())
    })?;
    Ok((ending, String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&error).into_owned()))
}

fn status_and_output(store: &Store, ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(store, ground, &[])?;
    for status in [0, 7, 255] {
        let got = run_in(&mut machine, &format!("echo out; echo err >&2; exit {status}"), LIMIT)?;
        ensure!(got == (Ending::Exit(status), "out\n".into(), "err\n".into()), "got {got:?}");
    }
    Ok(())
}

fn hanging_command(store: &Store, ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(store, ground, &[])?;
    let (ending, ..) = run_in(&mut machine, "trap '' TERM INT; while :; do sleep 1000; done", Duration::from_secs(1))?;
    ensure!(ending == Ending::TimedOut, "got {ending:?}");
    let (ending, output, _) = run_in(&mut machine, "pgrep -c sleep", LIMIT)?;
    ensure!((ending, output.as_str()) == (Ending::Exit(1), "0\n"), "processes of the command are left: {output}");
    Ok(())
}

/// The error must come within the time, say `what`, and show the console, which holds `seen`.
fn fails<T>(outcome: Result<T>, start: Instant, limit: Duration, what: &str, seen: &str) -> Result<()> {
    let took = start.elapsed();
    let Err(error) = outcome else { bail!("it did not fail") };
    let text = format!("{error:#}");
    ensure!(text.contains(what), "the error lacks {what:?}: {text}");
    ensure!(text.contains("the end of the machine's console") || text.contains("console is empty"), "the error lacks the console: {text}");
    ensure!(text.contains(seen), "the console lacks {seen:?}: {text}");
    ensure!(took <= limit, "it took {} s: {text}", took.as_secs());
    Ok(())
}

fn stopped_agent(store: &Store, ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(store, ground, &[])?;
    machine.patience = (Duration::from_secs(2), Duration::from_secs(4));
    let start = Instant::now();
    let outcome = run_in(&mut machine, "echo stopping > /dev/console; pkill -STOP -f pinnace-vm-agent; sleep 1000", LIMIT);
    fails(outcome, start, Duration::from_secs(30), "the agent is lost", "stopping")
}

fn killed_agent(store: &Store, ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(store, ground, &[])?;
    let start = Instant::now();
    let outcome = run_in(&mut machine, "echo killing > /dev/console; pkill -KILL -f pinnace-vm-agent; sleep 1000", LIMIT);
    fails(outcome, start, Duration::from_secs(30), "the machine ended", "killing")
}

fn no_disk(store: &Store, ground: &Ground) -> Result<()> {
    let start = Instant::now();
    let outcome = Machine::boot_with(store, ground, &[], &["pinnace.root=/dev/none"], LIMIT);
    fails(outcome, start, Duration::from_secs(40), "the machine ended", "no disk /dev/none")
}

fn panic(store: &Store, ground: &Ground) -> Result<()> {
    let start = Instant::now();
    let outcome = Machine::boot_with(store, ground, &[], &["rdinit=/none", "root=/dev/none"], LIMIT);
    fails(outcome, start, Duration::from_secs(20), "the machine ended", "panic")
}

fn hanging_boot(store: &Store, ground: &Ground) -> Result<()> {
    let start = Instant::now();
    let outcome = Machine::boot_with(store, ground, &[], &["systemd.unit=emergency.target"], Duration::from_secs(4));
    fails(outcome, start, Duration::from_secs(10), "no word from the agent in 4 seconds", "")
}

fn torn_snapshot(store: &Store, ground: &Ground) -> Result<()> {
    let whole = ground.snapshot.as_ref().context("no snapshot")?;
    let scratch = store.scratch()?;
    let torn = qemu::Snapshot { dir: scratch.join("torn") };
    fs::create_dir(&torn.dir).context("create a directory")?;
    // The overlay names its base relative to itself, and is found behind the link.
    symlink(whole.overlay(), torn.overlay()).context("link the overlay")?;
    fs::copy(whole.state(), torn.state()).context("copy the state")?;
    fs::OpenOptions::new().write(true).open(torn.state())?.set_len(TORN).context("cut the state")?;
    let start = Instant::now();
    fails(qemu::restore(ground, &torn, &scratch, &[]), start, Duration::from_secs(70), "QEMU", "qemu-system")
}

fn killed_xtask(_: &Store, ground: &Ground) -> Result<()> {
    let lane = if ground.snapshot.is_some() { "full" } else { "fast" };
    let mut command = Command::new("/proc/self/exe");
    command.args(["vm", "run", "--lane", lane, "--", "sh", "-c", "echo running; exec sleep 1000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start xtask")?;
    let mut word = [0; 7];
    let running = std::io::Read::read_exact(child.stdout.as_mut().context("no pipe")?, &mut word);
    let mut family = descendants(child.id());
    family.insert(child.id());
    child.kill().context("kill xtask")?;
    child.wait().context("wait for xtask")?;
    running.context("the machine did not start")?;
    ensure!(family.len() > 1, "the machine has no processes");
    let deadline = Instant::now() + Duration::from_secs(5);
    while family.iter().any(|pid| alive(*pid)) {
        ensure!(Instant::now() < deadline, "processes are left: {:?}", family.iter().filter(|pid| alive(**pid)).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn nothing_left() -> Result<()> {
    let left = descendants(std::process::id());
    ensure!(left.is_empty(), "processes are left: {left:?}");
    Ok(())
}

/// State and parent of a process (proc(5), `/proc/pid/stat`).
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn descendants(root: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect();
    let parents: Vec<(u32, u32)> = pids.iter().filter_map(|pid| Some((*pid, stat(*pid)?.1))).collect();
    let mut found = BTreeSet::new();
    let mut before = usize::MAX;
    while found.len() != before {
        before = found.len();
        let more: Vec<u32> = parents.iter().filter(|(_, up)| *up == root || found.contains(up)).map(|(pid, _)| *pid).collect();
        found.extend(more);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_while_they_live() {
        let mut child = Command::new("sh").args(["-c", "sleep 1000 & echo x; wait"]).stdout(Stdio::piped()).spawn().expect("start sh");
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut [0]).expect("its word");
        let family = descendants(child.id());
        assert_eq!(family.len(), 1, "{family:?}");
        let sleeper = *family.first().expect("one");
        assert!(alive(sleeper) && alive(child.id()));
        for pid in [sleeper, child.id()] {
            let pid = i32::try_from(pid).expect("a process id");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kill");
        }
        child.wait().expect("wait");
        assert!(!alive(child.id()));
    }
}
