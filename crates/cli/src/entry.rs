//! Where the C library enters. Not here: anything that could fail with a message.
//!
//! Rust's own start-up code sets SIGPIPE to be ignored, which a container would inherit, reads `/proc/self/maps`, and makes an alternate
//! signal stack: 19 system calls that this program has no use for. What it has a use for, open standard descriptors, stands below.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

/// Where the kernel enters a static program, by an option of the linker (`build.rs`): before the C library begins, and with it everything that
/// writes to the program's memory. It goes on at the C library's entry, with the registers and the stack as the kernel gave them.
#[cfg(static_start)]
mod before {
    /// The stack pointer is what the kernel set.
    extern "C" fn begin(stack: *const usize) {
        // SAFETY: `pinnace_start` calls this first, with that.
        unsafe { runtime_core::engine::protect_at_entry(stack, b"create\0run\0exec\0") };
    }

    #[cfg(target_arch = "x86_64")]
    std::arch::global_asm!(
        ".globl pinnace_start",
        ".type pinnace_start, @function",
        "pinnace_start:",
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        // What `_start` gets in a register beside the stack, in one that a function keeps.
        "mov rbx, rdx",
        "mov rdi, rsp",
        "call {begin}",
        "mov rdx, rbx",
        "jmp _start",
        ".cfi_endproc",
        begin = sym begin,
    );

    #[cfg(target_arch = "aarch64")]
    std::arch::global_asm!(
        ".globl pinnace_start",
        ".type pinnace_start, @function",
        "pinnace_start:",
        ".cfi_startproc",
        ".cfi_undefined x30",
        "mov x29, #0",
        "mov x19, x0",
        "mov x0, sp",
        "bl {begin}",
        "mov x0, x19",
        "b _start",
        ".cfi_endproc",
        begin = sym begin,
    );
}

/// The program. The arguments are those of the process, which `std::env` reads from the same place.
// SAFETY: no other function of this program is called `main`, and the signature is the one the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    if !runtime_core::engine::standard_descriptors_are_open() {
        open_standard_descriptors();
    }
    crate::app::run(std::env::args_os())
}

/// Opens `/dev/null` in place of standard descriptors that are closed. Otherwise the next file opened, a state file or a cgroup's, would
/// take their number, and messages would be written into it.
fn open_standard_descriptors() {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: `fds` is an array of 3 pollfd that lives through the call.
    if unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) } <= 0 {
        return;
    }
    for _ in fds.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
        // The lowest free number is taken, and it is one of the closed ones. Without /dev/null there is nothing better to do.
        // SAFETY: the path is a C string; the descriptor is left open on purpose.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}
