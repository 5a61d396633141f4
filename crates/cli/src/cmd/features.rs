//! `features`: what the runtime can do, as JSON. Not here: the document's content (`runtime_core::features`).

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use crate::persona::Persona;
use crate::{output, version, wire};
use clap::ArgMatches;
use runtime_core::api::Handler;
use runtime_core::features::Features;

pub(super) const COMMAND: Command = Command { name: "features", about: "show the features of the runtime", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    args::with_operands(args::command(typed, "features", "features", "Print the features of the runtime as JSON"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    args::operands(m, "features", 0, 0)?;
    let backends = wire::backends(&context.root);
    let facts = annotations(context.persona).into_iter().chain(handlers(context.persona, &backends.handlers));
    let features = Features::of(&backends, facts.collect());
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

/// The handlers that are built in, and whether they can be used here or why not; under crun's name that there is one for WebAssembly.
fn handlers(persona: Persona, handlers: &[Box<dyn Handler>]) -> Vec<(String, String)> {
    let name = |what: &str| format!("run.oci.{}.{what}", persona.name());
    let mut all = Vec::new();
    if handlers.iter().any(|h| h.aliases().contains(&"wasm")) {
        all.push((name("wasm"), "true".to_owned()));
    }
    let usable = |h: &dyn Handler| h.usable().map_or_else(|e| e.to_string(), |()| "usable".to_owned());
    all.extend(handlers.iter().map(|h| (format!("run.oci.{}.handler.{}", Persona::Pinnace.name(), h.name()), usable(&**h))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::api::{HandlerProcess, HandlerRequest};
    use runtime_core::{Error, Result};

    struct Unusable;
    impl Handler for Unusable {
        fn name(&self) -> &'static str {
            "x"
        }
        fn aliases(&self) -> &'static [&'static str] {
            &["wasm"]
        }
        fn tag(&self) -> &'static str {
            "WASM:x"
        }
        fn usable(&self) -> Result<()> {
            Err(Error::other("`libx.so` is not installed"))
        }
        fn prepare(&self, _: &HandlerRequest<'_>) -> Result<Box<dyn HandlerProcess>> {
            self.usable().and_then(|()| Err(Error::other("not asked for here")))
        }
    }

    #[test]
    fn handlers_and_why_one_cannot_be_used() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let why = pair("run.oci.pinnace.handler.x", "`libx.so` is not installed");
        assert_eq!(handlers(Persona::Crun, &[Box::new(Unusable)]), [pair("run.oci.crun.wasm", "true"), why]);
        assert!(handlers(Persona::Crun, &[]).is_empty());
    }

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
