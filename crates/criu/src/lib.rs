#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod images;
mod log;
pub mod proto;
mod request;
mod spawn;
mod worker;

use proto::{Kind, Opts, Request, Response};
use runtime_core::api::{Checkpointer, DumpRequest, ImageDirs, RestoreEvents, RestoreRequest};
use runtime_core::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use worker::Worker;

/// The oldest CRIU that knows all that is asked of it, as crun has it.
const OLDEST: (i32, i32) = (3, 15);

/// Has CRIU do it: `criu swrk`, which serves one connection and ends.
#[derive(Debug, Clone, Default)]
pub struct Criu {
    program: Option<PathBuf>,
}

impl Criu {
    /// The `criu` of the PATH, or of the usual directories where there is no PATH. Nothing is looked for before it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A given program.
    pub fn at(program: PathBuf) -> Self {
        Self { program: Some(program) }
    }

    /// A worker of an acceptable version, which waits for its one request; `job` when processes are part of the caller's.
    fn worker(&self, passed: &[RawFd], job: bool, before: &(dyn Fn() -> Result<()> + Sync)) -> Result<Worker> {
        let worker = Worker::start(self.program.as_deref(), passed, !job, before)?;
        let ask = Request { kind: Kind::Version.into(), keep_open: Some(true), ..Request::default() };
        let answer = worker.ask(&ask)?;
        let version = answer.version.ok_or_else(|| Error::other("CRIU does not say its version"))?;
        let version = (version.major_number, version.minor_number);
        tracing::debug!("CRIU {}.{}", version.0, version.1);
        if version < OLDEST {
            let text = format!("CRIU {}.{} is too old: {}.{} is needed", version.0, version.1, OLDEST.0, OLDEST.1);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(worker)
    }
}

impl Checkpointer for Criu {
    fn dump(&self, request: &DumpRequest<'_>) -> Result<()> {
        let passed: Vec<RawFd> = descriptors(&request.dirs).into_iter().chain(request.status_fd).collect();
        let worker = self.worker(&passed, request.settings.shell_job, &|| Ok(()))?;
        let kind = if request.pre_dump { Kind::SinglePreDump } else { Kind::Dump };
        let answer =
            worker.ask(&order(kind, request::dump(request)?)).map_err(|e| lost(e, "checkpointing", &request.dirs, request::DUMP_LOG))?;
        check(&answer, kind, "checkpointing", &request.dirs, request::DUMP_LOG)
    }

    fn restore(&self, request: &RestoreRequest<'_>, events: &mut dyn RestoreEvents) -> Result<i32> {
        if !request.settings.lazy_pages {
            images::check(request.dirs.images).map_err(|e| e.context("CRIU restoring failed"))?;
        }
        let inherited = request.inherited.iter().map(|(_, fd)| fd.as_raw_fd());
        let passed: Vec<RawFd> = descriptors(&request.dirs).into_iter().chain(inherited).collect();
        let worker = self.worker(&passed, request.settings.shell_job, request.surroundings)?;
        events.started(worker.pid())?;
        let lost = |e| lost(e, "restoring", &request.dirs, request::RESTORE_LOG);
        let mut answer = worker.ask(&order(Kind::Restore, request::restore(request)?)).map_err(lost)?;
        while answer.kind() == Kind::Notify && answer.success {
            let done = notified(&answer, &worker, events);
            let reply = Request { kind: Kind::Notify.into(), notify_success: Some(done.is_ok()), ..Request::default() };
            let next = worker.ask(&reply);
            // What CRIU has to say of a failure that was ours is of no interest, but it takes the processes down before it says it.
            done?;
            answer = next.map_err(lost)?;
        }
        check(&answer, Kind::Restore, "restoring", &request.dirs, request::RESTORE_LOG)?;
        answer.restore.map(|r| r.pid).ok_or_else(|| Error::other("CRIU does not say which process it restored"))
    }
}

fn order(kind: Kind, opts: Opts) -> Request {
    Request { kind: kind.into(), opts: Some(opts), ..Request::default() }
}

fn descriptors(dirs: &ImageDirs<'_>) -> [RawFd; 2] {
    [dirs.images.as_raw_fd(), dirs.work.as_raw_fd()]
}

/// A stage of the restore. Those that are not listed need no deed.
fn notified(answer: &Response, worker: &Worker, events: &mut dyn RestoreEvents) -> Result<()> {
    let said = answer.notify.clone().unwrap_or_default();
    let pid = said.pid.unwrap_or(0);
    match said.script.as_deref() {
        Some("setup-namespaces") => {
            worker.watch(pid)?;
            events.namespaces(pid)
        }
        Some("post-restore") => events.restored(pid),
        Some("orphan-pts-master") => {
            let master = worker.take_descriptor().ok_or_else(|| Error::other("CRIU sent no terminal"))?;
            events.terminal(master)
        }
        _ => Ok(()),
    }
}

/// CRIU did not answer: its log may say how far it came.
fn lost(e: Error, doing: &str, dirs: &ImageDirs<'_>, file: &str) -> Error {
    let (path, excerpt) = (dirs.work_path.join(file), log::excerpt(dirs.work, file));
    Error::other(format!("CRIU {doing} failed: {e}. Please check CRIU logfile {}{excerpt}", path.display()))
}

/// Whether CRIU did what it was asked.
fn check(answer: &Response, kind: Kind, doing: &str, dirs: &ImageDirs<'_>, file: &str) -> Result<()> {
    if answer.success && answer.kind() == kind {
        return Ok(());
    }
    let words = answer.cr_errmsg.as_deref().filter(|text| !text.is_empty()).map(|text| format!(" ({})", text.trim_end()));
    let number = answer.cr_errno.filter(|n| *n != 0).map(|n| format!(" {}", -n)).unwrap_or_default();
    let path = dirs.work_path.join(file);
    let mut text = format!("CRIU {doing} failed{number}{}. Please check CRIU logfile {}", words.unwrap_or_default(), path.display());
    text.push_str(&log::excerpt(dirs.work, file));
    Err(Error::other(text))
}
