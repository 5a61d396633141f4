//! Rules for a Rust file by itself: its head, its length, and what may not be named in its room.
//!
//! Not here: formatting and everything that a lint of rustc or clippy finds.

use super::scan::{code, line_of, without_tests, words};
use super::{Finding, Source};

const LONGEST: usize = 600;
const README: &str = "#![doc = include_str!(\"../README.md\")]";

/// Where `unsafe` may stand, and why there.
const UNSAFE_ROOMS: [(&str, &str); 21] = [
    ("crates/runtime-core/src/sys/", "raw system calls of the parent and the child"),
    ("crates/cgroup-fs/src/sys.rs", "bpf(2), which no library has"),
    ("crates/seccomp/src/kernel.rs", "seccomp(2), which no library has"),
    ("crates/notify-plugins/src/loaded.rs", "dlopen(3) and the calls of what it finds"),
    ("crates/notify-plugins/src/serve.rs", "fork without execve"),
    ("crates/criu/src/spawn.rs", "marks descriptors between fork and exec"),
    ("crates/krun/src/spawn.rs", "what passt gets between fork and exec"),
    ("crates/krun/src/library.rs", "a C library that is loaded at run time"),
    ("crates/wasm/src/c/", "C libraries that are loaded at run time"),
    ("crates/wasm/tests/stand-in/wasmer.rs", "a C library"),
    ("crates/wasm/src/signals.rs", "sigaction(2), which rustix lacks"),
    ("crates/wasm/src/wasmtime.rs", "compiled code that is taken from the cache"),
    ("crates/cli/src/entry.rs", "main without Rust's own start-up"),
    ("crates/cli/src/regex.rs", "regcomp(3) of the C library"),
    ("crates/cli/src/arena.rs", "the allocator"),
    ("crates/cli/src/c_allocator.rs", "malloc(3) for C code, by that allocator"),
    ("crates/cli/src/trap_alloc.rs", "an allocator for tests"),
    ("crates/seccomp/tests/", "libseccomp as the oracle"),
    ("tests/src/bin/probe/", "the probe looks at what system calls say"),
    ("tests/examples/krun-stand-in.rs", "a C library"),
    ("tests/src/", "the harness acts between fork and exec"),
];

/// What a room must not name outside its tests, with the reason.
struct Ban {
    room: &'static str,
    words: &'static [&'static str],
    why: &'static str,
}

const BANS: [Ban; 3] = [
    Ban {
        room: "crates/runtime-core/src/plan/",
        words: &[
            "std::fs",
            "std::env",
            "std::process",
            "std::time",
            "std::net",
            "std::thread",
            "nix::",
            "rustix::",
            "fs::read",
            "SystemTime",
        ],
        why: "plan/ is pure: it asks the machine nothing, facts.rs does",
    },
    Ban {
        room: "crates/runtime-core/src/init/",
        words: &[
            "format!",
            "vec!",
            "println!",
            "eprintln!",
            "panic!",
            "String::",
            "Vec::",
            "Box::new",
            "CString::new",
            "Rc::new",
            "Arc::new",
            ".to_owned(",
            ".to_string(",
            ".to_vec(",
            ".into_owned(",
            ".collect(",
            ".collect::",
            ".clone(",
            "Mutex",
            "OnceLock",
            "RefCell",
            "tracing::",
            "std::fs",
            "std::env",
        ],
        why: "init/ is the cloned child: it allocates, locks and formats nothing",
    },
    Ban {
        room: "crates/",
        words: &["env::args", "set_current_dir", "env::set_var", "env::remove_var"],
        why: "a library reads no arguments and does not change its own process",
    },
];

/// Lints that a library may not silence outside its tests.
const FIRM: [&str; 8] = [
    "clippy::undocumented_unsafe_blocks",
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::print_stdout",
    "clippy::print_stderr",
    "clippy::exit",
    "unsafe_op_in_unsafe_fn",
];

/// The program, which is no library.
const PROGRAM: &str = "crates/cli/";

/// Files in which cargo features may be asked for; backend crates may everywhere.
const FEATURE_FILES: [&str; 3] = ["crates/cli/src/wire.rs", "crates/runtime-core/src/lib.rs", "crates/runtime-core/src/error.rs"];
const FEATURE_FREE: [&str; 4] = ["crates/cli/", "crates/runtime-core/", "xtask/", "tests/"];
/// Where the names of annotations stand.
const ANNOTATIONS: &str = "crates/runtime-core/src/api/annotations.rs";
/// The feature that tests build in is no part of a runtime.
const TEST_FEATURE: &str = "trap-alloc";

