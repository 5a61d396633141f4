//! `update`: new limits for a container, from options or a file. Not here: setting them.

use super::{Command, Context};
use crate::args::{self, Stop, Typed};
use clap::ArgMatches;
use runtime_core::spec::{self, BlockIo, Cpu, Memory, Pids, Resources, Str};
use runtime_core::{Context as _, Result};

pub(super) const COMMAND: Command = Command { name: "update", about: "update container resource constraints", options, run };

fn options(typed: Typed<'_>) -> clap::Command {
    let value = |long, help| args::value(long, "VALUE", help);
    args::with_operands(args::command(typed, "update", "update [OPTION]... CONTAINER", "Change the limits of a container"))
        .arg(
            args::value("resources", "FILE", "JSON file with linux.resources, \"-\" for standard input; the other options go over it")
                .short('r'),
        )
        .arg(value("blkio-weight", "Weight of block I/O, 10 to 1000"))
        .arg(value("cpu-burst", "CPU time that may be saved up, in microseconds"))
        .arg(value("cpu-idle", "1 to run when nobody else wants to, 0 not to"))
        .arg(value("cpu-period", "Length of a CPU period in microseconds"))
        .arg(value("cpu-quota", "CPU time per period in microseconds, -1 for no limit"))
        .arg(value("cpu-rt-period", "Length of a realtime CPU period in microseconds"))
        .arg(value("cpu-rt-runtime", "Realtime CPU time per period in microseconds"))
        .arg(value("cpu-share", "Relative weight of CPU time, 2 to 262144").alias("cpu-shares"))
        .arg(value("cpuset-cpus", "CPUs that may be used, such as 0-3,7"))
        .arg(value("cpuset-mems", "Memory nodes that may be used, such as 0-1"))
        .arg(value("kernel-memory", "Kernel memory in bytes (cgroup v1)"))
        .arg(value("kernel-memory-tcp", "Kernel memory for TCP buffers in bytes (cgroup v1)"))
        .arg(value("l3-cache-schema", "Intel RDT/CAT: the L3 cache the container may use, such as L3:0=ff"))
        .arg(value("mem-bw-schema", "Intel RDT/MBA: the memory bandwidth it may use, such as MB:0=50"))
        .arg(value("memory", "Memory in bytes, with k, m, g or t for units of 1024; -1 for no limit"))
        .arg(value("memory-reservation", "Memory that is left when memory gets scarce"))
        .arg(value("memory-swap", "Memory and swap together; -1 for no limit"))
        .arg(value("pids-limit", "Number of processes and threads, -1 for no limit"))
}

fn run(context: &Context, m: &ArgMatches) -> Result<i32, Stop> {
    let id = args::only_id(m, "update")?;
    let json = args::path(m, "resources").map(|p| super::read_file(&p)).transpose()?;
    let mut resources = match &json {
        Some((name, bytes)) => spec::parse(bytes).context(|| format!("parse `{name}`"))?,
        None => Resources::default(),
    };
    apply(m, &mut resources)?;
    let (cache, bandwidth) = (args::text(m, "l3-cache-schema")?, args::text(m, "mem-bw-schema")?);
    let rdt = cache.is_some() || bandwidth.is_some();
    // Alone they leave the cgroup in peace, which the container may not have.
    let others = m.ids().any(|name| !["l3-cache-schema", "mem-bw-schema", args::OPERANDS].contains(&name.as_str()));
    if !rdt || others {
        context.runtime().update(&id, &resources)?;
    }
    if rdt {
        context.runtime().update_intel_rdt(&id, cache.as_deref(), bandwidth.as_deref())?;
    }
    Ok(0)
}

/// Puts the options over what `resources` has.
fn apply(m: &ArgMatches, resources: &mut Resources<'_>) -> Result<()> {
    apply_cpu(m, resources)?;
    apply_memory(m, resources)?;
    if let Some(weight) = args::number(m, "blkio-weight")? {
        resources.block_io.get_or_insert_with(BlockIo::default).weight = Some(weight);
    }
    if let Some(limit) = args::number(m, "pids-limit")? {
        resources.pids.get_or_insert_with(Pids::default).limit = Some(limit);
    }
    Ok(())
}

