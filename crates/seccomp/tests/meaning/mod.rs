//! What a section says, by the words of config-linux.md "Seccomp" and libseccomp's promises (seccomp_rule_add(3)), without BPF and
//! without rule trees. Names and numbers are libseccomp's.

use super::bpf::Call;
use libseccomp::{ScmpArch, ScmpSyscall};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::OnceLock;

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;
pub(crate) const ARM: u32 = 0x4000_0028;
pub(crate) const RISCV64: u32 = 0xc000_00f3;
pub(crate) const X32_BIT: u32 = 0x4000_0000;

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const KILL_THREAD: u32 = 0;
const ENOSYS: u32 = ERRNO | 38;

/// The architectures that are known here: the specification's word, libseccomp's, the kernel's token, the bit in the numbers, whether
/// arguments have 64 bits.
pub(crate) const ARCHITECTURES: [(&str, ScmpArch, u32, u32, bool); 6] = [
    ("SCMP_ARCH_X86_64", ScmpArch::X8664, X86_64, 0, true),
    ("SCMP_ARCH_X86", ScmpArch::X86, I386, 0, false),
    ("SCMP_ARCH_X32", ScmpArch::X32, X86_64, X32_BIT, false),
    ("SCMP_ARCH_AARCH64", ScmpArch::Aarch64, AARCH64, 0, true),
    ("SCMP_ARCH_ARM", ScmpArch::Arm, ARM, 0, false),
    ("SCMP_ARCH_RISCV64", ScmpArch::Riscv64, RISCV64, 0, true),
];

/// The name of a number.
fn name(arch: ScmpArch, nr: u32) -> Option<&'static str> {
    static NAMES: OnceLock<HashMap<(ScmpArch, u32), String>> = OnceLock::new();
    let all = NAMES.get_or_init(|| {
        let numbers =
            ARCHITECTURES.iter().flat_map(|(_, arch, _, bit, _)| (0..1200).chain(0xf_0000..0xf_0010).map(move |nr: u32| (*arch, nr | bit)));
        numbers.filter_map(|(arch, nr)| Some(((arch, nr), ScmpSyscall::from_raw_syscall(nr as i32).get_name_by_arch(arch).ok()?))).collect()
    });
    all.get(&(arch, nr)).map(String::as_str)
}

fn number(name: &str, arch: ScmpArch) -> Option<i32> {
    ScmpSyscall::from_name_by_arch(name, arch).ok().map(i32::from)
}

/// Whether one condition holds. A 32-bit architecture passes 32-bit arguments; a profile written for 64 bits is compared in their width.
fn one(condition: &Value, args: &[u64; 6], wide: bool) -> bool {
    let width = |v: u64| if wide { v } else { v & u64::from(u32::MAX) };
    let arg = width(args[condition["index"].as_u64().expect("index") as usize]);
    let (value, two) = (width(condition["value"].as_u64().expect("value")), width(condition["valueTwo"].as_u64().unwrap_or(0)));
    match condition["op"].as_str().expect("op") {
        "SCMP_CMP_NE" => arg != value,
        "SCMP_CMP_LT" => arg < value,
        "SCMP_CMP_LE" => arg <= value,
        "SCMP_CMP_EQ" => arg == value,
        "SCMP_CMP_GE" => arg >= value,
        "SCMP_CMP_GT" => arg > value,
        // No bit outside the mask counts, on either side.
        "SCMP_CMP_MASKED_EQ" => arg & value == two & value,
        other => panic!("operator {other}"),
    }
}

fn conditions(rule: &Value) -> &[Value] {
    rule["args"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a rule's conditions hold for arguments; with `part`, for a part of `socketcall` or `ipc`, whose first argument says which.
pub(crate) fn holds(rule: &Value, args: &[u64; 6], wide: bool, part: Option<u64>) -> bool {
    let conditions = conditions(rule);
    let indices: BTreeSet<_> = conditions.iter().map(|c| c["index"].as_u64()).collect();
    let which = part.is_none_or(|part| args[0] & u64::from(u32::MAX) == part);
    let holds = |c: &Value| (part.is_some() && c["index"] == 0) || one(c, args, wide);
    which && if indices.len() < conditions.len() { conditions.iter().any(holds) } else { conditions.iter().all(holds) }
}

/// `SECCOMP_RET_…` (linux/seccomp.h).
pub(crate) fn verdict(action: &Value, errno: &Value) -> u32 {
    let number = errno.as_u64().unwrap_or(1) as u32;
    match action.as_str().expect("an action") {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | number,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | number,
        other => panic!("action {other}"),
    }
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    rule["names"].as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_str)
}

/// A section's meaning.
pub(crate) struct Meaning<'a> {
    default: u32,
    /// Rules that are not left out, with their verdicts.
    rules: Vec<(&'a Value, u32)>,
    archs: Vec<(ScmpArch, u32, u32, bool)>,
    /// The last number that is named, for each of those.
    last: Vec<Option<u32>>,
    /// What was found out already of the number of one of those.
    found: RefCell<HashMap<(usize, u32), Answers<'a>>>,
}

/// A rule for a number, its verdict, and for a part of a common call, which.
type Answer<'a> = (&'a Value, u32, Option<u64>);
type Answers<'a> = Rc<[Answer<'a>]>;

