//! Mount entries of the configuration → mount steps. Not here: option words (`mount_flags`), devices, masks.

use super::Context;
use super::idmap;
use super::mount_flags::{self, ATTR_RDONLY, LOCKED_DOWN, Options};
use super::opens::{Idmap, Idmapped, Open, Opens, Original};
use super::step::{Attrs, Bind, FsMount, FsOptions, Instead, MountKind, MountStep, Source, Step};
use crate::api::annotations::{FORCE_CGROUP_V1, MOUNT_CONTEXT_TYPE};
use crate::error::{Context as _, Error, Result};
use crate::facts::{CgroupLayout, Hierarchy};
use crate::spec::Mount;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A C string of the configuration.
///
/// # Errors
/// It contains a NUL byte; `field` says where.
pub(crate) fn c_string(text: &str, field: impl FnOnce() -> String) -> Result<CString> {
    CString::new(text).map_err(|_| contains_nul(field))
}

fn contains_nul(field: impl FnOnce() -> String) -> Error {
    Error::invalid(format!("{}: contains a NUL byte", field()))
}

/// A path in the container, relative to its root: `.` and empty components dropped, `..` resolved as the kernel would at the root.
///
/// # Errors
/// It contains a NUL byte; `field` says where.
pub(crate) fn inside(path: &str, field: impl FnOnce() -> String) -> Result<CString> {
    let mut inside = Vec::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => inside.truncate(inside.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            part => {
                if !inside.is_empty() {
                    inside.push(b'/');
                }
                inside.extend_from_slice(part.as_bytes());
            }
        }
    }
    CString::new(inside).map_err(|_| contains_nul(field))
}

/// The steps for all mounts, and those that make some of them read-only at the end.
pub(crate) fn compile(cx: &Context<'_>, opens: &mut Opens) -> Result<(Vec<Step>, Vec<Step>)> {
    let (mut steps, mut late) = (Vec::with_capacity(cx.spec.mounts.len()), Vec::new());
    for (i, m) in cx.spec.mounts.iter().enumerate() {
        let mount = |steps: &mut Vec<Step>, late: &mut Vec<Step>, opens: &mut Opens| one(cx, i, m, opens, steps, late);
        mount(&mut steps, &mut late, opens).context(|| format!("mounts[{i}] (`{}`)", m.destination))?;
    }
    Ok((steps, late))
}

