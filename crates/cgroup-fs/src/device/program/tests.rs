//! The generator against an interpreter of the instructions it uses and a direct reading of the rules.

use super::*;
use crate::device::rules::{MKNOD, READ, WRITE};
use proptest::prelude::*;

/// Runs a program on a request; a program that leaves its text, does not end or uses another instruction panics.
fn run(program: &[Insn], kind: u32, access: u8, major: u32, minor: u32) -> bool {
    let ctx = [u32::from(access) << 16 | kind, major, minor];
    let mut r = [0_u64; 11];
    let mut pc = 0;
    for _ in 0..program.len() {
        let i = program[pc];
        let (dst, src) = ((i.regs & 15) as usize, (i.regs >> 4) as usize);
        let imm = i64::from(i.imm) as u64;
        pc += 1;
        match i.code {
            LOAD32 => {
                assert_eq!(src, 1);
                r[dst] = u64::from(ctx[i.off as usize / 4]);
            }
            MOV_REG => r[dst] = r[src],
            MOV => r[dst] = imm,
            AND => r[dst] &= imm,
            SHIFT_RIGHT => r[dst] >>= imm,
            SHIFT_LEFT => r[dst] <<= imm,
            OR_REG => r[dst] |= r[src],
            JUMP => pc += i.off as usize,
            JUMP_EQ if r[dst] == imm => pc += i.off as usize,
            JUMP_NE if r[dst] != imm => pc += i.off as usize,
            JUMP_EQ | JUMP_NE => {}
            EXIT => return r[0] != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("no exit")
}

/// What the rules say, one kind of access at a time.
fn meant(rules: &[Rule], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let order: Vec<&Rule> = rules.iter().chain(DEFAULTS).collect();
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let about = |r: &&&Rule| {
            (r.kind == Kind::All || r.kind == kind)
                && r.major.is_none_or(|m| m == major)
                && r.minor.is_none_or(|m| m == minor)
                && r.access & bit != 0
        };
        order.iter().rev().find(about).is_some_and(|r| r.allow)
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![Just(Kind::All), Just(Kind::Char), Just(Kind::Block)];
    let number = || proptest::option::of(0..4_u32);
    (any::<bool>(), kind, number(), number(), 1..8_u8).prop_map(|(allow, kind, major, minor, access)| Rule {
        allow,
        kind,
        major,
        minor,
        access,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn program_and_rules_agree(rules in proptest::collection::vec(rule(), 0..8)) {
        let p = program(&rules);
        for (kind, number) in [(Kind::Block, 1), (Kind::Char, 2)] {
            for access in 1..8 {
                for major in 0..6 {
                    for minor in 0..6 {
                        let (ran, meant) = (run(&p, number, access, major, minor), meant(&rules, kind, access, major, minor));
                        prop_assert_eq!(ran, meant, "{:?} {} {}:{}", kind, access, major, minor);
                    }
                }
            }
        }
    }
}

#[test]
fn deny_all_leaves_the_defaults() {
    let p = program(&[Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL_ACCESS }]);
    for (kind, access, major, minor, allowed) in [
        (2, READ | WRITE, 1, 3, true),
        (2, READ | WRITE | MKNOD, 136, 77, true),
        (2, MKNOD, 1, 11, true),
        (1, MKNOD, 8, 0, true),
        (2, READ, 1, 11, false),
        (2, READ | MKNOD, 1, 11, false),
        (1, READ, 8, 0, false),
        (1, READ, 1, 3, false),
    ] {
        assert_eq!(run(&p, kind, access, major, minor), allowed, "{kind} {access} {major}:{minor}");
    }
}

#[test]
fn numbers_are_compared_whole() {
    for (major, minor) in [(2047, 5), (2048, 5), (4095, 1_048_575), (4096, 5), (5, 1_048_576), (u32::MAX, 5), (5, u32::MAX)] {
        let rule = |major, minor| Rule { allow: true, kind: Kind::Block, major, minor, access: ALL_ACCESS };
        for (rule, about) in
            [(rule(Some(major), Some(minor)), "both"), (rule(Some(major), None), "major"), (rule(None, Some(minor)), "minor")]
        {
            let p = program(&[rule]);
            for (m, n) in [(major, minor), (major, 7), (7, minor), (major ^ 2048, minor), (major, minor ^ 0x8_0000), (0, 0)] {
                let exists = m <= MAX_MAJOR && n <= MAX_MINOR;
                let meant = meant(&[rule], Kind::Block, READ, m, n);
                assert!(!exists || run(&p, 1, READ, m, n) == meant, "{about} {major}:{minor}, {m}:{n}");
            }
        }
    }
}

#[test]
fn nothing_follows_a_rule_about_everything() {
    let all = Rule { allow: true, kind: Kind::All, major: None, minor: None, access: ALL_ACCESS };
    let late = Rule { allow: false, kind: Kind::Char, major: Some(1), minor: Some(11), access: WRITE };
    let p = program(&[late, all, late]);
    assert_eq!(p, program(&[all, late]));
    assert!(run(&p, 2, READ, 1, 11) && !run(&p, 2, WRITE, 1, 11) && run(&p, 1, WRITE, 8, 0));
}