impl<'a> Meaning<'a> {
    /// Reads a section of known words on x86_64.
    pub(crate) fn new(section: &'a Value) -> Self {
        let default = verdict(&section["defaultAction"], &section["defaultErrnoRet"]);
        let all = section["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default();
        let listed = |word: &str| section["architectures"].as_array().is_some_and(|list| list.iter().any(|listed| listed == word));
        let archs = ARCHITECTURES.iter().filter(|(word, arch, ..)| *arch == ScmpArch::X8664 || listed(word));
        let archs: Vec<_> = archs.map(|(_, arch, token, bit, wide)| (*arch, *token, *bit, *wide)).collect();
        let rules = all.iter().map(|rule| (rule, verdict(&rule["action"], &rule["errnoRet"]))).filter(|(_, v)| *v != default).collect();
        let hides = default < 0x7fc0_0000 && default != ENOSYS || default == 0x8000_0000;
        let last = archs.iter().map(|(arch, _, bit, _)| {
            let numbers = all.iter().flat_map(names).filter_map(|name| u32::try_from(number(name, *arch)?).ok());
            numbers.filter(|nr| hides && (*arch != ScmpArch::Arm || *nr < 0xf_0000) && nr & X32_BIT == *bit).max()
        });
        Self { default, rules, last: last.collect(), archs, found: RefCell::default() }
    }

    /// The verdict for a call; nothing where rules of different actions hold, which has no defined answer.
    pub(crate) fn verdict(&self, call: &Call) -> Option<u32> {
        let Call { nr, arch: token, args } = *call;
        // All that is above x32's bit, as libseccomp has it, but for the number of a call that a tracer has skipped.
        let bit = if token == X86_64 && (X32_BIT..u32::MAX).contains(&nr) { X32_BIT } else { 0 };
        let Some(n) = self.archs.iter().position(|(_, other, its, _)| token == *other && bit == *its) else { return Some(KILL_THREAD) };
        let (arch, _, _, wide) = self.archs[n];
        let end = match token {
            X86_64 => bit + X32_BIT,
            ARM => 0xf_0000,
            _ => u32::MAX,
        };
        if self.last[n].is_some_and(|last| nr > last && (nr < end || end == u32::MAX)) {
            return Some(ENOSYS);
        }
        let answers = self.found.borrow_mut().entry((n, nr)).or_insert_with(|| self.answers(arch, nr)).clone();
        // The first rule without conditions stands, whatever others there are.
        if let Some((_, verdict, _)) = answers.iter().find(|(rule, _, part)| part.is_none() && conditions(rule).is_empty()) {
            return Some(*verdict);
        }
        let mut verdicts: Vec<u32> = answers.iter().filter(|(rule, _, part)| holds(rule, &args, wide, *part)).map(|(_, v, _)| *v).collect();
        verdicts.dedup();
        if verdicts.len() > 1 { None } else { Some(verdicts.first().copied().unwrap_or(self.default)) }
    }

    /// The rules for a number, in their order.
    fn answers(&self, arch: ScmpArch, nr: u32) -> Answers<'a> {
        let mut answers: Vec<Answer<'a>> = Vec::new();
        let own = name(arch, nr);
        for (rule, verdict) in &self.rules {
            for named in names(rule) {
                if own == Some(named) {
                    answers.push((rule, *verdict, None));
                }
                let parts = match (arch, nr) {
                    (ScmpArch::X86, 102) => 100..=120,
                    (ScmpArch::X86, 117) => 200..=224,
                    _ => continue,
                };
                let part = number(named, arch).map(|number| -number).filter(|number| parts.contains(number));
                answers.extend(part.map(|part| (*rule, *verdict, Some(part as u64 % 100))));
            }
        }
        answers.into()
    }
}
