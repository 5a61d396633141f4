//! From a section to a filter: program, flags, listener. Not here: the cache, what the rules mean (`profile`), the program itself
//! (`generate`, `library`).

use crate::annotations::{Options, absolute};
use crate::bpf::{INSTRUCTION, MAX_INSTRUCTIONS};
use crate::kernel::{FLAG_NEW_LISTENER, FLAG_TSYNC_ESRCH};
use crate::profile::Profile;
use crate::{generate, library, words};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runtime_core::api::annotations::SECCOMP_PLUGINS as PLUGINS;
use runtime_core::api::{SeccompFilter, SeccompListener};
use runtime_core::spec::{Seccomp, parse};
use runtime_core::{Context, Error, Result};

/// Who writes the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// libseccomp.
    Library,
    /// The generator, and libseccomp for what it does not master.
    Generator,
}

/// Compiles a section.
pub(crate) fn section(section: &str, options: &Options<'_>, by: By) -> Result<SeccompFilter> {
    let section = read(section)?;
    let profile = Profile::read(&section, options)?;
    let generated = match by {
        By::Library => None,
        By::Generator => generate::program(&profile).inspect_err(|why| tracing::debug!("seccomp filter left to libseccomp: {why}")).ok(),
    };
    let program = match generated {
        Some(program) => program,
        None => library::program(&section, &profile)?,
    };
    finish(&section, options, program)
}

/// Decodes the filter that an annotation carries; the section still gives flags and listener.
pub(crate) fn raw(encoded: &str, section: &str, options: &Options<'_>) -> Result<SeccompFilter> {
    let section = read(section)?;
    let bad = |why: &str| Error::invalid(format!("invalid seccomp BPF data: {why}"));
    let program = STANDARD.decode(encoded).map_err(|e| bad(&e.to_string()))?;
    if program.is_empty() || !program.len().is_multiple_of(INSTRUCTION) {
        return Err(bad("not a whole number of instructions"));
    }
    finish(&section, options, program)
}

fn read(section: &str) -> Result<Seccomp<'_>> {
    parse::<Seccomp<'_>>(section.as_bytes()).map_err(|e| {
        let e =
            if e.to_string().contains("missing field `defaultAction`") { Error::invalid("seccomp misses the default action") } else { e };
        e.context("linux.seccomp")
    })
}

/// Adds flags and listener.
fn finish(section: &Seccomp<'_>, options: &Options<'_>, program: Vec<u8>) -> Result<SeccompFilter> {
    let length = program.len() / INSTRUCTION;
    if length > MAX_INSTRUCTIONS {
        return Err(Error::invalid(format!("linux.seccomp: the filter has {length} instructions, the kernel takes {MAX_INSTRUCTIONS}")));
    }
    let notifies = notifies(&program);
    let listener = if notifies { Some(listener(section, options)?) } else { None };
    Ok(SeccompFilter { flags: flags(section, notifies)?, program, listener })
}

fn flags(section: &Seccomp<'_>, notifies: bool) -> Result<u32> {
    let Some(words) = &section.flags else {
        return Ok(with_listener(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32, notifies));
    };
    let mut flags = 0;
    for (i, word) in words.iter().enumerate() {
        flags |= words::flag(word).context(|| format!("linux.seccomp.flags[{i}]"))?;
    }
    Ok(with_listener(flags, notifies))
}

/// The kernel refuses WAIT_KILLABLE_RECV without a listener, and TSYNC with one unless TSYNC_ESRCH is there too.
fn with_listener(flags: u32, notifies: bool) -> u32 {
    if !notifies {
        return flags & !(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32);
    }
    let synced = flags & libc::SECCOMP_FILTER_FLAG_TSYNC as u32 != 0;
    flags | FLAG_NEW_LISTENER | if synced { FLAG_TSYNC_ESRCH } else { 0 }
}

fn listener(section: &Seccomp<'_>, options: &Options<'_>) -> Result<SeccompListener> {
    if options.plugins {
        if section.listener_path.is_some() {
            return Err(Error::invalid(format!("linux.seccomp.listenerPath: not with the annotation `{PLUGINS}`")));
        }
        return Ok(SeccompListener { path: String::new(), metadata: None });
    }
    let path = match (&section.listener_path, options.receiver) {
        (Some(path), _) => &**path,
        (None, Some(path)) => path,
        // The kernel would answer ENOSYS to each such call, which no one means who writes NOTIFY.
        (None, None) => return Err(Error::invalid("linux.seccomp.listenerPath: missing, but an action is `SCMP_ACT_NOTIFY`")),
    };
    absolute(path).context(|| "linux.seccomp.listenerPath")?;
    let metadata = section.listener_metadata.as_ref().map(|text| text.to_string());
    Ok(SeccompListener { path: path.to_owned(), metadata })
}

