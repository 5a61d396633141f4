//! `linux.cgroupsPath` as systemd's manager reads it: slice, scope, and the cgroup that systemd makes of them. Not here: asking systemd.

use runtime_core::{ContainerId, Error, Result};

/// Longest name of a unit (systemd.unit(5)).
const MAX_NAME: usize = 255;

/// A scope and the slice it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `machine.slice`
    pub slice: String,
    /// `crun-ID.scope`, `PREFIX-NAME.scope`
    pub scope: String,
}

impl Unit {
    /// Reads `SLICE:PREFIX:NAME`, `SLICE:NAME` or `NAME`. An empty slice is `system.slice`, or `user.slice` of the user's manager.
    /// Without a path the scope is called after the container, and its slice is the manager's default (systemd.special(7)).
    ///
    /// # Errors
    /// `linux.cgroupsPath: …` for what is no path of this syntax (a cgroupfs path above all), and for names that systemd would refuse.
    pub fn resolve(cgroups_path: Option<&str>, id: &ContainerId, user: bool) -> Result<Self> {
        let default_slice = || if user { "user.slice" } else { "system.slice" }.to_owned();
        let text = match cgroups_path {
            None | Some("") => {
                let slice = if user { "app.slice" } else { "system.slice" }.to_owned();
                return Ok(Self { slice, scope: format!("crun-{}.scope", escape(id.as_str())) });
            }
            Some(text) => text,
        };
        let bad = |why: String| Error::invalid(format!("linux.cgroupsPath: {why}: `{}`", text.escape_debug()));
        if text.contains('/') {
            return Err(bad("systemd's manager takes slice:prefix:name, not a path".into()));
        }
        let (slice, name) = match text.split_once(':') {
            Some((slice, rest)) => (slice, rest.replacen(':', "-", 1)),
            None => ("", text.to_owned()),
        };
        let slice = if slice.is_empty() { default_slice() } else { slice.to_owned() };
        check_slice(&slice).map_err(|why| bad(format!("slice `{}` {why}", slice.escape_debug())))?;
        if name.is_empty() || name == "-" {
            return Err(bad("the name of the scope is empty".into()));
        }
        let scope = format!("{name}.scope");
        check_name(&scope).map_err(|why| bad(format!("scope `{}` {why}", scope.escape_debug())))?;
        Ok(Self { slice, scope })
    }

    /// The scope's cgroup below the manager's own: `a-b.slice` is inside `a.slice`.
    pub fn cgroup(&self) -> String {
        let mut path = String::new();
        if let Some(stem) = self.slice.strip_suffix(".slice").filter(|s| *s != "-") {
            let ends = stem.match_indices('-').map(|(i, _)| i).chain([stem.len()]);
            for end in ends {
                path.push('/');
                path.push_str(&directory(&format!("{}.slice", &stem[..end])));
            }
        }
        path.push('/');
        path.push_str(&directory(&self.scope));
        path
    }
}

/// The scope's part of a container's cgroup path: everything up to the directory that systemd made for it.
pub(crate) fn scope_part<'p>(path: &'p str, scope: &str) -> Option<&'p str> {
    let dir = format!("/{}", directory(scope));
    let at = path.rfind(&dir)?;
    let end = at + dir.len();
    matches!(path.as_bytes().get(end), None | Some(b'/')).then(|| &path[..end])
}

/// systemd puts `_` in front of names that could be mistaken for files of the cgroup file system.
fn directory(unit: &str) -> String {
    const CONTROLLERS: [&str; 12] =
        ["cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "bpf-firewall", "bpf-devices", "hugetlb", "misc"];
    let first = unit.split('.').next().unwrap_or_default();
    let clashes = unit.starts_with(['_', '.']) || unit.starts_with("cgroup.") || CONTROLLERS.contains(&first);
    if clashes { format!("_{unit}") } else { unit.to_owned() }
}

/// Container ids have a `+`, which unit names have not: it is escaped as systemd-escape(1) does.
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("is longer than {MAX_NAME} bytes"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || ":_.\\-@".contains(*c))) {
        Some(c) => Err(format!("has the character `{}`, which a unit's name has not", c.escape_debug())),
        None => Ok(()),
    }
}

