//! `restore`: makes a container of a checkpoint. Not here: the options shared with `checkpoint`, restoring.

use super::{Command, Context, checkpoint, create};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::Result;
use runtime_core::api::CheckpointSettings;
use runtime_core::engine::RestoreOptions;

pub(super) const COMMAND: Command = Command { name: "restore", about: "restore a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    let command = args::command(typed, "restore", "restore [OPTION]... CONTAINER", "Make a container of a checkpoint, and wait for it");
    checkpoint::with_options(typed, command)
        .args(typed.only(args::value("bundle", "DIR", "Bundle directory, \".\" by default").short('b')))
        .args(typed.only(args::value("pid-file", "FILE", "File that receives the process's id")))
        .args(typed.only(args::value("console-socket", "SOCKET", "Unix socket that receives the terminal's master side")))
        .args(typed.only(args::flag("detach", "Do not wait").short('d')))
        .args(typed.only(args::flag("tcp-close", "Restore connected TCP sockets as closed ones")))
        .args(typed.only(args::value("lsm-profile", "TYPE:NAME", "AppArmor or SELinux profile of the processes")))
        .args(typed.only(args::value("lsm-mount-context", "CONTEXT", "SELinux context of the mounts")))
        .args(typed.only(args::flag("no-pivot", "Accepted for compatibility, without effect")))
        .args(typed.only(args::flag("no-subreaper", "Accepted for compatibility, without effect")))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "restore")?;
    Ok(context.runtime().restore(&id, &restore_options(context, m)?)?)
}

fn restore_options(context: &Context, m: &ArgMatches) -> Result<RestoreOptions> {
    Ok(RestoreOptions {
        image_path: checkpoint::image_path(m),
        work_path: args::path(m, "work-path"),
        bundle: args::path(m, "bundle").unwrap_or_else(|| ".".into()),
        cgroup_manager: context.cgroup_manager.clone(),
        console_socket: args::path(m, "console-socket"),
        notify_socket: create::variable("NOTIFY_SOCKET")?,
        pid_file: args::path(m, "pid-file"),
        detach: args::is_set(m, "detach"),
        lsm_profile: args::text(m, "lsm-profile")?,
        lsm_mount_context: args::text(m, "lsm-mount-context")?,
        settings: CheckpointSettings { tcp_close: args::is_set(m, "tcp-close"), ..checkpoint::settings(m)? },
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;
    use runtime_core::api::{CgroupsMode, NetworkLock};
    use std::path::Path;

    #[test]
    fn all_of_them() {
        let line = "-b /b --image-path=/i --work-path /w --pid-file /p --console-socket /s -d --tcp-established --tcp-close --ext-unix-sk \
                    --shell-job --file-locks --lazy-pages --auto-dedup --empty-ns=network --network-lock skip --manage-cgroups-mode=ignore \
                    --lsm-profile apparmor:x --lsm-mount-context c --no-pivot -no-subreaper ctr";
        let o = restore_options(&Context::for_tests(), &matches(options, line)).unwrap();
        assert_eq!((o.bundle.as_path(), o.image_path.as_path()), (Path::new("/b"), Path::new("/i")));
        assert_eq!((o.work_path.as_deref(), o.pid_file.as_deref()), (Some(Path::new("/w")), Some(Path::new("/p"))));
        assert_eq!((o.console_socket.as_deref(), o.detach), (Some(Path::new("/s")), true));
        assert_eq!((o.lsm_profile.as_deref(), o.lsm_mount_context.as_deref()), (Some("apparmor:x"), Some("c")));
        let all = CheckpointSettings {
            tcp_established: true,
            tcp_close: true,
            tcp_skip_in_flight: false,
            ext_unix_sk: true,
            shell_job: true,
            file_locks: true,
            link_remap: false,
            lazy_pages: true,
            auto_dedup: true,
            empty_network: true,
            network_lock: Some(NetworkLock::Skip),
            cgroups_mode: Some(CgroupsMode::Ignore),
        };
        assert_eq!(o.settings, all);
    }

    #[test]
    fn none_of_them() {
        let o = restore_options(&Context::for_tests(), &matches(options, "ctr")).unwrap();
        assert_eq!((o.bundle.as_path(), o.image_path.as_path()), (Path::new("."), Path::new("checkpoint")));
        assert!(o.work_path.is_none() && o.pid_file.is_none() && o.console_socket.is_none() && !o.detach);
        assert!(o.lsm_profile.is_none() && o.lsm_mount_context.is_none());
        assert_eq!((o.cgroup_manager.as_str(), o.settings), ("cgroupfs", CheckpointSettings::default()));
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(
            options,
            &[
                "bundle=",
                "image-path=",
                "work-path=",
                "tcp-established",
                "tcp-close",
                "ext-unix-sk",
                "shell-job",
                "detach",
                "pid-file=",
                "console-socket=",
                "file-locks",
                "manage-cgroups-mode=",
                "lsm-profile=",
                "lsm-mount-context=",
                "network-lock=",
            ],
        );
    }
}
