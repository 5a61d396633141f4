//! The manager for containers without a cgroup of their own. Not here: any file.

use crate::cgroup::FsCgroup;
use crate::device;
use crate::knobs;
use runtime_core::api::{Cgroup, CgroupManager, CgroupRecord, CgroupRequest, Note, Placement};
use runtime_core::spec::Resources;
use runtime_core::{Error, Result};
use std::sync::Arc;

const NAME: &str = "disabled";

/// Leaves containers in the cgroup of their runtime, and refuses limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct DisabledManager;

impl CgroupManager for DisabledManager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn place(&self, request: &CgroupRequest<'_>, _: Note<'_>) -> Result<Placement> {
        refuse_limits(request.resources)?;
        let record = CgroupRecord { manager: NAME.into(), ..CgroupRecord::default() };
        Ok(Placement { record, ..Placement::default() })
    }

    fn enter(&self, _: &CgroupRequest<'_>, placement: &Placement, _: i32) -> Result<Box<dyn Cgroup>> {
        self.open(&placement.record)
    }

    fn open(&self, _: &CgroupRecord) -> Result<Box<dyn Cgroup>> {
        let record = CgroupRecord { manager: NAME.into(), ..CgroupRecord::default() };
        Ok(Box::new(FsCgroup::new(Arc::default(), record)?))
    }
}

/// Device rules about less than all access are limits; those about all of it, such as the default configuration's, are passed over.
///
/// # Errors
/// `linux.resources.FIELD: cannot set limits without cgroups`.
pub(crate) fn refuse_limits(resources: &Resources<'_>) -> Result<()> {
    let rules = device::parse(&resources.devices)?;
    let device = rules.iter().any(|r| r.access != device::ALL_ACCESS).then_some("devices");
    match knobs::asked(resources).or(device) {
        Some(field) => Err(Error::invalid("cannot set limits without cgroups").context(format!("linux.resources.{field}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> Option<String> {
        refuse_limits(&serde_json::from_str::<Resources<'_>>(json).unwrap()).err().map(|e| e.to_string())
    }

    #[test]
    fn limits_are_refused_by_field() {
        for (json, field) in [
            (r#"{"memory":{"limit":1}}"#, "memory"),
            (r#"{"cpu":{"cpus":"0"}}"#, "cpu"),
            (r#"{"pids":{"limit":5}}"#, "pids"),
            (r#"{"unified":{"memory.max":"1"}}"#, "unified"),
            (r#"{"devices":[{"allow":false,"access":"w"}]}"#, "devices"),
        ] {
            assert_eq!(refusal(json).unwrap(), format!("linux.resources.{field}: cannot set limits without cgroups"));
        }
        for json in ["{}", r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{},"cpu":{},"pids":{"limit":0}}"#] {
            assert_eq!(refusal(json), None);
        }
    }

    #[test]
    fn a_cgroup_that_is_none_has_nothing_to_do() {
        let c = DisabledManager.open(&CgroupRecord::default()).unwrap();
        assert_eq!((c.pids().unwrap(), c.is_frozen().unwrap(), c.oom_kills().unwrap()), (vec![], false, None));
        c.kill(9).unwrap();
        c.freeze(true).unwrap();
        c.destroy().unwrap();
        let placement = c.join(None, 1).unwrap();
        assert!(placement.into.is_none() && placement.join.is_empty());
    }
}
