//! `--log`, `--log-format`, `--log-level`, `--debug`: where messages go and how they look.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{JoinHandle, spawn};

use harness::{Container, Invocation, Need, Output, Test, Value, behaviour, eventually, json, log_records, one_error_record, pinnace_only};

/// A container that can't start, and a file for its log.
fn failing<'t>(t: &'t Test, options: &[&str]) -> (Container<'t>, PathBuf) {
    let c = t.container();
    let file = t.dir().join("log");
    c.args(&["/nothing"]).global(&["--log", file.to_str().unwrap()]).global(options);
    (c, file)
}

const TEXT: &str = "executable file `/nothing` not found";

#[test]
fn error_goes_to_stderr_by_default() {
    let t = behaviour!();
    let c = t.container();
    let out = c.args(&["/nothing"]).run().fails_with(&[TEXT, ": No such file or directory"]);
    assert!(out.stderr().ends_with(": No such file or directory\n"), "{out}");
    assert_eq!(out.stdout(), "");
}

#[test]
fn text_file_has_no_time_and_stderr_gets_it_too() {
    let t = behaviour!();
    for prefix in ["", "file:"] {
        let c = t.container();
        let file = t.dir().join("log-text");
        let _ = fs::remove_file(&file);
        let target = format!("{prefix}{}", file.display());
        c.args(&["/nothing"]).global(&["--log", &target]);
        let out = c.run().fails_with(&[TEXT]);
        let logged = fs::read_to_string(&file).unwrap();
        assert_eq!(logged, out.stderr());
    }
}

#[test]
fn json_file_has_exactly_one_record() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.run().fails_with(&[TEXT]);
    let all = log_records(&file);
    assert_eq!(all.len(), 1, "{all:?}");
    let record = all[0].as_object().unwrap();
    assert_eq!(record["level"], "error");
    let message = record["msg"].as_str().unwrap();
    assert!(message.contains(TEXT) && message.ends_with(": No such file or directory"), "{message}");
    let time = record["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    assert_eq!(record.len(), 3, "{record:?}");
}

#[test]
fn stderr_stays_text_beside_a_json_file() {
    let t = behaviour!();
    let (c, _) = failing(&t, &["--log-format=json"]);
    let out = c.run().fails_with(&[TEXT]);
    assert!(!out.stderr().contains("\"msg\""), "{out}");
}

#[test]
fn json_escapes_what_it_must() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    let strange = "/no \"such\"\tfile\\ \u{1} ünï";
    c.args(&[strange]).run().code(1);
    let all = log_records(&file);
    assert_eq!(all.len(), 1);
    assert!(all[0]["msg"].as_str().unwrap().contains(strange), "{all:?}");
}

#[test]
fn a_log_file_grows() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.run().code(1);
    c.run().code(1);
    assert_eq!(log_records(&file).len(), 2);
}

#[test]
fn success_logs_nothing() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json"]);
    c.args(&["/probe", "exit", "0"]).run().code(0);
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "");
}

#[test]
fn debug_says_more_and_changes_nothing() {
    let t = behaviour!();
    let (c, file) = failing(&t, &["--log-format", "json", "--debug"]);
    c.args(&["/probe", "exit", "3"]).run().code(3);
    for record in log_records(&file) {
        assert_ne!(record["level"], "error", "{record}");
    }
}

#[test]
fn log_level_debug_is_debug() {
    let t = pinnace_only!();
    for options in [&["--debug"][..], &["--log-level", "debug"], &["--log-level=debug"]] {
        let (c, file) = failing(&t, &["--log-format", "json"]);
        let _ = fs::remove_file(&file);
        c.global(options).args(&["/probe", "exit", "0"]).run().code(0);
        let all = log_records(&file);
        assert!(all.iter().any(|r| r["level"] == "debug"), "{options:?}: {all:?}");
    }
}

#[test]
fn unknown_words_are_named() {
    let t = behaviour!();
    let c = t.container();
    let table = [(["--log-format", "xml"], "unknown log format type `xml`"), (["--log", "nonsense:x"], "unknown log type `nonsense")];
    for (options, text) in table {
        let mut call = t.bare();
        call.args(&options).arg("--root").arg(t.root()).arg("state").arg(&c.id).output().failed().says(text);
    }
}

