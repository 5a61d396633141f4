//! A section with its words understood: what both compilers, `generate` and `library`, start from. Not here: the meaning of single
//! words (`words`).
//!
//! The semantics are crun's: a rule whose action is the default one is left out, names that libseccomp does not know are
//! skipped unless an annotation says otherwise, and conditions on the same argument are alternatives.

use crate::annotations::Options;
use crate::{stub, words};
use libseccomp::{ScmpAction, ScmpArch, ScmpCompareOp};
use runtime_core::spec::{Seccomp, SeccompArg, SeccompRule, Str};
use runtime_core::{Context, Error, Result};

/// What a section says about system calls.
#[derive(Debug)]
pub(crate) struct Profile<'a> {
    /// Action for calls that no rule matches.
    pub(crate) default: ScmpAction,
    /// The section's list in its order; the native architecture belongs to every profile, listed or not.
    pub(crate) architectures: Vec<ScmpArch>,
    /// The section's rules in their order.
    pub(crate) rules: Vec<Rule<'a>>,
    /// A name that libseccomp does not know is an error.
    pub(crate) fail_unknown: bool,
    /// Calls newer than the profile get ENOSYS.
    pub(crate) stub: bool,
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule<'a> {
    /// Names of system calls.
    pub(crate) names: &'a [Str<'a>],
    /// What its calls get.
    pub(crate) action: ScmpAction,
    conditions: Vec<Condition>,
    /// One condition is enough.
    alternatives: bool,
}

/// A comparison with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The argument, 0 to 5.
    pub(crate) index: u32,
    /// How it is compared, with the mask if there is one.
    pub(crate) operator: ScmpCompareOp,
    /// What it is compared with.
    pub(crate) value: u64,
}

impl<'a> Profile<'a> {
    /// Reads the words of a section.
    ///
    /// # Errors
    /// An unknown word, an argument's index above 5 or an error number that does not fit, with the field's path.
    pub(crate) fn read(section: &'a Seccomp<'a>, options: &Options<'_>) -> Result<Self> {
        let default = words::action(&section.default_action, section.default_errno_ret, libc::EPERM as u32)
            .context(|| "linux.seccomp.defaultAction")?;
        let architecture = |(i, word): (usize, &Str<'_>)| words::architecture(word).context(|| format!("linux.seccomp.architectures[{i}]"));
        let architectures = section.architectures.iter().enumerate().map(architecture).collect::<Result<_>>()?;
        let rules = section.syscalls.iter().enumerate().map(|(i, rule)| Rule::read(rule, i)).collect::<Result<_>>()?;
        let stub = !options.no_stub && stub::is_wanted(default);
        Ok(Self { default, architectures, rules, fail_unknown: options.fail_unknown, stub })
    }

    /// The architectures of the filter, each once, the native one first and by its own name.
    pub(crate) fn distinct_architectures(&self) -> Vec<ScmpArch> {
        let mut all = vec![ScmpArch::native()];
        for arch in &self.architectures {
            if *arch != ScmpArch::Native && !all.contains(arch) {
                all.push(*arch);
            }
        }
        all
    }
}

impl<'a> Rule<'a> {
    fn read(rule: &'a SeccompRule<'a>, i: usize) -> Result<Self> {
        let at = |field: String| format!("linux.seccomp.syscalls[{i}].{field}");
        let action = words::action(&rule.action, rule.errno_ret, libc::EPERM as u32).context(|| at("action".into()))?;
        let condition = |(n, arg)| condition(arg).context(|| at(format!("args[{n}]")));
        let conditions = rule.args.iter().enumerate().map(condition).collect::<Result<_>>()?;
        Ok(Self { names: &rule.names, action, conditions, alternatives: repeats(&rule.args) })
    }

    /// Lists of conditions; the rule holds where all of one list do. There is at least one list, an empty one if the rule always holds.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &[Condition]> {
        let size = if self.alternatives { 1 } else { self.conditions.len().max(1) };
        self.conditions.chunks(size).chain(self.conditions.is_empty().then_some(&[][..]))
    }
}

/// A profile joins conditions by "and" unless it names an argument twice, which means "or".
fn repeats(args: &[SeccompArg<'_>]) -> bool {
    args.iter().enumerate().any(|(n, arg)| args[..n].iter().any(|other| other.index == arg.index))
}

fn condition(arg: &SeccompArg<'_>) -> Result<Condition> {
    if arg.index > 5 {
        return Err(Error::invalid(format!("invalid seccomp index {}", arg.index)));
    }
    let operator = words::operator(&arg.op, arg.value)?;
    let masked = matches!(operator, ScmpCompareOp::MaskedEqual(_));
    Ok(Condition { index: arg.index, operator, value: if masked { arg.value_two } else { arg.value } })
}
