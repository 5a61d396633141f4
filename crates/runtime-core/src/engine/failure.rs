//! Words for what a child reports in numbers. Not here: the numbers (`init::wire`).
//!
//! Engines match on these texts (podman's exit codes 126 and 127, CRI-O's and containerd's checks), so crun's phrases are kept verbatim
//! and what pinnace knows beyond them stands in between.

use crate::error::{Error, ErrorKind};
use crate::init::wire::{Code, Message};
use crate::plan::step::{Bind, MountKind, Step, lossy};

/// The error of a failed step; `user` is the host's id of the user that the process was.
pub(crate) fn word(steps: &[Step], m: &Message, user: u32) -> Error {
    let Some(step) = steps.get(usize::from(m.step)) else {
        return Error::other(format!("the container's process reported an unknown step {}", m.step));
    };
    let detail = String::from_utf8_lossy(m.detail()).into_owned();
    let mut what = phrase(step, m, &detail);
    if m.errno == libc::EDQUOT && matches!(step, Step::JoinKeyring { .. }) {
        let users = std::fs::read_to_string("/proc/key-users").unwrap_or_default();
        what = format!("{what}: {}", key_quota(&users, user));
    }
    if m.errno == 0 { Error::new(ErrorKind::Other, what) } else { Error::sys(m.errno, what) }
}

fn phrase(step: &Step, m: &Message, detail: &str) -> String {
    let name = || match step {
        Step::Lookup(l) => lossy(&l.name),
        _ => String::new(),
    };
    let what = step.describe();
    match m.code {
        Code::Plain => match step {
            Step::Rlimit { .. } if m.errno == libc::EPERM => {
                format!("{what}: raising a hard limit needs CAP_SYS_RESOURCE, which the runtime does not have")
            }
            Step::OomScoreAdj(_) if m.errno == libc::EACCES => format!("{what}: lowering it needs CAP_SYS_RESOURCE"),
            Step::Terminal { .. } if m.errno == libc::ENOENT => format!("{what}: `/dev/pts/ptmx`, is there a devpts mount at `/dev/pts`?"),
            _ => what,
        },
        Code::HookStatus => last_lines(format!("{what} (exit code: {})", m.value), m.detail()),
        Code::HookSignal => last_lines(format!("{what} (killed by signal {})", m.value), m.detail()),
        Code::HookTimeout => last_lines(what.replacen("error executing hook", "timeout expired for", 1), m.detail()),
        Code::NotInPath => format!("executable file `{}` not found in $PATH", name()),
        Code::NotExecutable => format!("the path `{}` exists but it is not executable", name()),
        Code::NotRegular => format!("the path `{}` is not a regular file", name()),
        Code::ElfInterpreter => missing(&what, &format!("the ELF interpreter `{detail}` is missing")),
        Code::ScriptInterpreter => missing(&what, &format!("the interpreter `{detail}` is missing")),
        Code::Detail => format!("{what}: {detail}"),
        Code::Unsafe => format!("{what}: a path leads where it must not (symbolic link or race)"),
        Code::WrongType if copies_link(step) => format!("symlink `{}` already exists with a different content", destination(step)),
        Code::WrongType => format!("{what}: something of another type is in the way"),
        Code::SignalMask => "sigprocmask".to_owned(),
    }
}

/// Adds the last lines of what a hook wrote to its standard error, on one line; `end` may begin within one.
pub(crate) fn last_lines(text: String, end: &[u8]) -> String {
    let end = String::from_utf8_lossy(end);
    let lines: Vec<&str> = end.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match &lines[lines.len().saturating_sub(3)..] {
        [] => text,
        last => format!("{text}: {}", last.join("; ")),
    }
}

/// Which of a user's quotas of keys stops the next one, after `/proc/key-users` (keyrings(7)); both where that doesn't tell.
fn key_quota(users: &str, user: u32) -> String {
    // What the kernel charges for a session keyring beside its name (key_alloc, KEYRING_PAYLOAD), about.
    const KEYRING: u64 = 64;
    let dir = if user == 0 { "/proc/sys/kernel/keys/root_" } else { "/proc/sys/kernel/keys/" };
    let pair = |word: Option<&str>| {
        let (used, limit) = word?.split_once('/')?;
        Some((used.parse::<u64>().ok()?, limit.parse::<u64>().ok()?))
    };
    let numbers = users.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let mut words = rest.split_whitespace().skip(2);
        (id.trim().parse() == Ok(user)).then(|| Some((pair(words.next())?, pair(words.next())?)))?
    });
    let quota = match numbers {
        Some(((used, limit), _)) if used >= limit => format!("{used} of {limit} keys: `{dir}maxkeys`"),
        Some((_, (used, limit))) if used + KEYRING >= limit => format!("{used} of {limit} bytes: `{dir}maxbytes`"),
        _ => format!("`{dir}maxkeys` or `{dir}maxbytes`"),
    };
    format!("the key quota of the user {user} is used up, {quota}")
}

