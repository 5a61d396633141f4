//! Runs programs for `cargo xtask test`: their output goes to a log, what matters of it to the terminal, and libtest's
//! lines to the tally.
//!
//! Not here: which programs (`mod.rs`, `checks.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};

use super::tally::Part;
use crate::store::{Progress, workspace};

/// Runs programs and keeps their logs.
pub struct Runner {
    logs: PathBuf,
    verbose: bool,
    filters: Vec<String>,
    progress: Progress,
}

impl Runner {
    /// A runner that logs below cargo's target directory and passes `filters` to libtest.
    pub fn new(verbose: bool, filters: &[String]) -> Result<Runner> {
        let target = crate::store::target();
        let logs = target.join("test-logs");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(Runner { logs, verbose, filters: filters.to_vec(), progress: Progress::start() })
    }

    /// Where the logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Says what is done now.
    pub fn say(&self, what: &str) {
        self.progress.say(what);
    }

    /// Runs a test program and counts its tests into `part`; `log` names it.
    pub fn libtest(&self, mut command: Command, log: &str, part: &mut Part) {
        let skips = self.logs.join(format!("{}.skips", file_name(log)));
        let _ = fs::remove_file(&skips);
        command.args(&self.filters).env("PINNACE_TEST_SKIPS", &skips);
        let mut lines = Lines::default();
        let status = self.run(command, log, &mut |line| {
            lines.take(line);
            self.verbose || lines.matters(line)
        });
        // The integration tests are known by their names alone; a unit test's name says nothing without its crate.
        let prefix = if log.starts_with("integration") { String::new() } else { format!("{log}: ") };
        let reported = fs::read_to_string(&skips).unwrap_or_default();
        for (name, reason) in reported.lines().filter_map(|line| line.split_once('\t')) {
            part.skip(&format!("{prefix}{name}"), reason);
        }
        lines.count(&prefix, part);
        match status {
            // 101 is libtest's status when tests failed, which are counted, and cargo's for everything.
            Ok(status) if lines.complete && (status.success() || status.code() == Some(101) && lines.failed()) => {}
            Ok(status) => {
                lines.last.iter().for_each(|line| eprintln!("{line}"));
                part.broken(format!("{log}: the test program ended with {status}"));
            }
            Err(error) => part.broken(format!("{log}: {error:#}")),
        }
    }

    /// Runs a check: its output is shown when it fails.
    pub fn check(&self, mut command: Command, name: &str, part: &mut Part) {
        command.current_dir(workspace());
        let mut said = Vec::new();
        let status = self.run(command, name, &mut |line| {
            said.push(line.to_owned());
            self.verbose
        });
        match status {
            Ok(status) if status.success() => part.pass(name),
            Ok(status) => {
                if !self.verbose {
                    eprintln!("{}", said.join("\n"));
                }
                eprintln!("xtask: {name} failed: {status}");
                part.fail(name);
            }
            Err(error) => part.broken(format!("{name}: {error:#}")),
        }
    }

    /// Runs a program with its output going line by line to a log and to `take`, which says whether to print the line.
    fn run(&self, mut command: Command, log: &str, take: &mut dyn FnMut(&str) -> bool) -> Result<ExitStatus> {
        let path = self.logs.join(format!("{}.log", file_name(log)));
        let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        let (sender, receiver) = channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as Box<_>), child.stderr.take().map(|s| Box::new(s) as Box<_>)];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || forward(stream, &sender));
        }
        drop(sender);
        for line in receiver {
            writeln!(file, "{line}").with_context(|| format!("write {}", path.display()))?;
            if take(&line) {
                eprintln!("{line}");
            }
        }
        child.wait().context("wait for the program")
    }
}

/// Sends each line; ends with the stream.
fn forward(stream: Box<dyn Read + Send>, sender: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        line.clear();
        if sender.send(text).is_err() {
            return;
        }
    }
}

fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect()
}

/// What libtest said.
#[derive(Default)]
struct Lines {
    /// Test name, how it went.
    results: BTreeMap<String, Outcome>,
    /// The line that libtest ends with was there.
    complete: bool,
    /// In the section that shows what failed tests said.
    failures: bool,
    /// The last lines, for a program that does not come to its end.
    last: VecDeque<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Ignored(String),
}

