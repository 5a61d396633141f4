//! `docs/crun-compat.md` has a line for every difference that a test is excused by, and none beside.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, iter};

/// The words in a text that stand between `before` and a closing character.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    let mut rest = text;
    iter::from_fn(move || {
        let start = rest.find(before)? + before.len();
        rest = &rest[start..];
        let end = rest.find(after)?;
        Some(&rest[..end])
    })
}

#[test]
fn every_excuse_has_its_line() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let doc = package.join("../docs/crun-compat.md");
    if !doc.is_file() {
        // A test program that was carried elsewhere, such as into the test machines; where it was built, this runs.
        harness::report_skip("compat_doc::every_excuse_has_its_line", "needs the source tree (covered by the run on the host)");
        return;
    }
    let doc = fs::read_to_string(doc).unwrap();
    let keys: BTreeSet<String> = doc.lines().filter_map(|l| between(l, "| `", '`').next()).map(str::to_owned).collect();
    let mut used = BTreeSet::new();
    for dir in ["src", "tests/integration", "tests/engines"] {
        for entry in fs::read_dir(package.join(dir)).unwrap().flatten().filter(|e| e.path().is_file()) {
            let text = fs::read_to_string(entry.path()).unwrap();
            if entry.file_name() == "compat_doc.rs" {
                continue;
            }
            used.extend(between(&text, "CrunDiffers(\"", '"').map(str::to_owned));
            used.extend(between(&text, "CrunNeedsRoot(\"", '"').map(str::to_owned));
            let versions = between(&text, "CrunDiffersBefore(", ')').filter_map(|w| between(w, "\"", '"').next());
            used.extend(versions.map(str::to_owned));
            // What a comment or a reason names as the line that forgives.
            let named = text.match_indices("` in docs/crun-compat.md").filter_map(|(at, _)| text[..at].rsplit('`').next());
            used.extend(named.map(str::to_owned).filter(|w| w.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        }
    }
    let missing: Vec<_> = used.difference(&keys).collect();
    assert!(missing.is_empty(), "no line in docs/crun-compat.md for {missing:?}");
    // Differences that no test can show on any machine may be listed without one; they are marked so.
    let unused: Vec<_> = keys.difference(&used).filter(|k| !doc.lines().any(|l| l.starts_with(&format!("| `{k}`†")))).collect();
    assert!(unused.is_empty(), "no test is excused by {unused:?}");
}
