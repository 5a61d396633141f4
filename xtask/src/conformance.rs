//! `cargo xtask conformance`: makes `docs/conformance.md` of `tests/data/conformance.txt`, which names for each thing that is promised the
//! tests that show it. Also the part of `cargo xtask test` that compares the two with the sources and with what the run said. Not here: the
//! rows themselves.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::store::workspace;

const DATA: &str = "tests/data/conformance.txt";
const PAGE: &str = "docs/conformance.md";
/// Past flaws and their tests: tables whose last column names them between backticks.
const FLAWS: &str = "docs/cve.md";
const SUITE: &str = "tests/tests/integration";
const HEAD: &str = "\
# What is tested where

Made by `cargo xtask conformance` of `tests/data/conformance.txt`; edits belong there. `cargo xtask test` fails when this page is not what it
makes, when a row has no test, when a test that is named does not exist or fails, and when one ran nowhere on the machine though the row does not
say where it does. Names such as `run::…` are those of the integration tests; others are a source file with a test in it.
";

/// One promise.
#[derive(Debug, PartialEq, Eq)]
enum Row {
    /// Kept: its name, its tests, where they run if not everywhere.
    Tested { name: String, tests: Vec<String>, elsewhere: Option<String> },
    /// Of a later version: its name, what is missing.
    Missing { name: String, what: String },
}

/// Title and rows.
type Area = (String, Vec<Row>);

fn parse(text: &str) -> Result<Vec<Area>> {
    let mut areas: Vec<Area> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with(';')) {
        if let Some(title) = line.strip_prefix("# ") {
            areas.push((title.to_owned(), Vec::new()));
            continue;
        }
        let (_, rows) = areas.last_mut().with_context(|| format!("line {}: a row before the first area", i + 1))?;
        let cells: Vec<&str> = line.trim_start_matches("! ").split(" | ").map(str::trim).collect();
        rows.push(match (line.starts_with("! "), cells.as_slice()) {
            (true, [name, what]) => Row::Missing { name: (*name).to_owned(), what: (*what).to_owned() },
            (false, [name, tests, rest @ ..]) if rest.len() < 2 => Row::Tested {
                name: (*name).to_owned(),
                tests: tests.split_whitespace().map(str::to_owned).collect(),
                elsewhere: rest.first().map(|text| (*text).to_owned()),
            },
            _ => bail!("line {}: a row without a test: {line}", i + 1),
        });
    }
    Ok(areas)
}

fn page(areas: &[Area]) -> String {
    let mut out = HEAD.to_owned();
    for (title, rows) in areas {
        let missing = rows.iter().any(|row| matches!(row, Row::Missing { .. }));
        let second = if missing { "what is missing" } else { "tests" };
        let _ = write!(out, "\n## {title}\n\n| promise | {second} |\n|---|---|\n");
        for row in rows {
            let _ = match row {
                Row::Missing { name, what } => writeln!(out, "| {name} | {what} |"),
                Row::Tested { name, tests, elsewhere } => {
                    let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
                    let note = elsewhere.as_ref().map_or_else(String::new, |text| format!(" — {text}"));
                    writeln!(out, "| {name} | {}{note} |", tests.join(", "))
                }
            };
        }
    }
    out
}

/// Whether a source file has a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let at = |(index, _): (usize, &str)| source[..index].rsplit_once("#[test]").is_some_and(|(_, between)| !between.contains("fn "));
    source.match_indices(&head).any(at)
}

/// The file of a test, relative to the workspace, and its name in it.
fn place(test: &str) -> Option<(String, &str)> {
    let (before, name) = test.rsplit_once("::")?;
    // Between the file and the name may be a module, which a macro makes.
    let file = before.split("::").next().unwrap_or(before);
    Some(if file.ends_with(".rs") { (file.to_owned(), name) } else { (format!("{SUITE}/{file}.rs"), name) })
}

/// What is wrong with the rows by the sources alone.
fn unknown_tests(areas: &[Area], root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    let mut names = BTreeSet::new();
    for (title, row) in areas.iter().flat_map(|(title, rows)| rows.iter().map(move |row| (title, row))) {
        let (Row::Tested { name, .. } | Row::Missing { name, .. }) = row;
        if !names.insert((title, name)) {
            findings.push(format!("{DATA}: `{name}` is there twice in {title}"));
        }
        let Row::Tested { tests, .. } = row else { continue };
        if tests.is_empty() {
            findings.push(format!("{DATA}: `{name}` has no test"));
        }
        for test in tests {
            let found = place(test).and_then(|(file, fun)| fs::read_to_string(root.join(file)).ok().map(|text| has_test(&text, fun)));
            if found != Some(true) {
                findings.push(format!("{DATA}: `{name}` names `{test}`, which does not exist"));
            }
        }
    }
    findings
}

