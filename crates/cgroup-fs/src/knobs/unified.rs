//! `unified`: files of v2 by name, written last so that they win. Not here: any knowledge of what is in them.

use super::{Policy, Sink, Write, invalid};
use crate::controller::{Controller, Version};
use runtime_core::spec::Resources;
use runtime_core::{Error, Result};

pub(super) fn put(out: &mut Sink, r: &Resources<'_>) -> Result<()> {
    for (file, value) in r.unified.iter() {
        let field = format!("unified[{}]", file.escape_debug());
        if file.is_empty() || file.contains(['/', '\0']) || matches!(file, "." | "..") {
            return Err(invalid(&field, "not the name of a cgroup file"));
        }
        let prefix = file.split('.').next().unwrap_or_default();
        let controller = Controller::from_name(prefix).unwrap_or(Controller::Core);
        if !out.split.v2 || out.split.v1.contains(controller) {
            return Err(
                Error::invalid("invalid configuration: cannot use unified on cgroup v1").context(format!("linux.resources.{field}"))
            );
        }
        // Files such as io.max take one line a write.
        for line in value.lines().filter(|l| !l.is_empty()) {
            out.push(Write {
                controller,
                version: Version::V2,
                file: file.to_owned().into(),
                value: line.to_owned(),
                field: field.clone().into(),
                policy: Policy::default(),
            });
        }
    }
    Ok(())
}