fn apply_cpu(m: &ArgMatches, resources: &mut Resources<'_>) -> Result<()> {
    let mut cpu = resources.cpu.take();
    let mut with = |set: &dyn Fn(&mut Cpu<'_>)| set(cpu.get_or_insert_with(Cpu::default));
    if let Some(n) = args::number(m, "cpu-burst")? {
        with(&|c| c.burst = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-idle")? {
        with(&|c| c.idle = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-period")? {
        with(&|c| c.period = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-quota")? {
        with(&|c| c.quota = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-rt-period")? {
        with(&|c| c.realtime_period = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-rt-runtime")? {
        with(&|c| c.realtime_runtime = Some(n));
    }
    if let Some(n) = args::number(m, "cpu-share")? {
        with(&|c| c.shares = Some(n));
    }
    if let Some(list) = args::text(m, "cpuset-cpus")? {
        with(&|c| c.cpus = Some(Str::from(list.clone())));
    }
    if let Some(list) = args::text(m, "cpuset-mems")? {
        with(&|c| c.mems = Some(Str::from(list.clone())));
    }
    resources.cpu = cpu;
    Ok(())
}

fn apply_memory(m: &ArgMatches, resources: &mut Resources<'_>) -> Result<()> {
    type Field = fn(&mut Memory) -> &mut Option<i64>;
    let fields: [(&str, Field); 5] = [
        ("memory", |r| &mut r.limit),
        ("memory-reservation", |r| &mut r.reservation),
        ("memory-swap", |r| &mut r.swap),
        ("kernel-memory", |r| &mut r.kernel),
        ("kernel-memory-tcp", |r| &mut r.kernel_tcp),
    ];
    for (long, field) in fields {
        if let Some(text) = args::text(m, long)? {
            let bytes = bytes(&text).ok_or_else(|| args::invalid(long, &text))?;
            *field(resources.memory.get_or_insert_with(Memory::default)) = Some(bytes);
        }
    }
    Ok(())
}

/// A number of bytes: digits, and perhaps a unit `k`, `m`, `g` or `t` (1024 and its powers), with or without `b`, in any case. -1 stands
/// for no limit.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let short = lower.strip_suffix('b').unwrap_or(&lower);
    let units = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
    let (digits, shift) = match units.iter().find(|(unit, _)| short.ends_with(*unit)) {
        Some((_, shift)) => (&short[..short.len() - 1], *shift),
        None => (short, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{abbreviations, matches};
    use super::*;
    use proptest::prelude::*;

    fn written(line: &str, json: &str) -> serde_json::Value {
        let mut resources: Resources<'_> = spec::parse(json.as_bytes()).unwrap();
        apply(&matches(options, line), &mut resources).unwrap();
        serde_json::to_value(resources).unwrap()
    }

    #[test]
    fn each_option_sets_its_field() {
        for (line, json) in [
            ("--blkio-weight 10", r#"{"blockIO":{"weight":10}}"#),
            ("--cpu-burst 1", r#"{"cpu":{"burst":1}}"#),
            ("--cpu-idle 1", r#"{"cpu":{"idle":1}}"#),
            ("--cpu-period 1", r#"{"cpu":{"period":1}}"#),
            ("--cpu-quota -1", r#"{"cpu":{"quota":-1}}"#),
            ("--cpu-rt-period 1", r#"{"cpu":{"realtimePeriod":1}}"#),
            ("--cpu-rt-runtime 1", r#"{"cpu":{"realtimeRuntime":1}}"#),
            ("--cpu-share 2", r#"{"cpu":{"shares":2}}"#),
            ("--cpu-shares=2", r#"{"cpu":{"shares":2}}"#),
            ("--cpuset-cpus 0-3", r#"{"cpu":{"cpus":"0-3"}}"#),
            ("--cpuset-mems 0", r#"{"cpu":{"mems":"0"}}"#),
            ("--kernel-memory 1", r#"{"memory":{"kernel":1}}"#),
            ("--kernel-memory-tcp 1", r#"{"memory":{"kernelTCP":1}}"#),
            ("--memory 64m", r#"{"memory":{"limit":67108864}}"#),
            ("--memory-reservation 1", r#"{"memory":{"reservation":1}}"#),
            ("--memory-swap -1", r#"{"memory":{"swap":-1}}"#),
            ("--pids-limit -1", r#"{"pids":{"limit":-1}}"#),
            ("", "{}"),
        ] {
            assert_eq!(written(line, "{}"), serde_json::from_str::<serde_json::Value>(json).unwrap(), "{line}");
        }
    }

    #[test]
    fn options_go_over_the_file() {
        let got = written("--memory 2 --cpu-quota 3", r#"{"memory":{"limit":1,"swap":9},"unified":{"memory.high":"7"}}"#);
        assert_eq!(got, serde_json::json!({"memory": {"limit": 2, "swap": 9}, "cpu": {"quota": 3}, "unified": {"memory.high": "7"}}));
    }

    #[test]
    fn values_that_are_none() {
        for (line, text) in [
            ("--memory x", "invalid value for `memory`: `x`"),
            ("--memory 9999999999g", "invalid value for `memory`: `9999999999g`"),
            ("--pids-limit 1.5", "invalid value for `pids-limit`: `1.5`"),
            ("--cpu-share -1", "invalid value for `cpu-share`: `-1`"),
            ("--blkio-weight 70000", "invalid value for `blkio-weight`: `70000`"),
        ] {
            assert_eq!(apply(&matches(options, line), &mut Resources::default()).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_file_that_is_missing_or_wrong() {
        assert_eq!(
            super::super::read_file(std::path::Path::new("/nonexistent")).unwrap_err().to_string(),
            "open `/nonexistent`: No such file or directory"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.json");
        std::fs::write(&file, r#"{"memory":{"limit":"x"}}"#).unwrap();
        match run(&Context::for_tests(), &matches(options, &format!("-r {} ctr", file.display()))) {
            Err(Stop::Failed(e)) => {
                let text = e.to_string();
                assert!(text.starts_with(&format!("parse `{}`: memory.limit: ", file.display())), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn units() {
        for (text, n) in [("0", 0), ("7", 7), ("7b", 7), ("1k", 1024), ("1KB", 1024), ("2M", 2 << 20), ("3gb", 3 << 30), ("1t", 1 << 40)] {
            assert_eq!(bytes(text), Some(n), "{text}");
        }
        for text in ["", "k", "b", "-2", "+1", "1kk", "1 k", "1.5g", "0x10"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_unit_is_its_power_of_1024(n in 0..=i64::MAX >> 40, unit in 0usize..4, upper: bool) {
            let letter = ["k", "m", "g", "t"][unit];
            let letter = if upper { letter.to_ascii_uppercase() } else { letter.to_owned() };
            prop_assert_eq!(bytes(&format!("{n}{letter}")), Some(n << (10 * (unit + 1))));
        }
    }

    #[test]
    fn crun_abbreviations_keep_their_meaning() {
        abbreviations(
            options,
            &[
                "blkio-weight=",
                "cpu-period=",
                "cpu-quota=",
                "cpu-rt-period=",
                "cpu-rt-runtime=",
                "cpu-share=",
                "cpuset-cpus=",
                "cpuset-mems=",
                "kernel-memory=",
                "kernel-memory-tcp=",
                "l3-cache-schema=",
                "mem-bw-schema=",
                "memory=",
                "memory-reservation=",
                "memory-swap=",
                "pids-limit=",
                "resources=",
            ],
        );
    }
}