/// Whether a program can return SECCOMP_RET_USER_NOTIF: any `ret #k` with it, reachable or not.
fn notifies(program: &[u8]) -> bool {
    const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    program.as_chunks::<INSTRUCTION>().0.iter().any(|[c0, c1, _, _, k @ ..]| {
        let action = u32::from_ne_bytes(*k) & libc::SECCOMP_RET_ACTION_FULL;
        u16::from_ne_bytes([*c0, *c1]) == RETURN_CONSTANT && action == libc::SECCOMP_RET_USER_NOTIF
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By either; what is not the program is the same, errors too.
    fn both(text: &str, options: &Options<'_>) -> Result<SeccompFilter> {
        let (library, generator) = (section(text, options, By::Library), section(text, options, By::Generator));
        match (&library, &generator) {
            (Ok(one), Ok(other)) => assert_eq!((one.flags, &one.listener), (other.flags, &other.listener)),
            (one, other) => assert_eq!(one.as_ref().unwrap_err().to_string(), other.as_ref().unwrap_err().to_string()),
        }
        generator
    }

    fn compile(text: &str) -> Result<SeccompFilter> {
        both(text, &Options::default())
    }

    fn error(text: &str) -> String {
        compile(text).unwrap_err().to_string()
    }

    fn rule(rest: &str) -> String {
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{{rest}}}]}}"#)
    }

    #[test]
    fn mistakes_are_named_with_their_field() {
        for (section, text) in [
            ("{}", "linux.seccomp: seccomp misses the default action"),
            (r#"{"defaultAction":"X"}"#, "linux.seccomp.defaultAction: invalid seccomp action `X`"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
                "linux.seccomp.defaultAction: errno value specified for action `SCMP_ACT_ALLOW`",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","VAX"]}"#,
                "linux.seccomp.architectures[1]: seccomp unknown architecture `VAX`",
            ),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["F"]}"#, "linux.seccomp.flags[0]: unknown seccomp option `F`"),
            (
                &rule(r#""names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]"#),
                "linux.seccomp.syscalls[0].args[0]: invalid seccomp index 6",
            ),
            (
                &rule(r#""names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":0,"op":"EQ"}]"#),
                "linux.seccomp.syscalls[0].args[0]: seccomp get operator `EQ`",
            ),
            (
                &rule(r#""names":["read"],"action":"SCMP_ACT_KILL","errnoRet":5"#),
                "linux.seccomp.syscalls[0].action: errno value specified for action `SCMP_ACT_KILL`",
            ),
            (
                &rule(r#""names":["read"],"action":"SCMP_ACT_NOTIFY""#),
                "linux.seccomp.listenerPath: missing, but an action is `SCMP_ACT_NOTIFY`",
            ),
        ] {
            assert_eq!(error(section), text);
        }
    }

    #[test]
    fn unknown_names_are_skipped_unless_they_may_not_be() {
        let text = rule(r#""names":["mkdir","no_such_call"],"action":"SCMP_ACT_ERRNO""#);
        let known = rule(r#""names":["mkdir"],"action":"SCMP_ACT_ERRNO""#);
        assert_eq!(compile(&text).unwrap().program, compile(&known).unwrap().program);
        let strict = Options { fail_unknown: true, ..Options::default() };
        assert_eq!(
            both(&text, &strict).unwrap_err().to_string(),
            "linux.seccomp.syscalls[0].names[1]: invalid seccomp syscall `no_such_call`"
        );
        // A message is one line, whatever is quoted in it.
        let text = rule(r#""names":["mk\ndir"],"action":"SCMP_ACT_ERRNO""#);
        assert!(both(&text, &strict).unwrap_err().to_string().ends_with(r"`mk\ndir`"));
        let wrong = rule(r#""names":["mkdir"],"action":"SCMP\nACT""#);
        assert!(compile(&wrong).unwrap_err().to_string().ends_with(r"`SCMP\nACT`"));
    }

    #[test]
    fn flags_default_to_spec_allow_and_may_be_none() {
        assert_eq!(compile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap().flags, 4);
        assert_eq!(compile(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":[]}"#).unwrap().flags, 0);
        let all = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
        assert_eq!(compile(all).unwrap().flags, 1 | 2 | 4);
    }

    #[test]
    fn a_notifying_filter_has_a_listener() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/s","listenerMetadata":"m","flags":["SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let filter = compile(text).unwrap();
        assert_eq!(filter.listener, Some(SeccompListener { path: "/run/s".into(), metadata: Some("m".into()) }));
        assert_eq!(filter.flags, 1 | 8 | 16 | 32);
        let quiet = compile(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/s"}"#).unwrap();
        assert_eq!(quiet.listener, None);
        let by_annotation = Options { receiver: Some("/run/r"), ..Options::default() };
        let filter = both(&rule(r#""names":["mkdir"],"action":"SCMP_ACT_NOTIFY""#), &by_annotation).unwrap();
        assert_eq!(filter.listener.unwrap().path, "/run/r");
    }

    #[test]
    fn a_raw_filter_is_taken_as_it_is() {
        let program = compile(&rule(r#""names":["mkdir"],"action":"SCMP_ACT_ERRNO""#)).unwrap().program;
        let encoded = STANDARD.encode(&program);
        let none = Options::default();
        assert_eq!(raw(&encoded, r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#, &none).unwrap().program, program);
        for (bad, why) in [("", "not a whole number of instructions"), ("AAAA", "not a whole number of instructions"), ("*", "Invalid")] {
            let text = raw(bad, r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#, &none).unwrap_err().to_string();
            assert!(text.starts_with("invalid seccomp BPF data: ") && text.contains(why), "{text}");
        }
    }
}
