//! What is measured, and how. Not here: bundles (`bundle`), tables (`report`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Options, bundle};

/// How many containers `list` and `state` are asked among.
const MANY: usize = 1000;

/// The figures of a scenario, a column a program.
pub struct Scenario {
    /// What is done.
    pub name: String,
    /// `ms`, `kB`, `calls`.
    pub unit: &'static str,
    /// Program, a value a round.
    pub columns: Vec<(String, Vec<f64>)>,
    /// What could not be measured, and why.
    pub note: String,
}

struct Bench<'a> {
    o: &'a Options,
    dir: &'a Path,
    next: usize,
    done: Vec<Scenario>,
}

type Subject<'a> = (&'a str, &'a Path);

/// Runs all scenarios that are asked for.
pub fn all(o: &Options, dir: &Path) -> Result<Vec<Scenario>> {
    let mut bench = Bench { o, dir, next: 0, done: Vec::new() };
    type Edit = fn(&mut Value);
    let variants: [(&str, Edit); 5] = [
        ("default", |_| ()),
        ("seccomp", bundle::seccomp),
        ("user namespace", bundle::user_namespace),
        ("30 bind mounts", bundle::binds),
        ("100 masked paths", bundle::masks),
    ];
    let mut bundles = Vec::new();
    for (name, edit) in variants {
        let bundle = bundle::make(dir, &name.replace(' ', "-"), &o.runtimes[0].1, &o.probe, edit)?;
        bundles.push((name, bundle));
    }
    for (name, path) in &bundles {
        bench.timed(&format!("run, {name}"), *name == "default", o.rounds, &mut |b, s| b.run(s, path))?;
    }
    let plain = bundles[0].1.clone();
    bench.timed("create, start, delete", false, o.rounds, &mut |b, s| b.create_start_delete(s, &plain))?;
    bench.exec(&plain)?;
    for at_once in [1, 8, 32] {
        let rounds = (o.rounds / 8).max(3);
        bench.timed(&format!("32 runs, {at_once} at a time"), false, rounds, &mut |b, s| b.parallel(s, &plain, at_once))?;
    }
    bench.memory(&plain)?;
    bench.calls(&plain)?;
    bench.many(&plain)?;
    bench.web_assembly()?;
    Ok(bench.done)
}