fn one(cx: &Context<'_>, index: usize, m: &Mount<'_>, opens: &mut Opens, steps: &mut Vec<Step>, late: &mut Vec<Step>) -> Result<()> {
    let dest = inside(&m.destination, || format!("mounts[{index}].destination"))?;
    let options = options(cx, m)?;
    let fstype = m.fstype.as_deref().unwrap_or("");
    let map = idmap::compile(cx, m, options.idmap.as_ref())?;
    let mut step = MountStep {
        no_symlinks: matches!(dest.to_bytes(), b"proc" | b"sys") || fstype == "proc" || fstype == "sysfs",
        on_link: options.on_link,
        dest,
        shown: m.destination.to_string(),
        attrs: options.attrs,
        recursive_attrs: options.tree_attrs,
        propagation: options.propagation,
        keep: None,
        kind: MountKind::Remount(FsOptions::default()),
    };
    if options.remount {
        step.kind = MountKind::Remount(fs_options(fstype, &options)?);
    } else if let Some(map) = map {
        step.kind = MountKind::Idmapped { slot: opens.add(Open::Idmapped(Box::new(idmapped(cx, m, &options, map)?))) };
    } else if let Some(recursive) = bind(fstype, &options) {
        step.kind = MountKind::Bind(bind_kind(cx, m, &options, recursive, opens)?);
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

/// Whether it is a bind mount, and then whether with all below.
fn bind(fstype: &str, options: &Options) -> Option<bool> {
    options.bind.or((fstype == "bind" || fstype.is_empty()).then_some(false))
}

/// What the parent is to mount with an id map.
fn idmapped(cx: &Context<'_>, m: &Mount<'_>, options: &Options, map: Idmap) -> Result<Idmapped> {
    let fstype = m.fstype.as_deref().unwrap_or("");
    let what = if let Some(recursive) = bind(fstype, options) {
        Original::Bind { path: source(cx, m)?, recursive, link: options.source_link }
    } else if ["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"].contains(&fstype) {
        return Err(Error::invalid(format!("an idmapped mount cannot be of type `{fstype}`, which belongs to a namespace")));
    } else if options.copy_up {
        return Err(Error::invalid("the options `idmap` and `tmpcopyup` exclude each other"));
    } else {
        let fs = FsMount { mode_of_target: false, ..fs(cx, fstype, m.source.as_deref().unwrap_or(fstype), options)? };
        Original::Fs { fs, attrs: options.attrs.set }
    };
    let whole_tree = options.idmap.as_ref().is_some_and(|word| word.whole_tree);
    Ok(Idmapped { what, map, whole_tree, shown: m.destination.to_string() })
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

fn bind_kind(cx: &Context<'_>, m: &Mount<'_>, options: &Options, recursive: bool, opens: &mut Opens) -> Result<Bind> {
    let path = source(cx, m)?;
    let link = options.source_link || options.copy_link;
    let source = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("source: contains a NUL byte"))?;
    let source = Source::Path(source);
    let open = || Open::Tree { path, recursive, link, alone: cx.in_tree, shown: m.destination.to_string() };
    let slot = cx.parent_opens_sources.then(|| opens.add(open()));
    Ok(Bind { source, slot, recursive, link, copy_link: options.copy_link })
}

/// Where the container sees the directory of its notification socket: as crun, where the host has the service manager's socket.
pub(crate) fn notify_place(name: &str) -> &str {
    // An abstract name is no place.
    if name.starts_with('/') { name.trim_end_matches('/') } else { "/run/notify" }
}

/// The mount of that directory.
///
/// # Errors
/// The path contains a NUL byte.
pub(crate) fn notify(cx: &Context<'_>, name: &str, opens: &mut Opens) -> Result<Step> {
    let place = notify_place(name);
    let path = cx.place.notify.to_owned();
    let source = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("the state directory: contains a NUL byte"))?;
    let open = || Open::Tree { path, recursive: false, link: false, alone: cx.in_tree, shown: place.to_owned() };
    let slot = cx.parent_opens_sources.then(|| opens.add(open()));
    Ok(Step::Mount(Box::new(MountStep {
        dest: inside(place, || "NOTIFY_SOCKET".into())?,
        shown: place.to_owned(),
        kind: MountKind::Bind(Bind { source: Source::Path(source), slot, recursive: false, link: false, copy_link: false }),
        attrs: Attrs { set: LOCKED_DOWN & !ATTR_RDONLY, clear: 0 },
        recursive_attrs: Attrs::default(),
        propagation: libc::MS_PRIVATE,
        no_symlinks: false,
        on_link: false,
        keep: None,
    })))
}

/// The source of a bind mount.
fn source(cx: &Context<'_>, m: &Mount<'_>) -> Result<PathBuf> {
    let source = m.source.as_deref().filter(|s| !s.is_empty()).ok_or_else(|| Error::invalid("a bind mount needs a source"))?;
    Ok(cx.place.bundle.join(Path::new(source)))
}

/// Options of a file system as both interfaces take them.
fn fs_options(fstype: &str, options: &Options) -> Result<FsOptions> {
    // Every mount of a devpts is an instance of its own, with or without the word (kernel 4.7).
    let words = options.data.iter().flat_map(|d| words(d));
    let words: Vec<_> = words.filter(|d| !(d.is_empty() || fstype == "devpts" && *d == "newinstance")).collect();
    let mut pairs = words.iter().map(|word| pair(word)).collect::<Result<Vec<_>>>()?;
    for (flag, name) in
        [(libc::MS_SYNCHRONOUS, c"sync"), (libc::MS_DIRSYNC, c"dirsync"), (libc::MS_LAZYTIME, c"lazytime"), (libc::MS_MANDLOCK, c"mand")]
    {
        if options.superblock & flag != 0 {
            pairs.push((name.into(), None));
        }
    }
    Ok(FsOptions { pairs, flags: options.superblock, data: c_string(&words.join(","), || "options".into())? })
}

fn fs(cx: &Context<'_>, fstype: &str, source: &str, options: &Options) -> Result<FsMount> {
    let tmpfs = fstype == "tmpfs";
    if options.copy_up && !tmpfs {
        return Err(Error::invalid("the option `tmpcopyup` is for tmpfs only"));
    }
    let mut fs = FsMount {
        fstype: c_string(fstype, || "type".into())?,
        source: c_string(source, || "source".into())?,
        options: fs_options(fstype, options)?,
        instead: instead(cx, fstype),
        label: None,
        mode_of_target: false,
        copy_up: options.copy_up,
    };
    // As crun: a tmpfs over a directory looks like that directory.
    fs.mode_of_target = tmpfs && !fs.options.pairs.iter().any(|(name, _)| name.as_bytes() == b"mode");
    label(cx, fstype, &mut fs)?;
    Ok(fs)
}

/// What stands in for a file system that shows a namespace which the container's user namespace does not own: the kernel refuses a new one.
fn instead(cx: &Context<'_>, fstype: &str) -> Option<Instead> {
    let (path, attrs) = match fstype {
        "sysfs" => (c"/sys", LOCKED_DOWN),
        "mqueue" => (c"/dev/mqueue", 0),
        // Only where the processes shown are the same.
        "proc" if !cx.spec.linux().namespaces.iter().any(|n| n.kind == "pid") => (c"/proc", 0),
        _ => return None,
    };
    (cx.user_namespace || cx.facts.rootless()).then(|| Instead { source: Source::Path(path.into()), attrs })
}

/// The container's SELinux label on everything that is made for it.
fn label(cx: &Context<'_>, fstype: &str, fs: &mut FsMount) -> Result<()> {
    const KINDS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];
    let kind = cx.spec.annotations.get(MOUNT_CONTEXT_TYPE).map_or("context", |kind| &**kind);
    let Some(kind) = KINDS.iter().find(|known| **known == kind) else {
        return Err(Error::invalid(format!("annotation {MOUNT_CONTEXT_TYPE}: unknown value `{kind}`")));
    };
    let linux = cx.spec.linux();
    let Some(label) = linux.mount_label.as_deref().filter(|label| !label.is_empty() && cx.facts.lsm.selinux) else { return Ok(()) };
    let value = c_string(label, || "linux.mountLabel".into())?;
    match fstype {
        // One for all containers, labelled by the policy.
        "proc" | "sysfs" | "cgroup" | "cgroup2" => {}
        "mqueue" => fs.label = Some(value),
        // What the configuration asks for itself comes first.
        _ if fs.options.pairs.iter().any(|(name, _)| KINDS.iter().any(|kind| kind.as_bytes() == name.as_bytes())) => {}
        _ => {
            let before = fs.options.data.to_string_lossy();
            let comma = if before.is_empty() { "" } else { "," };
            // Categories are separated by commas, hence the quotes.
            fs.options.data = c_string(&format!("{before}{comma}{kind}=\"{label}\""), || "linux.mountLabel".into())?;
            fs.options.pairs.push((c_string(kind, || "kind".into())?, Some(value)));
        }
    }
    Ok(())
}

