//! The syntax of `linux.cgroupsPath` for the cgroupfs manager. Not here: making directories.

use runtime_core::{ContainerId, Error, Result};

/// The cgroup of a container: `cgroupsPath` with a leading slash, or `/<id>` where it is absent or empty. Empty and `.` components
/// are dropped.
///
/// # Errors
/// `linux.cgroupsPath: …` for a NUL, a newline (the kernel takes neither in a name), a `..`, and a path that is the root cgroup.
pub fn resolve(cgroups_path: Option<&str>, id: &ContainerId) -> Result<String> {
    match cgroups_path {
        None | Some("") => Ok(format!("/{id}")),
        Some(text) => normalise("linux.cgroupsPath", text),
    }
}

/// Checks and normalises a path below the root of a hierarchy: a leading slash, no empty and no `.` components. `what` names it in errors.
///
/// # Errors
/// As [`resolve`].
pub fn normalise(what: &str, text: &str) -> Result<String> {
    let bad = |why: &str| Err(Error::invalid(format!("{what}: {why}: `{}`", text.escape_debug())));
    if text.contains(['\0', '\n']) {
        return bad("a cgroup's name has no NUL and no newline");
    }
    let mut out = String::with_capacity(text.len() + 1);
    for part in text.split('/').filter(|p| !matches!(*p, "" | ".")) {
        if part == ".." {
            return bad("`..` is not allowed");
        }
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() { bad("the root cgroup cannot be a container's") } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(path: Option<&str>) -> Result<String> {
        resolve(path, &ContainerId::new("c1").unwrap())
    }

    #[test]
    fn paths() {
        for (given, made) in [
            (None, "/c1"),
            (Some(""), "/c1"),
            (Some("a/b"), "/a/b"),
            (Some("/a/b/"), "/a/b"),
            (Some("//a/./b"), "/a/b"),
            (Some("a..b"), "/a..b"),
        ] {
            assert_eq!(at(given).unwrap(), made);
        }
    }

    #[test]
    fn refusals_name_the_field() {
        for (given, text) in [
            ("../x", "linux.cgroupsPath: `..` is not allowed: `../x`"),
            ("/a/../../x", "linux.cgroupsPath: `..` is not allowed: `/a/../../x`"),
            ("/", "linux.cgroupsPath: the root cgroup cannot be a container's: `/`"),
            ("a\0b", "linux.cgroupsPath: a cgroup's name has no NUL and no newline: `a\\0b`"),
            ("a\nb", "linux.cgroupsPath: a cgroup's name has no NUL and no newline: `a\\nb`"),
        ] {
            assert_eq!(at(Some(given)).unwrap_err().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_below_the_root(text in "[a./\\\\:\\n\u{0}-]{0,24}") {
            if let Ok(p) = at(Some(&text)) {
                prop_assert!(p.starts_with('/') && !p.ends_with('/'));
                prop_assert!(p[1..].split('/').all(|c| !matches!(c, "" | "." | "..")));
                prop_assert_eq!(at(Some(&p)).unwrap(), p);
            }
        }
    }
}
