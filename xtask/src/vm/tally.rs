//! What came of the suite in the test machines: per place and role, and over all.
//!
//! Here too: whether what could not run on the host ran in a machine. Not here: running it (`suite.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};

use super::machine::Stream;

/// How a test's reason says that this command covers it.
const COVERED: &str = "cargo xtask vm test";

/// Who runs the suite with which runtime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    /// A user of the image, or what `suite.rs` makes of root.
    pub user: String,
    /// `pinnace` or `crun`.
    pub runtime: String,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.runtime, self.user)
    }
}

/// What libtest and the harness said.
#[derive(Debug, Default)]
pub struct Tally {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// Test, reason: the test returns, which libtest takes for passed.
    skipped: BTreeMap<String, String>,
    /// What failed tests printed.
    said: BTreeMap<String, Vec<String>>,
    /// The one whose output libtest repeats now.
    saying: Option<String>,
    /// libtest's last line was there.
    pub complete: bool,
}

impl Tally {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.saying = Some(name.to_owned());
        } else if line.starts_with("test result: ") {
            self.complete = true;
            self.saying = None;
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let name = name.trim_end_matches(" - should panic").to_owned();
            match result.split([' ', ',']).next() {
                Some("ok") => drop(self.passed.insert(name)),
                Some("ignored") => drop(self.skipped.insert(name, result.to_owned())),
                _ => drop(self.failed.insert(name)),
            }
        } else if line == "failures:" || line == "stack backtrace:" {
            self.saying = None;
        } else if let Some(name) = &self.saying {
            self.said.entry(name.clone()).or_default().push(line.to_owned());
        }
    }

    /// Takes the file that tests name themselves in when they cannot run. A part of a test has the test's name before a colon: it
    /// ran otherwise.
    pub fn skips(&mut self, text: &str) {
        for (name, reason) in text.lines().filter_map(|line| line.split_once('\t')) {
            if self.passed.remove(name) || !self.failed.contains(name) {
                self.skipped.insert(name.to_owned(), reason.to_owned());
            }
        }
    }

    /// Adds what a program's tests came to, under the program's prefix.
    pub fn add(&mut self, prefix: &str, other: Tally) {
        self.passed.extend(other.passed.into_iter().map(|name| format!("{prefix}{name}")));
        self.failed.extend(other.failed.into_iter().map(|name| format!("{prefix}{name}")));
        self.skipped.extend(other.skipped.into_iter().map(|(name, reason)| (format!("{prefix}{name}"), reason)));
        self.said.extend(other.said.into_iter().map(|(name, lines)| (format!("{prefix}{name}"), lines)));
    }
}

/// Splits output into lines, for the log and the tally.
pub struct Reader<'a> {
    tally: &'a mut Tally,
    log: &'a File,
    partial: [Vec<u8>; 2],
}

impl Reader<'_> {
    /// A reader that has seen nothing.
    pub fn new<'a>(tally: &'a mut Tally, log: &'a File) -> Reader<'a> {
        Reader { tally, log, partial: [Vec::new(), Vec::new()] }
    }

    /// Takes a piece of a stream.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let index = usize::from(stream == Stream::Error);
        for byte in bytes {
            self.partial[index].push(*byte);
            if *byte == b'\n' {
                self.flush(index)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, index: usize) -> Result<()> {
        let line = std::mem::take(&mut self.partial[index]);
        self.log.write_all(&line).context("write the log")?;
        self.tally.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        Ok(())
    }

    /// Takes what no line's end came after.
    pub fn finish(mut self) -> Result<()> {
        (0..2).try_for_each(|index| self.flush(index))
    }
}

/// One run of the suite.
#[derive(Debug)]
pub struct Outcome {
    /// Lane and kernel.
    pub place: String,
    /// Who ran it.
    pub role: Role,
    /// What came of it.
    pub tally: Tally,
    /// How long it took.
    pub seconds: f64,
    /// Why it did not come to its end.
    pub broken: Option<String>,
}

impl Outcome {
    fn good(&self) -> bool {
        self.broken.is_none() && self.tally.failed.is_empty()
    }

    /// The counts as a line.
    pub fn summary(&self) -> String {
        let tally = &self.tally;
        let (passed, failed, skipped) = (tally.passed.len(), tally.failed.len(), tally.skipped.len());
        format!("{passed} passed, {failed} failed, {skipped} skipped, {:.0} s", self.seconds)
    }

    fn skipped_for(&self, reason: impl Fn(&str) -> bool) -> BTreeSet<String> {
        self.tally.skipped.iter().filter(|(_, why)| reason(why)).map(|(name, _)| name.clone()).collect()
    }

    /// The tests that another machine may be able to run, as far as the reasons tell: not those for another user.
    pub fn wants_machine(&self) -> BTreeSet<String> {
        self.skipped_for(|why| why.starts_with("needs ") && !why.starts_with("needs root") && !why.contains("without CAP_SYS_RESOURCE"))
    }

    /// The tests that hold only for a root who may not raise limits.
    pub fn wants_confinement(&self) -> BTreeSet<String> {
        self.skipped_for(|why| why.contains("without CAP_SYS_RESOURCE"))
    }
}

/// Lines that are shown of what a failed test printed; the log has all.
const LONGEST: usize = 60;

