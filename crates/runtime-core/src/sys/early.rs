//! A static program that is moved to a read-only mount before its C library begins. Then nothing of it was written to, and hardly any of it is in
//! memory: it is mapped anew in a few calls, where [`super::move_program`] has to copy what was written. Not here: what that is good for
//! (`engine::own_program`), whose part this takes over where it can and for which it leaves everything else.
//!
//! Nothing is relocated yet, there is no thread-local memory, and the C library's functions cannot be called. So no constant here contains an
//! address, no loop is one that the compiler would make a `memcpy` or `memcmp` of, and system calls are made as the processor makes them. Without
//! optimisation the compiler calls functions for all of that: such a program is not entered here.

use super::image::{FILE_TOO, HELD, Header, MemoryMap, Part, STANDARD_OPEN, TREE, bias};
use super::mount::{OPEN_TREE_ATTR, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE, TREES_WITH_ATTRIBUTES};
use crate::plan::mount_flags::ATTR_RDONLY;
use std::ffi::{CStr, c_long};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

const OWN: &CStr = c"/proc/self/exe";

/// Moves the program where container's root could write to its file and one of its arguments is among `words`, each of which ends with a zero byte. Whatever
/// does not work is left for [`protect_own_program`](crate::engine::protect_own_program), which has to be called all the same.
///
/// `stack` is the stack pointer with which the kernel has started the program.
///
/// # Safety
/// It is called from the entry point of a program, before anything else, with that stack pointer.
#[inline]
pub unsafe fn protect_at_entry(stack: *const usize, words: &[u8]) {
    // SAFETY: the caller's promise.
    let Some(given) = (unsafe { Given::read(stack) }) else { return };
    // SAFETY: likewise: the arguments are there.
    if unsafe { given.has_argument(words) } && is_in_reach() {
        let attr: [u64; 4] = [ATTR_RDONLY, 0, 0, 0];
        let (lowest, in_one_call) = read_only(&attr);
        let tree = above_standard(lowest);
        if tree >= 0 {
            // SAFETY: likewise: nobody has written to the program yet.
            unsafe { move_to(&given, tree) };
            TREE.store(tree as i32 + 1, Ordering::Relaxed);
            TREES_WITH_ATTRIBUTES.store(in_one_call, Ordering::Relaxed);
            // The kernel gives the lowest number that is free.
            STANDARD_OPEN.store(lowest > 2, Ordering::Relaxed);
        }
    }
}

/// What the kernel gives a program (System V ABI, "Process Initialization"; getauxval(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Given {
    /// Address of the number of arguments, behind which their addresses stand.
    stack: usize,
    arguments: usize,
    /// Address of the first variable's address.
    environment: usize,
    /// AT_PHDR, AT_PHENT, AT_PHNUM.
    headers: usize,
    header_size: usize,
    header_count: usize,
    /// AT_PAGESZ.
    page: usize,
    /// AT_EXECFN, which stands behind the environment's strings.
    name: usize,
}

impl Given {
    /// Reads it; nothing where there is a loader, which has relocated the program by now.
    ///
    /// # Safety
    /// `stack` is the stack pointer with which the program was started.
    #[inline(always)]
    unsafe fn read(stack: *const usize) -> Option<Self> {
        // SAFETY: the number, as many addresses, a zero, the variables' addresses, a zero, and pairs up to one that begins with a zero (AT_NULL).
        let at = |index: usize| unsafe { stack.add(index).read() };
        let mut given = Self { stack: stack.addr(), arguments: at(0), ..Self::default() };
        let mut index = given.arguments + 2;
        given.environment = stack.addr() + index * size_of::<usize>();
        while at(index) != 0 {
            index += 1;
        }
        index += 1;
        loop {
            let value = at(index + 1);
            match at(index) as u64 {
                libc::AT_NULL => return (given.headers != 0 && given.header_size == size_of::<Header>()).then_some(given),
                libc::AT_BASE if value != 0 => return None,
                libc::AT_PHDR => given.headers = value,
                libc::AT_PHENT => given.header_size = value,
                libc::AT_PHNUM => given.header_count = value,
                libc::AT_PAGESZ => given.page = value,
                libc::AT_EXECFN => given.name = value,
                _ => {}
            }
            index += 2;
        }
    }

