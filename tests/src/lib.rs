//! Harness of the integration tests: the real runtime binary, real bundles, real namespaces. Here are the names the
//! tests use; each module says its part. Nothing here knows an area of behaviour: that is in `tests/*.rs`.
//!
//! A test is a plain `#[test]` that begins with [`behaviour!`] (holds for any runtime named by `RUNTIME`) or
//! [`pinnace_only!`], makes a [`Container`], and looks at what came out:
//!
//! ```text
//! #[test]
//! fn exit_status_is_that_of_the_process() {
//!     let t = behaviour!();
//!     let c = t.container();
//!     c.args(&["/probe", "exit", "7"]).run().code(7);
//! }
//! ```
//!
//! A dropped [`Container`] is deleted by force and must leave nothing behind: state, cgroups, mounts, processes.
//!
//! | variable | meaning |
//! |---|---|
//! | `RUNTIME` | the runtime under test; else `PINNACE_BIN`, else the newest pinnace in the target directory |
//! | `PINNACE_PROBE` | the static probe; else found in the target directory, else built |
//! | `PINNACE_IN_VIEW` | the `in-view` program; else found beside the tests |
//! | `PINNACE_TEST_TMP` | where bundles go; else /dev/shm where it is a tmpfs that allows execution, else $TMPDIR |
//! | `PINNACE_TEST_SKIPS` | a file that gets one line per skipped test: name, tab, reason |
//! | `PINNACE_TEST_TIMEOUT` | seconds after which a runtime that hangs is killed and the test fails; 20 |
//! | `PINNACE_RACE_SECONDS` | how long each race against the runtime lasts; 1.2 |
//! | `PINNACE_FAULT_STEP` | every how many system calls the runtime is killed, or its call answered by an error; 1 for all of them |
//! | `PINNACE_HOSTILE_TABLE` | a file for what came of the matrix of traps, in the form of `tests/data/hostile-matrix.txt` |
//! | `PINNACE_TEST_NO_EXCUSES` | run the tests in which crun differs against crun, too: they fail, or the excuse is void |
//! | `PINNACE_DEBIAN_ROOT` | a Debian root file system with Python, which the tests don't change |
//! | `PINNACE_KRUN_BIN` | a pinnace with the handler `krun` |
//! | `PINNACE_KRUN_STAND_IN` | the stand-in for libkrun; else found beside the tests |
//! | `PINNACE_PLUGINS_BIN` | a pinnace that can load seccomp notify plugins (feature `notify-plugins`, dynamic) |
//! | `PINNACE_TRAP_BIN` | a pinnace whose container child must not allocate (feature `trap-alloc`) |

mod command;
mod console;
mod container;
pub mod daemon;
pub mod executable;
pub mod filter;
mod hang;
pub mod image;
mod leftovers;
pub mod listener;
mod place;
pub mod podman;
mod probe;
mod report;
pub mod resctrl;
mod runtime;
mod test;
pub mod trace;
pub mod view;

pub use command::{Invocation, Output, Running, eventually, log_records, one_error_record};
pub use console::{ConsoleSocket, Pty};
pub use container::Container;
pub use leftovers::clear as clear_up;
pub use place::{Layout, Place};
pub use report::Report;
pub use runtime::{Kind, Runtime, krun_stand_in};
pub use serde_json::{Value, json};
pub use test::{Need, Scope, Test, report_skip, with_krun};

/// The name of the test function this stands in, as libtest prints it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let full = std::any::type_name_of_val(&here);
        let inner = full.trim_end_matches("::here");
        inner.split_once("::").map_or(inner, |(_, name)| name).to_owned()
    }};
}

/// Begins a test of behaviour that any OCI runtime of crun's kind has. Takes what the test [`Need`]s; where that
/// isn't here, the test is reported as skipped and returns.
#[macro_export]
macro_rules! behaviour {
    ($($need:expr),* $(,)?) => {
        match $crate::Test::begin(&$crate::test_name!(), $crate::Scope::Behaviour, &[$($need),*]) {
            Some(test) => test,
            None => return,
        }
    };
}

/// Begins a test of what only pinnace promises; skipped, by name, with any other runtime.
#[macro_export]
macro_rules! pinnace_only {
    ($($need:expr),* $(,)?) => {
        match $crate::Test::begin(&$crate::test_name!(), $crate::Scope::PinnaceOnly, &[$($need),*]) {
            Some(test) => test,
            None => return,
        }
    };
}