fn copies_link(step: &Step) -> bool {
    matches!(step, Step::Mount(m) if matches!(m.kind, MountKind::Bind(Bind { copy_link: true, .. })))
}

fn destination(step: &Step) -> &str {
    if let Step::Mount(m) = step { &m.shown } else { "" }
}

/// What is missing, then crun's ``exec container process (missing dynamic library?) `X` ``, behind which the error's text follows.
fn missing(what: &str, detail: &str) -> String {
    let (verb, program) = what.split_once(" `").unwrap_or((what, ""));
    format!("{detail}: {verb} (missing dynamic library?) `{program}")
}

/// The same words for the child to print when its parent is gone: all steps behind the gate, for failures without a code of their own.
pub(crate) fn late_texts(steps: &[Step]) -> Vec<Option<std::ffi::CString>> {
    let gate = steps.iter().position(|s| matches!(s, Step::Gate { .. })).unwrap_or(steps.len());
    let text = |(i, step): (usize, &Step)| (i > gate).then(|| std::ffi::CString::new(step.describe()).unwrap_or_default());
    steps.iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::handler::Program;
    use crate::init::wire::Kind;
    use crate::plan::step::Lookup;
    use crate::sys::Argv;

    fn said(step: Step, errno: i32, code: Code, detail: &[u8]) -> String {
        let mut m = Message::new(Kind::Failed);
        (m.errno, m.code) = (errno, code);
        m.set_detail(detail);
        word(&[step], &m, 0).to_string()
    }

    fn lookup() -> Step {
        Step::Lookup(Box::new(Lookup { name: c"nope".into(), dirs: vec![], what: Program::Executable }))
    }

    #[test]
    fn a_key_quota_is_named() {
        let users = "    0:     9 8/8 3/1000000 64/25000000\n 1000:   200 200/200 200/200 2400/20000\n 1001: 2 2/2 2/200 19990/20000\n";
        for (user, want) in [
            (1000, "the key quota of the user 1000 is used up, 200 of 200 keys: `/proc/sys/kernel/keys/maxkeys`"),
            (1001, "the key quota of the user 1001 is used up, 19990 of 20000 bytes: `/proc/sys/kernel/keys/maxbytes`"),
            (0, "the key quota of the user 0 is used up, `/proc/sys/kernel/keys/root_maxkeys` or `/proc/sys/kernel/keys/root_maxbytes`"),
            (7, "the key quota of the user 7 is used up, `/proc/sys/kernel/keys/maxkeys` or `/proc/sys/kernel/keys/maxbytes`"),
        ] {
            assert_eq!(key_quota(users, user), want);
        }
        assert!(key_quota("1000: nonsense", 1000).ends_with("maxbytes`"));
        let joined = said(Step::JoinKeyring { name: c"ctr".into(), label: None }, libc::EDQUOT, Code::Plain, b"");
        assert!(joined.starts_with("join keyctl `ctr`: the key quota of the user 0 is used up, "), "{joined}");
        assert!(joined.ends_with(": Disk quota exceeded"), "{joined}");
    }

    #[test]
    fn the_phrases_engines_match() {
        let exec = || Step::Exec { argv: Box::new(Argv::new(vec![c"/x".into()])), envp: Box::default() };
        for (got, want) in [
            (said(lookup(), libc::ENOENT, Code::NotInPath, b""), "executable file `nope` not found in $PATH: No such file or directory"),
            (
                said(lookup(), libc::EPERM, Code::NotExecutable, b""),
                "the path `nope` exists but it is not executable: Operation not permitted",
            ),
            (said(lookup(), 0, Code::NotRegular, b""), "the path `nope` is not a regular file"),
            (
                said(exec(), libc::ENOENT, Code::ElfInterpreter, b"/lib/ld"),
                "the ELF interpreter `/lib/ld` is missing: exec container process (missing dynamic library?) `/x`: No such file or directory",
            ),
            (said(exec(), libc::ENOEXEC, Code::Plain, b""), "exec container process `/x`: Exec format error"),
        ] {
            assert_eq!(got, want);
        }
    }
}