/// Options separated by commas; those between quotes belong to the option (a label of SELinux).
fn words(data: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    data.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// `name=value`, `name="value"` or `name`.
fn pair(word: &str) -> Result<(CString, Option<CString>)> {
    let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
    let value = value.map(|v| v.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(v));
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
    // A systemd that knows no v2 finds its named hierarchy alone, as crun does it.
    let forced = cx.spec.annotations.get(FORCE_CGROUP_V1).is_some_and(|path| !path.is_empty());
    let named = Hierarchy { name: "systemd".into(), fstype: "cgroup".into(), options: vec!["name=systemd".into()] };
    let only_named = CgroupLayout::Legacy(vec![named]);
    // A mount that is added later is none of those for which somebody looked.
    let usual = CgroupLayout::Unified;
    let seen = cx.facts.cgroups.as_ref().unwrap_or(&usual);
    let layout = if forced && *seen == CgroupLayout::Unified { &only_named } else { seen };
    match layout {
        CgroupLayout::Unified => {
            let unified = Hierarchy { name: String::new(), fstype: "cgroup2".into(), options: Vec::new() };
            step.kind = hierarchy(cx, &unified, step.attrs, opens)?;
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
    // Below the root itself too the path has no leading slash.
    let dest = inside(&format!("{}/{}", parent.dest.to_string_lossy(), h.name), || "destination".into())?;
    Ok(Step::Mount(Box::new(MountStep {
        shown: format!("/{}", dest.to_string_lossy()),
        dest,
        kind: hierarchy(cx, h, parent.attrs, opens)?,
        attrs: parent.attrs,
        recursive_attrs: parent.recursive_attrs,
        propagation: parent.propagation,
        no_symlinks: false,
        on_link: false,
        keep: None,
    })))
}

/// With a cgroup namespace the hierarchy itself, whose root is then the container's cgroup; without one, and where the kernel refuses, a bind
/// mount of that directory, since the whole tree would show every container.
fn hierarchy(cx: &Context<'_>, h: &Hierarchy, attrs: Attrs, opens: &mut Opens) -> Result<MountKind> {
    let mount_point = format!("/sys/fs/cgroup/{}", h.name);
    let own = Source::Cgroup(c_string(mount_point.trim_end_matches('/'), || "source".into())?);
    let rootless = cx.facts.rootless();
    if !cx.cgroup_namespace && !cx.no_cgroup {
        let slot = (!rootless && !cx.late_cgroup).then(|| opens.add(Open::Cgroup { mount_point, attrs }));
        // A new user namespace may show what its user sees anyway, and nothing less: the mounts below are locked together.
        let recursive = rootless || slot.is_none() && cx.user_namespace;
        return Ok(MountKind::Bind(Bind { source: own, slot, recursive, link: false, copy_link: false }));
    }
    let options = Options { data: h.options.clone(), ..Options::default() };
    let instead = (cx.user_namespace || rootless).then_some(Instead { source: own, attrs: 0 });
    Ok(MountKind::Fs(FsMount { instead, ..fs(cx, &h.fstype, "cgroup", &options)? }))
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