/// Applies the rules to one file.
pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    let path = source.path.as_str();
    let first = source.text.lines().next().unwrap_or_default();
    // A library's first page may be its README, whose own existence the compiler checks.
    if first != README && first.strip_prefix("//! ").is_none_or(|words| words.trim().is_empty()) {
        findings.push(Finding::new(path, 1, "the file does not open with `//!` and what is in it"));
    }
    let length = source.text.lines().count();
    if length > LONGEST {
        findings.push(Finding::new(path, 0, format!("{length} lines, at most {LONGEST}: a room is missing")));
    }
    let code = code(&source.text);
    check_unsafe(path, &code, findings);
    if !is_test(path) {
        let program = without_tests(&code);
        check_bans(source, program, findings);
        check_silenced(path, program, findings);
        check_features(path, &source.text, program, findings);
        check_annotations(path, &source.text[..program.len()], findings);
    }
}

/// Names of annotations stand in one table; `{` follows where a name is made of parts, which are facts that `features` tells.
fn check_annotations(path: &str, text: &str, findings: &mut Vec<Finding>) {
    if !path.starts_with("crates/") || path == ANNOTATIONS {
        return;
    }
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for prefix in ["run.oci.", "run.pinnace.", "org.criu.", "org.systemd.property."] {
            let name = line.split(&format!("\"{prefix}")).nth(1);
            if name.is_some_and(|rest| !rest.starts_with(['{', '"'])) {
                findings.push(Finding::new(path, n + 1, format!("names an annotation; the table of them is {ANNOTATIONS}")));
            }
        }
    }
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("tests.rs")
}

fn check_unsafe(path: &str, code: &str, findings: &mut Vec<Finding>) {
    if UNSAFE_ROOMS.iter().any(|(room, _)| path.starts_with(room)) {
        return;
    }
    for at in words(code, "unsafe") {
        findings.push(Finding::new(path, line_of(code, at), "`unsafe` outside the rooms for it (xtask/src/tidy/rust.rs has the list)"));
    }
}

fn check_bans(source: &Source, code: &str, findings: &mut Vec<Finding>) {
    let path = source.path.as_str();
    // What is planted for a test, up to two lines below its condition.
    let planted = |line: usize| source.text.lines().take(line).skip(line.saturating_sub(3)).any(|line| line.contains(TEST_FEATURE));
    for ban in BANS.iter().filter(|ban| path.starts_with(ban.room) && !path.starts_with(PROGRAM)) {
        for word in ban.words {
            for line in words(code, word).map(|at| line_of(code, at)).filter(|line| !planted(*line)) {
                findings.push(Finding::new(path, line, format!("`{word}`: {}", ban.why)));
            }
        }
    }
}

fn check_silenced(path: &str, code: &str, findings: &mut Vec<Finding>) {
    if !path.starts_with("crates/") {
        return;
    }
    for attribute in ["[allow(", "[expect("] {
        for (at, _) in code.match_indices(attribute) {
            let list = &code[at + attribute.len()..];
            let list = &list[..list.find(')').unwrap_or(list.len())];
            for lint in FIRM.iter().filter(|lint| words(list, lint).next().is_some()) {
                // Writing to standard output is what a command line is for.
                if path.starts_with(PROGRAM) && lint.starts_with("clippy::print_") {
                    continue;
                }
                findings.push(Finding::new(path, line_of(code, at), format!("silences {lint}, which holds outside tests")));
            }
        }
    }
}

