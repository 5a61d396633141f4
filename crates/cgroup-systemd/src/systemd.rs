//! What is said to systemd's manager (org.freedesktop.systemd1(5)): start, change, stop a scope. Not here: which scope and properties.

use crate::address::Addresses;
use crate::bus::{Bus, Clock, Failure};
use crate::missing::Missing;
use crate::properties::{Origin, Property};
use crate::wire::Object;
use runtime_core::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use zbus::{ObjectPath, Variant};

const MANAGER: Object =
    Object { destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager" };
const PROPERTIES: Object = Object { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// How many properties may be refused one after the other.
const REFUSALS: usize = 32;

/// The way to the managers of systemd.
#[derive(Debug)]
pub(crate) struct Link {
    addresses: Addresses,
    missing: Missing,
    patience: Duration,
    /// A connection made and not ended, and whether it is to the user's manager.
    idle: Mutex<Option<(bool, Bus)>>,
    /// A wait has been in vain: nothing that could be done without systemd waits again.
    silent: AtomicBool,
    /// Units that another one made under a name that was wanted here.
    foreign: Mutex<Vec<String>>,
}

impl Link {
    pub(crate) fn new(root: &Path, addresses: Addresses, patience: Duration) -> Self {
        Self {
            addresses,
            missing: Missing::below(root),
            patience,
            idle: Mutex::new(None),
            silent: AtomicBool::new(false),
            foreign: Mutex::new(Vec::new()),
        }
    }

    /// Whether systemd has been waited for in vain.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Whether starting a unit failed because another one has its name: it is not this process's to stop.
    pub(crate) fn is_foreign(&self, scope: &str) -> bool {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|s| s == scope)
    }

    /// Connects to the system's manager or the user's, for one operation; its time runs from here.
    ///
    /// # Errors
    /// `connect to systemd at …`
    pub(crate) fn connect(&self, user: bool) -> Result<Talk<'_>> {
        let clock = Clock::start(self.patience);
        let mut failed = None;
        for endpoint in self.addresses.endpoints(user)? {
            match Bus::connect(&endpoint, &clock) {
                Ok(bus) => return Ok(Talk { link: self, user, bus, clock }),
                // The first address is the one that should work.
                Err(failure) => {
                    let waited = matches!(failure, Failure::TimedOut);
                    failed = failed.or(Some((endpoint, failure)));
                    if waited {
                        break;
                    }
                }
            }
        }
        let hint = if user { ": no session of the user's systemd is running? (loginctl enable-linger)" } else { "" };
        match failed {
            Some((at, Failure::System(errno))) => {
                Err(Error::sys(errno.raw_os_error(), format!("connect to systemd at {at}{hint}")).with_kind(ErrorKind::Unsupported))
            }
            Some((at, failure)) => Err(self.explain(&format!("connect to systemd at {at}"), failure, &clock, "it does not answer")),
            None => Err(Error::other("connect to systemd: no address")),
        }
    }

    /// As [`connect`](Self::connect), with the connection that [`Talk::keep`] left.
    pub(crate) fn resume(&self, user: bool) -> Result<Talk<'_>> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((whose, bus)) = kept
            && whose == user
        {
            return Ok(Talk { link: self, user, bus, clock: Clock::start(self.patience) });
        }
        self.connect(user)
    }

    /// Words a failure; `silence` says what it means when the deadline passed.
    fn explain(&self, what: &str, failure: Failure, clock: &Clock, silence: &str) -> Error {
        let after = format!("after {:.1} s", clock.elapsed().as_secs_f64());
        Error::other(match failure {
            Failure::TimedOut => {
                self.silent.store(true, Ordering::Relaxed);
                format!("{what}: {silence} {after}")
            }
            Failure::Closed => format!("{what}: the connection was closed {after}"),
            Failure::Garbled(text) => format!("{what}: {text}"),
            Failure::System(errno) => return Error::sys(errno.raw_os_error(), what),
            Failure::Refused { name, text } => match (name.trim(), text.trim()) {
                ("", "") => format!("{what}: systemd refuses without a word"),
                (name, "") => format!("{what}: systemd refuses: {}", name.escape_debug()),
                ("", text) => format!("{what}: {text}"),
                (name, text) => format!("{what}: {text} ({})", name.escape_debug()),
            },
        })
    }
}

/// One operation over one connection.
#[derive(Debug)]
pub(crate) struct Talk<'l> {
    link: &'l Link,
    user: bool,
    bus: Bus,
    clock: Clock,
}

type Arguments<'p> = Vec<(&'p str, &'p Variant<'static>)>;