#[test]
fn unknown_level_is_refused() {
    let t = behaviour!();
    t.runtime().args(&["--log-level", "loud", "list"]).output().failed().says("loud");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named() {
    let t = behaviour!();
    t.runtime().args(&["--log", "/no/such/dir/log", "list"]).output().failed().says("/no/such/dir/log");
}

#[test]
fn errors_of_every_command_are_logged_once() {
    let t = behaviour!();
    for command in ["state", "start", "delete", "kill", "ps"] {
        let c = t.container();
        let file = t.dir().join(format!("log-{command}"));
        c.global(&["--log", file.to_str().unwrap(), "--log-format", "json"]);
        c.do_(command).failed();
        one_error_record(&file);
    }
}

/// A command's own /dev/log and journal socket, in a mount namespace of its own.
const PLACE: &str = r#"
set -e
sockets=$1; shift
base=/run/systemd; [ -d $base ] || base=/run
mount -t tmpfs none $base
mkdir -p /run/systemd/journal $base/dev
for name in null zero full random urandom tty; do touch $base/dev/$name; mount --bind /dev/$name $base/dev/$name; done
for name in pts shm; do mkdir $base/dev/$name; mount --rbind /dev/$name $base/dev/$name; done
ln -s pts/ptmx $base/dev/ptmx; ln -s /proc/self/fd $base/dev/fd
for pair in journal:/run/systemd/journal/socket log:$base/dev/log; do
    [ -S "$sockets/${pair%%:*}" ] || continue
    touch ${pair#*:}; mount --bind "$sockets/${pair%%:*}" ${pair#*:}
done
mount --rbind $base/dev /dev
exec "$@"
"#;

/// Runs a call with sockets from `sockets`, which may be an empty directory.
fn in_place(mut call: Invocation, sockets: &Path) -> Output {
    let words = ["unshare", "-m", "--propagation", "private", "sh", "-c", PLACE, "sh", sockets.to_str().unwrap()];
    call.under(&words).output()
}

/// The sockets of a journal and of a syslog daemon, and what they are told.
struct Daemons {
    dir: PathBuf,
    journal: JoinHandle<Vec<Vec<u8>>>,
    syslog: JoinHandle<Vec<Vec<u8>>>,
}

const END: &[u8] = b"no more";

impl Daemons {
    fn new(t: &Test, name: &str) -> Daemons {
        let dir = t.dir().join(name);
        fs::create_dir(&dir).unwrap();
        let listen = |name: &str| {
            let socket = UnixDatagram::bind(dir.join(name)).unwrap();
            spawn(move || {
                let mut all = Vec::new();
                loop {
                    let mut buffer = vec![0; 256 * 1024];
                    let length = socket.recv(&mut buffer).unwrap();
                    buffer.truncate(length);
                    if buffer == END {
                        return all;
                    }
                    all.push(buffer);
                }
            })
        };
        let (journal, syslog) = (listen("journal"), listen("log"));
        Daemons { dir, journal, syslog }
    }

    /// The entries of the journal, by field, and the lines of syslog.
    fn finish(self) -> (Vec<BTreeMap<String, String>>, Vec<String>) {
        for name in ["journal", "log"] {
            UnixDatagram::unbound().unwrap().send_to(END, self.dir.join(name)).unwrap();
        }
        // Journald ignores the empty ones, by which tracing-journald finds out whether it is there.
        let entries = self.journal.join().unwrap().iter().filter(|d| !d.is_empty()).map(|d| entry(d)).collect();
        (entries, self.syslog.join().unwrap().into_iter().map(|line| String::from_utf8(line).unwrap()).collect())
    }
}

/// An entry in the journal's native protocol: `NAME=value`, or the name, 8 bytes of length, and a value that may be anything.
fn entry(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n').unwrap();
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value, rest) = match line.iter().position(|b| *b == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                assert_eq!(rest[8 + length], b'\n');
                (line, &rest[8..8 + length], &rest[9 + length..])
            }
        };
        assert!(fields.insert(text(name), text(value)).is_none(), "{} twice", text(name));
        bytes = rest;
    }
    fields
}

/// `<11>Nov  4 10:11:12 NAME: MESSAGE`: the priority, the name and the message of a line of syslog.
fn parts(line: &str) -> (&str, &str, &str) {
    let (priority, rest) = line.strip_prefix('<').and_then(|l| l.split_once('>')).unwrap();
    let shape: String = rest[..16].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape[3..] == *" 00 00:00:00 " || shape[3..] == *"  0 00:00:00 ", "{line}");
    let (name, message) = rest[16..].split_once(": ").unwrap();
    (priority, name, message)
}

/// A call about a container that isn't there, which fails.
fn unknown(t: &Test, options: &[&str], id: &str) -> Invocation {
    let mut call = t.bare();
    call.args(options).arg("--root").arg(t.root()).args(&["state", id]);
    call
}

