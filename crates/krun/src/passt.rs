//! The network of a machine by passt: a program beside it that turns its packets into sockets of the container's network namespace. Not here: what
//! the machine does with its end of the connection (`library`).
//!
//! passt lives where the container's network is and has the host's files, so it is started from here, before there is a container. It goes
//! to the background when it is ready, which is when its parent ends, and ends when the machine's side of the connection does, also where no
//! machine comes to be.

use crate::{io, spawn};
use runtime_core::api::annotations::KRUN_USE_PASST;
use runtime_core::spec::{Linux, Spec};
use runtime_core::{Context, Error, ErrorKind, Result};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where it is looked for beside the PATH: engines start runtimes with very little of an environment.
const USUAL: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/usr/local/bin", "/usr/bin"];

/// Of what it says on a failure, bytes.
const LONGEST: usize = 16 * 1024;

/// Starts it in the network namespace that the configuration names; gives the machine's end.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when there is no passt, or no network it could be in; what passt says.
pub fn start(spec: &Spec<'_>) -> Result<OwnedFd> {
    let asked = |e: Error| e.context(format!("network by passt (`{KRUN_USE_PASST}`)"));
    let namespace = namespace(spec).map_err(asked)?;
    let program = find().map_err(asked)?;
    start_as(&program, namespace.as_ref()).map_err(asked)
}

/// The network namespace; `None` for the runtime's own.
fn namespace(spec: &Spec<'_>) -> Result<Option<OwnedFd>> {
    let linux = spec.linux();
    if !linux.namespaces.iter().any(|n| n.kind == "network") {
        return Ok(None);
    }
    match named(&linux) {
        Some(path) => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).map(Some).map_err(io).context(|| format!("open the network namespace `{path}`"))
        }
        None => Err(Error::new(
            ErrorKind::Unsupported,
            "linux.namespaces: a new network namespace has no network that passt could use: name one by its path",
        )),
    }
}

/// The path of the network namespace that the configuration names.
pub(crate) fn named<'a>(linux: &'a Linux<'_>) -> Option<&'a str> {
    let network = linux.namespaces.iter().find(|n| n.kind == "network")?;
    network.path.as_deref().filter(|path| !path.is_empty())
}

fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(USUAL.map(PathBuf::from));
    let found = places.map(|dir| dir.join("passt")).find(|program| program.is_file());
    found.ok_or_else(|| Error::new(ErrorKind::Unsupported, "`passt` is not installed"))
}

fn start_as(program: &Path, namespace: Option<&OwnedFd>) -> Result<OwnedFd> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io).context(|| "socketpair")?;
    // A file, not a pipe: what goes to the background may hold it for as long as it likes.
    let said = memfd_create("passt", MemfdFlags::CLOEXEC).map_err(io).context(|| "memfd_create")?;
    let said = File::from(said);
    let mut command = Command::new(program);
    // All ports of the container's network are the guest's. The gateway's address is no way to the host's own services.
    command.args(["--quiet", "--tcp-ports", "all", "--udp-ports", "all", "--no-map-gw", "--fd"]).arg(theirs.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().context(|| "duplicate")?);
    spawn::prepare(&mut command, namespace.map(AsRawFd::as_raw_fd), theirs.as_raw_fd());
    let status = command.status().context(|| format!("start `{}` in the container's network namespace", program.display()))?;
    if !status.success() {
        let mut bytes = vec![0; LONGEST];
        let read = said.read_at(&mut bytes, 0).context(|| "read what passt says")?;
        let text = String::from_utf8_lossy(&bytes[..read]);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
        return Err(Error::other(format!("`{}` failed ({}): {last}", program.display(), status)));
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::read;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("passt");
        // Not sh: dash takes no descriptor of two digits.
        std::fs::write(&path, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_program_gets_the_other_end_and_the_container_the_end_of_it() {
        let dir = tempfile::tempdir().unwrap();
        // Whatever the tests beside this one have open, the descriptor has a number of two digits.
        let _open: Vec<File> = (0..10).map(|_| File::open("/dev/null").unwrap()).collect();
        // The last argument is the descriptor's number.
        let program = script(dir.path(), r#"for last; do :; done; echo $# "$*" >&$last"#);
        let ours = start_as(&program, None).unwrap();
        let mut said = [0; 200];
        let n = read(&ours, &mut said).unwrap();
        let said = String::from_utf8_lossy(&said[..n]).into_owned();
        assert!(said.starts_with("8 --quiet --tcp-ports all --udp-ports all --no-map-gw --fd "), "{said}");
        // Nobody has the other end any more.
        assert_eq!(read(&ours, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn what_the_program_says_is_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "echo first >&2; echo 'no interface' >&2; exit 3");
        let error = start_as(&program, None).unwrap_err().to_string();
        assert_eq!(error, format!("`{}` failed (exit status: 3): no interface", program.display()));
    }

    #[test]
    fn a_network_that_is_not_there_is_told() {
        let error = |namespace: &str| {
            let text = format!(r#"{{"ociVersion":"1.0.0","linux":{{"namespaces":[{namespace}]}}}}"#);
            namespace_of(&text).err().map(|e| e.to_string())
        };
        assert_eq!(error(r#"{"type":"mount"}"#), None);
        assert_eq!(error(r#"{"type":"network","path":"/proc/self/ns/net"}"#), None);
        let text = "linux.namespaces: a new network namespace has no network that passt could use: name one by its path";
        assert_eq!(error(r#"{"type":"network"}"#).as_deref(), Some(text));
        let text = "open the network namespace `/nothing`: No such file or directory";
        assert_eq!(error(r#"{"type":"network","path":"/nothing"}"#).as_deref(), Some(text));
    }

    fn namespace_of(text: &str) -> Result<Option<OwnedFd>> {
        namespace(&Spec::parse(text.as_bytes()).unwrap())
    }
}
