//! The program of this process in its memory, held by another file of the same content: what an execution by that file would do to
//! `/proc/PID/exe`, without the execution. Not here: which file, and why.

use super::call::{Errno, Result, call};
use super::mount::openat;
use super::owned::Together;
use super::shown::OwnStat;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// A range of the program in memory, whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Address of the first byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
}

/// A part of the program that is mapped from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub range: Range,
    /// Where it begins in the file.
    pub offset: u64,
    /// PROT_* of mmap(2).
    pub protection: i32,
}

impl Part {
    /// Of a PT_LOAD header that has something in the file, of a program that is loaded `bias` from where it says. For [`early`](super::early), too:
    /// it calls nothing.
    #[inline(always)]
    #[allow(clippy::useless_conversion)] // Not where addresses have 32 bits.
    pub(super) fn of(header: &Header, bias: usize, page: usize) -> Option<Self> {
        if header.p_type != libc::PT_LOAD || header.p_filesz == 0 {
            return None;
        }
        let start = bias.wrapping_add(header.p_vaddr as usize);
        let inside = start & (page - 1);
        let len = (inside + header.p_filesz as usize + page - 1) & !(page - 1);
        let mut protection = 0;
        if header.p_flags & libc::PF_R != 0 {
            protection |= libc::PROT_READ;
        }
        if header.p_flags & libc::PF_W != 0 {
            protection |= libc::PROT_WRITE;
        }
        if header.p_flags & libc::PF_X != 0 {
            protection |= libc::PROT_EXEC;
        }
        // Address and offset are equally far from a page's beginning, or it could not have been loaded (elf(5), p_align).
        let offset = u64::from(header.p_offset).wrapping_sub(inside as u64);
        Some(Self { range: Range { start: start - inside, len }, offset, protection })
    }

    /// Whether the other part is mapped likewise, and lies right behind this one both in memory and in the file.
    #[inline(always)]
    pub(super) fn is_continued_by(&self, other: &Self) -> bool {
        let len = self.range.len;
        let beside = self.range.start + len == other.range.start && self.offset.wrapping_add(len as u64) == other.offset;
        beside && self.protection == other.protection
    }
}

/// How far from the addresses in its file a program was loaded whose headers are at the address `at`. For [`early`](super::early), too.
#[inline(always)]
pub(super) fn bias(headers: &[Header], at: usize) -> Option<usize> {
    let own = headers.iter().find(|header| header.p_type == libc::PT_PHDR)?;
    Some(at.wrapping_sub(own.p_vaddr as usize))
}

/// What the program's headers say about its place in memory: elf(5).
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    /// PT_LOAD.
    parts: Vec<Part>,
    /// PT_GNU_RELRO: what the loader has written, and nobody writes to any more.
    read_only_by_now: Option<Range>,
}

/// One more than the number of the descriptor that [`tree_at_entry`] gives away; 0 for none.
pub(super) static TREE: AtomicI32 = AtomicI32::new(0);

/// Whether the next number is that of the program's file, open by that mount.
pub(super) static FILE_TOO: AtomicBool = AtomicBool::new(false);

/// What [`standard_descriptors_are_open`] says.
pub(super) static STANDARD_OPEN: AtomicBool = AtomicBool::new(false);

/// Whether the program's entry has seen that it was given all three standard descriptors: that is known where it has made another.
pub fn standard_descriptors_are_open() -> bool {
    STANDARD_OPEN.load(Ordering::Relaxed)
}

/// What [`held_at_entry`] says.
pub(super) static HELD: AtomicBool = AtomicBool::new(false);

/// Whether it was seen at the program's entry that its file is reached by a read-only mount, or whether it was moved to one then.
pub(crate) fn held_at_entry() -> bool {
    HELD.load(Ordering::Relaxed)
}

