//! A named v1 hierarchy beside the v2 tree (annotation `run.oci.systemd.force_cgroup_v1`): a systemd in the container that knows no v2 keeps
//! its services' processes apart in it. Not here: mounting it in the container (the plan's affair).

use crate::controller::ControllerSet;
use crate::layout::{Hierarchy, Layout};
use runtime_core::api::CgroupRecord;
use runtime_core::api::annotations::FORCE_CGROUP_V1 as ANNOTATION;
use runtime_core::spec::{Map, Str};
use runtime_core::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// `CGROUP_SUPER_MAGIC` (statfs(2)).
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;

/// The mount point that the annotation names, on a host with nothing but a v2 tree; others have their v1 hierarchies anyway.
///
/// # Errors
/// ``annotation `run.oci.systemd.force_cgroup_v1`: …`` where no v1 hierarchy is mounted there.
pub fn named(annotations: &Map<'_, Str<'_>>, layout: &Layout) -> Result<Option<String>> {
    let Some(path) = annotations.get(ANNOTATION).filter(|p| !p.is_empty() && layout.v1.is_empty()) else { return Ok(None) };
    let mounted = rustix::fs::statfs(&**path).is_ok_and(|fs| fs.f_type as u64 == CGROUP_SUPER_MAGIC);
    if path.starts_with('/') && mounted {
        return Ok(Some(path.to_string()));
    }
    let text = format!("annotation `{ANNOTATION}`: no v1 hierarchy is mounted at `{}`", path.escape_debug());
    Err(Error::invalid(format!("{text} (mount -t cgroup -o none,name=systemd,xattr cgroup DIRECTORY)")))
}

/// The hierarchies of a record: the host's, and the named one.
pub fn with_named(layout: &Arc<Layout>, record: &CgroupRecord) -> Arc<Layout> {
    let Some(mount) = record.named.as_ref().map(PathBuf::from).filter(|m| !layout.v1.iter().any(|h| h.mount == *m)) else {
        return layout.clone();
    };
    let mut all = (**layout).clone();
    all.v1.push(Hierarchy { mount, controllers: ControllerSet::EMPTY, label: "name=systemd".to_owned() });
    Arc::new(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_a_mounted_hierarchy() {
        let of = |json: &str, layout: &Layout| named(&serde_json::from_str(json).unwrap(), layout).map_err(|e| e.to_string());
        let v2 = Layout::unified("/x");
        assert_eq!(of("{}", &v2), Ok(None));
        assert_eq!(of(r#"{"run.oci.systemd.force_cgroup_v1":""}"#, &v2), Ok(None));
        let e = of(r#"{"run.oci.systemd.force_cgroup_v1":"/tmp"}"#, &v2).unwrap_err();
        assert!(e.starts_with("annotation `run.oci.systemd.force_cgroup_v1`: no v1 hierarchy is mounted at `/tmp` ("), "{e}");
        let v1 = Layout { v1: vec![Hierarchy { mount: "/y".into(), controllers: ControllerSet::EMPTY, label: String::new() }], v2: None };
        assert_eq!(of(r#"{"run.oci.systemd.force_cgroup_v1":"/tmp"}"#, &v1), Ok(None));
        let record = CgroupRecord { named: Some("/z".into()), ..CgroupRecord::default() };
        let both = with_named(&Arc::new(v2), &record);
        assert_eq!((both.v1.len(), both.v1[0].label.as_str(), both.split().is_pure_v2()), (1, "name=systemd", true));
        assert_eq!(with_named(&both, &record).v1.len(), 1);
    }
}
