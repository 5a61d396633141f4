//! Signal names as command lines give them. Not here: sending signals, or the set that `run` forwards (`engine::supervise`).

use crate::error::{Error, Result};

/// Names without `SIG`; where a number has two names, the first one here is the one that [`name`] gives.
const NAMES: [(&str, i32); 35] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("UNUSED", libc::SIGSYS),
];

/// The number of a signal given as number, as name with or without `SIG` in any case, or relative to the real-time signals:
/// `RTMIN`, `RTMAX`, `RTMIN+n`, `RTMAX-n` (signal(7)). 0, which only asks whether a process exists, is taken as a number.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), ``unknown signal `X` ``, also for a number the system has no signal for.
pub fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| Error::invalid(format!("unknown signal `{text}`")))
}

fn number(text: &str) -> Option<i32> {
    if text.bytes().next()?.is_ascii_digit() {
        return text.parse().ok().filter(|n| (0..=libc::SIGRTMAX()).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(&(_, n)) = NAMES.iter().find(|(name, _)| *name == short) {
        return Some(n);
    }
    let (min, max) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let found = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(""), _) => min,
        (_, Some("")) => max,
        (Some(rest), _) => min.checked_add(distance(rest.strip_prefix('+')?)?)?,
        (_, Some(rest)) => max.checked_sub(distance(rest.strip_prefix('-')?)?)?,
        _ => return None,
    };
    (min..=max).contains(&found).then_some(found)
}

/// Digits only: `parse` alone would take a sign too.
fn distance(digits: &str) -> Option<i32> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The usual name of a signal, with `SIG`; real-time signals as `SIGRTMIN+n`. `None` for a number that is no signal.
pub fn name(signal: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, n)| *n == signal) {
        return Some(format!("SIG{name}"));
    }
    let min = libc::SIGRTMIN();
    match signal {
        n if n == min => Some("SIGRTMIN".to_owned()),
        n if n == libc::SIGRTMAX() => Some("SIGRTMAX".to_owned()),
        n if (min..libc::SIGRTMAX()).contains(&n) => Some(format!("SIGRTMIN+{}", n - min)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_numbers() {
        for (text, signal) in [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("CLD", libc::SIGCHLD),
            ("POLL", libc::SIGIO),
            ("RTMIN", libc::SIGRTMIN()),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX", libc::SIGRTMAX()),
            ("rtmax-14", libc::SIGRTMAX() - 14),
        ] {
            assert_eq!(parse(text).unwrap(), signal, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_text() {
        for text in [
            "",
            "SIG",
            "FOO",
            "SIGSIGKILL",
            "65",
            "-9",
            "+9",
            "9x",
            " 9",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN+31",
            "RTMAX-31",
            "99999999999",
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("unknown signal `{text}`"));
        }
    }

    proptest! {
        #[test]
        fn every_name_leads_back_to_its_number(signal in 1..=libc::SIGRTMAX(), lower: bool, bare: bool) {
            // The two numbers glibc keeps for itself have no name.
            prop_assume!(!(32..libc::SIGRTMIN()).contains(&signal));
            let mut text = name(signal).unwrap();
            if bare {
                text = text["SIG".len()..].to_owned();
            }
            if lower {
                text = text.to_ascii_lowercase();
            }
            prop_assert_eq!(parse(&text).unwrap(), signal);
            prop_assert_eq!(parse(&signal.to_string()).unwrap(), signal);
        }

        #[test]
        fn any_text_gives_a_signal_or_an_error_with_it(text in "\\PC{0,12}|(SIG)?RTM(IN|AX)[+-]?[0-9]{0,11}") {
            match parse(&text) {
                Ok(n) => prop_assert!((0..=libc::SIGRTMAX()).contains(&n)),
                Err(e) => prop_assert_eq!(e.to_string(), format!("unknown signal `{}`", text)),
            }
        }
    }
}
