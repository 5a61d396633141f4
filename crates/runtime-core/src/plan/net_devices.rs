//! `linux.netDevices`: which devices go where, and when. Not here: moving them (`engine::net_devices`).

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::spec::Linux;

const NETWORK: u64 = libc::CLONE_NEWNET as u64;

/// Devices of the runtime's network namespace that become the container's.
#[derive(Debug, PartialEq)]
pub(crate) struct NetDevices {
    /// Names on the host and in the container.
    pub names: Vec<(String, String)>,
    /// Of the container's network namespace, where it is one that exists.
    pub path: Option<String>,
    /// The namespace is made after the parent has done its part; it is there when the mounts are made.
    pub late: bool,
}

impl NetDevices {
    /// `None` where the configuration asks for no device. It has passed [`check`].
    pub(crate) fn compile(linux: &Linux<'_>, ns: &Namespaces) -> Option<Self> {
        let names = |(host, device): (&str, &crate::spec::NetDevice<'_>)| (host.to_owned(), inside(host, device).to_owned());
        let network = linux.namespaces.iter().find(|n| n.kind == "network");
        let path = network.and_then(|n| n.path.as_deref()).filter(|path| !path.is_empty()).map(str::to_owned);
        let late = path.is_none() && ns.clone_flags & NETWORK == 0;
        (!linux.net_devices.is_empty()).then(|| Self { names: linux.net_devices.iter().map(names).collect(), path, late })
    }
}

fn inside<'a>(host: &'a str, device: &'a crate::spec::NetDevice<'_>) -> &'a str {
    device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(host)
}

/// Checks what the configuration says of devices.
///
/// # Errors
/// A name the kernel does not take (dev_valid_name), one for two devices, or no network namespace; with the field's path.
pub(crate) fn check(linux: &Linux<'_>) -> Result<()> {
    let refuse = |field: String, why: String| Err(Error::invalid(format!("{field}: {why}")));
    if !linux.net_devices.is_empty() && !linux.namespaces.iter().any(|n| n.kind == "network") {
        return refuse("linux.netDevices".into(), "requires a network namespace".into());
    }
    let all: Vec<(&str, &str)> = linux.net_devices.iter().map(|(host, device)| (host, inside(host, device))).collect();
    for (i, &(host, name)) in all.iter().enumerate() {
        if !valid(host) {
            return refuse("linux.netDevices".into(), format!("`{}` is no name of a network device", shown(host)));
        }
        let field = || format!("linux.netDevices.{host}.name");
        if !valid(name) {
            return refuse(field(), format!("`{}` is no name of a network device", shown(name)));
        }
        if all[..i].iter().any(|(_, other)| *other == name) {
            return refuse(field(), format!("`{name}` is the name of another device, too"));
        }
    }
    Ok(())
}

/// `%` is left out: to the kernel it is a pattern, and nobody could know under which name the device arrives.
fn valid(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    (1..libc::IFNAMSIZ).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(bad)
}

/// The beginning of a name, for a message.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(text: &str) -> Linux<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn names_are_the_kernels() {
        let long = "x".repeat(16);
        for (devices, want) in [
            (r#"{"a":{},"b":{"name":"c"}}"#, "ok"),
            (r#"{"a":{"name":""}}"#, "ok"),
            (r#"{"a":{"name":"b"},"b":{}}"#, "linux.netDevices.b.name: `b` is the name of another device, too"),
            (r#"{"":{}}"#, "linux.netDevices: `` is no name of a network device"),
            (r#"{"a b":{}}"#, "linux.netDevices: `a b` is no name of a network device"),
            (r#"{"a":{"name":"../x"}}"#, "linux.netDevices.a.name: `../x` is no name of a network device"),
            (r#"{"a":{"name":".."}}"#, "linux.netDevices.a.name: `..` is no name of a network device"),
            (r#"{"a":{"name":"eth%d"}}"#, "linux.netDevices.a.name: `eth%d` is no name of a network device"),
            (r#"{"a":{"name":"a:1"}}"#, "linux.netDevices.a.name: `a:1` is no name of a network device"),
            (r#"{"a":{"name":"a\u0000"}}"#, r"linux.netDevices.a.name: `a\0` is no name of a network device"),
            (&format!(r#"{{"a":{{"name":"{long}"}}}}"#), &format!("linux.netDevices.a.name: `{long}` is no name of a network device")),
        ] {
            let text = format!(r#"{{"namespaces":[{{"type":"network"}}],"netDevices":{devices}}}"#);
            let got = check(&linux(&text)).map_or_else(|e| e.to_string(), |()| "ok".into());
            assert_eq!(got, want);
        }
        let none = check(&linux(r#"{"netDevices":{"a":{}}}"#)).unwrap_err().to_string();
        assert_eq!(none, "linux.netDevices: requires a network namespace");
    }

    #[test]
    fn the_namespace_decides_when() {
        let made = Namespaces { clone_flags: NETWORK, ..Namespaces::default() };
        for (network, ns, path, late) in [
            (r#"{"type":"network"}"#, &made, None, false),
            (r#"{"type":"network"}"#, &Namespaces::default(), None, true),
            (r#"{"type":"network","path":"/n"}"#, &Namespaces::default(), Some("/n"), false),
        ] {
            let text = format!(r#"{{"namespaces":[{network}],"netDevices":{{"a":{{"name":"b"}},"c":{{}}}}}}"#);
            let d = NetDevices::compile(&linux(&text), ns).unwrap();
            assert_eq!(d.names, [("a".into(), "b".into()), ("c".into(), "c".into())]);
            assert_eq!((d.path.as_deref(), d.late), (path, late));
        }
        assert_eq!(NetDevices::compile(&Linux::default(), &made), None);
    }
}
