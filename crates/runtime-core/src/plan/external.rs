//! What a plan's mounts take from the host: a checkpoint does not hold it, and a restore must find it again. Not here: looking for it.

use super::mount_flags::BORROWED_NODE;
use super::mounts::MASK_ATTRS;
use super::step::{Attrs, Bind, MountKind, Source, Step};
use crate::error::{Error, Result};
use std::ffi::CStr;

/// A mount whose content is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    /// Where the configuration wants it, absolute. Symbolic links in the root file system may lead elsewhere.
    pub dest: String,
    pub content: Content,
    /// What is set on the mount, and on those below it.
    pub attrs: Attrs,
    pub tree_attrs: Attrs,
}

/// Where the content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A path of the host, with or without the mounts below it.
    Path { path: String, recursive: bool },
    /// The container's own directory below this mount point of a cgroup hierarchy.
    Cgroup(String),
    /// The null device over a file, an empty directory over a directory.
    Mask,
}

/// All of them, in the order in which they are mounted.
///
/// # Errors
/// A path is not UTF-8, or a mount is of a kind that cannot be restored.
pub(crate) fn compile(steps: &[Step]) -> Result<Vec<External>> {
    let mut found = Vec::new();
    for step in steps {
        let (mut attrs, mut tree_attrs) = (Attrs::default(), Attrs::default());
        let (dest, content) = match step {
            Step::Mount(m) => match &m.kind {
                MountKind::Bind(bind) if bind.copy_link => continue,
                MountKind::Bind(bind) => {
                    (attrs, tree_attrs) = (m.attrs, m.recursive_attrs);
                    (&m.dest, content(&bind.source, bind.recursive)?)
                }
                MountKind::Idmapped { .. } => return Err(Error::invalid(format!("`{}` is an idmapped mount", m.shown))),
                MountKind::Fs(_) | MountKind::Remount(_) => continue,
            },
            Step::Device(device) => {
                let Some(path) = &device.bind else { continue };
                attrs.set = BORROWED_NODE;
                (&device.dest, Content::Path { path: text(path)?, recursive: false })
            }
            Step::Mask { dest, .. } => {
                attrs = MASK_ATTRS;
                (dest, Content::Mask)
            }
            _ => continue,
        };
        found.push(External { dest: format!("/{}", text(dest)?), content, attrs, tree_attrs });
    }
    Ok(found)
}

/// Where something is mounted that needs a mount point in the root file system, absolute, with the path of the host that is mounted there;
/// without one it is a directory. What is mounted within another mount is left out.
pub(crate) fn mount_points(steps: &[Step]) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for step in steps {
        let Step::Mount(m) = step else { continue };
        let source = match &m.kind {
            MountKind::Bind(Bind { source: Source::Path(path) | Source::Opened(path), copy_link: false, .. }) => path.to_str().ok(),
            MountKind::Bind(Bind { copy_link: true, .. }) | MountKind::Remount(_) => continue,
            _ => None,
        };
        let dest = format!("/{}", m.dest.to_string_lossy());
        let within = |outer: &str| dest.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        if !found.iter().any(|(outer, _)| within(outer)) {
            found.push((dest, source.map(str::to_owned)));
        }
    }
    found
}

fn content(source: &Source, recursive: bool) -> Result<Content> {
    Ok(match source {
        Source::Path(path) | Source::Opened(path) => Content::Path { path: text(path)?, recursive },
        Source::Cgroup(path) => Content::Cgroup(text(path)?),
    })
}

fn text(path: &CStr) -> Result<String> {
    path.to_str().map(str::to_owned).map_err(|_| Error::invalid(format!("`{}` is not UTF-8", path.to_string_lossy())))
}
