//! The status file's content: crun's keys in crun's order, so that either runtime finds the other's containers, and one of our own.

use crate::api::CgroupRecord;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is written down of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its first process.
    pub pid: i32,
    /// Field 22 of that process's /proc/PID/stat.
    pub process_start_time: u64,
    pub cgroup: CgroupRecord,
    /// Absolute paths.
    pub rootfs: String,
    pub bundle: String,
    /// RFC 3339.
    pub created: String,
    pub owner: Option<String>,
    pub detached: bool,
    /// Link targets of the descriptors 0 to 2 of the runtime that made it.
    pub external_descriptors: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    pid: i32,
    #[serde(default)]
    process_start_time: u64,
    #[serde(default)]
    cgroup_path: Option<String>,
    /// Empty, as crun writes it, where there is none.
    #[serde(default)]
    scope: Option<String>,
    rootfs: String,
    #[serde(default)]
    systemd_cgroup: bool,
    bundle: String,
    #[serde(default)]
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default)]
    detached: bool,
    /// JSON inside a JSON string, for crun's sake.
    #[serde(rename = "external_descriptors", default)]
    external_descriptors: String,
    /// Name of the cgroup manager. crun has no such key; where it is missing it follows from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup_manager: Option<String>,
    /// [`CgroupRecord::named`]; crun has no such key either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup_named: Option<String>,
}

impl Record {
    /// The root file system's path; crun notes it as the configuration has it.
    pub(crate) fn root(&self) -> PathBuf {
        Path::new(&self.bundle).join(&self.rootfs)
    }

    /// The file's content.
    ///
    /// # Errors
    /// None in practice: there are only strings and numbers.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let file = File {
            pid: self.pid,
            process_start_time: self.process_start_time,
            cgroup_path: Some(self.cgroup.path.clone()),
            scope: Some(self.cgroup.scope.clone().unwrap_or_default()),
            rootfs: self.rootfs.clone(),
            systemd_cgroup: self.cgroup.manager == "systemd",
            bundle: self.bundle.clone(),
            created: self.created.clone(),
            owner: self.owner.clone(),
            detached: self.detached,
            external_descriptors: serde_json::to_string(&self.external_descriptors).map_err(|e| Error::other(e.to_string()))?,
            cgroup_manager: Some(self.cgroup.manager.clone()),
            cgroup_named: self.cgroup.named.clone(),
        };
        serde_json::to_vec_pretty(&file).map_err(|e| Error::other(e.to_string()))
    }

    /// Reads a file of this runtime or of crun.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn from_json(raw: &[u8]) -> Result<Self> {
        let file: File = crate::spec::parse(raw)?;
        if file.pid <= 0 {
            return Err(Error::invalid(format!("`pid` is {}", file.pid)));
        }
        let path = file.cgroup_path.unwrap_or_default();
        let manager = match file.cgroup_manager {
            Some(name) => name,
            None if file.systemd_cgroup => "systemd".to_owned(),
            None if path.is_empty() => "disabled".to_owned(),
            None => "cgroupfs".to_owned(),
        };
        Ok(Self {
            pid: file.pid,
            process_start_time: file.process_start_time,
            cgroup: CgroupRecord { manager, path, scope: file.scope, named: file.cgroup_named },
            rootfs: file.rootfs,
            bundle: file.bundle,
            created: file.created,
            owner: file.owner,
            detached: file.detached,
            // Only a restore needs it, and older versions of crun do not write it.
            external_descriptors: serde_json::from_str(&file.external_descriptors).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            pid: 1234,
            process_start_time: 99,
            cgroup: CgroupRecord { manager: "cgroupfs".into(), path: "/ctr".into(), scope: Some(String::new()), named: None },
            rootfs: "/b/rootfs".into(),
            bundle: "/b".into(),
            created: "2026-09-01T10:11:12.123456Z".into(),
            owner: Some("root".into()),
            detached: true,
            external_descriptors: vec!["/dev/null".into(), "pipe:[1]".into(), "pipe:[2]".into()],
        }
    }

    #[test]
    fn crun_keys_in_crun_order() {
        let text = String::from_utf8(record().to_json().unwrap()).unwrap();
        let keys: Vec<&str> = text.lines().filter_map(|l| l.trim().split_once(':')).map(|(k, _)| k.trim_matches('"')).collect();
        let crun = [
            "pid",
            "process-start-time",
            "cgroup-path",
            "scope",
            "rootfs",
            "systemd-cgroup",
            "bundle",
            "created",
            "owner",
            "detached",
            "external_descriptors",
        ];
        assert_eq!(keys[..crun.len()], crun);
        assert_eq!(keys[crun.len()..], ["cgroup-manager"]);
        assert!(text.contains(r#""external_descriptors": "[\"/dev/null\",\"pipe:[1]\",\"pipe:[2]\"]""#), "{text}");
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Record::from_json(&record().to_json().unwrap()).unwrap(), record());
    }

    #[test]
    fn managers_of_crun_follow_from_its_keys() {
        for (more, manager) in [
            (r#""cgroup-path":"/a","systemd-cgroup":true,"scope":"crun-a.scope""#, "systemd"),
            (r#""cgroup-path":"/a","systemd-cgroup":false"#, "cgroupfs"),
            (r#""cgroup-path":"","systemd-cgroup":false"#, "disabled"),
            (r#""cgroup-path":null"#, "disabled"),
        ] {
            let text = format!(r#"{{"pid":1,"process-start-time":2,"rootfs":"/r","bundle":"/b","created":"t",{more},"future":[1]}}"#);
            assert_eq!(Record::from_json(text.as_bytes()).unwrap().cgroup.manager, manager, "{more}");
        }
    }

    #[test]
    fn damage_is_named() {
        for (bad, part) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[1]", "invalid length"),
            (r#"{"pid":"x"}"#, "pid"),
            (r#"{"pid":0,"rootfs":"/","bundle":"/"}"#, "`pid` is 0"),
            (r#"{"pid":-1,"rootfs":"/","bundle":"/"}"#, "`pid` is -1"),
            (r#"{"pid":1,"bundle":"/"}"#, "rootfs"),
        ] {
            let text = Record::from_json(bad.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(part), "{bad}: {text}");
        }
    }
}