    /// Whether one of `words`, each of which ends with a zero byte, is an argument.
    ///
    /// # Safety
    /// The stack is as the kernel has made it.
    #[inline(always)]
    unsafe fn has_argument(&self, words: &[u8]) -> bool {
        let mut index = 1;
        while index < self.arguments {
            // SAFETY: there are so many arguments.
            let argument = unsafe { (std::ptr::with_exposed_provenance::<*const u8>(self.stack)).add(1 + index).read() };
            let mut word = 0;
            while word < words.len() {
                let mut letter = 0;
                // SAFETY: an argument ends with a zero byte, and no letter behind it is looked at, since either the word ends there too or differs.
                while unsafe { argument.add(letter).read_volatile() } == words[word + letter] {
                    if words[word + letter] == 0 {
                        return true;
                    }
                    letter += 1;
                }
                while words[word] != 0 {
                    word += 1;
                }
                word += 1;
            }
            index += 1;
        }
        false
    }

    #[inline(always)]
    fn headers(&self) -> &'static [Header] {
        // SAFETY: the kernel says that so many headers are there, in a part of the program that nobody writes to, and whose place a copy takes.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.headers), self.header_count) }
    }
}

/// Whether the kernel would let this user write to the file, and no attribute of the file keeps everybody from it.
#[inline(always)]
fn is_in_reach() -> bool {
    let own = OWN.as_ptr().addr();
    let here = libc::AT_FDCWD as usize;
    let denied = bare(libc::SYS_faccessat, [here, own, libc::W_OK as usize, 0, 0, 0]);
    if denied != 0 {
        HELD.store(denied == -(libc::EROFS as isize), Ordering::Relaxed);
        return false;
    }
    let mut st = MaybeUninit::<libc::statx>::uninit();
    if bare(libc::SYS_statx, [here, own, 0, libc::STATX_BASIC_STATS as usize, st.as_mut_ptr().addr(), 0]) != 0 {
        return false;
    }
    // SAFETY: the call has filled it.
    let attributes = unsafe { (&raw const (*st.as_ptr()).stx_attributes).read() };
    attributes & (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_VERITY) as u64 == 0
}

/// A copy of the file's mount that is read-only and in no namespace, or a negative error number; and whether the kernel makes one in one call (6.15).
#[inline(always)]
fn read_only(attr: &[u64; 4]) -> (isize, bool) {
    let (own, here) = (OWN.as_ptr().addr(), libc::AT_FDCWD as usize);
    let (attr, size, flags) = (attr.as_ptr().addr(), size_of::<[u64; 4]>(), (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) as usize);
    let tree = bare(OPEN_TREE_ATTR, [here, own, flags, attr, size, 0]);
    if tree != -(libc::ENOSYS as isize) && tree != -(libc::EPERM as isize) {
        return (tree, true);
    }
    let tree = bare(libc::SYS_open_tree, [here, own, flags, 0, 0, 0]);
    if tree < 0 {
        return (tree, false);
    }
    let done = bare(libc::SYS_mount_setattr, [tree as usize, c"".as_ptr().addr(), libc::AT_EMPTY_PATH as usize, attr, size, 0]);
    if done == 0 {
        return (tree, false);
    }
    bare(libc::SYS_close, [tree as usize, 0, 0, 0, 0, 0]);
    (done, false)
}

