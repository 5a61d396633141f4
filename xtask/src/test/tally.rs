//! What came of the tests: per part, and over all.
//!
//! A test that runs in two places counts once: failed if it failed anywhere, passed if it passed anywhere, skipped if it
//! ran nowhere. Not here: reading output (`runner.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Instant;

/// A kind of tests in one place.
#[derive(Debug)]
pub struct Part {
    title: String,
    /// Parts of one group run the same tests.
    group: &'static str,
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeMap<String, String>,
    seconds: f64,
}

impl Part {
    /// A part in which nothing ran yet.
    pub fn new(title: &str, group: &'static str) -> Part {
        let (passed, failed, skipped) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Part { title: title.to_owned(), group, passed, failed, skipped, seconds: 0.0 }
    }

    /// Counts a test that passed; one that was skipped stays skipped, since libtest takes it for passed.
    pub fn pass(&mut self, name: &str) {
        if !self.skipped.contains_key(name) {
            self.passed.insert(name.to_owned());
        }
    }

    /// Counts a test that failed.
    pub fn fail(&mut self, name: &str) {
        self.failed.insert(name.to_owned());
    }

    /// Counts a test that did not run.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.passed.remove(name);
        self.skipped.insert(name.to_owned(), reason.to_owned());
    }

    /// Counts as failed what did not come to its end, and says why.
    pub fn broken(&mut self, why: impl Into<String>) {
        let why = why.into();
        eprintln!("xtask: {}: {why}", self.title);
        self.fail(why.lines().next().unwrap_or_default());
    }

    /// The part with the time it took.
    pub fn finish(mut self, start: Instant) -> Part {
        self.seconds = start.elapsed().as_secs_f64();
        self
    }
}

/// All parts.
#[derive(Debug, Default)]
pub struct Summary {
    parts: Vec<Part>,
}

/// Group, name.
type Name<'a> = (&'a str, &'a str);

impl Summary {
    /// Adds a part that is over.
    pub fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Nothing failed, and something ran.
    pub fn good(&self) -> bool {
        self.failed().is_empty() && !self.passed().is_empty()
    }

    fn collect(&self, of: impl Fn(&Part) -> Vec<&str>) -> BTreeSet<Name<'_>> {
        self.parts.iter().flat_map(|part| of(part).into_iter().map(|name| (part.group, find(part, name)))).collect()
    }

    fn failed(&self) -> BTreeSet<Name<'_>> {
        self.collect(|part| part.failed.iter().map(String::as_str).collect())
    }

    fn passed(&self) -> BTreeSet<Name<'_>> {
        let failed = self.failed();
        self.collect(|part| part.passed.iter().map(String::as_str).collect()).difference(&failed).copied().collect()
    }

    /// Whether a test of a group passed in one place and failed in none.
    pub fn has_passed(&self, group: &str, name: &str) -> bool {
        self.passed().contains(&(group, name))
    }

    /// Ran nowhere.
    fn skipped(&self) -> BTreeSet<Name<'_>> {
        let ran: BTreeSet<Name<'_>> = self.failed().union(&self.passed()).copied().collect();
        self.collect(|part| part.skipped.keys().map(String::as_str).collect()).difference(&ran).copied().collect()
    }

    /// The last line.
    pub fn last_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed().len(), self.failed().len(), self.skipped().len())
    }

    /// A line for each part, the failed tests, and the skipped ones with their reasons.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "\n{:44} {:>7} {:>7} {:>7} {:>9}", "", "passed", "failed", "skipped", "seconds");
        for part in &self.parts {
            let numbers = [part.passed.len(), part.failed.len(), part.skipped.len()].map(|number| format!(" {number:>7}")).concat();
            let _ = writeln!(out, "{:44}{numbers} {:>9.1}", part.title, part.seconds);
        }
        let nowhere = self.skipped();
        self.write_skips(&mut out, "\nskipped everywhere:", &|name| nowhere.contains(&name));
        self.write_skips(&mut out, "\nskipped in one place, run in another:", &|name| !nowhere.contains(&name));
        let failed = self.failed();
        if !failed.is_empty() {
            let _ = writeln!(out, "\nfailed:");
        }
        for (_, name) in failed {
            let _ = writeln!(out, "  {name}");
        }
        out.push('\n');
        out
    }

    /// Skipped tests by their reason.
    fn write_skips(&self, out: &mut String, head: &str, which: &dyn Fn(Name<'_>) -> bool) {
        let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for part in &self.parts {
            for (name, reason) in part.skipped.iter().filter(|(name, _)| which((part.group, name))) {
                reasons.entry(reason).or_default().insert(name);
            }
        }
        if !reasons.is_empty() {
            let _ = writeln!(out, "{head}");
        }
        for (reason, names) in reasons {
            let _ = writeln!(out, "  {reason}");
            for name in names {
                let _ = writeln!(out, "    {name}");
            }
        }
    }
}

/// The part's own copy of a name, which lives as long as the part.
fn find<'a>(part: &'a Part, name: &str) -> &'a str {
    let sets = part.passed.get(name).or_else(|| part.failed.get(name));
    sets.or_else(|| part.skipped.get_key_value(name).map(|(key, _)| key)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(group: &'static str, passed: &[&str], failed: &[&str], skipped: &[&str]) -> Part {
        let mut part = Part::new(group, group);
        passed.iter().for_each(|name| part.pass(name));
        failed.iter().for_each(|name| part.fail(name));
        skipped.iter().for_each(|name| part.skip(name, "needs x"));
        part
    }

    #[test]
    fn a_test_in_two_places_counts_once() {
        let mut summary = Summary::default();
        summary.add(part("integration", &["a", "b"], &[], &["c", "d"]));
        summary.add(part("integration", &["a", "c"], &["b"], &["d"]));
        summary.add(part("unit", &["a"], &[], &[]));
        assert_eq!(summary.last_line(), "3 passed, 1 failed, 1 skipped");
        assert!(!summary.good());
        let text = summary.text();
        assert!(text.contains("skipped everywhere:\n  needs x\n    d\n"), "{text}");
        assert!(text.contains("run in another:\n  needs x\n    c\n"), "{text}");
        assert!(text.contains("failed:\n  b\n"), "{text}");
    }

    #[test]
    fn a_skip_outweighs_libtests_ok_in_either_order() {
        let mut part = part("unit", &["a"], &[], &["b"]);
        part.skip("a", "needs y");
        part.pass("b");
        assert!(part.passed.is_empty());
        assert_eq!(part.skipped.len(), 2);
    }

    #[test]
    fn nothing_run_is_not_good() {
        let mut summary = Summary::default();
        assert!(!summary.good());
        summary.add(part("unit", &[], &[], &["a"]));
        assert!(!summary.good());
        summary.add(part("unit", &["b"], &[], &[]));
        assert!(summary.good());
    }
}