impl Lines {
    fn take(&mut self, line: &str) {
        if self.last.len() == 20 {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        if line.starts_with("test result: ") {
            (self.complete, self.failures) = (true, false);
        } else if line == "failures:" {
            self.failures = true;
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let outcome = match result.split([' ', ',']).next() {
                Some("ok") => Outcome::Passed,
                Some("ignored") => Outcome::Ignored(result.split_once(", ").map_or("ignored", |(_, reason)| reason).to_owned()),
                _ => Outcome::Failed,
            };
            self.results.insert(name.trim_end_matches(" - should panic").to_owned(), outcome);
        }
    }

    fn failed(&self) -> bool {
        self.results.values().any(|outcome| *outcome == Outcome::Failed)
    }

    /// Whether a person wants to see the line just taken: it is about a test that failed. Tests write to the descriptors they
    /// test, so other lines mean nothing.
    fn matters(&self, line: &str) -> bool {
        self.failures || line.starts_with("test ") && line.ends_with(" ... FAILED")
    }

    fn count(&self, prefix: &str, part: &mut Part) {
        for (name, outcome) in &self.results {
            let name = format!("{prefix}{name}");
            match outcome {
                Outcome::Passed => part.pass(&name),
                Outcome::Failed => part.fail(&name),
                Outcome::Ignored(reason) => part.skip(&name, reason),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::tally::Summary;

    #[test]
    fn libtests_lines_are_understood() {
        let mut lines = Lines::default();
        let text = "running 5 tests\ntest a::b ... ok\ntest c - should panic ... ok\ntest d ... FAILED\ntest e ... ignored, needs time\n\
                    test crates/x/src/lib.rs - f (line 3) ... ok\n";
        text.lines().for_each(|line| lines.take(line));
        assert!(!lines.complete);
        lines.take("test result: FAILED. 3 passed; 1 failed");
        assert!(lines.complete);
        assert_eq!(lines.results.len(), 5);
        assert_eq!(lines.results["c"], Outcome::Passed);
        assert_eq!(lines.results["d"], Outcome::Failed);
        assert_eq!(lines.results["e"], Outcome::Ignored("needs time".into()));
    }

    #[test]
    fn what_failed_tests_said_is_shown() {
        let text = "x\ntest d ... FAILED\ntest e ... ok\nfailures:\n---- d stdout ----\ntest result: FAILED. 1 passed; 1 failed\nx";
        let mut lines = Lines::default();
        let shown = text.lines().filter(|line| {
            lines.take(line);
            lines.matters(line)
        });
        assert_eq!(shown.collect::<Vec<_>>(), ["test d ... FAILED", "failures:", "---- d stdout ----"]);
    }

    fn ran(script: &str) -> String {
        let runner = Runner {
            logs: std::env::temp_dir().join(format!("pinnace-runner-{}-{}", std::process::id(), script.len())),
            verbose: false,
            filters: Vec::new(),
            progress: Progress::start(),
        };
        fs::create_dir_all(&runner.logs).expect("a directory for the logs");
        let mut part = Part::new("x", "unit");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        runner.libtest(command, "x", &mut part);
        fs::remove_dir_all(&runner.logs).expect("remove the logs");
        let mut summary = Summary::default();
        summary.add(part);
        summary.last_line()
    }

    #[test]
    fn a_program_that_ends_early_has_failed() {
        assert_eq!(ran("echo 'test a ... ok'; echo 'test result: ok. 1 passed'"), "1 passed, 0 failed, 0 skipped");
        assert_eq!(ran("echo 'test a ... ok'"), "1 passed, 1 failed, 0 skipped");
        assert_eq!(ran("echo 'test a ... ok'; echo 'test result: ok. 1 passed'; kill -9 $$"), "1 passed, 1 failed, 0 skipped");
        assert_eq!(ran("echo 'test a ... ok'; echo 'test result: ok. 1 passed'; exit 101"), "1 passed, 1 failed, 0 skipped");
        assert_eq!(ran("echo 'test a ... FAILED'; echo 'test result: FAILED. 0 passed'; exit 101"), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn skips_come_by_file() {
        let script = "printf 'a\\tneeds x\\n' >> \"$PINNACE_TEST_SKIPS\"; echo 'test a ... ok'; echo 'test result: ok. 1 passed'";
        assert_eq!(ran(script), "0 passed, 0 failed, 1 skipped");
    }
}