/// The same descriptor, or an error, but not with the number of a standard one: who starts the program may have closed those, and what would have one is
/// the container's.
#[inline(always)]
fn above_standard(fd: isize) -> isize {
    if !(0..=2).contains(&fd) {
        return fd;
    }
    let above = bare(libc::SYS_fcntl, [fd as usize, libc::F_DUPFD_CLOEXEC as usize, 3, 0, 0, 0]);
    bare(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]);
    above
}

/// Maps the program from the file that the O_PATH descriptor `tree` is, and makes that the one `/proc/PID/exe` leads to.
///
/// # Safety
/// Nobody has written to the program's data since the kernel has mapped it.
#[inline(always)]
unsafe fn move_to(given: &Given, tree: isize) {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let (mut power, mut at) = (1, 14);
    while tree / power >= 10 {
        power *= 10;
    }
    while power > 0 {
        path[at] = b'0' + (tree / power % 10) as u8;
        power /= 10;
        at += 1;
    }
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    let file = bare(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr().addr(), flags, 0, 0, 0]);
    if file < 0 {
        return;
    }
    if let Some(bias) = bias(given.headers(), given.headers) {
        // SAFETY: the caller's promise.
        let mapped = unsafe { map_anew(given, bias, file as usize) };
        HELD.store(mapped && set_program(given, bias, file as usize), Ordering::Relaxed);
    }
    if file == tree + 1 {
        // One call closes both.
        FILE_TOO.store(true, Ordering::Relaxed);
    } else {
        bare(libc::SYS_close, [file as usize, 0, 0, 0, 0, 0]);
    }
}

/// Maps all parts; whether that was done.
///
/// # Safety
/// See [`move_to`].
#[inline(always)]
unsafe fn map_anew(given: &Given, bias: usize, file: usize) -> bool {
    let headers = given.headers();
    let mut next = 0;
    while next < headers.len() {
        let first = next;
        next += 1;
        let Some(mut part) = Part::of(&headers[first], bias, given.page) else { continue };
        // What lies side by side in the file as well takes one call.
        while next < headers.len() {
            let Some(beside) = Part::of(&headers[next], bias, given.page).filter(|beside| part.is_continued_by(beside)) else { break };
            part.range.len += beside.range.len;
            next += 1;
        }
        let (start, len) = (part.range.start, part.range.len);
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize;
        // What is there is mapped from `offset` of a file with the same content, and was not written to: it is the same afterwards.
        let mapped = bare(libc::SYS_mmap, [start, len, part.protection as usize, flags, file, part.offset as usize]);
        if mapped != start as isize {
            return false;
        }
        let mut index = first;
        while index < next {
            // SAFETY: it was mapped just now.
            unsafe { clear_behind(&headers[index], bias, given.page) };
            index += 1;
        }
    }
    true
}

/// As the kernel has done: what is behind the data in their last page is zero, where variables begin there.
///
/// # Safety
/// The part has just been mapped.
#[inline(always)]
unsafe fn clear_behind(header: &Header, bias: usize, page: usize) {
    if let Some(Part { range, protection, .. }) = Part::of(header, bias, page)
        && protection & libc::PROT_WRITE != 0
        && header.p_memsz > header.p_filesz
    {
        let mut byte = bias.wrapping_add(header.p_vaddr as usize) + header.p_filesz as usize;
        while byte < range.start + range.len {
            // SAFETY: in a page that can be written to, and behind what the file has for it.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(byte).write_volatile(0) };
            byte += 1;
        }
    }
}

