//! An interpreter for the programs that seccomp(2) takes (Linux, kernel/seccomp.c `seccomp_check_filter`): the subset of
//! classic BPF that the kernel allows there, strict about everything it would refuse. Only what libseccomp's programs and
//! the generator's use is here; another instruction is an error, so a test cannot pass by ignoring one.

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// Number of the system call.
    pub(crate) nr: u32,
    /// `AUDIT_ARCH_…`.
    pub(crate) arch: u32,
    /// Arguments.
    pub(crate) args: [u64; 6],
}

impl Call {
    /// A 32-bit word at an offset, as `BPF_LD|BPF_W|BPF_ABS` reads it.
    fn word(&self, offset: u32) -> Result<u32, String> {
        let mut bytes = [0u8; 64];
        bytes[..4].copy_from_slice(&self.nr.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_ne_bytes());
        for (n, arg) in self.args.iter().enumerate() {
            bytes[16 + n * 8..24 + n * 8].copy_from_slice(&arg.to_ne_bytes());
        }
        let at = offset as usize;
        match bytes.get(at..at + 4) {
            Some(word) if offset.is_multiple_of(4) => Ok(u32::from_ne_bytes(word.try_into().expect("four bytes"))),
            _ => Err(format!("load from {offset}")),
        }
    }
}

/// Runs a program; returns its verdict (`SECCOMP_RET_…` with data) and the number of instructions it took.
pub(crate) fn run(program: &[u8], call: &Call) -> Result<(u32, usize), String> {
    run_noting(program, call).map(|(verdict, steps, _)| (verdict, steps))
}

/// The same, and whether anything but number and architecture was looked at. If not, the verdict is that of all calls of this number.
pub(crate) fn run_noting(program: &[u8], call: &Call) -> Result<(u32, usize, bool), String> {
    if program.is_empty() || !program.len().is_multiple_of(8) || program.len() > 4096 * 8 {
        return Err(format!("a program of {} bytes", program.len()));
    }
    let (mut a, mut at, mut steps, mut looked) = (0u32, 0usize, 0usize, false);
    loop {
        let i = program.get(at * 8..at * 8 + 8).ok_or_else(|| format!("jump out of the program to {at}"))?;
        let code = u16::from_ne_bytes([i[0], i[1]]);
        let (jt, jf) = (usize::from(i[2]), usize::from(i[3]));
        let k = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
        at += 1;
        steps += 1;
        let branch = |taken: bool| if taken { jt } else { jf };
        match code {
            0x20 => {
                a = call.word(k)?; // ld [k]
                looked |= k >= 8;
            }
            0x54 => a &= k,                        // and #k
            0x05 => at += k as usize,              // ja
            0x15 => at += branch(a == k),          // jeq #k
            0x25 => at += branch(a > k),           // jgt #k
            0x35 => at += branch(a >= k),          // jge #k
            0x45 => at += branch(a & k > 0),       // jset #k
            0x06 => return Ok((k, steps, looked)), // ret #k
            other => return Err(format!("instruction {other:#x} at {}", at - 1)),
        }
    }
}
