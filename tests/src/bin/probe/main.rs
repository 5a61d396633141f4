//! The probe: the static program that is pid 1 in test containers. Here is the entry and the list of actions;
//! `report` says what a process sees, `actions` does things to the container, `live` goes on for long, `attack` tries to reach the host. It
//! knows nothing of the harness.
//!
//! `probe ACTION [ARG...] [, ACTION [ARG...]]...` runs the actions in order; each prints one line of JSON, except
//! where its comment says otherwise. The exit status is 0 unless an action sets it, and 99 for a probe error.
#![no_main]

mod actions;
mod attack;
mod live;
mod report;
mod verdicts;

use std::io::Write;
use std::os::raw::{c_char, c_int};

use serde_json::{Value, json};

/// Without std's own start-up code, which would ignore SIGPIPE and open closed descriptors: the probe has to see
/// what the runtime left behind.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    // A symlink named after an action runs it: `/bin/exit` → `/probe`, for looking up names in $PATH.
    let name = args.first().and_then(|a| a.rsplit('/').next()).unwrap_or("probe");
    let rest: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let called: Vec<&str> = name.strip_prefix("do-").into_iter().chain(rest).collect();
    for action in called.split(|word| *word == ",") {
        let Some((verb, operands)) = action.split_first() else {
            continue;
        };
        if let Err(text) = actions::perform(verb, operands) {
            emit(&json!({ "probe_error": text, "action": verb }));
            return 99;
        }
    }
    0
}

/// Prints one line of JSON in one write.
fn emit(value: &Value) {
    emit_line(&value.to_string());
}

/// Prints one line in one write; an error (a closed descriptor) has nowhere to go.
fn emit_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{text}\n").as_bytes());
    let _ = out.flush();
}