impl Bench<'_> {
    fn wanted(&self, name: &str) -> bool {
        name.contains(&self.o.only)
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("pinnace-bench{}", self.next)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.join(format!("state-{}", name.replace([' ', '/'], "-")))
    }

    fn command(&self, (name, program): Subject<'_>, bundle: Option<&Path>) -> Command {
        let mut command = Command::new(program);
        // A runtime that leads the way to a log of an engine prints nothing here.
        command.arg("--root").arg(self.root(name)).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(bundle) = bundle {
            command.current_dir(bundle);
        }
        command
    }

    /// Milliseconds that each program needs, round by round. One that fails at the warming up is left out, and the note says so.
    fn timed(&mut self, name: &str, floor: bool, rounds: usize, deed: &mut dyn FnMut(&mut Self, Subject<'_>) -> Result<f64>) -> Result<()> {
        if !self.wanted(name) {
            return Ok(());
        }
        let mut subjects: Vec<_> = self.o.runtimes.clone();
        if floor {
            subjects.push(("floor".into(), self.o.floor.clone()));
        }
        let mut note = String::new();
        let mut able = Vec::new();
        for (who, program) in subjects {
            match deed(self, (&who, &program)) {
                Ok(_) => able.push((who, program, Vec::with_capacity(rounds))),
                Err(e) if who == "pinnace" => return Err(e).context(name.to_owned()),
                Err(e) => note.push_str(&format!("{who} cannot: {e:#}. ")),
            }
        }
        for round in 0..rounds {
            let count = able.len();
            for i in 0..count {
                // Who goes first changes, so that nobody always follows the same.
                let (who, program, values) = &mut able[(round + i) % count];
                values.push(deed(self, (who, program)).with_context(|| format!("{name}: {who}"))?);
            }
        }
        eprintln!("{name}: done");
        let columns = able.into_iter().map(|(who, _, values)| (who, values)).collect();
        self.done.push(Scenario { name: name.into(), unit: "ms", columns, note });
        Ok(())
    }

    fn run(&mut self, subject: Subject<'_>, bundle: &Path) -> Result<f64> {
        let id = self.id();
        if subject.0 == "floor" {
            let mut command = Command::new(subject.1);
            return time(command.arg(bundle.join("rootfs")).arg(format!("/sys/fs/cgroup/{id}")).stdin(Stdio::null()));
        }
        time(self.command(subject, Some(bundle)).args(["run", &id]))
    }

    fn create_start_delete(&mut self, subject: Subject<'_>, bundle: &Path) -> Result<f64> {
        let id = self.id();
        // Its process keeps what it was given: a pipe would stay open until it ends.
        let errors = self.dir.join("errors");
        let start = Instant::now();
        let status = self.command(subject, Some(bundle)).args(["create", &id]).stderr(std::fs::File::create(&errors)?).status()?;
        let mut sum = start.elapsed().as_secs_f64() * 1000.0;
        if !status.success() {
            bail!("{}", std::fs::read_to_string(&errors)?.lines().next().unwrap_or_default());
        }
        for verb in [&["start"][..], &["delete", "--force"]] {
            sum += time(self.command(subject, None).args(verb).arg(&id))?;
        }
        Ok(sum)
    }

    fn exec(&mut self, bundle: &Path) -> Result<()> {
        let name = "exec";
        if !self.wanted(name) {
            return Ok(());
        }
        let long = self.lasting(bundle)?;
        let ids: Vec<_> = self.o.runtimes.clone().into_iter().map(|(who, program)| (who, program, self.id())).collect();
        for (who, program, id) in &ids {
            self.command((who, program), Some(&long)).args(["run", "-d", id]).status().with_context(|| who.clone())?;
        }
        let find = |who: &str| ids.iter().find(|(w, ..)| w == who).map(|(.., id)| id.clone()).unwrap_or_default();
        let done =
            self.timed(name, false, self.o.rounds, &mut |b, s| time(b.command(s, None).args(["exec", &find(s.0), "/probe", "exit", "0"])));
        for (who, program, id) in &ids {
            let _ = self.command((who, program), None).args(["delete", "--force", id]).status();
        }
        done
    }

    /// A bundle whose process stays.
    fn lasting(&self, bundle: &Path) -> Result<PathBuf> {
        let dir = self.dir.join("lasting");
        if dir.exists() {
            return Ok(dir);
        }
        let sleep = |config: &mut Value| config["process"]["args"] = serde_json::json!(["/probe", "sleep", "600"]);
        bundle::make(self.dir, "lasting", &self.o.runtimes[0].1, &bundle.join("rootfs/probe"), sleep)
    }

    /// 32 containers, so many at a time.
    fn parallel(&mut self, subject: Subject<'_>, bundle: &Path, at_once: usize) -> Result<f64> {
        let ids: Vec<_> = (0..32).map(|_| self.id()).collect();
        let errors = self.dir.join("errors");
        let file = std::fs::File::create(&errors)?;
        let start = Instant::now();
        for some in ids.chunks(at_once) {
            let spawned: std::io::Result<Vec<_>> =
                some.iter().map(|id| self.command(subject, Some(bundle)).args(["run", id]).stderr(file.try_clone()?).spawn()).collect();
            for mut child in spawned? {
                let status = child.wait()?;
                if !status.success() {
                    bail!("a run ended with {status}: {}", std::fs::read_to_string(&errors)?.lines().next().unwrap_or_default());
                }
            }
        }
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }

    /// Peak memory of `run`, and what the init that waits after `create` has for itself.
    fn memory(&mut self, bundle: &Path) -> Result<()> {
        let (peak, waiting) = ("peak memory of run", "private memory of a waiting init");
        if !self.wanted(peak) && !self.wanted(waiting) {
            return Ok(());
        }
        let (mut peaks, mut privates) = (Vec::new(), Vec::new());
        for (who, program) in self.o.runtimes.clone() {
            let id = self.id();
            let mut run = self.command((&who, &program), Some(bundle));
            peaks.push((who.clone(), vec![self.peak_of(run.args(["run", &id]))?]));
            let id = self.id();
            let file = self.dir.join("pid");
            let status = self.command((&who, &program), Some(bundle)).args(["create", "--pid-file"]).arg(&file).arg(&id).status()?;
            if status.success() {
                let pid = std::fs::read_to_string(&file)?;
                privates.push((who.clone(), vec![private(pid.trim())?]));
            }
            let _ = self.command((&who, &program), None).args(["delete", "--force", &id]).status();
        }
        for (name, columns) in [(peak, peaks), (waiting, privates)] {
            self.done.push(Scenario { name: name.into(), unit: "kB", columns, note: String::new() });
        }
        Ok(())
    }

    /// Peak resident memory of a command's largest process, in kB. This program is too large to be the one that starts it.
    fn peak_of(&self, command: &Command) -> Result<f64> {
        let mut probe = Command::new(&self.o.probe);
        probe.arg("peak").arg(command.get_program()).args(command.get_args());
        let output = probe.current_dir(command.get_current_dir().context("a bundle")?).stderr(Stdio::inherit()).output()?;
        let told: Value = serde_json::from_slice(&output.stdout)?;
        told["kB"].as_f64().with_context(|| told.to_string())
    }

    /// System calls of a `run`, all processes, up to the program's execution.
    fn calls(&mut self, bundle: &Path) -> Result<()> {
        let name = "system calls of run";
        if !self.wanted(name) {
            return Ok(());
        }
        let Some(strace) = crate::host::program("strace") else {
            self.done.push(Scenario { name: name.into(), unit: "calls", columns: vec![], note: "needs strace".into() });
            return Ok(());
        };
        let mut columns = Vec::new();
        for (who, program) in self.o.runtimes.clone() {
            let (id, file) = (self.id(), self.dir.join("trace"));
            let mut command = Command::new(&strace);
            command.args(["-f", "-o"]).arg(&file).arg(&program).arg("--root").arg(self.root(&who));
            command.args(["run", &id]).current_dir(bundle).stdin(Stdio::null()).status()?;
            let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
            columns.push((who, vec![count(&text) as f64]));
        }
        self.done.push(Scenario { name: name.into(), unit: "calls", columns, note: String::new() });
        Ok(())
    }

    /// A program that is WebAssembly, by Wasmtime: with the compiled code of an earlier start, and without.
    fn web_assembly(&mut self) -> Result<()> {
        let name = "run, WebAssembly by Wasmtime";
        let Some(program) = self.o.tell.clone().filter(|_| self.wanted(name)) else { return Ok(()) };
        let own = self.o.runtimes[0].1.clone();
        let bundle = bundle::make(self.dir, "web-assembly", &own, &self.o.probe, |config| {
            config["process"]["args"] = serde_json::json!(["/tell.wasm", "/in", "/out", "0"]);
            config["annotations"]["run.oci.handler"] = "wasmtime".into();
            config["root"]["readonly"] = false.into();
        })?;
        let rootfs = bundle.join("rootfs");
        std::fs::copy(&program, rootfs.join("tell.wasm")).with_context(|| format!("copy {}", program.display()))?;
        std::fs::write(rootfs.join("in"), "to be or not to be\n").context("write a file for it")?;
        let subject = ("pinnace", &*own);
        let kept = self.root("pinnace").join(".cache/wasm");
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..self.o.rounds {
            if kept.exists() {
                std::fs::remove_dir_all(&kept).context("remove the compiled code")?;
            }
            without.push(self.run(subject, &bundle).context(name)?);
            if std::fs::read_dir(&kept).map_or(0, Iterator::count) != 1 {
                bail!("{name}: no compiled code was kept in {}", kept.display());
            }
            with.push(self.run(subject, &bundle).context(name)?);
        }
        eprintln!("{name}: done");
        let columns = vec![("pinnace".into(), with), ("pinnace, first start".into(), without)];
        self.done.push(Scenario { name: name.into(), unit: "ms", columns, note: String::new() });
        Ok(())
    }

    /// `list` and `state` among many containers: the status of one that ended, copied.
    fn many(&mut self, bundle: &Path) -> Result<()> {
        let (list, state) = (format!("list, {MANY} containers"), format!("state, {MANY} containers"));
        if !self.wanted(&list) && !self.wanted(&state) {
            return Ok(());
        }
        for (who, program) in self.o.runtimes.clone() {
            let id = self.id();
            self.command((&who, &program), Some(bundle)).args(["create", &id]).status()?;
            let made = self.root(&who).join(&id);
            for n in 0..MANY {
                copy(&made, &self.root(&who).join(format!("many{n}")))?;
            }
            self.command((&who, &program), None).args(["delete", "--force", &id]).status()?;
        }
        let rounds = (self.o.rounds / 4).max(3);
        self.timed(&list, false, rounds, &mut |b, s| time(b.command(s, None).arg("list")))?;
        self.timed(&state, false, rounds, &mut |b, s| time(b.command(s, None).args(["state", "many7"])))
    }
}

