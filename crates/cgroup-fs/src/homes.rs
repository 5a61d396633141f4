//! One container's directories in all hierarchies, and finding the one a controller's file is in. Not here: making or removing them.

use crate::controller::{Controller, ControllerSet, Version};
use crate::files::Dir;
use crate::layout::{Layout, below};
use rustix::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The cgroup in one hierarchy.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    /// An `O_PATH` descriptor, where one was opened.
    pub(crate) fd: Option<OwnedFd>,
    /// What a v1 hierarchy serves; empty for v2, which serves the rest.
    pub(crate) controllers: ControllerSet,
    /// Mount point of the hierarchy.
    pub(crate) mount: PathBuf,
}

impl Home {
    pub(crate) fn dir(&self) -> Dir<'_> {
        Dir { path: &self.path, fd: self.fd.as_ref().map(|f| f.as_fd()) }
    }
}

/// The cgroup in every hierarchy.
#[derive(Debug)]
pub(crate) struct Homes {
    pub(crate) v2: Option<Home>,
    pub(crate) v1: Vec<Home>,
}

impl Homes {
    /// The directories of `path`; nothing is asked of the host.
    pub(crate) fn of(layout: &Layout, path: &str) -> Self {
        let home = |mount: &PathBuf, controllers| Home { path: below(mount, path), fd: None, controllers, mount: mount.clone() };
        Self {
            v2: layout.v2.as_ref().map(|m| home(m, ControllerSet::EMPTY)),
            v1: layout.v1.iter().map(|h| home(&h.mount, h.controllers)).collect(),
        }
    }

    /// Where a controller's files are.
    pub(crate) fn find(&self, controller: Controller, version: Version) -> Option<&Home> {
        match version {
            Version::V2 => self.v2.as_ref(),
            Version::V1 => self.v1.iter().find(|h| h.controllers.contains(controller)),
        }
    }

    /// Where processes are looked for and signalled: the v2 tree, else the freezer's hierarchy, else any.
    pub(crate) fn holder(&self) -> Option<(Version, &Home)> {
        let v1 = || self.find(Controller::Freezer, Version::V1).or(self.v1.first()).map(|h| (Version::V1, h));
        self.v2.as_ref().map(|h| (Version::V2, h)).or_else(v1)
    }

    /// All of them, v2 last: it is what `holder` looks at, so it goes when the others are gone.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Version, &Home)> {
        self.v1.iter().map(|h| (Version::V1, h)).chain(self.v2.as_ref().map(|h| (Version::V2, h)))
    }
}