impl Talk<'_> {
    /// Leaves the connection for the next operation.
    pub(crate) fn keep(self) {
        *self.link.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.user, self.bus));
    }

    /// The manager's own cgroup, without a slash at its end: all units are below it.
    ///
    /// # Errors
    /// `ask systemd for its cgroup: …`
    pub(crate) fn control_group(&mut self) -> Result<String> {
        let what = "ask systemd for its cgroup";
        let got = self.bus.call(&PROPERTIES.method("Get"), &(MANAGER.interface, "ControlGroup"), &self.clock);
        let body = got.map_err(|f| self.explain(what, f))?;
        let text = match body.read::<(Variant<'_>,)>() {
            Some((Variant::Str(text),)) => text.as_str().trim_end_matches('/').to_owned(),
            _ => return Err(Error::other(format!("{what}: the answer is no text"))),
        };
        if text.is_empty() { Ok(text) } else { cgroup_fs::normalise("systemd's cgroup", &text) }
    }

    /// Starts a scope and waits until it stands. Limits that systemd does not take are left out: the cgroup's files have them.
    ///
    /// # Errors
    /// ``start unit `NAME`: …`` with the job and the time it took.
    pub(crate) fn start(&mut self, scope: &str, mut properties: Vec<Property>) -> Result<()> {
        let what = format!("start unit `{scope}`");
        let known_missing = self.link.missing.names();
        properties.retain(|p| p.origin != Origin::Limit || !known_missing.iter().any(|m| *m == p.name));
        let no_more: Vec<(&str, Vec<(&str, &Variant<'static>)>)> = Vec::new();
        let mut was_reset = false;
        for _ in 0..REFUSALS {
            let started = {
                let list: Arguments<'_> = properties.iter().map(|p| (p.name.as_ref(), &p.value)).collect();
                self.bus.call(&MANAGER.method("StartTransientUnit"), &(scope, "fail", list, &no_more), &self.clock)
            };
            match started {
                Ok(body) => return self.finish(&what, body.read::<(ObjectPath<'_>,)>()),
                // One that failed under this name stays until somebody has looked at it.
                Err(Failure::Refused { name, .. }) if name == UNIT_EXISTS && !was_reset => {
                    was_reset = true;
                    self.reset_failed(scope)?;
                }
                Err(failure) => {
                    if matches!(&failure, Failure::Refused { name, .. } if name == UNIT_EXISTS) {
                        self.link.foreign.lock().unwrap_or_else(PoisonError::into_inner).push(scope.to_owned());
                    }
                    self.leave_out(&what, failure, &mut properties)?;
                }
            }
        }
        Err(Error::other(format!("{what}: systemd refuses {REFUSALS} properties, one after the other")))
    }

    /// Changes limits of a scope.
    ///
    /// # Errors
    /// ``set properties of unit `NAME`: …``
    pub(crate) fn set(&mut self, scope: &str, mut properties: Vec<Property>) -> Result<()> {
        let what = format!("set properties of unit `{scope}`");
        let known_missing = self.link.missing.names();
        properties.retain(|p| !known_missing.iter().any(|m| *m == p.name));
        for _ in 0..REFUSALS {
            if properties.is_empty() {
                return Ok(());
            }
            let list: Arguments<'_> = properties.iter().map(|p| (p.name.as_ref(), &p.value)).collect();
            match self.bus.call(&MANAGER.method("SetUnitProperties"), &(scope, true, list), &self.clock) {
                Ok(_) => return Ok(()),
                Err(failure) => self.leave_out(&what, failure, &mut properties)?,
            }
        }
        Err(Error::other(format!("{what}: systemd refuses {REFUSALS} properties, one after the other")))
    }

    /// Stops a scope, waits for its end, and lets systemd forget it. One that is not there is stopped.
    ///
    /// # Errors
    /// ``stop unit `NAME`: …`` with the job and the time it took.
    pub(crate) fn stop(&mut self, scope: &str) -> Result<()> {
        let what = format!("stop unit `{scope}`");
        match self.bus.call(&MANAGER.method("StopUnit"), &(scope, "replace"), &self.clock) {
            Ok(body) => self.finish(&what, body.read::<(ObjectPath<'_>,)>())?,
            Err(Failure::Refused { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
            Err(failure) => return Err(self.explain(&what, failure)),
        }
        self.reset_failed(scope)
    }

    fn reset_failed(&mut self, scope: &str) -> Result<()> {
        match self.bus.call(&MANAGER.method("ResetFailedUnit"), &(scope,), &self.clock) {
            Ok(_) => Ok(()),
            Err(Failure::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            Err(failure) => Err(self.explain(&format!("reset unit `{scope}`"), failure)),
        }
    }

    /// Waits for the end of a job.
    fn finish(&mut self, what: &str, job: Option<(ObjectPath<'_>,)>) -> Result<()> {
        let Some((job,)) = job else { return Err(Error::other(format!("{what}: the answer names no job"))) };
        let number = job.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        match self.bus.job(job.as_str(), &self.clock) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let after = self.clock.elapsed().as_secs_f64();
                Err(Error::other(format!("{what}: job {number} ended as `{}` after {after:.1} s", result.escape_debug())))
            }
            Err(failure) => Err(self.link.explain(what, failure, &self.clock, &format!("job {number} has not ended"))),
        }
    }

    fn explain(&self, what: &str, failure: Failure) -> Error {
        self.link.explain(what, failure, &self.clock, "systemd does not answer")
    }

    /// Takes the property out that a refusal is about.
    fn leave_out(&self, what: &str, failure: Failure, properties: &mut Vec<Property>) -> Result<()> {
        let Failure::Refused { text, .. } = &failure else { return Err(self.explain(what, failure)) };
        let unknown = text.strip_prefix("Cannot set property ").and_then(|rest| rest.split([',', ' ']).next());
        let about = properties.iter().find(|p| match unknown {
            Some(name) => p.name == name,
            None => names(text, &p.name),
        });
        let Some(about) = about else { return Err(self.explain(what, failure)) };
        let name = about.name.clone().into_owned();
        match about.origin {
            Origin::Needed => Err(self.explain(what, failure)),
            Origin::Annotation => Err(self.explain(&format!("{what}: annotation for the property `{name}`"), failure)),
            Origin::Limit => {
                tracing::debug!("{what}: without the property `{name}`: {text}");
                if unknown.is_some() {
                    self.link.missing.remember(&name);
                }
                properties.retain(|p| p.name != name || p.origin != Origin::Limit);
                Ok(())
            }
        }
    }
}

/// Whether `name` is a word in `text`.
fn names(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
}

#[cfg(test)]
mod tests;
