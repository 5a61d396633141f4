//! `state`: what the runtime knows of a container, as JSON (runtime.md "State"). Not here: finding it out.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use crate::output;
use clap::ArgMatches;
use runtime_core::state::Report;
use serde::Serialize;

pub(super) const COMMAND: Command = Command { name: "state", about: "output the state of a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "state", "state CONTAINER", "Print the state of a container as JSON"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "state")?;
    let report = context.runtime().state(&id)?;
    output::print(&(output::pretty(&View::of(&report))? + "\n"))?;
    Ok(0)
}

/// The document: the specification's keys and crun's, in crun's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    /// Fixed, as crun has it; no reader looks at it.
    oci_version: &'static str,
    id: &'a str,
    /// 0 when the process has ended.
    pid: i32,
    status: &'a str,
    bundle: &'a str,
    rootfs: &'a str,
    created: &'a str,
    #[serde(rename = "systemd-scope", skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    annotations: Pairs<'a>,
}

/// Serialised as an object, in the order given.
struct Pairs<'a>(&'a [(String, String)]);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

impl<'a> View<'a> {
    fn of(r: &'a Report) -> Self {
        Self {
            oci_version: "1.0.0",
            id: &r.id,
            pid: r.pid,
            status: r.status.as_str(),
            bundle: &r.bundle,
            rootfs: &r.rootfs,
            created: &r.created,
            scope: r.scope.as_deref(),
            owner: r.owner.as_deref(),
            annotations: Pairs(&r.annotations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn crun_keys_in_crun_order() {
        let mut r = report("ctr");
        r.scope = Some(String::new());
        r.owner = Some("root".into());
        r.annotations = vec![("z".into(), "1".into()), ("a".into(), "2".into())];
        let want = r#"{
  "ociVersion": "1.0.0",
  "id": "ctr",
  "pid": 1234,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-09-01T10:11:12.123456Z",
  "systemd-scope": "",
  "owner": "root",
  "annotations": {
    "z": "1",
    "a": "2"
  }
}"#;
        assert_eq!(output::pretty(&View::of(&r)).unwrap(), want);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let v = serde_json::to_value(View::of(&report("ctr"))).unwrap();
        for key in ["systemd-scope", "owner", "annotations"] {
            assert_eq!(v.get(key), None, "{key}");
        }
    }
}
