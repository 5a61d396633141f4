//! Labels of the kernel's security modules for the container's process and its keyring. Not here: labels of mounts (`mounts`), writing them
//! (`init::process`).

use super::mounts::c_string;
use crate::error::{Error, ErrorKind, Result};
use crate::facts::{AppArmor, Lsm};
use crate::spec::Process;
use std::ffi::CString;

/// A file below `/proc/self`, and the label to write there.
#[derive(Debug)]
pub(super) struct Label {
    pub file: CString,
    pub label: CString,
}

/// What the program will run as; `now` is for a process that will execute none. A process that asks for a module which is not in force does
/// not start: it would run with less around it than was asked for.
///
/// # Errors
/// The module is not enabled, or NUL, with the field's path.
pub(super) fn labels(p: &Process<'_>, lsm: Lsm, now: bool) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    if let Some(label) = selinux(p, lsm)? {
        labels.push(Label { file: if now { c"attr/current" } else { c"attr/exec" }.into(), label });
    }
    if let Some(profile) = p.apparmor_profile.as_deref().filter(|l| !l.is_empty()) {
        let field = "process.apparmorProfile";
        // A confined process, such as one of another container, may not leave its own profile: the new one is stacked upon it.
        let word = match lsm.apparmor {
            AppArmor::Off => return Err(off(field, "AppArmor")),
            AppArmor::Unconfined if now => "changeprofile",
            AppArmor::Unconfined => "exec",
            AppArmor::Confined => "stack",
        };
        let label = c_string(&format!("{word} {profile}"), || field.into())?;
        let file = if now { c"attr/apparmor/current" } else { c"attr/apparmor/exec" };
        labels.push(Label { file: file.into(), label });
    }
    Ok(labels)
}

/// The label of the session keyring, which is the process's.
///
/// # Errors
/// As [`labels`].
pub(super) fn selinux(p: &Process<'_>, lsm: Lsm) -> Result<Option<CString>> {
    let Some(label) = p.selinux_label.as_deref().filter(|l| !l.is_empty()) else { return Ok(None) };
    let field = "process.selinuxLabel";
    if !lsm.selinux {
        return Err(off(field, "SELinux"));
    }
    c_string(label, || field.into()).map(Some)
}

fn off(field: &str, module: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{field}: {module} is not enabled on this host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(process: &str, selinux: bool, apparmor: AppArmor, now: bool) -> String {
        let process: Process<'_> = serde_json::from_str(process).unwrap();
        let lsm = Lsm { selinux, apparmor };
        let words = |Label { file, label }: &Label| format!("{}={}", file.to_str().unwrap(), label.to_str().unwrap());
        labels(&process, lsm, now).map_or_else(|e| e.to_string(), |all| all.iter().map(words).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn labels_need_their_module() {
        use AppArmor::{Confined, Off, Unconfined};
        let (selinux, apparmor) = (r#"{"cwd":"/","selinuxLabel":"u:r:t:s0"}"#, r#"{"cwd":"/","apparmorProfile":"p"}"#);
        for (process, enabled, mode, want) in [
            (r#"{"cwd":"/"}"#, true, Confined, ""),
            (r#"{"cwd":"/","selinuxLabel":"","apparmorProfile":""}"#, false, Off, ""),
            (selinux, true, Off, "attr/exec=u:r:t:s0"),
            (selinux, false, Unconfined, "process.selinuxLabel: SELinux is not enabled on this host"),
            (apparmor, false, Unconfined, "attr/apparmor/exec=exec p"),
            (apparmor, false, Confined, "attr/apparmor/exec=stack p"),
            (apparmor, true, Off, "process.apparmorProfile: AppArmor is not enabled on this host"),
        ] {
            assert_eq!(written(process, enabled, mode, false), want, "{process}");
        }
        // Without execve.
        for (process, mode, want) in [
            (selinux, Off, "attr/current=u:r:t:s0"),
            (apparmor, Unconfined, "attr/apparmor/current=changeprofile p"),
            (apparmor, Confined, "attr/apparmor/current=stack p"),
        ] {
            assert_eq!(written(process, true, mode, true), want, "{process}");
        }
    }
}