/// Rows of the flaws' tables without a test, or with one that does not exist.
fn flaws(text: &str, root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    for row in rows.filter(|row| !row.ends_with("| tests")) {
        let (name, tests) = (row.split(" | ").next().unwrap_or(row), row.rsplit(" | ").next().unwrap_or_default());
        let mut any = false;
        for test in tests.split('`').skip(1).step_by(2) {
            any = true;
            let found = place(test).and_then(|(file, fun)| fs::read_to_string(root.join(file)).ok().map(|text| has_test(&text, fun)));
            if found != Some(true) {
                findings.push(format!("{FLAWS}: `{name}` names `{test}`, which does not exist"));
            }
        }
        if !any {
            findings.push(format!("{FLAWS}: `{name}` has no test"));
        }
    }
    findings
}

/// What is wrong, as sentences. `ran` tells of an integration test whether it passed somewhere; `None` stands for a run that was no whole one.
pub fn check(ran: Option<&dyn Fn(&str) -> bool>) -> Result<Vec<String>> {
    let root = workspace();
    let areas = parse(&fs::read_to_string(root.join(DATA)).with_context(|| format!("read {DATA}"))?).context(DATA)?;
    let mut findings = unknown_tests(&areas, &root);
    findings.extend(flaws(&fs::read_to_string(root.join(FLAWS)).with_context(|| format!("read {FLAWS}"))?, &root));
    if fs::read_to_string(root.join(PAGE)).unwrap_or_default() != page(&areas) {
        findings.push(format!("{PAGE} is not what {DATA} says: cargo xtask conformance"));
    }
    if let Some(ran) = ran {
        findings.extend(not_run(&areas, ran));
    }
    Ok(findings)
}

/// Integration tests that passed nowhere, of rows that do not say where they would.
fn not_run(areas: &[Area], ran: &dyn Fn(&str) -> bool) -> Vec<String> {
    let rows = areas.iter().flat_map(|(_, rows)| rows);
    let bare = rows.filter_map(|row| match row {
        Row::Tested { name, tests, elsewhere: None } => Some((name, tests)),
        _ => None,
    });
    let tests = bare.flat_map(|(name, tests)| tests.iter().map(move |test| (name, test)));
    let missing = tests.filter(|(_, test)| !test.contains(".rs::") && !ran(test));
    missing.map(|(name, test)| format!("`{name}`: `{test}` did not pass, and its row does not say where it does")).collect()
}

/// Entry of `cargo xtask conformance`.
pub fn run(args: &[String]) -> Result<u8> {
    if let Some(arg) = args.first() {
        bail!("unknown argument {arg}\nusage: cargo xtask conformance");
    }
    let root = workspace();
    let areas = parse(&fs::read_to_string(root.join(DATA)).with_context(|| format!("read {DATA}"))?).context(DATA)?;
    fs::write(root.join(PAGE), page(&areas)).with_context(|| format!("write {PAGE}"))?;
    let mut findings = unknown_tests(&areas, &root);
    findings.extend(flaws(&fs::read_to_string(root.join(FLAWS)).with_context(|| format!("read {FLAWS}"))?, &root));
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    Ok(u8::from(!findings.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_their_page() {
        let areas = parse("; x\n# A\n\na | f::t g::u\nb | f::t | there\n! c | all\n").unwrap();
        let text = page(&areas);
        assert!(text.ends_with("| a | `f::t`, `g::u` |\n| b | `f::t` — there |\n| c | all |\n"), "{text}");
        assert!(parse("a | f::t\n").is_err() && parse("# A\na\n").is_err() && parse("# A\na | b | c | d\n").is_err());
    }

    #[test]
    fn flaws_need_tests() {
        let table = "| flaw | why | tests |\n|---|---|---|\n| CVE-1 | x | `f::no_such_test` |\n| CVE-2 | `y` | none |\n";
        let findings = flaws(table, Path::new("/nonexistent"));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("CVE-1") && findings[1].contains("`CVE-2` has no test"), "{findings:?}");
    }

    #[test]
    fn tests_are_looked_up_and_must_have_run() {
        let source = "#[test]\nfn a() {}\nfn helper(x: u8) {}\n#[test]\n#[ignore]\nfn b(n: u8) {}\n";
        assert!(has_test(source, "a") && has_test(source, "b") && !has_test(source, "helper") && !has_test(source, "c"));
        assert_eq!(place("run::x").unwrap(), ("tests/tests/integration/run.rs".to_owned(), "x"));
        assert_eq!(place("run::m::x").unwrap(), ("tests/tests/integration/run.rs".to_owned(), "x"));
        assert_eq!(place("crates/a/b.rs::x").unwrap(), ("crates/a/b.rs".to_owned(), "x"));
        let areas = parse("# A\na | f::t\nb | g::u | there\nc | src/x.rs::y\n").unwrap();
        assert_eq!(not_run(&areas, &|_| false).len(), 1);
        assert!(not_run(&areas, &|test| test == "f::t").is_empty());
        assert_eq!(unknown_tests(&areas, Path::new("/nonexistent")).len(), 3);
    }
}
