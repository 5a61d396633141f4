//! The devices of the host that a machine needs, as additions to the configuration: the nodes and, where devices are restricted at all, the rules
//! that let the container open them. Not here: making the nodes.
//!
//! Only what the engine wrote asks for devices. `/.krun_vm.json` comes with the image, and gives the container nothing of the host.

use crate::io;
use crate::settings::{Variant, Wishes};
use runtime_core::api::annotations::KRUN_GPU_FLAGS;
use runtime_core::spec::{Device, DeviceRule, Linux, Mount, Spec};
use runtime_core::{Context, Error, ErrorKind, Result};
use rustix::fs::{FileType, major, minor, stat};
use std::path::{Path, PathBuf};

const KVM: &str = "/dev/kvm";
const SEV: &str = "/dev/sev";
const NITRO: &str = "/dev/nitro_enclaves";
const DRI: &str = "/dev/dri";

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Path, on the host and in the container.
    pub path: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
}

/// What the machine has, which tests make up.
pub trait Host {
    /// A character device.
    ///
    /// # Errors
    /// It is missing or something else.
    fn device(&self, path: &str) -> Result<Node>;
    /// The devices for graphics, sorted.
    ///
    /// # Errors
    /// There are none.
    fn graphics(&self) -> Result<Vec<Node>>;
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct ThisHost;

impl Host for ThisHost {
    fn device(&self, path: &str) -> Result<Node> {
        let found = stat(path).map_err(io).context(|| format!("`{path}` is not available"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice {
            return Err(Error::new(ErrorKind::Unsupported, format!("`{path}` is not available: it is no character device")));
        }
        Ok(Node { path: path.to_owned(), major: major(found.st_rdev).into(), minor: minor(found.st_rdev).into() })
    }

    fn graphics(&self) -> Result<Vec<Node>> {
        let entries = std::fs::read_dir(DRI).context(|| format!("`{DRI}` is not available"))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        // Beside the devices there are directories with links to them.
        Ok(paths.iter().filter_map(|p| p.to_str()).filter_map(|p| self.device(p).ok()).collect())
    }
}

/// Adds what the annotations want. Where they name no variant, what there is of every variant's.
///
/// # Errors
/// The host lacks one.
pub fn add(spec: &mut Spec<'_>, wishes: &Wishes, host: &dyn Host) -> Result<()> {
    let mut nodes = Vec::new();
    match wishes.variant {
        Some(Variant::AwsNitro) => nodes.push(host.device(NITRO)?),
        Some(Variant::Sev) => nodes.extend([host.device(KVM)?, host.device(SEV)?]),
        Some(Variant::Standard) => nodes.push(host.device(KVM)?),
        None => nodes.extend(any(host)?),
    }
    if wishes.gpu_flags.is_some() {
        let graphics = host.graphics().map_err(|e| e.context(format!("annotation `{KRUN_GPU_FLAGS}`")))?;
        if graphics.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, format!("annotation `{KRUN_GPU_FLAGS}`: `{DRI}` has no devices")));
        }
        nodes.extend(graphics);
    }
    let hosts_dev = dev_is_bound(&spec.mounts);
    let linux = spec.linux.get_or_insert_with(Linux::default);
    for node in nodes {
        give(linux, node, hosts_dev);
    }
    Ok(())
}

/// What there is of the devices that some variant needs: which one it is to be, the image may say later.
fn any(host: &dyn Host) -> Result<Vec<Node>> {
    let there = |path| host.device(path).ok();
    match (host.device(KVM), there(NITRO)) {
        (Err(missing), None) => Err(missing),
        (kvm, nitro) => Ok(kvm.ok().into_iter().chain(there(SEV)).chain(nitro).collect()),
    }
}

/// A node that the configuration lists is the engine's affair, with its rules.
fn give(linux: &mut Linux<'_>, node: Node, hosts_dev: bool) {
    if linux.devices.iter().any(|d| *d.path == *node.path) {
        return;
    }
    // Without rules everything may be opened.
    if let Some(rules) = linux.resources.as_mut().map(|r| &mut r.devices).filter(|rules| !rules.is_empty()) {
        rules.push(DeviceRule {
            allow: true,
            kind: Some("c".into()),
            major: Some(node.major),
            minor: Some(node.minor),
            access: Some("rwm".into()),
        });
    }
    if !hosts_dev {
        let Node { path, major, minor } = node;
        let (major, minor) = (Some(major), Some(minor));
        linux.devices.push(Device {
            kind: "c".into(),
            path: path.into(),
            major,
            minor,
            file_mode: Some(0o666),
            uid: Some(0),
            gid: Some(0),
        });
    }
}

