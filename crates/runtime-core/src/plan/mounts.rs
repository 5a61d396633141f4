//! Mount entries of the configuration → mount steps. Not here: option words (`mount_flags`), devices, masks.

use super::Context;
use super::mount_flags::{self, ATTR_RDONLY, LOCKED_DOWN, Options};
use super::opens::{Open, Opens};
use super::step::{Attrs, FsMount, MountKind, MountStep, Source, Step};
use crate::error::{Context as _, Error, ErrorKind, Result};
use crate::facts::{CgroupLayout, Hierarchy};
use crate::spec::Mount;
use std::ffi::CString;
use std::path::Path;

/// A C string of the configuration.
///
/// # Errors
/// It contains a NUL byte; `field` says where.
pub(crate) fn c_string(text: &str, field: impl FnOnce() -> String) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("{}: contains a NUL byte", field())))
}

/// A path in the container, relative to its root: `.` and empty components dropped, `..` resolved as the kernel would at the root.
///
/// # Errors
/// It contains a NUL byte; `field` says where.
pub(crate) fn inside(path: &str, field: impl FnOnce() -> String) -> Result<CString> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    c_string(&parts.join("/"), field)
}

/// The steps for all mounts, and those that make some of them read-only at the end.
pub(crate) fn compile(cx: &Context<'_>, opens: &mut Opens) -> Result<(Vec<Step>, Vec<Step>)> {
    let (mut steps, mut late) = (Vec::new(), Vec::new());
    for (i, m) in cx.spec.mounts.iter().enumerate() {
        let mount = |steps: &mut Vec<Step>, late: &mut Vec<Step>, opens: &mut Opens| one(cx, i, m, opens, steps, late);
        mount(&mut steps, &mut late, opens).context(|| format!("mounts[{i}] (`{}`)", m.destination))?;
    }
    Ok((steps, late))
}

fn one(cx: &Context<'_>, index: usize, m: &Mount<'_>, opens: &mut Opens, steps: &mut Vec<Step>, late: &mut Vec<Step>) -> Result<()> {
    if !m.uid_mappings.is_empty() || !m.gid_mappings.is_empty() {
        return Err(Error::new(ErrorKind::Unsupported, "idmapped mounts are not supported"));
    }
    let dest = inside(&m.destination, || format!("mounts[{index}].destination"))?;
    let options = options(cx, m)?;
    let fstype = m.fstype.as_deref().unwrap_or("");
    let bind = options.bind.or((fstype == "bind").then_some(false)).or_else(|| fstype.is_empty().then_some(false));
    let mut step = MountStep {
        no_symlinks: matches!(dest.to_bytes(), b"proc" | b"sys") || fstype == "proc" || fstype == "sysfs",
        dest,
        shown: m.destination.to_string(),
        attrs: options.attrs,
        recursive_attrs: options.tree_attrs,
        propagation: options.propagation,
        keep: None,
        kind: MountKind::Bind { source: Source::Slot(0), recursive: false },
    };
    if let Some(recursive) = bind {
        step.kind = bind_kind(cx, m, recursive, opens)?;
    } else if fstype == "cgroup" || fstype == "cgroup2" {
        return cgroup(cx, step, &options, opens, steps, late);
    } else {
        step.kind = MountKind::Fs(fs(cx, fstype, m.source.as_deref().unwrap_or(fstype), &options)?);
        // A tmpfs must be writable while mount points and devices are made on it.
        if fstype == "tmpfs" && step.attrs.set & ATTR_RDONLY != 0 {
            make_read_only_later(&mut step, opens, late);
        }
    }
    steps.push(Step::Mount(Box::new(step)));
    Ok(())
}

fn make_read_only_later(step: &mut MountStep, opens: &mut Opens, late: &mut Vec<Step>) {
    let slot = opens.add(Open::Late);
    step.attrs.set &= !ATTR_RDONLY;
    step.keep = Some(slot);
    late.push(Step::SetAttrs { slot, set: ATTR_RDONLY, dest: step.dest.clone() });
}

/// The mount's options, or the ones its destination gets when the field is absent.
fn options(cx: &Context<'_>, m: &Mount<'_>) -> Result<Options> {
    match &m.options {
        Some(words) => mount_flags::parse(words.iter().map(|w| &**w)),
        None => {
            let cgroup = matches!(m.fstype.as_deref(), Some("cgroup" | "cgroup2"));
            let words: &[&str] = match m.destination.trim_end_matches('/') {
                _ if cgroup => &["nosuid", "noexec", "nodev", "relatime", "ro"],
                _ if m.fstype.as_deref() == Some("bind") => &[],
                "/dev" => &["nosuid", "strictatime", "mode=755", "size=65536k"],
                "/dev/shm" => &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
                "/dev/mqueue" => &["nosuid", "noexec", "nodev"],
                "/dev/pts" if cx.facts.rootless() => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
                "/dev/pts" => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
                "/sys" => &["nosuid", "noexec", "nodev", "ro"],
                _ => &[],
            };
            mount_flags::parse(words.iter().copied())
        }
    }
}

fn bind_kind(cx: &Context<'_>, m: &Mount<'_>, recursive: bool, opens: &mut Opens) -> Result<MountKind> {
    let source = m.source.as_deref().filter(|s| !s.is_empty()).ok_or_else(|| Error::invalid("a bind mount needs a source"))?;
    let path = cx.place.bundle.join(Path::new(source));
    let source = if cx.parent_opens_sources {
        Source::Slot(opens.add(Open::Tree { path, recursive, shown: m.destination.to_string() }))
    } else {
        Source::Path(c_string(&path.to_string_lossy(), || "source".into())?)
    };
    Ok(MountKind::Bind { source, recursive })
}