/// Prints the counts of each place, what failed and what ran nowhere. Whether all is well.
pub fn report(results: &[Outcome]) -> bool {
    println!("\n{:<34} {:<8} {:<9} {:>6} {:>6} {:>7} {:>6}", "place", "runtime", "user", "passed", "failed", "skipped", "s");
    for outcome in results {
        let (role, tally) = (&outcome.role, &outcome.tally);
        let counts = [tally.passed.len(), tally.failed.len()].map(|count| format!(" {count:>6}")).concat();
        let skipped = tally.skipped.len();
        println!("{:<34} {:<8} {:<9}{counts} {skipped:>7} {:>6.0}", outcome.place, role.runtime, role.user, outcome.seconds);
    }
    for outcome in results {
        for name in &outcome.tally.failed {
            println!("failed: {name} ({}, {})", outcome.place, outcome.role);
            let said = outcome.tally.said.get(name).map_or(&[][..], Vec::as_slice);
            let said = said.iter().filter(|line| !line.is_empty());
            said.take(LONGEST).for_each(|line| println!("    {line}"));
        }
        if let Some(broken) = &outcome.broken {
            println!("broken: {}, {}: {broken}", outcome.place, outcome.role);
        }
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // The first run's reason stays: that is root's, who lacks least.
    for (name, reason) in results.iter().rev().flat_map(|outcome| &outcome.tally.skipped).collect::<BTreeMap<_, _>>() {
        if ran(results, name).next().is_none() {
            reasons.entry(reason).or_default().push(name);
        }
    }
    for (reason, names) in reasons {
        println!("not run in any machine: {reason}");
        names.iter().for_each(|name| println!("  {name}"));
    }
    results.iter().all(Outcome::good) && results.iter().any(|outcome| !outcome.tally.passed.is_empty())
}

/// The runs in which a test ran, whether it passed or failed.
fn ran<'a>(results: &'a [Outcome], name: &'a str) -> impl Iterator<Item = &'a Outcome> {
    results.iter().filter(move |outcome| outcome.tally.passed.contains(name) || outcome.tally.failed.contains(name))
}

/// Says for each test that the host could not run where it ran; whether all are covered that are said to be covered here.
pub fn cover_host(results: &[Outcome], host: &BTreeMap<String, String>) -> bool {
    let mut covered = true;
    for (name, reason) in host {
        // A part of a test is named after the test.
        let whole = name.rsplit_once(": ").map(|(test, _)| test);
        let place = ran(results, name).next().or_else(|| ran(results, whole?).next());
        match place {
            Some(outcome) => println!("not on the host, but here: {name} ({}, {})", outcome.place, outcome.role),
            None if reason.contains(COVERED) => {
                println!("failed: {name} is covered neither on the host nor in a machine: {reason}");
                covered = false;
            }
            None => println!("neither on the host nor in a machine: {name}: {reason}"),
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for line in [
            "running 5 tests",
            "test a::x ... ok",
            "test a::y ... ok",
            "test a::z ... FAILED",
            "test a::i ... ignored, why",
            "test a::p - should panic ... ok",
            "",
            "failures:",
            "",
            "---- a::z stdout ----",
            "",
            "thread 'a::z' (7) panicked at z.rs:1:2:",
            "left is not right",
            "stack backtrace:",
            "   0: main",
            "failures:",
            "    a::z",
            "",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.line(line);
        }
        tally.skips("a::y\tneeds the cgroup controller cpuset (covered by cargo xtask vm test)\n");
        tally
    }

    fn outcome(prefix: &str) -> Outcome {
        let mut all = Tally::default();
        all.add(prefix, tally());
        let role = Role { user: "root".into(), runtime: "crun".into() };
        Outcome { place: "fast".into(), role, tally: all, seconds: 0.0, broken: None }
    }

    #[test]
    fn lines_and_skips_are_counted() {
        let tally = tally();
        assert_eq!((tally.passed.len(), tally.failed.len(), tally.skipped.len()), (2, 1, 2));
        assert!(tally.complete && tally.passed.contains("a::p"));
        let said: Vec<_> = tally.said["a::z"].iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(said, ["thread 'a::z' (7) panicked at z.rs:1:2:", "left is not right"]);
    }

    #[test]
    fn what_another_machine_may_run_is_known() {
        assert_eq!(outcome("").wants_machine().into_iter().collect::<Vec<_>>(), ["a::y"]);
        assert!(outcome("").wants_confinement().is_empty());
    }

    #[test]
    fn lines_come_whole_from_two_streams() {
        let path = std::env::temp_dir().join(format!("pinnace-tally-{}", std::process::id()));
        let log = File::create(&path).expect("a log");
        let mut tally = Tally::default();
        let mut reader = Reader::new(&mut tally, &log);
        for (stream, piece) in [(Stream::Output, "test a "), (Stream::Error, "what"), (Stream::Output, "... ok\n"), (Stream::Error, " a\n")]
        {
            reader.take(stream, piece.as_bytes()).expect("take");
        }
        reader.finish().expect("finish");
        let said = std::fs::read_to_string(&path).expect("the log");
        std::fs::remove_file(&path).expect("remove the log");
        assert_eq!(said, "test a ... ok\nwhat a\n");
        assert!(tally.passed.contains("a"));
    }

    #[test]
    fn what_the_host_skips_must_run_if_it_is_promised() {
        let results = [outcome(""), outcome("p: ")];
        let host = |name: &str, why: &str| BTreeMap::from([(name.to_owned(), why.to_owned())]);
        assert!(cover_host(&results, &host("a::x", "needs b (covered by cargo xtask vm test)")));
        assert!(cover_host(&results, &host("p: a::x: Cpu", "needs b (covered by cargo xtask vm test)")));
        assert!(!cover_host(&results, &host("a::y", "needs b (covered by cargo xtask vm test)")));
        assert!(cover_host(&results, &host("a::y", "needs the moon")));
    }

    #[test]
    fn only_what_ran_is_good() {
        assert!(!report(&[outcome("")]));
        assert!(!report(&[]));
    }
}
