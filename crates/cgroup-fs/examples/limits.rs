//! Runs a shell in a cgroup of its own, with limits that change while it runs, and tells what it used. Not here: anything of a container
//! but its cgroup. Needs the right to make cgroups: `cargo run --example limits`, as root.

use cgroup_fs::CgroupfsManager;
use runtime_core::api::{CgroupManager, CgroupRequest, Placement};
use runtime_core::spec::{self, Map, Resources};
use runtime_core::{ContainerId, Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

/// One line on standard output; whether somebody reads it is no affair of ours.
macro_rules! say {
    ($($words:tt)*) => {
        let _ = writeln!(std::io::stdout(), $($words)*);
    };
}

fn main() -> Result<()> {
    let manager = CgroupfsManager::new();
    say!("hierarchies: {:?}", manager.layout()?.split());
    let id = ContainerId::new(&format!("cgroup-fs-example-{}", std::process::id()))?;
    // What the host can enforce; a controller that is missing is an error that names it.
    let limits = format!("{{{}}}", if has(&manager, "pids") { r#""pids":{"limit":8}"# } else { "" });
    let resources: Resources<'_> = spec::parse(limits.as_bytes())?;
    let request = CgroupRequest {
        id: &id,
        cgroups_path: None,
        resources: &resources,
        annotations: &Map(Vec::new()),
        rootless: false,
        owner: None,
        unified: false,
    };
    let placement = manager.place(&request, &|_| Ok(()))?;
    let cgroup = manager.open(&placement.record)?;
    let mut shell = start("read go; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; read never")?;
    let done = enter(&placement, &mut shell).and_then(|()| {
        cgroup.freeze(true)?;
        say!("frozen: {}, processes: {}", cgroup.is_frozen()?, cgroup.pids()?.len());
        cgroup.freeze(false)?;
        let stats = cgroup.stats()?;
        say!("processor time: {:?} ns", stats.cpu.map(|c| c.usage));
        say!("memory: {:?}", stats.memory.map(|m| m.memory));
        say!("tasks: {:?}", stats.pids);
        Ok(())
    });
    // Ends what is in it, too.
    cgroup.destroy()?;
    let _ = shell.wait();
    say!("{} is gone", placement.record.path);
    done
}

/// Whether a controller is there in any version.
fn has(manager: &CgroupfsManager, name: &str) -> bool {
    let Ok(layout) = manager.layout() else { return false };
    let listed = |dir: &std::path::PathBuf| std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    layout.v1.iter().any(|h| h.label.split(',').any(|l| l == name))
        || layout.v2.iter().any(|dir| listed(dir).split_whitespace().any(|l| l == name))
}

fn start(script: &str) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map_err(|e| Error::other(format!("start sh: {e}")))
}

/// What a runtime does by clone3 and by the child itself: the process goes to its cgroup in every hierarchy. Then it may begin.
fn enter(placement: &Placement, shell: &mut Child) -> Result<()> {
    let failed = |e: std::io::Error| Error::other(format!("move the shell: {e}"));
    let pid = shell.id().to_string();
    if let Some(dir) = &placement.into {
        let procs = format!("/proc/self/fd/{}/cgroup.procs", dir.as_fd().as_raw_fd());
        std::fs::write(procs, &pid).map_err(failed)?;
    }
    for procs in &placement.join {
        File::from(procs.try_clone().map_err(failed)?).write_all(pid.as_bytes()).map_err(failed)?;
    }
    if let Some(stdin) = &mut shell.stdin {
        stdin.write_all(b"go\n").map_err(failed)?;
    }
    let mut line = String::new();
    if let Some(stdout) = &mut shell.stdout {
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
    }
    if line == "done\n" { Ok(()) } else { Err(Error::other(format!("the shell said `{}`", line.escape_debug()))) }
}
