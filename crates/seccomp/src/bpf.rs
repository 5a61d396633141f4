//! Instructions of classic BPF as seccomp(2) takes them: their codes, their bytes, and what they look at. Not here: which a filter is made of.

/// BPF_MAXINSNS: the kernel takes no longer program.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;
/// Size of `struct sock_filter`.
pub(crate) const INSTRUCTION: usize = 8;

pub(crate) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(crate) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(crate) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(crate) const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(crate) const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(crate) const FROM: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(crate) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
pub(crate) const ARGUMENTS: u32 = 16;

/// `struct sock_filter`.
pub(crate) fn instruction(code: u16, if_true: u8, if_false: u8, k: u32) -> [u8; INSTRUCTION] {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, if_true, if_false, k0, k1, k2, k3]
}
