//! Descriptors the parent opens before the clone, because only it can or because it is cheaper there. Not here: opening (`engine::slots`).

use super::ids::IdMaps;
use super::step::{Attrs, FsMount, Slot};
use std::ffi::CString;
use std::path::PathBuf;

/// Something for the parent to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Open {
    /// A namespace file.
    Namespace { kind: &'static str, path: String },
    /// The host's null device, verified.
    Null,
    /// A directory of the runtime's own that stays empty, the source of masked directories.
    EmptyDirectory,
    /// A detached copy of a tree, for sources the container's root may not reach.
    /// `alone`: what is mounted on the original later does not show in it.
    Tree { path: PathBuf, recursive: bool, link: bool, alone: bool, shown: String },
    /// A detached mount that shows other ids than its file system has.
    Idmapped(Box<Idmapped>),
    /// A detached copy of the container's own cgroup directory below this mount point, with its attributes.
    Cgroup { mount_point: String, attrs: Attrs },
    /// A mount namespace whose root is a copy of the tree at the rootfs.
    RootNamespace { path: CString },
    /// Where the terminal's master side goes.
    Console,
    /// The null device, to write to.
    Sink,
    /// A file that hooks write to.
    HookOutput { path: PathBuf, annotation: &'static str },
    /// A pidfd of the container's first process.
    InitPidfd,
    /// Left empty by the parent; a step fills it for a later one.
    Late,
}

/// A mount with an id map of its own (MOUNT_ATTR_IDMAP, kernel 5.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idmapped {
    pub what: Original,
    pub map: Idmap,
    /// The mounts below get the map too.
    pub whole_tree: bool,
    pub shown: String,
}

/// What is mounted with an id map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Original {
    Bind { path: PathBuf, recursive: bool, link: bool },
    Fs { fs: FsMount, attrs: u64 },
}

/// Where the map comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Idmap {
    /// A namespace that is made for it.
    New(IdMaps),
    /// The user namespace the container joins.
    Joined(String),
}

/// The table under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Opens(pub Vec<Open>);

impl Opens {
    /// Adds an entry; its slot.
    pub(crate) fn add(&mut self, open: Open) -> Slot {
        self.0.push(open);
        self.0.len() - 1
    }

    /// Adds an entry once.
    pub(crate) fn once(&mut self, open: Open) -> Slot {
        match self.0.iter().position(|o| *o == open) {
            Some(slot) => slot,
            None => self.add(open),
        }
    }
}