/// As `image::set_program` and `image::set_program_by_map`; whether it was done. Nothing has changed yet of what the kernel has found out about the
/// program.
#[inline(always)]
fn set_program(given: &Given, bias: usize, file: usize) -> bool {
    let option = libc::PR_SET_MM as usize;
    let done = bare(libc::SYS_prctl, [option, libc::PR_SET_MM_EXE_FILE as usize, file, 0, 0, 0]);
    if done != -(libc::EPERM as isize) {
        return done == 0;
    }
    let address = |place: usize| {
        // SAFETY: the first argument's and the first variable's place, which are there, if only with a zero.
        (unsafe { std::ptr::with_exposed_provenance::<usize>(place).read() }) as u64
    };
    let first = address(given.stack + size_of::<usize>());
    let variables = match address(given.environment) {
        0 => given.name as u64,
        variable => variable,
    };
    let brk = bare(libc::SYS_brk, [0; 6]) as u64;
    let mut map = MemoryMap {
        code: [u64::MAX, 0],
        data: [0, 0],
        brk: [brk, brk],
        stack: given.stack as u64,
        args: [first, variables],
        env: [variables, given.name as u64],
        auxv: 0,
        auxv_size: 0,
        exe_fd: file as u32,
    };
    for header in given.headers() {
        if header.p_type == libc::PT_LOAD {
            let start = bias.wrapping_add(header.p_vaddr as usize) as u64;
            map.add(start, start + header.p_filesz, header.p_flags & libc::PF_X != 0);
        }
    }
    bare(libc::SYS_prctl, [option, libc::PR_SET_MM_MAP as usize, (&raw const map).addr(), size_of::<MemoryMap>(), 0, 0]) == 0
}

/// A system call: what the kernel answers, an error as a negative number.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn bare(number: c_long, args: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the calls of this file, with addresses of what lives across the call. The instruction keeps all registers but the two named last.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// A system call: what the kernel answers, an error as a negative number.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn bare(number: c_long, args: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the calls of this file, with addresses of what lives across the call. The instruction keeps all registers but the first.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => answer,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack as the kernel makes it.
    fn stack(arguments: &[&CStr], base: usize) -> Vec<usize> {
        let addresses = arguments.iter().map(|argument| argument.as_ptr().expose_provenance());
        let auxv = [(libc::AT_PAGESZ, 4096), (libc::AT_BASE, base), (libc::AT_PHDR, 64), (libc::AT_PHENT, size_of::<Header>())];
        let pairs = auxv.into_iter().chain([(libc::AT_PHNUM, 9), (libc::AT_EXECFN, 77), (libc::AT_NULL, 0)]);
        let pairs = pairs.flat_map(|(name, value)| [name as usize, value]);
        std::iter::once(arguments.len()).chain(addresses).chain([0, 1, 2, 0]).chain(pairs).collect()
    }

    #[test]
    fn what_the_kernel_gives_is_read() {
        let stack = stack(&[c"a", c"b"], 0);
        let at = stack.as_ptr();
        // SAFETY: it is as the kernel's.
        let given = unsafe { Given::read(at) }.unwrap();
        let environment = at.addr() + 4 * size_of::<usize>();
        let (headers, header_size, header_count) = (64, size_of::<Header>(), 9);
        let expected = Given { stack: at.addr(), arguments: 2, environment, headers, header_size, header_count, page: 4096, name: 77 };
        assert_eq!(given, expected);
    }

    #[test]
    fn a_program_with_a_loader_is_left_alone() {
        let stack = stack(&[c"a"], 0x7000);
        // SAFETY: it is as the kernel's.
        assert_eq!(unsafe { Given::read(stack.as_ptr()) }, None);
    }

    #[test]
    fn arguments_are_compared_whole() {
        for (arguments, has) in [
            (&[c"run"][..], false),
            (&[c"x", c"run"], true),
            (&[c"x", c"--root", c"/a", c"exec", c"y"], true),
            (&[c"x", c"ru", c"runs", c"exe", c"", c"create_"], false),
            (&[], false),
        ] {
            let stack = stack(arguments, 0);
            stack.as_ptr().expose_provenance();
            // SAFETY: it is as the kernel's.
            let given = unsafe { Given::read(stack.as_ptr()) }.unwrap();
            // SAFETY: likewise.
            assert_eq!(unsafe { given.has_argument(b"create\0run\0exec\0") }, has, "{arguments:?}");
        }
    }
}
