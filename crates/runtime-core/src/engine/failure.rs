//! Words for what a child reports in numbers. Not here: the numbers (`init::wire`).
//!
//! Engines match on these texts (podman's exit codes 126 and 127, CRI-O's and containerd's checks), so crun's phrases are kept verbatim
//! and what pinnace knows beyond them stands in between.

use crate::error::{Error, ErrorKind};
use crate::init::wire::{Code, Message};
use crate::plan::step::{Bind, MountKind, Step, lossy};

/// The error of a failed step.
pub(crate) fn word(steps: &[Step], m: &Message) -> Error {
    let Some(step) = steps.get(usize::from(m.step)) else {
        return Error::other(format!("the container's process reported an unknown step {}", m.step));
    };
    let detail = String::from_utf8_lossy(m.detail()).into_owned();
    let what = phrase(step, m, &detail);
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
            Step::JoinKeyring { .. } if m.errno == libc::EDQUOT => {
                format!("{what}: the user's key quota is used up (`/proc/key-users`; raise the sysctls kernel.keys.maxkeys and maxbytes)")
            }
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
    use crate::init::wire::Kind;
    use crate::plan::step::Lookup;
    use crate::sys::Argv;

    fn said(step: Step, errno: i32, code: Code, detail: &[u8]) -> String {
        let mut m = Message::new(Kind::Failed);
        (m.errno, m.code) = (errno, code);
        m.set_detail(detail);
        word(&[step], &m).to_string()
    }

    fn lookup() -> Step {
        Step::Lookup(Box::new(Lookup { name: c"nope".into(), dirs: vec![] }))
    }

    #[test]
    fn the_phrases_engines_match() {
        let exec = || Step::Exec { argv: Argv::new(vec![c"/x".into()]), envp: Argv::default() };
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
