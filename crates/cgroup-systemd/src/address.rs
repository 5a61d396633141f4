//! Where systemd's bus is. Not here: speaking to it.

use crate::bus::Endpoint;
use runtime_core::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// systemd's own socket, for where no bus runs; only root may speak to it.
const PRIVATE: &str = "systemd/private";

/// The addresses of the two managers, as D-Bus writes them (`unix:path=/run/dbus/system_bus_socket`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The system's bus, if not the usual one.
    pub system: Option<OsString>,
    /// The user's bus, if it is not `bus` in the next.
    pub session: Option<OsString>,
    /// The user's runtime directory, if not `/run/user/UID`.
    pub runtime_dir: Option<PathBuf>,
}

impl Addresses {
    /// From `DBUS_SYSTEM_BUS_ADDRESS`, `DBUS_SESSION_BUS_ADDRESS` and `XDG_RUNTIME_DIR`.
    pub fn from_environment() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        Self {
            system: var("DBUS_SYSTEM_BUS_ADDRESS"),
            session: var("DBUS_SESSION_BUS_ADDRESS"),
            runtime_dir: var("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }

    /// Where to look for the manager, in order.
    ///
    /// # Errors
    /// No address of a kind that is supported.
    pub(crate) fn endpoints(&self, user: bool) -> Result<Vec<Endpoint>> {
        let run = || self.runtime_dir.clone().unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()).into());
        let (given, usual, private) = if user {
            (&self.session, run().join("bus"), run().join(PRIVATE))
        } else {
            (&self.system, PathBuf::from("/run/dbus/system_bus_socket"), Path::new("/run").join(PRIVATE))
        };
        let Some(text) = given else {
            return Ok(vec![Endpoint::bus_at(usual), Endpoint { socket: private.into_os_string(), is_abstract: false, is_bus: false }]);
        };
        let list: Vec<Endpoint> = text.as_bytes().split(|&b| b == b';').filter_map(|one| endpoint(one, &run())).collect();
        if list.is_empty() {
            return Err(Error::invalid(format!("not the address of a unix socket: `{}`", text.display())).context("connect to systemd"));
        }
        Ok(list)
    }
}

/// One address (D-Bus specification, "Server Addresses").
fn endpoint(address: &[u8], run: &Path) -> Option<Endpoint> {
    let keys = address.strip_prefix(b"unix:")?;
    keys.split(|&b| b == b',').find_map(|pair| {
        let at = pair.iter().position(|&b| b == b'=')?;
        let value = OsString::from_vec(unescape(&pair[at + 1..])?);
        match &pair[..at] {
            b"path" => Some(Endpoint::bus_at(value.into())),
            b"abstract" => Some(Endpoint { socket: value, is_abstract: true, is_bus: true }),
            b"runtime" if value == "yes" => Some(Endpoint::bus_at(run.join("bus"))),
            _ => None,
        }
    })
}

/// `%2f` and the like.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(session: Option<&str>) -> Result<Vec<(String, bool, bool)>> {
        let a = Addresses { session: session.map(Into::into), runtime_dir: Some("/run/user/7".into()), ..Addresses::default() };
        let list = a.endpoints(true)?;
        Ok(list.into_iter().map(|e| (e.socket.to_str().unwrap().to_owned(), e.is_abstract, e.is_bus)).collect())
    }

    #[test]
    fn addresses() {
        let bus = |path: &str| (path.to_owned(), false, true);
        for (given, list) in [
            (None, vec![bus("/run/user/7/bus"), ("/run/user/7/systemd/private".to_owned(), false, false)]),
            (Some("unix:path=/a,guid=00"), vec![bus("/a")]),
            (Some("unix:guid=00,path=/a%20b;unix:runtime=yes"), vec![bus("/a b"), bus("/run/user/7/bus")]),
            (Some("tcp:host=h;unix:abstract=/x"), vec![("/x".to_owned(), true, true)]),
        ] {
            assert_eq!(sockets(given).unwrap(), list);
        }
        for bad in ["tcp:host=h", "unix:dir=/tmp", "unix:path", "nonsense", "unix:path=%2"] {
            let text = sockets(Some(bad)).unwrap_err().to_string();
            assert_eq!(text, format!("connect to systemd: not the address of a unix socket: `{bad}`"));
        }
        let system = Addresses::default().endpoints(false).unwrap();
        assert_eq!(system[0].socket, "/run/dbus/system_bus_socket");
        assert_eq!(system[1].socket, "/run/systemd/private");
    }
}
