//! CPU and I/O scheduling of the process, the CPUs it may start on, its NUMA policy, and its personality. Not here: the cgroup's CPU sets.

use crate::error::{Error, Result};
use crate::spec::{IoPriority, MemoryPolicy, Personality, Scheduler, Str};
use crate::sys::SchedAttr;

/// Policies by number (sched.h).
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags (sched.h).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Classes by number (ioprio_set(2)).
const CLASSES: [(&str, u32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
const CLASS_SHIFT: u32 = 13;

/// Domains (personality(2)): PER_LINUX and PER_LINUX32.
const DOMAINS: [(&str, u64); 2] = [("LINUX", 0), ("LINUX32", 8)];

fn number<T: Copy>(table: &[(&str, T)], word: &str, field: &str) -> Result<T> {
    let known = table.iter().find(|(name, _)| *name == word);
    known.map(|(_, n)| *n).ok_or_else(|| Error::invalid(format!("{field}: unknown value `{word}`")))
}

/// `process.scheduler`, as sched_setattr(2) takes it.
///
/// # Errors
/// A word or number that is not acceptable, with the field's path.
pub(crate) fn scheduler(s: &Scheduler<'_>) -> Result<SchedAttr> {
    let flag = |all, word: &Str<'_>| Ok(all | number(&FLAGS, word, "process.scheduler.flags")?);
    let priority = s.priority.unwrap_or(0);
    let nice = s.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Error::invalid(format!("process.scheduler.nice: {nice} is not between -20 and 19")));
    }
    Ok(SchedAttr {
        policy: number(&POLICIES, &s.policy, "process.scheduler.policy")?,
        flags: s.flags.iter().try_fold(0, flag)?,
        nice,
        priority: u32::try_from(priority).map_err(|_| Error::invalid(format!("process.scheduler.priority: {priority} is negative")))?,
        runtime: s.runtime.unwrap_or(0),
        deadline: s.deadline.unwrap_or(0),
        period: s.period.unwrap_or(0),
    })
}

/// `process.ioPriority`, as ioprio_set(2) takes it.
///
/// # Errors
/// An unknown class or a level outside of 0 to 7.
pub(crate) fn io_priority(p: &IoPriority<'_>) -> Result<u32> {
    let class = number(&CLASSES, &p.class, "process.ioPriority.class")?;
    let level = u32::try_from(p.priority).ok().filter(|l| *l <= 7);
    let level = level.ok_or_else(|| Error::invalid(format!("process.ioPriority.priority: {} is not between 0 and 7", p.priority)))?;
    Ok(class << CLASS_SHIFT | level)
}

/// `linux.personality`, as personality(2) takes it.
///
/// # Errors
/// An unknown domain, or a flag: the specification defines none.
pub(crate) fn personality(p: &Personality<'_>) -> Result<u64> {
    if let Some(flag) = p.flags.first() {
        return Err(Error::invalid(format!("linux.personality.flags: unknown flag `{flag}`")));
    }
    number(&DOMAINS, &p.domain, "linux.personality.domain")
}

/// NUMA modes by number (linux/mempolicy.h).
pub(crate) const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// NUMA flags (linux/mempolicy.h).
pub(crate) const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// `linux.memoryPolicy`, as set_mempolicy(2) takes it: the mode with its flags, and the nodes, none where the field is absent or empty.
///
/// # Errors
/// An unknown word, or nodes that are no list. Which modes want nodes is for the kernel to say.
pub(crate) fn memory_policy(p: &MemoryPolicy<'_>) -> Result<(u32, Option<CpuMask>)> {
    let find = |table: &[(&str, u32)], word: &str, field: &str, kind: &str| {
        let known = table.iter().find(|(name, _)| *name == word);
        let unknown = || Error::invalid(format!("linux.memoryPolicy.{field}: requested linux NUMA mempolicy {kind} '{word}' is unknown"));
        known.map(|(_, n)| *n).ok_or_else(unknown)
    };
    let mode = find(&MEMORY_MODES, &p.mode, "mode", "mode")?;
    let mode = p.flags.iter().try_fold(mode, |all, word| Ok(all | find(&MEMORY_FLAGS, word, "flags", "flag")?))?;
    Ok((mode, cpu_list(p.nodes.as_deref().unwrap_or(""), "linux.memoryPolicy.nodes")?))
}

/// CPUs as sched_setaffinity(2) takes them: bit N of word N / 64 is CPU N. NUMA nodes likewise.
pub(crate) type CpuMask = Box<[u64]>;

/// More CPUs than any kernel is built for (NR_CPUS is at most 8192); what a machine lacks is left out by the kernel.
const CPUS: usize = 8192;

/// All CPUs there are: what the cgroup leaves of them is for the kernel to say.
pub(crate) fn all_cpus() -> CpuMask {
    vec![u64::MAX; CPUS / 64].into()
}

