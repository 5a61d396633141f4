//! `checkpoint`: writes a running container down, and the options it shares with `restore`. Not here: dumping.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::api::CheckpointSettings;
use runtime_core::engine::CheckpointOptions;
use runtime_core::{Error, Result};
use std::os::fd::RawFd;
use std::path::PathBuf;

pub(super) const COMMAND: Command = Command { name: "checkpoint", about: "checkpoint a container", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    let command =
        args::command(typed, "checkpoint", "checkpoint [OPTION]... CONTAINER", "Write a running container down as images, by CRIU");
    with_options(typed, command)
        .args(
            typed.only(args::value("parent-path", "DIR", "Images of the checkpoint before, relative to the images' directory").alias("pa")),
        )
        .args(typed.only(args::flag("pre-dump", "Dump the memory only, and let the container go on")))
        .args(typed.only(args::flag("leave-running", "Let the container go on").short('R').alias("l")))
        .args(typed.only(args::flag("tcp-skip-in-flight", "Leave TCP connections out that are not established yet")))
        .args(typed.only(args::flag("link-remap", "Link unlinked files that are still open")))
        .args(typed.only(args::value("page-server", "ADDRESS:PORT", "Page server that memory is sent to")))
        .args(typed.only(args::value("status-fd", "FD", "Descriptor that gets a zero byte when pages can be fetched")))
}

/// The options of both commands. They may be shortened as far as crun allows, which has fewer of them.
pub(super) fn with_options(typed: Typed<'_>, command: clap::Command) -> clap::Command {
    args::with_operands(command)
        .args(typed.only(args::value("image-path", "DIR", "Directory of the images, \"checkpoint\" by default")))
        .args(typed.only(args::value("work-path", "DIR", "Directory of logs, the images' by default")))
        .args(typed.only(args::flag("tcp-established", "With established TCP connections").aliases(["t", "tc", "tcp", "tcp-"])))
        .args(typed.only(args::flag("ext-unix-sk", "With unix sockets whose other end is outside").alias("e")))
        .args(typed.only(args::flag("shell-job", "The terminal and the session's leader are outside").alias("s")))
        .args(typed.only(args::flag("file-locks", "With file locks")))
        .args(typed.only(args::flag("lazy-pages", "Serve or fetch memory on demand")))
        .args(typed.only(args::flag("auto-dedup", "Drop pages that were written anew from the images")))
        .args(typed.only(
            args::value("empty-ns", "TYPE", "Namespace whose content somebody else cares for: network").action(clap::ArgAction::Append),
        ))
        .args(typed.only(args::value("network-lock", "METHOD", "How connections are kept still: iptables, nftables or skip").alias("n")))
        .args(typed.only(args::value("manage-cgroups-mode", "MODE", "What becomes of cgroups: soft, ignore, full or strict")))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "checkpoint")?;
    context.runtime().checkpoint(&id, &checkpoint_options(m)?)?;
    Ok(0)
}

fn checkpoint_options(m: &ArgMatches) -> Result<CheckpointOptions> {
    let settings = CheckpointSettings {
        tcp_skip_in_flight: args::is_set(m, "tcp-skip-in-flight"),
        link_remap: args::is_set(m, "link-remap"),
        ..settings(m)?
    };
    let options = CheckpointOptions {
        image_path: image_path(m),
        work_path: args::path(m, "work-path"),
        parent_path: args::path(m, "parent-path"),
        pre_dump: args::is_set(m, "pre-dump"),
        leave_running: args::is_set(m, "leave-running"),
        page_server: args::text(m, "page-server")?.map(|text| page_server(&text)).transpose()?,
        status_fd: args::number::<u16>(m, "status-fd")?.map(RawFd::from),
        settings,
    };
    if options.status_fd.is_some() && !options.settings.lazy_pages {
        return Err(Error::invalid("--status-fd is for --lazy-pages only"));
    }
    Ok(options)
}

/// Where the images are.
pub(super) fn image_path(m: &ArgMatches) -> PathBuf {
    args::path(m, "image-path").unwrap_or_else(|| "checkpoint".into())
}