fn check_features(path: &str, text: &str, code: &str, findings: &mut Vec<Finding>) {
    if FEATURE_FILES.contains(&path) || !FEATURE_FREE.iter().any(|room| path.starts_with(room)) {
        return;
    }
    for at in words(code, "feature") {
        let line = line_of(code, at);
        let before = &code[code[..at].rfind(['[', ';', '{', '}']).unwrap_or(0)..at];
        let after = code[at + "feature".len()..].trim_start();
        let asked = before.contains("cfg") && after.starts_with('=') && !after.starts_with("==");
        let of_tests = text.lines().nth(line - 1).is_some_and(|line| line.contains(TEST_FEATURE));
        if asked && !of_tests {
            findings.push(Finding::new(path, line, "asks for a cargo feature; that belongs into cli/src/wire.rs or a backend crate"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Source { path: path.to_owned(), text: text.to_owned() }, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn one(path: &str, text: &str, part: &str) {
        let found = findings(path, text);
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
    }

    const PLAN: &str = "crates/runtime-core/src/plan/x.rs";
    const INIT: &str = "crates/runtime-core/src/init/x.rs";
    const STATE: &str = "crates/runtime-core/src/state/x.rs";

    #[test]
    fn a_clean_file_has_no_findings() {
        let text = "//! A room. Not here: others.\n\nfn f(s: &str) -> &str {\n    s // unsafe format! std::fs\n}\n";
        for path in [PLAN, INIT, STATE, "xtask/src/x.rs", "tests/src/x.rs"] {
            assert!(findings(path, text).is_empty(), "{path}: {:?}", findings(path, text));
        }
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        one(STATE, "use std::fs;\n", "does not open");
        one(STATE, "//!\nuse std::fs;\n", "does not open");
        one(STATE, "", "does not open");
        assert!(findings(STATE, "#![doc = include_str!(\"../README.md\")]\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        let text = "//! Long.\n".to_owned() + &"\n".repeat(LONGEST);
        one(STATE, &text, "601 lines");
    }

    #[test]
    fn unsafe_is_found_outside_its_rooms() {
        let text = "//! X.\nfn f() { unsafe { g() } }\n";
        one(STATE, text, ":2: `unsafe` outside");
        one("xtask/src/x.rs", text, ":2: `unsafe` outside");
        one("crates/logging/src/x.rs", "//! X.\nunsafe impl Send for X {}\n", "`unsafe` outside");
        assert!(findings("crates/runtime-core/src/sys/x.rs", text).is_empty());
    }

    #[test]
    fn the_plan_asks_the_machine_nothing() {
        one(PLAN, "//! X.\nuse std::fs;\n", "`std::fs`: plan/ is pure");
        one(PLAN, "//! X.\nfn f() { rustix::process::getpid(); }\n", "`rustix::`");
        assert!(findings(PLAN, "//! X.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n").is_empty());
    }

    #[test]
    fn the_child_allocates_nothing() {
        one(INIT, "//! X.\nfn f() { let a = format!(\"x\"); }\n", "`format!`: init/");
        one(INIT, "//! X.\nfn f(x: &str) { x.to_owned(); }\n", "`.to_owned(`");
        let planted = "//! X.\n#[cfg(feature = \"trap-alloc\")]\nif plant {\n    Box::new(0);\n}\n";
        assert!(findings(INIT, planted).is_empty());
        one(INIT, &planted.replace("plant {", "plant {\n\n"), "`Box::new`");
    }

    #[test]
    fn libraries_do_not_read_arguments() {
        one("crates/logging/src/x.rs", "//! X.\nfn f() { std::env::args(); }\n", "env::args");
        assert!(findings("crates/cli/src/x.rs", "//! X.\nfn f() { std::env::args(); }\n").is_empty());
    }

    #[test]
    fn firm_lints_are_not_silenced() {
        one(STATE, "//! X.\n#[allow(clippy::unwrap_used)]\nfn f() {}\n", ":2: silences clippy::unwrap_used");
        one(STATE, "//! X.\n#![expect(clippy::panic, reason = \"x\")]\n", "silences clippy::panic");
        assert!(findings(STATE, "//! X.\n#![cfg_attr(test, allow(clippy::unwrap_used))]\n").is_empty());
        assert!(findings("crates/cli/src/x.rs", "//! X.\n#[allow(clippy::print_stdout)]\nfn f() {}\n").is_empty());
    }

    #[test]
    fn features_are_asked_for_in_few_places() {
        let text = "//! X.\n#[cfg(feature = \"journald\")]\nfn f() {}\n";
        one("crates/cli/src/app.rs", text, ":2: asks for a cargo feature");
        one(STATE, "//! X.\n#[cfg(not(feature = \"engine\"))]\nfn f() {}\n", "asks for a cargo feature");
        assert!(findings("crates/cli/src/wire.rs", text).is_empty());
        assert!(findings("crates/logging/src/x.rs", text).is_empty());
        assert!(findings(STATE, "//! X.\n#[cfg(feature = \"trap-alloc\")]\nfn f() {}\n").is_empty());
        assert!(findings(STATE, "//! X.\nfn f(feature: &str) -> bool { feature == \"a\" }\n").is_empty());
    }

    #[test]
    fn an_annotation_outside_the_table_is_found() {
        let text = "//! X.\nconst A: &str = \"run.oci.new\";\n";
        one(STATE, text, ":2: names an annotation");
        assert!(findings(ANNOTATIONS, text).is_empty());
        assert!(findings(STATE, "//! X.\n// \"run.oci.x\"\nfn f(a: &str) -> String { format!(\"run.oci.{a}.version\") }\n").is_empty());
    }
}