fn check_slice(name: &str) -> std::result::Result<(), String> {
    check_name(name)?;
    if name.contains('@') {
        return Err("is the name of an instance".into());
    }
    let Some(stem) = name.strip_suffix(".slice") else { return Err("does not end in `.slice`".into()) };
    let nested = stem == "-" || !(stem.is_empty() || stem.split('-').any(str::is_empty));
    if nested { Ok(()) } else { Err("has an empty part between its dashes".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(path: Option<&str>, user: bool) -> Result<Unit> {
        Unit::resolve(path, &ContainerId::new("c1").unwrap(), user)
    }

    #[test]
    fn paths_become_slice_scope_and_cgroup() {
        for (path, user, slice, scope, cgroup) in [
            (None, false, "system.slice", "crun-c1.scope", "/system.slice/crun-c1.scope"),
            (Some(""), true, "app.slice", "crun-c1.scope", "/app.slice/crun-c1.scope"),
            (Some("machine.slice:libpod:abc"), false, "machine.slice", "libpod-abc.scope", "/machine.slice/libpod-abc.scope"),
            (Some(":docker:abc"), false, "system.slice", "docker-abc.scope", "/system.slice/docker-abc.scope"),
            (Some("::abc"), true, "user.slice", "-abc.scope", "/user.slice/-abc.scope"),
            (Some("a.slice:b"), false, "a.slice", "b.scope", "/a.slice/b.scope"),
            (Some("a.slice:b:c:d"), false, "a.slice", "b-c:d.scope", "/a.slice/b-c:d.scope"),
            (Some("plain"), false, "system.slice", "plain.scope", "/system.slice/plain.scope"),
            (Some("-.slice:p:n"), false, "-.slice", "p-n.scope", "/p-n.scope"),
            (Some("cpu.slice:memory.x:"), false, "cpu.slice", "memory.x-.scope", "/_cpu.slice/_memory.x-.scope"),
            (Some("a.slice:cgroup.x"), false, "a.slice", "cgroup.x.scope", "/a.slice/_cgroup.x.scope"),
            (
                Some("kubepods-burstable-pod1_2.slice:cri-containerd:f00"),
                false,
                "kubepods-burstable-pod1_2.slice",
                "cri-containerd-f00.scope",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-f00.scope",
            ),
        ] {
            let u = unit(path, user).unwrap();
            assert_eq!((u.slice.as_str(), u.scope.as_str(), u.cgroup().as_str()), (slice, scope, cgroup));
        }
        let plus = Unit::resolve(None, &ContainerId::new("a+b").unwrap(), false).unwrap();
        assert_eq!(plus.scope, "crun-a\\x2bb.scope");
    }

    #[test]
    fn refusals_name_the_path() {
        let long = "x".repeat(300);
        for (path, text) in [
            ("/a/b", "systemd's manager takes slice:prefix:name, not a path: `/a/b`"),
            ("a.slice:b/../c", "systemd's manager takes slice:prefix:name, not a path: `a.slice:b/../c`"),
            ("machine:libpod:a", "slice `machine` does not end in `.slice`: `machine:libpod:a`"),
            ("a--b.slice:p:n", "slice `a--b.slice` has an empty part between its dashes: `a--b.slice:p:n`"),
            ("-a.slice:p:n", "slice `-a.slice` has an empty part between its dashes: `-a.slice:p:n`"),
            (".slice:p:n", "slice `.slice` has an empty part between its dashes: `.slice:p:n`"),
            ("a.slice:p:n m", "scope `p-n m.scope` has the character ` `, which a unit's name has not: `a.slice:p:n m`"),
            ("a.slice:p:n\nm", "scope `p-n\\nm.scope` has the character `\\n`, which a unit's name has not: `a.slice:p:n\\nm`"),
            ("a@1.slice:p:n", "slice `a@1.slice` is the name of an instance: `a@1.slice:p:n`"),
            ("a.slice:", "the name of the scope is empty: `a.slice:`"),
            ("a.slice::", "the name of the scope is empty: `a.slice::`"),
        ] {
            assert_eq!(unit(Some(path), false).unwrap_err().to_string(), format!("linux.cgroupsPath: {text}"));
        }
        assert!(unit(Some(&long), false).unwrap_err().to_string().contains("is longer than 255 bytes"));
    }

    #[test]
    fn the_scope_is_found_in_a_cgroup_path() {
        for (path, part) in [
            ("/system.slice/a.scope/container", Some("/system.slice/a.scope")),
            ("/system.slice/a.scope", Some("/system.slice/a.scope")),
            ("/system.slice/a.scope.d/x", None),
            ("/system.slice/b.scope", None),
        ] {
            assert_eq!(scope_part(path, "a.scope"), part, "{path}");
        }
        assert_eq!(scope_part("/_cpu.scope/container", "cpu.scope"), Some("/_cpu.scope"));
    }

    proptest! {
        #[test]
        fn accepted_units_have_a_cgroup_that_stays_below(text in "[a-c./:@\\\\-]{0,12}(\\.slice)?(:[a-b.-]{0,3}){0,3}") {
            if let Ok(u) = unit(Some(&text), false) {
                let path = u.cgroup();
                prop_assert_eq!(&cgroup_fs::normalise("p", &path).unwrap(), &path);
                let below = format!("{path}/container");
                prop_assert_eq!(scope_part(&below, &u.scope), Some(path.as_str()));
            }
        }
    }
}
