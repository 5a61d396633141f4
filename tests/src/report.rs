//! Ways to ask the probe's report. What is in it is decided in `src/bin/probe/report.rs`.

use std::ops::Index;

use serde_json::Value;

/// A probe's report; index it like the JSON it is.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Index<&str> for Report {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.0[key]
    }
}

impl Report {
    /// A capability set (`Inh`, `Prm`, `Eff`, `Bnd`, `Amb`) as a bit mask.
    ///
    /// # Panics
    /// If /proc wasn't there.
    #[track_caller]
    pub fn caps(&self, set: &str) -> u64 {
        self["status"][&format!("Cap{set}")].as_u64().expect("capabilities in the report")
    }

    /// A variable of the environment.
    pub fn env(&self, name: &str) -> Option<&str> {
        self["env"][name].as_str()
    }

    /// The topmost mount at a path.
    pub fn mount(&self, target: &str) -> Option<&Value> {
        self["mounts"].as_array()?.iter().rfind(|m| m["target"] == target)
    }

    /// Whether the topmost mount at a path has an option (per mount).
    ///
    /// # Panics
    /// If nothing is mounted there.
    #[track_caller]
    pub fn mount_has(&self, target: &str, option: &str) -> bool {
        let mount = self.mount(target).unwrap_or_else(|| panic!("nothing is mounted at {target}: {}", self["mounts"]));
        mount["options"].as_array().is_some_and(|o| o.iter().any(|w| w == option))
    }

    /// The inode of a namespace.
    ///
    /// # Panics
    /// If /proc wasn't there.
    #[track_caller]
    pub fn namespace(&self, kind: &str) -> u64 {
        self["namespaces"][kind].as_u64().expect("namespaces in the report")
    }

    /// The numbers of the open descriptors, sorted.
    pub fn descriptors(&self) -> Vec<i32> {
        let fds = self["fds"].as_object().into_iter().flat_map(|m| m.keys());
        let mut list: Vec<i32> = fds.filter_map(|k| k.parse().ok()).collect();
        list.sort_unstable();
        list
    }
}