/// The mount that the program was moved to at its entry, and what else is to be closed with it. As long as it is open the mount belongs to a namespace of its own, and root of the first
/// user namespace, who has found `/proc/PID/exe` of a process of the program, could make it writable again by mount_setattr(2). The one who closes
/// the last copy waits until no processor looks at that namespace any more.
pub(crate) fn tree_at_entry() -> Option<Together> {
    let number = TREE.swap(0, Ordering::Relaxed) - 1;
    let count = 1 + RawFd::from(FILE_TOO.load(Ordering::Relaxed));
    // SAFETY: `early` has opened them and keeps them for whoever asks first.
    (number >= 0).then(|| (number..number + count).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Maps the program anew from `file`, which has the same content, and makes it the one that `/proc/PID/exe` leads to. What the process has written
/// to its data stays, in anonymous memory. On an error some of the program may be mapped from `file` and the rest from where it was, which makes no
/// difference to what it does.
///
/// # Errors
/// EINVAL: the process has more than one thread, or shares its memory. EPERM: it has neither CAP_SYS_RESOURCE in the first user namespace nor
/// CAP_CHECKPOINT_RESTORE in its own. ENOEXEC: the kernel does not say where the program is, or its headers are none that could be followed. EBUSY:
/// something else is mapped from its old file.
pub(crate) fn move_program(file: BorrowedFd<'_>) -> Result<()> {
    let layout = Layout::of_this_process().ok_or(Errno(libc::ENOEXEC))?;
    // Whose memory is its own alone (unshare(2): otherwise EINVAL) loses no write of another's between copying data and putting the copy in place.
    // SAFETY: a system call that takes no pointer, and that does nothing where it does not fail.
    unsafe { call!(SYS_unshare, libc::CLONE_VM) }?;
    for part in &layout.parts {
        match part.protection & libc::PROT_WRITE {
            0 => map_anew(part, file)?,
            _ => copy(part.range)?,
        }
    }
    if let Some(Range { start, len }) = layout.read_only_by_now {
        // SAFETY: the range lies in the program (`Layout::of`), and is one that nobody writes to after the loader, which protected it likewise.
        unsafe { call!(SYS_mprotect, start, len, libc::PROT_READ) }?;
    }
    match set_program(file) {
        Err(Errno(libc::EPERM)) => set_program_by_map(file),
        done => done,
    }
}

/// PR_SET_MM_EXE_FILE of prctl(2), Linux 3.5.
fn set_program(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes no pointer.
    unsafe { call!(SYS_prctl, libc::PR_SET_MM, libc::PR_SET_MM_EXE_FILE, file.as_raw_fd(), 0, 0) }.map(drop)
}

/// PR_SET_MM_MAP of prctl(2), Linux 3.18: all that the kernel knows about the process's memory at once, and for other privileges. Nothing but the
/// program is to change.
fn set_program_by_map(file: BorrowedFd<'_>) -> Result<()> {
    let own = OwnStat::read_file(openat(libc::AT_FDCWD, c"/proc/self/stat", libc::O_RDONLY, 0)?)?;
    // SAFETY: asks for an address that is no valid one, which the kernel answers with the present end.
    let brk = unsafe { call!(SYS_brk, 0) }? as u64;
    let map = MemoryMap {
        code: own.memory.code,
        data: own.memory.data,
        brk: [own.memory.brk, brk],
        stack: own.memory.stack,
        args: own.args.ends(),
        env: own.env.ends(),
        auxv: 0,
        auxv_size: 0,
        exe_fd: file.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: `map` is the structure that the call reads, of the size given, and lives across the call. It changes addresses that the kernel shows
    // to those that they are.
    unsafe { call!(SYS_prctl, libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0) }.map(drop)
}

/// `struct prctl_mm_map` of linux/prctl.h; where two addresses belong together, the first and the end.
#[repr(C)]
pub(super) struct MemoryMap {
    pub code: [u64; 2],
    pub data: [u64; 2],
    pub brk: [u64; 2],
    pub stack: u64,
    pub args: [u64; 2],
    pub env: [u64; 2],
    /// None: it stays.
    pub auxv: u64,
    pub auxv_size: u32,
    pub exe_fd: u32,
}

impl MemoryMap {
    /// Counts a part of the program in, as the kernel does (`load_elf_binary`).
    #[inline(always)]
    pub(super) fn add(&mut self, start: u64, end: u64, executable: bool) {
        if executable {
            self.code = [self.code[0].min(start), self.code[1].max(end)];
        }
        self.data = [self.data[0].max(start), self.data[1].max(end)];
    }
}

/// Maps a part that nobody writes to.
fn map_anew(part: &Part, file: BorrowedFd<'_>) -> Result<()> {
    let Part { range, offset, protection } = *part;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: the range is exactly what was mapped from `offset` of the program's file with this protection (`Layout::of`). `file` has the same
    // content and the kernel changes one mapping for the other at once, so that whoever reads or executes there finds what was there before.
    unsafe { call!(SYS_mmap, range.start, range.len, protection, flags, file.as_raw_fd(), offset) }.map(drop)
}

/// Puts a copy in anonymous memory in the place of a part that is written to.
fn copy(range: Range) -> Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE);
    // SAFETY: new memory where the kernel finds room.
    let new = unsafe { call!(SYS_mmap, 0, range.len, protection, flags, -1, 0) }?;
    // SAFETY: the part is mapped and readable (`Layout::of`), the new memory is as long, nobody else's and apart from it. Nothing writes to
    // the part between the copy and its taking the place: there is one thread, which does nothing between them, and the stack, where these two
    // lines keep what they keep, is no part of the program. The kernel changes one mapping for the other at once.
    unsafe {
        let from = std::ptr::with_exposed_provenance::<u8>(range.start);
        std::ptr::copy_nonoverlapping(from, std::ptr::with_exposed_provenance_mut::<u8>(new), range.len);
        call!(SYS_mremap, new, range.len, range.len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, range.start).map(drop)
    }
}

fn page_size() -> usize {
    // SAFETY: reads what the kernel left on the stack.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// One program header, as the loader sees it in memory.
#[cfg(target_pointer_width = "64")]
pub(super) type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
pub(super) type Header = libc::Elf32_Phdr;

impl Layout {
    /// Of the program that this process executes, by what the kernel told the loader (getauxval(3)).
    fn of_this_process() -> Option<Self> {
        // SAFETY: getauxval reads what the kernel left on the stack, and gives 0 for what is not there.
        let (at, count, size) =
            unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM), libc::getauxval(libc::AT_PHENT)) };
        if at == 0 || size != size_of::<Header>() as u64 {
            return None;
        }
        // SAFETY: the kernel says that `count` headers of this size are at this address, which is in the program's first part. The copies of
        // that part that `move_program` puts in its place have the same content, and the slice does not outlive this function.
        let headers = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<Header>(at as usize), count as usize) };
        Self::of(headers, at as usize, page_size())
    }

    /// Of a program whose headers are at the address `at`.
    fn of(headers: &[Header], at: usize, page: usize) -> Option<Self> {
        let bias = bias(headers, at)?;
        let mut layout = Self::default();
        for header in headers {
            let start = bias.wrapping_add(header.p_vaddr as usize);
            match header.p_type {
                libc::PT_LOAD => layout.parts.extend(Part::of(header, bias, page)),
                // Whole pages of it, as the loader does.
                libc::PT_GNU_RELRO => {
                    let (first, end) = (start / page * page, (start + header.p_memsz as usize) / page * page);
                    layout.read_only_by_now = Some(Range { start: first, len: end.checked_sub(first)? });
                }
                _ => {}
            }
        }
        // Writing to code is none of this program's habits, nor is data that cannot be read.
        let usual = |part: &Part| part.protection & libc::PROT_WRITE == 0 || part.protection == libc::PROT_READ | libc::PROT_WRITE;
        (!layout.parts.is_empty() && layout.parts.iter().all(usual)).then_some(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(p_type: u32, p_flags: u32, [p_offset, p_vaddr, p_filesz, p_memsz]: [usize; 4]) -> Header {
        // SAFETY: a header is numbers.
        let mut header: Header = unsafe { std::mem::zeroed() };
        (header.p_type, header.p_flags) = (p_type, p_flags);
        (header.p_offset, header.p_vaddr) = (p_offset as _, p_vaddr as _);
        (header.p_filesz, header.p_memsz) = (p_filesz as _, p_memsz as _);
        header
    }

    #[test]
    fn parts_are_whole_pages() {
        let headers = [
            header(libc::PT_PHDR, libc::PF_R, [64, 64, 0x100, 0x100]),
            header(libc::PT_LOAD, libc::PF_R, [0, 0, 0x1234, 0x1234]),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_X, [0x1240, 0x2240, 0x1000, 0x1000]),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_W, [0x2250, 0x4250, 0x100, 0x9000]),
            header(libc::PT_LOAD, libc::PF_R | libc::PF_W, [0, 0xf000, 0, 0x1000]),
            header(libc::PT_GNU_RELRO, libc::PF_R, [0x2250, 0x4250, 0x1db0, 0x1db0]),
        ];
        let part = |start, len, offset, protection| Part { range: Range { start, len }, offset, protection };
        let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let parts = vec![
            part(0x70000, 0x2000, 0, read),
            part(0x72000, 0x2000, 0x1000, read | execute),
            part(0x74000, 0x1000, 0x2000, read | write),
        ];
        let expected = Layout { parts, read_only_by_now: Some(Range { start: 0x74000, len: 0x2000 }) };
        assert_eq!(Layout::of(&headers, 0x70040, 4096), Some(expected));
        // It does not say where it was loaded, or writes to its code.
        assert_eq!(Layout::of(&headers[1..], 0x70040, 4096), None);
        let odd = header(libc::PT_LOAD, libc::PF_R | libc::PF_W | libc::PF_X, [0, 0, 1, 1]);
        assert_eq!(Layout::of(&[headers[0], odd], 0x70040, 4096), None);
    }

    #[test]
    fn this_process_is_where_the_kernel_says() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for part in Layout::of_this_process().unwrap().parts {
            let (start, offset) = (format!("{:x}-", part.range.start), format!(" {:08x} ", part.offset));
            assert!(maps.lines().any(|line| line.starts_with(&start) && line.contains(&offset)), "{part:x?} in {maps}");
        }
    }

    /// A test has other threads, with which nothing may be moved.
    #[test]
    fn a_process_with_threads_stays_where_it_is() {
        let program = std::fs::File::open("/proc/self/exe").unwrap();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receiver.recv());
        assert_eq!(move_program(std::os::fd::AsFd::as_fd(&program)), Err(Errno(libc::EINVAL)));
        drop(sender);
        other.join().unwrap().unwrap_err();
    }
}
