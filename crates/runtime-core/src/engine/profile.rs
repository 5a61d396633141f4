//! How long the phases of a start take, for those who want to know. Not here: who asks, and how it is shown.
//!
//! The runtime marks the end of each of its phases. The container's process notes the time after each of its steps in memory that both
//! share, which is all it does for it. Without a profile a phase costs one comparison, and so does a step.

use crate::error::{Context, Result};
use crate::init::wire::Times;
use crate::plan::step::Step;
use crate::sys;
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whose phase it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The runtime's own process.
    Runtime,
    /// The process that becomes the container's.
    Container,
}

/// A phase that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Whose it is.
    pub side: Side,
    /// What was done, in a few words.
    pub name: String,
    /// From the profile's beginning to the phase's.
    pub start: Duration,
    /// How long it took.
    pub length: Duration,
}

/// The phases of what a [`Runtime`](super::Runtime) does, which gets it by [`profiled`](super::Runtime::profiled).
#[derive(Debug)]
pub struct Profile {
    /// CLOCK_MONOTONIC, in nanoseconds, as are all others.
    began: u64,
    marks: Mutex<Vec<(Cow<'static, str>, u64)>>,
    steps: Mutex<Option<Steps>>,
}

/// The steps of a container's process.
#[derive(Debug)]
struct Steps {
    names: Vec<String>,
    times: Times,
}

impl Profile {
    /// Begins now.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { began: sys::monotonic(), marks: Mutex::default(), steps: Mutex::default() }
    }

    /// A phase of this process ends; the one before it ended when it began.
    pub fn mark(&self, name: impl Into<Cow<'static, str>>) {
        lock(&self.marks).push((name.into(), sys::monotonic()));
    }

    /// Where the process that runs `steps` notes its times.
    ///
    /// # Errors
    /// The kernel gives no memory.
    pub(crate) fn times(&self, steps: &[Step]) -> Result<Times> {
        let times = sys::shared_words(steps.len() + 1).context(|| "mmap of the profile")?;
        *lock(&self.steps) = Some(Steps { names: steps.iter().map(Step::describe).collect(), times });
        Ok(times)
    }

    /// All phases that have ended until now, in the order of their beginnings.
    pub fn phases(&self) -> Vec<Phase> {
        let since = |time: u64| Duration::from_nanos(time.saturating_sub(self.began));
        let phase = |side, name: &str, from: u64, to: u64| {
            let name = name.to_owned();
            Phase { side, name, start: since(from), length: Duration::from_nanos(to.saturating_sub(from)) }
        };
        let (mut all, mut from) = (Vec::new(), self.began);
        for (name, to) in lock(&self.marks).iter() {
            all.push(phase(Side::Runtime, name, from, *to));
            from = *to;
        }
        if let Some(steps) = lock(&self.steps).as_ref() {
            let times: Vec<_> = steps.times.iter().map(|time| time.load(Ordering::Relaxed)).collect();
            let mut from = times.first().copied().unwrap_or_default();
            for (name, to) in steps.names.iter().zip(&times[1..]).filter(|(_, to)| **to != 0) {
                all.push(phase(Side::Container, name, from, *to));
                from = *to;
            }
        }
        all.sort_by_key(|phase| phase.start);
        all
    }
}

/// What a thread that ended by a panic left is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::wire::note;

    #[test]
    fn phases_follow_each_other() {
        let profile = Profile::new();
        profile.mark("one");
        let times = profile.times(&[Step::Setsid, Step::NoNewPrivs, Step::Forget]).unwrap();
        note(Some(times), 0);
        note(Some(times), 1);
        note(Some(times), 2);
        profile.mark(format!("number {}", 2));
        note(None, 3);
        let phases = profile.phases();
        let names: Vec<_> = phases.iter().map(|phase| (phase.side, phase.name.as_str())).collect();
        let of = |side| names.iter().filter(|name| name.0 == side).map(|name| name.1).collect::<Vec<_>>();
        assert_eq!(of(Side::Runtime), ["one", "number 2"]);
        assert_eq!(of(Side::Container), [Step::Setsid.describe(), Step::NoNewPrivs.describe()]);
        assert!(phases.is_sorted_by_key(|phase| phase.start));
        for side in [Side::Runtime, Side::Container] {
            let own: Vec<_> = phases.iter().filter(|phase| phase.side == side).collect();
            assert_eq!(own[0].start + own[0].length, own[1].start);
        }
    }
}