/// A list of CPUs or NUMA nodes, such as `0-3,7`; `None` for an empty one.
///
/// # Errors
/// Anything but numbers and ranges, or a number no kernel has a CPU for.
pub(crate) fn cpu_list(text: &str, field: &str) -> Result<Option<CpuMask>> {
    let invalid = || Error::invalid(format!("{field}: cannot parse input `{text}`"));
    let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<usize>().ok().filter(|n| *n < CPUS).ok_or_else(invalid),
        false => Err(invalid()),
    };
    let mut mask = Vec::new();
    // As crun: an empty entry is no entry.
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        (first..=last).for_each(|cpu| mask[cpu / 64] |= 1 << (cpu % 64));
    }
    Ok((!mask.is_empty()).then(|| mask.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_policies() {
        let policy = |mode: &'static str, nodes: Option<&'static str>, flags: &[&'static str]| {
            let flags = flags.iter().map(|f| (*f).into()).collect();
            memory_policy(&MemoryPolicy { mode: mode.into(), nodes: nodes.map(Into::into), flags }).map(|(m, n)| (m, n.map(Vec::from)))
        };
        assert_eq!(policy("MPOL_INTERLEAVE", Some("0-1"), &["MPOL_F_STATIC_NODES"]).unwrap(), (3 | 1 << 15, Some(vec![3])));
        assert_eq!(policy("MPOL_LOCAL", Some(""), &[]).unwrap(), (4, None));
        for (got, want) in [
            (policy("X", None, &[]), "linux.memoryPolicy.mode: requested linux NUMA mempolicy mode 'X' is unknown"),
            (policy("MPOL_BIND", None, &["X"]), "linux.memoryPolicy.flags: requested linux NUMA mempolicy flag 'X' is unknown"),
            (policy("MPOL_BIND", Some("x"), &[]), "linux.memoryPolicy.nodes: cannot parse input `x`"),
        ] {
            assert_eq!(got.unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn cpu_lists_are_masks() {
        let list = |text| cpu_list(text, "f").map(|mask| mask.map(Vec::from));
        assert_eq!(list("0-2,5").unwrap(), Some(vec![0b10_0111]));
        assert_eq!(list("64,1-1,").unwrap(), Some(vec![2, 1]));
        assert_eq!(list("8191").unwrap().unwrap().len(), 128);
        assert_eq!(list("").unwrap(), None);
        for bad in ["x", "1-", "-1", "2-1", "8192", "+1", "1;2", "0x1"] {
            assert_eq!(list(bad).unwrap_err().to_string(), format!("f: cannot parse input `{bad}`"));
        }
    }

    #[test]
    fn words_become_numbers() {
        let s = Scheduler {
            policy: "SCHED_FIFO".into(),
            priority: Some(3),
            flags: vec!["SCHED_FLAG_RESET_ON_FORK".into()],
            ..Scheduler::default()
        };
        let got = scheduler(&s).unwrap();
        assert_eq!((got.policy, got.priority, got.flags), (1, 3, 1));
        let p = |class: &'static str, priority| io_priority(&IoPriority { class: class.into(), priority });
        assert_eq!(p("IOPRIO_CLASS_BE", 6).unwrap(), 2 << 13 | 6);
        let d = |domain: &'static str| personality(&Personality { domain: domain.into(), flags: vec![] });
        assert_eq!(d("LINUX32").unwrap(), 8);
        for (got, want) in [
            (p("IOPRIO_CLASS_BE", 8).map(drop), "process.ioPriority.priority: 8 is not between 0 and 7"),
            (p("X", 0).map(drop), "process.ioPriority.class: unknown value `X`"),
            (d("BSD").map(drop), "linux.personality.domain: unknown value `BSD`"),
            (scheduler(&Scheduler { policy: "S".into(), ..Scheduler::default() }).map(drop), "process.scheduler.policy: unknown value `S`"),
            (
                scheduler(&Scheduler { policy: "SCHED_OTHER".into(), nice: Some(20), ..Scheduler::default() }).map(drop),
                "process.scheduler.nice: 20 is not between -20 and 19",
            ),
        ] {
            assert_eq!(got.unwrap_err().to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn cpu_lists_hold_what_they_name(ranges in prop::collection::vec((0usize..CPUS, 0usize..70), 1..6), odd in "[0-9,+ x-]{0,12}") {
            let ends: Vec<_> = ranges.iter().map(|&(first, more)| (first, (first + more).min(CPUS - 1))).collect();
            let text: Vec<_> = ends.iter().map(|(a, b)| format!("{a}-{b}")).collect();
            let mask = cpu_list(&text.join(","), "f").unwrap().unwrap();
            for cpu in 0..CPUS {
                let named = ends.iter().any(|(a, b)| (*a..=*b).contains(&cpu));
                prop_assert_eq!(mask.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1), named);
            }
            if let Err(e) = cpu_list(&odd, "f") {
                prop_assert_eq!(e.to_string(), format!("f: cannot parse input `{}`", odd));
            }
        }
    }
}
