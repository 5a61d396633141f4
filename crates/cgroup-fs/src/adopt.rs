//! Taking over a cgroup that another manager made for a process that exists: systemd's scope. Not here: making one for a process that
//! does not exist yet (`place`).

use crate::cgroup::{confine, limit, open_dir};
use crate::files::Sys;
use crate::freeze;
use crate::homes::{Home, Homes};
use crate::knobs;
use crate::layout::Layout;
use crate::path::normalise;
use crate::place::{Made, delegate, make_v1};
use runtime_core::api::CgroupRequest;
use runtime_core::{Error, ErrorKind, Result};
use rustix::io::Errno;

/// What a process gets that waits in a cgroup of another manager's.
#[derive(Debug, Clone, Copy)]
pub struct Adoption<'a> {
    /// The container's cgroup, below the root of each hierarchy and normalised: the other manager's, or one below it, which is made.
    pub path: &'a str,
    /// A cgroup below `path` that the process goes to in the v2 tree; the limits stay in `path`, out of the container's reach.
    pub inner: Option<&'a str>,
    /// The waiting process.
    pub pid: i32,
}

/// Moves the process to its cgroup in every hierarchy and sets the limits there.
///
/// The process moves before controllers are enabled, since a v2 cgroup with processes can enable none (cgroup-v2.rst, "No Internal
/// Process Constraint").
///
/// # Errors
/// Names the file. Directories made here are removed again where they are empty; those with the process in them are the caller's to
/// destroy.
pub fn adopt(layout: &Layout, adoption: &Adoption<'_>, request: &CgroupRequest<'_>) -> Result<()> {
    let split = layout.split();
    let writes = knobs::writes(request.resources, &split)?;
    crate::device::parse(&request.resources.devices)?;
    let mut homes = Homes::of(layout, adoption.path);
    let mut made = Made::default();
    homes.v1 = make_v1(homes.v1, &writes, request.rootless, &mut made, &mut false)?;
    let mut target = None;
    if let Some(home) = &mut homes.v2 {
        made.mkdir(home)?;
        home.fd = Some(open_dir(home).at(|| format!("open cgroup `{}`", home.path.display()))?);
        target = inner(layout, adoption, &mut made)?;
    } else if adoption.inner.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, "a cgroup below the container's can be delegated on cgroup v2 only"));
    }
    freeze::refuse_above(&homes)?;
    if let Some(home) = target.as_ref().or(homes.v2.as_ref()) {
        enter(home, adoption.pid)?;
    }
    limit(&homes, &split, &writes, request.resources, true)?;
    confine(&homes, None, &split, request.resources, true, request.rootless)?;
    if let (Some(home), Some((uid, gid))) = (target.as_ref().or(homes.v2.as_ref()), request.owner) {
        delegate(home, uid, gid)?;
    }
    for home in &homes.v1 {
        enter(home, adoption.pid)?;
    }
    made.keep();
    Ok(())
}

fn inner(layout: &Layout, adoption: &Adoption<'_>, made: &mut Made) -> Result<Option<Home>> {
    let Some(name) = adoption.inner else { return Ok(None) };
    let below = normalise("delegated cgroup", name)?;
    let Some(mut home) = Homes::of(layout, &format!("{}{below}", adoption.path)).v2 else { return Ok(None) };
    made.mkdir(&home)?;
    home.fd = Some(open_dir(&home).at(|| format!("open cgroup `{}`", home.path.display()))?);
    Ok(Some(home))
}

fn enter(home: &Home, pid: i32) -> Result<()> {
    let done = match home.dir().write("cgroup.procs", &pid.to_string()) {
        // The kernel's word for a process that has ended meanwhile.
        Err(Errno::SRCH) => return Err(Error::sys(libc::ESRCH, format!("move process {pid} to its cgroup: it has ended"))),
        other => other,
    };
    done.at(|| format!("move process {pid}: write `{}`", home.dir().file("cgroup.procs").display()))
}
