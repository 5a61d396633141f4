//! Doors for the fuzz targets in `fuzz/`: each takes bytes from outside, feeds them to one reader of the crate, and panics where what
//! was accepted does not keep its promises. They exist in tests and under `cfg(fuzzing)` only. Not here: the targets themselves, and the
//! readers that are public anyway (ids, signals).

use crate::engine::CreateOptions;
use crate::facts::{self, Facts};
use crate::plan::{self, Place, mount_flags, proptests};
use crate::spec::{Process, Spec, parse};
use crate::state::Record;
use crate::validate;
use std::path::Path;

/// What the reader of JSON says is one line, whatever the keys it names.
fn one_line(error: &crate::Error) {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "an error of several lines: {text:?}");
}

/// A `config.json`: what is read is written and read again as the same, and what is valid becomes the same plan twice.
pub fn config(data: &[u8]) {
    let Ok(spec) = Spec::parse(data).inspect_err(one_line) else { return };
    let Ok(written) = serde_json::to_string(&spec) else { panic!("a configuration that cannot be written") };
    let again = Spec::parse(written.as_bytes()).expect("what was written is read");
    assert_eq!(written, serde_json::to_string(&again).unwrap_or_default());
    if validate::validate(&spec).is_err() {
        return;
    }
    let place = Place { id: "i", bundle: Path::new("/b"), rootfs: Path::new("/b/r"), notify: Path::new("/n") };
    for euid in [0, 1000] {
        let facts = Facts { euid, egid: euid, initial_userns: true, ..Facts::default() };
        let compile = || plan::compile(&spec, &facts, &CreateOptions::default(), place, None);
        if let Ok(plan) = compile() {
            plan.steps.iter().for_each(|step| drop(step.describe()));
            assert_eq!(plan.steps, compile().expect("compiled before").steps);
        }
    }
}

/// A process file of `exec`.
pub fn process(data: &[u8]) {
    let Ok(process) = parse::<Process<'_>>(data).inspect_err(one_line) else { return };
    let written = serde_json::to_string(&process).expect("a process is written");
    let again: Process<'_> = parse(written.as_bytes()).expect("what was written is read");
    assert_eq!(written, serde_json::to_string(&again).unwrap_or_default());
    let _ = validate::process(&process);
}

/// A status file: what is read is written and read again as the same container.
pub fn status(data: &[u8]) {
    let Ok(record) = Record::from_json(data).inspect_err(one_line) else { return };
    let written = record.to_json().expect("a record is written");
    let again = Record::from_json(&written).expect("what was written is read");
    let scope = |r: &Record| r.cgroup.scope.clone().unwrap_or_default();
    assert_eq!((again.pid, &again.cgroup.manager, &again.cgroup.path, scope(&again)), {
        (record.pid, &record.cgroup.manager, &record.cgroup.path, scope(&record))
    });
}

/// A line of /proc/PID/stat. The kernel's part of it, behind the last `)`, decides.
pub fn stat(data: &[u8]) {
    let parsed = crate::state::parse_stat(data);
    let mut longer = b"1 (a) S 4 (".to_vec();
    longer.extend_from_slice(data);
    if data.contains(&b')') {
        assert_eq!(parsed, crate::state::parse_stat(&longer), "the program's name shifts the fields");
    }
}

/// /proc/self/mountinfo as the plan reads it.
pub fn mountinfo(data: &[u8]) {
    for hierarchy in facts::hierarchies(&String::from_utf8_lossy(data)) {
        assert!(!hierarchy.name.contains('/') && ["cgroup", "cgroup2"].contains(&&*hierarchy.fstype), "{hierarchy:?}");
    }
}

/// The options of a mount, one a line.
pub fn mount_options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(options) = mount_flags::parse(text.lines()) else { return };
    // What the file system gets is what no word of ours explains.
    let again = mount_flags::parse(options.data.iter().map(String::as_str)).expect("data are no words");
    assert_eq!(again.data, options.data);
    assert_eq!(again, mount_flags::Options { data: again.data.clone(), ..Default::default() }, "a word became data");
}

/// A configuration made of known parts, which the bytes choose: the properties of whole plans hold.
pub fn plan(data: &[u8]) {
    proptests::chosen_by(data);
}

#[cfg(test)]
mod tests {
    /// Found by the targets `config`, `process` and `status`.
    #[test]
    fn keys_do_not_break_lines() {
        super::process(br#"{"args":["a"],"cwd":"/","env":{"\nlevel=error":1},"user":{"\u001b[31m\n":{"uid":-1}}}"#);
        super::config(br#"{"ociVersion":"1.0","process":{"\nlevel=error":1,"user":{"uid":"\n"},"capabilities":{"\n":}}}"#);
        super::status(br#"{"pid":1,"rootfs":"/","a\nb":x}"#);
    }
}