#[test]
fn journal_gets_priority_message_and_id() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    let program = t.runtime.path.file_name().unwrap().to_str().unwrap();
    for target in ["journald:", "journald:word"] {
        let daemons = Daemons::new(&t, target);
        let out = in_place(unknown(&t, &["--log", target], "missing"), &daemons.dir).fails_with(&["missing"]);
        let (entries, lines) = daemons.finish();
        assert_eq!((entries.len(), lines.len()), (1, 0), "{entries:?} {lines:?}");
        // crun's ID is the container's, whatever word there is.
        for (field, value) in [("PRIORITY", "3"), ("MESSAGE", out.stderr().trim_end()), ("ID", "missing"), ("SYSLOG_IDENTIFIER", program)] {
            assert_eq!(entries[0].get(field).map(String::as_str), Some(value), "{field}: {entries:?}");
        }
    }
}

#[test]
fn syslog_gets_lines_of_the_word_or_the_container() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    for (target, name) in [("syslog:", "missing"), ("syslog:some word", "some word")] {
        let daemons = Daemons::new(&t, name);
        let out = in_place(unknown(&t, &["--log", target], "missing"), &daemons.dir).fails_with(&["missing"]);
        let (entries, lines) = daemons.finish();
        assert_eq!((entries.len(), lines.len()), (0, 1), "{entries:?} {lines:?}");
        // Facility user, severity error.
        assert_eq!(parts(&lines[0]), ("11", name, out.stderr().trim_end()));
    }
}

#[test]
fn journal_and_syslog_tell_why_a_container_does_not_start() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    for target in ["journald:", "syslog:"] {
        let daemons = Daemons::new(&t, target);
        let c = t.container();
        c.args(&["/nothing"]).global(&["--log", target]);
        let out = in_place(c.launch("run", &[]), &daemons.dir).fails_with(&[TEXT]);
        let (entries, lines) = daemons.finish();
        let all: Vec<_> = entries.iter().map(|e| (e["ID"].as_str(), e["MESSAGE"].as_str())).collect();
        let all = [all, lines.iter().map(|line| parts(line)).map(|(_, name, message)| (name, message)).collect()].concat();
        assert_eq!(all, [(c.id.as_str(), out.stderr().trim_end())]);
    }
}

#[test]
fn debug_messages_have_the_priority_of_debug() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    for target in ["journald:", "syslog:"] {
        let daemons = Daemons::new(&t, target);
        let c = t.container();
        c.args(&["/probe", "exit", "3"]).global(&["--debug", "--log", target]);
        let out = in_place(c.launch("run", &[]), &daemons.dir).code(3);
        assert_eq!(out.stderr(), "");
        let (entries, lines) = daemons.finish();
        let all: Vec<_> = entries.iter().map(|e| (e["PRIORITY"].as_str(), e["ID"].as_str())).collect();
        let all = [all, lines.iter().map(|line| parts(line)).map(|(priority, name, _)| (priority, name)).collect()].concat();
        let (debug, warning) = if entries.is_empty() { ("15", "12") } else { ("7", "4") };
        assert!(all.contains(&(debug, &c.id)), "{all:?}");
        // crun warns of a user without a home.
        assert!(all.iter().all(|(priority, name)| [debug, warning].contains(priority) && *name == c.id), "{all:?}");
    }
}

#[test]
fn warnings_have_the_priority_of_warnings() {
    let t = pinnace_only!(Need::Root, Need::Tool("unshare"));
    fs::create_dir_all(t.root().join("broken")).unwrap();
    fs::write(t.root().join("broken/status"), "{").unwrap();
    for (target, priority, name) in [("journald:w", "4", "w"), ("syslog:w", "12", "w")] {
        let daemons = Daemons::new(&t, target);
        let mut call = t.bare();
        call.args(&["--log", target, "--log-level", "warning", "--root"]).arg(t.root()).arg("list");
        let out = in_place(call, &daemons.dir).code(0);
        assert_eq!(out.stderr(), "");
        let (entries, lines) = daemons.finish();
        let all: Vec<_> = entries.iter().map(|e| (e["PRIORITY"].as_str(), e["ID"].as_str(), e["MESSAGE"].as_str())).collect();
        let all = [all, lines.iter().map(|line| parts(line)).collect()].concat();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].0, all[0].1), (priority, name));
        assert!(all[0].2.contains("`broken`"), "{all:?}");
    }
}

