//! Handing the notify descriptor of a seccomp filter to who answers its notifications (config-linux.md, "The Container Process State"). Not
//! here: getting hold of it (`launch`).

use super::{Runtime, socket};
use crate::api::annotations::SECCOMP_PLUGINS;
use crate::api::{PluginsRequest, SeccompListener};
use crate::error::{Context, Result};
use crate::id::ContainerId;
use crate::plan::hooks::Identity;
use crate::spec::{Map, Str};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The document that goes along with the descriptor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: State<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    pid: i32,
    bundle: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    annotations: &'a Map<'a, Str<'a>>,
}

/// The process behind a descriptor, and the first process of its container.
pub(crate) struct Pids {
    pub process: i32,
    pub init: i32,
}

/// Lets the plugins of the annotation answer; `config` is the file of the container's configuration.
///
/// # Errors
/// A plugin cannot be loaded or started.
pub(crate) fn serve(runtime: &Runtime, id: &ContainerId, config: &Path, who: &Identity<'_>, notify: OwnedFd) -> Result<()> {
    let plugins = who.annotations.get(SECCOMP_PLUGINS).map_or("", |list| &**list);
    let request = PluginsRequest { plugins, root: &runtime.root, id, bundle: who.bundle, config };
    let served = runtime.plugins()?.serve(&request, notify);
    served.map_err(|e| e.context(format!("annotation `{SECCOMP_PLUGINS}`")))
}

/// Connects to the listener and sends it the descriptor; `status` is the container's.
///
/// # Errors
/// Names the socket.
pub(crate) fn send(listener: &SeccompListener, notify: &OwnedFd, who: &Identity<'_>, status: &str, pids: &Pids) -> Result<()> {
    let bundle = who.bundle.to_string_lossy();
    let state = State { oci_version: "1.0", id: who.id, status, pid: pids.init, bundle: &bundle, annotations: who.annotations };
    let document = ContainerProcessState {
        oci_version: "0.2.0",
        fds: ["seccompFd"],
        pid: pids.process,
        metadata: listener.metadata.as_deref(),
        state,
    };
    // Strings and numbers always serialise.
    let bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
    let socket = socket::connect(Path::new(&listener.path)).map_err(|e| e.context("linux.seccomp.listenerPath"))?;
    socket::send_with_fd(&socket, &bytes, notify).context(|| format!("send the seccomp notify descriptor to `{}`", listener.path))
}
