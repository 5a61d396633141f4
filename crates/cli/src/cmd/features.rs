//! `features`: what the runtime can do, as JSON. Not here: the document's content (`runtime_core::features`).

use super::{Command, Context};
use crate::args::{self, Stop};
use crate::persona::Persona;
use crate::{output, version, wire};
use clap::ArgMatches;
use runtime_core::features::Features;

pub(super) const COMMAND: Command = Command { name: "features", about: "show the features of the runtime", options, run };

fn options() -> clap::Command {
    args::with_operands(args::command("features", "features", "Print the features of the runtime as JSON"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    args::operands(m, "features", 0, 0)?;
    let features = Features::of(&wire::backends(&context.root), annotations(context.persona));
    output::print(&output::pretty(&features)?)?;
    Ok(0)
}

/// The program's own facts; under crun's names too when it was called so.
fn annotations(persona: Persona) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in ["pinnace", persona.name()] {
        let pairs = [(format!("run.oci.{name}.commit"), version::COMMIT), (format!("run.oci.{name}.version"), version::VERSION)];
        all.extend(pairs.into_iter().map(|(key, value)| (key, value.to_owned())));
        if persona == Persona::Pinnace {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_key_of_the_specification() {
        let v = serde_json::to_value(Features::of(&wire::backends(std::path::Path::new("/run/crun")), annotations(Persona::Crun))).unwrap();
        for key in ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux", "annotations", "potentiallyUnsafeConfigAnnotations"]
        {
            assert!(v.get(key).is_some(), "{key}");
        }
        let linux = ["namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "mountExtensions", "intelRdt", "netDevices"];
        for key in linux {
            assert!(v["linux"].get(key).is_some(), "{key}");
        }
        assert_eq!(v["annotations"]["run.oci.crun.version"], version::VERSION);
        assert_eq!(v["annotations"]["run.oci.pinnace.version"], version::VERSION);
    }

    #[test]
    fn crun_is_named_only_when_called_so() {
        assert!(annotations(Persona::Pinnace).iter().all(|(k, _)| k.starts_with("run.oci.pinnace.")));
        assert_eq!(annotations(Persona::Pinnace).len(), 2);
    }
}