fn fs(cx: &Context<'_>, fstype: &str, source: &str, options: &Options) -> Result<FsMount> {
    let pairs = options.data.iter().flat_map(|d| d.split(',')).filter(|d| !d.is_empty());
    // Every mount of a devpts is an instance of its own, with or without the word (kernel 4.7).
    let pairs = pairs.filter(|d| !(fstype == "devpts" && *d == "newinstance"));
    let mut parsed = pairs.map(pair).collect::<Result<Vec<_>>>()?;
    for (flag, name) in
        [(libc::MS_SYNCHRONOUS, c"sync"), (libc::MS_DIRSYNC, c"dirsync"), (libc::MS_LAZYTIME, c"lazytime"), (libc::MS_MANDLOCK, c"mand")]
    {
        if options.superblock & flag != 0 {
            parsed.push((name.into(), None));
        }
    }
    // sysfs shows the network namespace it is made in, so the kernel refuses it to a user namespace that does not own that.
    let instead = (fstype == "sysfs" && (cx.user_namespace || cx.facts.rootless())).then(|| c"/sys".into());
    let tmpfs = fstype == "tmpfs";
    if options.copy_up && !tmpfs {
        return Err(Error::invalid("the option `tmpcopyup` is for tmpfs only"));
    }
    Ok(FsMount {
        fstype: c_string(fstype, || "type".into())?,
        source: c_string(source, || "source".into())?,
        // As crun: a tmpfs over a directory looks like that directory.
        mode_of_target: tmpfs && !parsed.iter().any(|(name, _)| name.as_bytes() == b"mode"),
        copy_up: options.copy_up,
        options: parsed,
        instead,
    })
}

/// `name=value` or `name`.
fn pair(word: &str) -> Result<(CString, Option<CString>)> {
    let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
    let c = |s: &str| c_string(s, || "options".into());
    Ok((c(name)?, value.map(c).transpose()?))
}

/// A cgroup mount: the one unified tree, or a tmpfs with a directory a hierarchy.
fn cgroup(
    cx: &Context<'_>,
    mut step: MountStep,
    o: &Options,
    opens: &mut Opens,
    steps: &mut Vec<Step>,
    late: &mut Vec<Step>,
) -> Result<()> {
    match &cx.facts.cgroups {
        CgroupLayout::Unified => {
            let unified = Hierarchy { name: String::new(), fstype: "cgroup2".into(), options: Vec::new() };
            step.kind = hierarchy(cx, &unified, opens)?;
            steps.push(Step::Mount(Box::new(step)));
        }
        CgroupLayout::Legacy(all) => {
            let below = all.iter().map(|h| hierarchy_step(cx, &step, h, opens)).collect::<Result<Vec<_>>>()?;
            let tmpfs = Options { data: vec!["mode=755".into()], ..o.clone() };
            step.kind = MountKind::Fs(fs(cx, "tmpfs", "tmpfs", &tmpfs)?);
            if step.attrs.set & ATTR_RDONLY != 0 {
                make_read_only_later(&mut step, opens, late);
            }
            steps.push(Step::Mount(Box::new(step)));
            steps.extend(below);
        }
    }
    Ok(())
}

fn hierarchy_step(cx: &Context<'_>, parent: &MountStep, h: &Hierarchy, opens: &mut Opens) -> Result<Step> {
    let dest = format!("{}/{}", parent.dest.to_string_lossy(), h.name);
    Ok(Step::Mount(Box::new(MountStep {
        dest: c_string(&dest, || "destination".into())?,
        shown: format!("/{dest}"),
        kind: hierarchy(cx, h, opens)?,
        attrs: parent.attrs,
        recursive_attrs: parent.recursive_attrs,
        propagation: parent.propagation,
        no_symlinks: false,
        keep: None,
    })))
}

/// With a cgroup namespace the hierarchy itself, whose root is then the container's cgroup; without one a bind mount of that directory,
/// since the whole tree would show every container.
fn hierarchy(cx: &Context<'_>, h: &Hierarchy, opens: &mut Opens) -> Result<MountKind> {
    if !cx.cgroup_namespace && cx.facts.rootless() {
        // A new user namespace may show what its user sees anyway, and nothing less: the mounts below are locked together.
        let path = c_string(format!("/sys/fs/cgroup/{}", h.name).trim_end_matches('/'), || "source".into())?;
        return Ok(MountKind::Bind { source: Source::Path(path), recursive: true });
    }
    if !cx.cgroup_namespace && !cx.no_cgroup {
        let mount_point = format!("/sys/fs/cgroup/{}", h.name);
        return Ok(MountKind::Bind { source: Source::Slot(opens.add(Open::Cgroup { mount_point })), recursive: false });
    }
    let options = Options { data: h.options.clone(), ..Options::default() };
    Ok(MountKind::Fs(fs(cx, &h.fstype, "cgroup", &options)?))
}

/// Attributes of a masked path's mount.
pub(crate) const MASK_ATTRS: Attrs = Attrs { set: LOCKED_DOWN, clear: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_relative_and_cannot_leave() {
        for (path, want) in [("/a//b/./c", "a/b/c"), ("/../../etc", "etc"), ("/", ""), ("a/../b/", "b"), ("/a/../../b", "b")] {
            assert_eq!(inside(path, String::new).unwrap().to_str().unwrap(), want);
        }
        assert_eq!(
            inside("/a\0b", || "mounts[0].destination".into()).unwrap_err().to_string(),
            "mounts[0].destination: contains a NUL byte"
        );
    }
}