/// What is part of a checkpoint, as far as both commands can say it.
pub(super) fn settings(m: &ArgMatches) -> Result<CheckpointSettings> {
    let mut empty_network = false;
    for kind in args::texts(m, "empty-ns")? {
        if kind != "network" {
            return Err(Error::invalid(format!("namespace `{kind}` is not supported by --empty-ns: only `network` is")));
        }
        empty_network = true;
    }
    Ok(CheckpointSettings {
        tcp_established: args::is_set(m, "tcp-established"),
        ext_unix_sk: args::is_set(m, "ext-unix-sk"),
        shell_job: args::is_set(m, "shell-job"),
        file_locks: args::is_set(m, "file-locks"),
        lazy_pages: args::is_set(m, "lazy-pages"),
        auto_dedup: args::is_set(m, "auto-dedup"),
        empty_network,
        network_lock: args::text(m, "network-lock")?.map(|word| word.parse()).transpose()?,
        cgroups_mode: args::text(m, "manage-cgroups-mode")?.map(|word| word.parse()).transpose()?,
        ..CheckpointSettings::default()
    })
}

/// `ADDRESS:PORT`; an address of IPv6 may stand in brackets.
fn page_server(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address, port.parse::<u16>().ok()?)));
    match parts {
        Some((address, port)) if !address.is_empty() && port > 0 => {
            let inner = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            Ok((inner.to_owned(), port))
        }
        _ => Err(args::invalid("page-server", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;
    use runtime_core::api::{CgroupsMode, NetworkLock};
    use std::path::Path;

    #[test]
    fn all_of_them() {
        let line = "--image-path /i --work-path=/w --parent-path ../p --pre-dump --leave-running --tcp-established --tcp-skip-in-flight \
                    --ext-unix-sk --shell-job --file-locks --link-remap --lazy-pages --auto-dedup --page-server [::1]:99 --status-fd 7 \
                    --empty-ns network --network-lock=nftables --manage-cgroups-mode full ctr";
        let o = checkpoint_options(&matches(options, line)).unwrap();
        assert_eq!((o.image_path.as_path(), o.work_path.as_deref()), (Path::new("/i"), Some(Path::new("/w"))));
        assert_eq!((o.parent_path.as_deref(), o.page_server), (Some(Path::new("../p")), Some(("::1".to_owned(), 99))));
        assert_eq!((o.pre_dump, o.leave_running, o.status_fd), (true, true, Some(7)));
        let all = CheckpointSettings {
            tcp_established: true,
            tcp_close: false,
            tcp_skip_in_flight: true,
            ext_unix_sk: true,
            shell_job: true,
            file_locks: true,
            link_remap: true,
            lazy_pages: true,
            auto_dedup: true,
            empty_network: true,
            network_lock: Some(NetworkLock::Nftables),
            cgroups_mode: Some(CgroupsMode::Full),
        };
        assert_eq!(o.settings, all);
    }

    #[test]
    fn none_of_them() {
        let o = checkpoint_options(&matches(options, "ctr")).unwrap();
        assert_eq!((o.image_path.as_path(), o.settings), (Path::new("checkpoint"), CheckpointSettings::default()));
        assert!(o.work_path.is_none() && o.parent_path.is_none() && o.page_server.is_none() && o.status_fd.is_none());
        assert!(!o.pre_dump && !o.leave_running);
    }

    #[test]
    fn wrong_values() {
        for (line, text) in [
            ("--network-lock x c", "unknown network lock method `x`: neither iptables, nftables nor skip"),
            ("--manage-cgroups-mode x c", "unknown cgroup mode `x`: none of soft, ignore, full, strict, props and none"),
            ("--empty-ns ipc c", "namespace `ipc` is not supported by --empty-ns: only `network` is"),
            ("--page-server localhost c", "invalid value for `page-server`: `localhost`"),
            ("--page-server :1 c", "invalid value for `page-server`: `:1`"),
            ("--page-server h:70000 c", "invalid value for `page-server`: `h:70000`"),
            ("--status-fd x c", "invalid value for `status-fd`: `x`"),
            ("--status-fd 5 c", "--status-fd is for --lazy-pages only"),
        ] {
            assert_eq!(checkpoint_options(&matches(options, line)).unwrap_err().to_string(), text, "{line}");
        }
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(options, CRUN);
    }

    const CRUN: &[&str] = &[
        "image-path=",
        "work-path=",
        "parent-path=",
        "pre-dump",
        "leave-running",
        "tcp-established",
        "ext-unix-sk",
        "shell-job",
        "file-locks",
        "manage-cgroups-mode=",
        "network-lock=",
    ];
}