/// The plain files of a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn time(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stderr(Stdio::piped()).output()?;
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(elapsed)
}

/// Anonymous memory: what a file of the program's is read for is there once for all containers.
fn private(pid: &str) -> Result<f64> {
    Ok(field(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Anonymous:"))
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// Lines of `strace -f` that are calls, without the program's own after its execution.
fn count(trace: &str) -> usize {
    let mut executed = std::collections::BTreeSet::new();
    let calls = trace.lines().filter_map(|line| line.split_once(' ')).filter(|(pid, call)| {
        let call = call.trim_start();
        let before = !executed.contains(pid);
        if call.starts_with("execve(\"/probe\"") {
            executed.insert(*pid);
        }
        before && !["<...", "---", "+++", "clock_gettime("].iter().any(|none| call.starts_with(none))
    });
    calls.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_up_to_the_program() {
        let trace = "1 execve(\"/p\") = 0\n1 read(3 <unfinished ...>\n2 execve(\"/probe\", [\"x\"]) = 0\n2 brk(0) = 1\n1 <... read resumed>) = 0\n1 +++ exited +++\n";
        assert_eq!(count(trace), 3);
        assert!((field("A: 1 kB\nVmHWM:\t 12 kB\n", "VmHWM:") - 12.0).abs() < 1e-9);
    }
}