#[test]
fn journal_entries_do_not_tell_of_source_files() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"), Need::CrunDiffers("journal-fields"));
    let daemons = Daemons::new(&t, "daemons");
    in_place(unknown(&t, &["--log", "journald:"], "missing"), &daemons.dir).failed();
    let (entries, _) = daemons.finish();
    let names: Vec<_> = entries[0].keys().map(String::as_str).collect();
    assert_eq!(names, ["ID", "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "TARGET"]);
}

#[test]
fn commands_without_a_container_are_logged_by_another_name() {
    let t = pinnace_only!(Need::Root, Need::Tool("unshare"));
    let program = t.runtime.path.file_name().unwrap().to_str().unwrap();
    for (target, id, name) in [
        ("journald:word", Some("word"), None),
        ("journald:", None, None),
        ("syslog:word", None, Some("word")),
        ("syslog:", None, Some(program)),
    ] {
        let daemons = Daemons::new(&t, target);
        let mut call = t.bare();
        call.args(&["--log", target, "list", "--format", "x"]);
        in_place(call, &daemons.dir).fails_with(&["invalid format `x`"]);
        let (entries, lines) = daemons.finish();
        assert_eq!(entries.len() + lines.len(), 1, "{entries:?} {lines:?}");
        assert_eq!(entries.first().and_then(|e| e.get("ID")).map(String::as_str), id, "{target}");
        assert_eq!(lines.first().map(|line| parts(line).1), name, "{target}");
    }
}

#[test]
fn strange_messages_reach_journal_and_syslog_whole() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    let strange = format!("/no %s=\"such\"\nPRIORITY=0\nfile ünï {}", "x".repeat(200));
    for target in ["journald:", "syslog:"] {
        let daemons = Daemons::new(&t, target);
        let c = t.container();
        c.args(&[&strange]).global(&["--log", target]);
        in_place(c.launch("run", &[]), &daemons.dir).failed().says(&strange);
        let (entries, lines) = daemons.finish();
        assert_eq!(entries.len() + lines.len(), 1, "{entries:?} {lines:?}");
        let message = entries.first().map_or_else(|| parts(&lines[0]).2, |e| &e["MESSAGE"]);
        assert!(message.contains(&strange), "{message}");
        assert!(entries.iter().all(|e| e["PRIORITY"] == "3"));
    }
}

#[test]
fn long_messages_reach_journal_and_syslog_whole() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"), Need::CrunDiffers("cut-messages"));
    let long = "/and-so-on".repeat(400);
    for target in ["journald:", "syslog:"] {
        let daemons = Daemons::new(&t, target);
        let c = t.container();
        c.args(&[&long]).global(&["--log", target]);
        in_place(c.launch("run", &[]), &daemons.dir).fails_with(&[&long]);
        let (entries, lines) = daemons.finish();
        assert_eq!(entries.len() + lines.len(), 1, "{entries:?} {lines:?}");
        let message = entries.first().map_or_else(|| parts(&lines[0]).2, |e| &e["MESSAGE"]);
        assert!(message.contains(&long), "{message}");
    }
}

#[test]
fn journal_and_syslog_may_be_absent() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"));
    let nobody = t.dir().join("nobody");
    fs::create_dir(&nobody).unwrap();
    let wanted = in_place(unknown(&t, &[], "missing"), &nobody).failed().stderr();
    for target in ["journald:", "syslog:"] {
        let out = in_place(unknown(&t, &["--log", target], "missing"), &nobody).failed();
        assert_eq!(out.stderr(), wanted);
        let c = t.container();
        c.args(&["/probe", "exit", "4"]).global(&["--debug", "--log", target]);
        in_place(c.launch("run", &[]), &nobody).code(4);
    }
}

#[test]
fn journal_and_syslog_are_left_alone_without_a_message() {
    let t = behaviour!(Need::Root, Need::Tool("unshare"), Need::Tool("strace"));
    for target in ["journald:x", "syslog:x"] {
        let trace = t.dir().join("trace");
        let mut call = t.runtime();
        call.args(&["--log", target, "list"]).under(&["strace", "-f", "-e", "trace=socket,connect", "-o", trace.to_str().unwrap()]);
        call.ok();
        let text = fs::read_to_string(&trace).unwrap();
        assert!(text.contains("exited with 0") && !text.contains("AF_UNIX"), "{text}");
    }
}

/// The machine's own daemons.
#[test]
fn journalctl_shows_what_was_logged() {
    let t = behaviour!(Need::Root, Need::Systemd, Need::Tool("journalctl"));
    // A name that no earlier run had.
    let name = &*format!("of-{}", t.dir().file_name().unwrap().to_str().unwrap());
    let out = unknown(&t, &["--log", "journald:"], name).output().failed();
    unknown(&t, &["--log", &format!("syslog:{name}")], "missing").output().failed();
    for (filter, identifier) in [("ID", t.runtime.path.file_name().unwrap().to_str().unwrap()), ("SYSLOG_IDENTIFIER", name)] {
        let show = || {
            let out = Command::new("journalctl").args(["-o", "json", &format!("{filter}={name}")]).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        eventually(&format!("{filter}={name} in the journal"), || !show().is_empty());
        let all: Vec<Value> = show().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((&all[0]["PRIORITY"], &all[0]["SYSLOG_IDENTIFIER"]), (&json!("3"), &json!(identifier)), "{all:?}");
        let message = all[0]["MESSAGE"].as_str().unwrap();
        assert_eq!(message, out.stderr().trim_end().replace(name, if filter == "ID" { name } else { "missing" }));
    }
}
