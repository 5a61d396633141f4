//! Filters by libseccomp: for what the generator leaves to it, and as the generator's oracle. Not here: reading a section (`profile`).

use crate::profile::{Condition, Profile, Rule};
use crate::stub;
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpFilterContext, ScmpSyscall};
use runtime_core::spec::Seccomp;
use runtime_core::{Context, Error, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read, Seek};

/// From this many system calls on, a search tree is worth its instructions: the filter of podman's profile answers the
/// average allowed call after 14 instructions, the linear one after 174, for a quarter more in length and compile time.
const TREE_FROM: usize = 32;

/// The program for a section, of which `profile` was made.
///
/// # Errors
/// What libseccomp refuses, with the field's path and its error number; an unknown name, if it may not be.
pub(crate) fn program(section: &Seccomp<'_>, profile: &Profile<'_>) -> Result<Vec<u8>> {
    let mut filter = ScmpFilterContext::new(profile.default).map_err(|e| refused(&e, "error seccomp_init"))?;
    for (i, (arch, word)) in profile.architectures.iter().zip(&section.architectures).enumerate() {
        filter.add_arch(*arch).map_err(|e| {
            refused(&e, &format!("seccomp adding architecture `{word}`")).context(format!("linux.seccomp.architectures[{i}]"))
        })?;
    }
    let calls: usize = profile.rules.iter().map(|rule| rule.names.len()).sum();
    if calls >= TREE_FROM {
        filter.set_ctl_optimize(2).map_err(|e| refused(&e, "seccomp set optimization"))?;
    }
    for (i, rule) in profile.rules.iter().enumerate() {
        add_rule(&mut filter, rule, profile.default, profile.fail_unknown, i)?;
    }
    let architectures = profile.distinct_architectures();
    let mut program = if profile.stub { stub::instructions(section, &architectures) } else { Vec::new() };
    program.extend(export(&filter)?);
    Ok(program)
}

fn add_rule(filter: &mut ScmpFilterContext, rule: &Rule<'_>, default: ScmpAction, fail_unknown: bool, i: usize) -> Result<()> {
    let at = |n: usize| format!("linux.seccomp.syscalls[{i}].names[{n}]");
    if rule.action == default {
        return Ok(());
    }
    let compare = |c: &Condition| ScmpArgCompare::new(c.index, c.operator, c.value);
    let lists: Vec<Vec<ScmpArgCompare>> = rule.lists().map(|list| list.iter().map(compare).collect()).collect();
    for (n, name) in rule.names.iter().enumerate() {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            if fail_unknown {
                return Err(Error::invalid(format!("invalid seccomp syscall `{}`", name.escape_debug())).context(at(n)));
            }
            tracing::debug!("unknown seccomp syscall `{}` ignored", &**name);
            continue;
        };
        for list in &lists {
            filter
                .add_rule_conditional(rule.action, call, list)
                .map_err(|e| refused(&e, &format!("seccomp_rule_add `{name}`")).context(at(n)))?;
        }
    }
    Ok(())
}

/// libseccomp before 2.6 writes a filter to a descriptor only.
fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let mut file = File::from(memfd_create("seccomp", MemfdFlags::CLOEXEC).map_err(std::io::Error::from).context(|| "memfd_create")?);
    filter.export_bpf(&file).map_err(|e| refused(&e, "seccomp_export_bpf"))?;
    file.rewind().context(|| "read the seccomp filter")?;
    let mut program = Vec::new();
    file.read_to_end(&mut program).context(|| "read the seccomp filter")?;
    Ok(program)
}

/// libseccomp's answer, by its error number where it gave one.
fn refused(error: &SeccompError, what: &str) -> Error {
    match error.sysrawrc() {
        Some(number) => Error::sys(number.abs(), what).with_kind(runtime_core::ErrorKind::Invalid),
        None => Error::invalid(error.to_string()).context(what),
    }
}
