//! Hooks that the child runs, and the state document every hook gets. Not here: running them (`init::hook`, `engine::hooks`).

use super::mounts::c_string;
use super::opens::{Open, Opens};
use super::step::{HookOutput, HookStep};
use crate::api::annotations::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::error::{Error, Result};
use crate::spec::{Hook, Map, Str};
use crate::sys::Argv;
use std::path::{Path, PathBuf};

/// Who the container is, for hooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    pub rootfs: &'a Path,
    pub annotations: &'a Map<'a, Str<'a>>,
}

/// The document on a hook's standard input (runtime.md "State"), compact as crun writes it.
pub(crate) fn state(who: &Identity<'_>, status: &str, pid: i32) -> Vec<u8> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct State<'a> {
        oci_version: &'a str,
        id: &'a str,
        pid: i32,
        root: &'a str,
        bundle: &'a str,
        status: &'a str,
        #[serde(skip_serializing_if = "Map::is_empty")]
        annotations: &'a Map<'a, Str<'a>>,
    }
    let (root, bundle) = (who.rootfs.to_string_lossy(), who.bundle.to_string_lossy());
    let state = State { oci_version: "1.0", id: who.id, pid, root: &root, bundle: &bundle, status, annotations: who.annotations };
    // Strings and numbers always serialise.
    serde_json::to_vec(&state).unwrap_or_default()
}

/// The slots of those files, for hooks of the container.
pub(crate) fn output(annotations: &Map<'_, Str<'_>>, opens: &mut Opens) -> HookOutput {
    let mut file =
        |annotation| annotations.get(annotation).map(|path| opens.once(Open::HookOutput { path: PathBuf::from(&**path), annotation }));
    let (stdout, stderr) = (file(HOOKS_STDOUT), file(HOOKS_STDERR));
    HookOutput { stdout: stdout.or_else(|| Some(opens.once(Open::Sink))), stderr }
}

/// Steps for hooks of one kind.
pub(crate) fn compile(hooks: &[Hook<'_>], kind: &str, stdin: &[u8], output: HookOutput) -> Result<Vec<HookStep>> {
    hooks
        .iter()
        .enumerate()
        .map(|(i, h)| {
            let field = |name: &str| format!("hooks.{kind}[{i}].{name}");
            let list = |list: &[Str<'_>], name: &str| {
                list.iter().enumerate().map(|(n, s)| c_string(s, || format!("{}[{n}]", field(name)))).collect::<Result<Vec<_>>>()
            };
            let path = c_string(&h.path, || field("path"))?;
            let mut argv = list(&h.args, "args")?;
            if argv.is_empty() {
                argv.push(path.clone());
            }
            Ok(HookStep {
                path,
                argv: Argv::new(argv),
                envp: Argv::new(list(&h.env, "env")?),
                stdin: stdin.to_vec(),
                timeout: timeout_ms(h.timeout).map_err(|e| e.context(field("timeout")))?,
                output,
            })
        })
        .collect()
}

/// A hook's timeout in milliseconds; -1 for none.
pub(crate) fn timeout_ms(timeout: Option<i64>) -> Result<i32> {
    match timeout {
        None => Ok(-1),
        Some(s) if s <= 0 => Err(Error::invalid(format!("{s} is not above zero"))),
        Some(s) => Ok(s.checked_mul(1000).and_then(|ms| ms.try_into().ok()).unwrap_or(i32::MAX)),
    }
}