/// The host's /dev is the container's, too, and has them.
fn dev_is_bound(mounts: &[Mount<'_>]) -> bool {
    let dev = mounts.iter().rfind(|m| Path::new(&*m.destination) == Path::new("/dev"));
    dev.is_some_and(|m| m.fstype.as_deref() == Some("bind") || m.options.iter().flatten().any(|w| *w == "bind" || *w == "rbind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::spec::parse;

    struct Fake(&'static [&'static str]);

    impl Host for Fake {
        fn device(&self, path: &str) -> Result<Node> {
            let at = self.0.iter().position(|p| *p == path);
            let at = at.ok_or_else(|| Error::sys(libc::ENOENT, format!("`{path}` is not available")))?;
            Ok(Node { path: path.to_owned(), major: 10, minor: at as i64 })
        }
        fn graphics(&self) -> Result<Vec<Node>> {
            if !self.0.iter().any(|p| p.starts_with(DRI)) {
                return Err(Error::sys(libc::ENOENT, format!("`{DRI}` is not available")));
            }
            Ok(self.0.iter().filter(|p| p.starts_with("/dev/dri/")).filter_map(|p| self.device(p).ok()).collect())
        }
    }

    const ALL: Fake = Fake(&[KVM, SEV, NITRO, "/dev/dri/card0", "/dev/dri/renderD128"]);

    /// The paths of the nodes and the minor numbers of the rules.
    fn added(annotations: &str, linux: &str, mounts: &str, host: &Fake) -> Result<(Vec<String>, Vec<Option<i64>>)> {
        let text = format!(
            r#"{{"ociVersion":"1.0.0","annotations":{{{annotations}}},"mounts":[{mounts}]{}{linux}}}"#,
            if linux.is_empty() { "" } else { "," }
        );
        let mut spec: Spec<'_> = parse(text.as_bytes()).unwrap();
        let wishes = Wishes::read(&spec).unwrap();
        add(&mut spec, &wishes, host)?;
        let linux = spec.linux();
        let rules = linux.resources.iter().flat_map(|r| &r.devices);
        Ok((linux.devices.iter().map(|d| d.path.to_string()).collect(), rules.map(|r| r.minor).collect()))
    }

    fn paths(annotations: &str, host: &Fake) -> String {
        added(annotations, "", "", host).map_or_else(|e| e.to_string(), |(paths, _)| paths.join(" "))
    }

    #[test]
    fn each_variant_has_its_devices() {
        for (annotations, host, want) in [
            ("", &Fake(&[KVM]), KVM),
            ("", &ALL, "/dev/kvm /dev/sev /dev/nitro_enclaves"),
            ("", &Fake(&[NITRO]), NITRO),
            (r#""krun.variant":"""#, &ALL, KVM),
            (r#""krun.variant":"sev""#, &ALL, "/dev/kvm /dev/sev"),
            (r#""krun.variant":"aws-nitro""#, &ALL, NITRO),
            (r#""krun.gpu_flags":"0""#, &ALL, "/dev/kvm /dev/sev /dev/nitro_enclaves /dev/dri/card0 /dev/dri/renderD128"),
        ] {
            assert_eq!(paths(annotations, host), want, "{annotations}");
        }
    }

    #[test]
    fn a_missing_device_is_named() {
        for (annotations, host, want) in [
            ("", &Fake(&[]), "`/dev/kvm` is not available: No such file or directory"),
            (r#""krun.variant":"sev""#, &Fake(&[KVM]), "`/dev/sev` is not available: No such file or directory"),
            (r#""krun.variant":"aws-nitro""#, &Fake(&[KVM]), "`/dev/nitro_enclaves` is not available: No such file or directory"),
            (
                r#""krun.gpu_flags":"1""#,
                &Fake(&[KVM]),
                "annotation `krun.gpu_flags`: `/dev/dri` is not available: No such file or directory",
            ),
            (r#""krun.gpu_flags":"1""#, &Fake(&[KVM, DRI]), "annotation `krun.gpu_flags`: `/dev/dri` has no devices"),
        ] {
            assert_eq!(paths(annotations, host), want, "{annotations}");
        }
    }

    #[test]
    fn rules_are_added_where_there_are_some() {
        let kvm = Fake(&[KVM]);
        let deny = r#""linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}"#;
        assert_eq!(added("", deny, "", &kvm).unwrap(), (vec![KVM.into()], vec![None, Some(0)]));
        assert_eq!(added("", r#""linux":{"resources":{}}"#, "", &kvm).unwrap(), (vec![KVM.into()], vec![]));
        let listed = r#""linux":{"devices":[{"path":"/dev/kvm","type":"c","major":1,"minor":3}],
            "resources":{"devices":[{"allow":false,"access":"rwm"}]}}"#;
        assert_eq!(added("", listed, "", &kvm).unwrap(), (vec![KVM.into()], vec![None]));
        // Nothing is made in the host's own /dev.
        let bound = r#"{"destination":"/dev/","type":"none","source":"/dev","options":["rbind"]}"#;
        assert_eq!(added("", deny, bound, &kvm).unwrap(), (vec![], vec![None, Some(0)]));
        let tmpfs = r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs"}"#;
        assert_eq!(added("", deny, tmpfs, &kvm).unwrap(), (vec![KVM.into()], vec![None, Some(0)]));
    }

    #[test]
    fn this_host_tells_devices_from_other_files() {
        assert_eq!(ThisHost.device("/dev/null").unwrap(), Node { path: "/dev/null".into(), major: 1, minor: 3 });
        assert!(ThisHost.device("/dev").unwrap_err().to_string().ends_with("it is no character device"));
        assert!(ThisHost.device("/dev/nothing").unwrap_err().to_string().ends_with("No such file or directory"));
    }
}
