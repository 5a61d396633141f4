//! `malloc` and its relatives for the C code of a static program, from the program's own allocator (glibc manual, "Replacing malloc"). Not here: that
//! allocator (`arena`).
//!
//! The C library's start-up code asks for a few hundred bytes, for which its own allocator makes four system calls and begins a heap. Two allocators in
//! one program are also two sets of pages.
#![allow(unsafe_code)]

#[cfg(not(test))]
use crate::ALLOCATOR;
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr::null_mut;

/// What stands before each part that C code is given.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Header {
    /// Where the allocation begins that the part lies in: here, or before it where the part was to be aligned more strictly.
    start: *mut u8,
    /// Bytes of that allocation, including this header.
    size: usize,
}

/// Strict enough for every type of C's, and how long a header is.
const ALIGN: usize = size_of::<Header>();

/// Bytes for pvalloc(3) and valloc(3). It need not be the kernel's, only no less strict: 64 KiB are the largest pages of the architectures we know.
const PAGE: usize = 64 << 10;

/// A part of `size` bytes at a multiple of `align`, which is a power of two; null where there is no memory, and errno set.
unsafe fn part(size: usize, align: usize) -> *mut c_void {
    let align = align.max(ALIGN);
    let whole = size.checked_add(align);
    let Some(layout) = whole.and_then(|whole| Layout::from_size_align(whole, ALIGN).ok()) else { return no_memory() };
    // SAFETY: the size is not 0, as a header is part of it.
    let start = unsafe { ALLOCATOR.alloc(layout) };
    if start.is_null() {
        return no_memory();
    }
    // The first place that has room for a header before it: at most `align` bytes from the start, which is aligned to a header's size.
    let skipped = (start.addr() + ALIGN).next_multiple_of(align) - start.addr();
    // SAFETY: the header and the part behind it lie in the allocation, by the sum above.
    unsafe {
        let part = start.add(skipped);
        part.cast::<Header>().sub(1).write(Header { start, size: layout.size() });
        part.cast()
    }
}

fn no_memory() -> *mut c_void {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
    null_mut()
}

/// What is before a part.
///
/// # Safety
/// [`part`] gave it, and it was not given back.
unsafe fn header(part: *mut c_void) -> Header {
    // SAFETY: the caller's promise.
    unsafe { part.cast::<Header>().sub(1).read() }
}

fn layout(header: Header) -> Layout {
    // SAFETY: it is the one that `part` has made.
    unsafe { Layout::from_size_align_unchecked(header.size, ALIGN) }
}

/// malloc(3).
// SAFETY: the C library's own definition is in an archive, from which it is taken only where nobody else defines it; so it is with all below.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the alignment is a power of two.
    unsafe { part(size, ALIGN) }
}

/// free(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn free(part: *mut c_void) {
    if !part.is_null() {
        // SAFETY: the caller promises that it has the part from one of these functions and gives it back once.
        unsafe {
            let header = header(part);
            ALLOCATOR.dealloc(header.start, layout(header));
        }
    }
}

/// calloc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(size) = count.checked_mul(size) else { return no_memory() };
    // SAFETY: the part has that many bytes.
    unsafe {
        let part = malloc(size);
        if !part.is_null() {
            part.write_bytes(0, size);
        }
        part
    }
}

/// realloc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    if old.is_null() {
        // SAFETY: nothing is asked of the caller.
        return unsafe { malloc(size) };
    }
    // SAFETY: the caller promises that it has the part from one of these functions. Either it stands behind its header at the start of an allocation, and
    // the header moves along; or it is copied, as far as both parts reach.
    unsafe {
        let header = header(old);
        if old.addr() - header.start.addr() == ALIGN {
            let Some(whole) = size.checked_add(ALIGN).filter(|whole| Layout::from_size_align(*whole, ALIGN).is_ok()) else {
                return no_memory();
            };
            let start = ALLOCATOR.realloc(header.start, layout(header), whole);
            if start.is_null() {
                return no_memory();
            }
            start.cast::<Header>().write(Header { start, size: whole });
            return start.add(ALIGN).cast();
        }
        let new = malloc(size);
        if !new.is_null() {
            new.cast::<u8>().copy_from_nonoverlapping(old.cast(), malloc_usable_size(old).min(size));
            free(old);
        }
        new
    }
}

/// aligned_alloc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    let mut made = null_mut();
    // SAFETY: there is room for the address.
    match unsafe { posix_memalign(&raw mut made, align.max(ALIGN), size) } {
        0 => made,
        error => {
            // SAFETY: errno is this thread's.
            unsafe { *libc::__errno_location() = error };
            null_mut()
        }
    }
}

/// memalign(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: nothing is asked of the caller.
    unsafe { aligned_alloc(align, size) }
}

/// posix_memalign(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn posix_memalign(made: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<usize>() {
        return libc::EINVAL;
    }
    // SAFETY: the alignment is a power of two, and the caller promises room for the address.
    unsafe {
        let part = part(size, align);
        if part.is_null() {
            return libc::ENOMEM;
        }
        made.write(part);
    }
    0
}

/// valloc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: nothing is asked of the caller.
    unsafe { aligned_alloc(PAGE, size) }
}

/// pvalloc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    // SAFETY: nothing is asked of the caller.
    size.checked_next_multiple_of(PAGE).map_or_else(no_memory, |size| unsafe { aligned_alloc(PAGE, size) })
}

/// malloc_usable_size(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn malloc_usable_size(part: *mut c_void) -> usize {
    if part.is_null() {
        return 0;
    }
    // SAFETY: the caller promises that it has the part from one of these functions.
    let header = unsafe { header(part) };
    header.start.addr() + header.size - part.addr()
}

#[cfg(test)]
static ALLOCATOR: crate::arena::Arena = crate::arena::Arena::new();

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a part and says whether its end is where it should be.
    unsafe fn fill(part: *mut c_void, size: usize, byte: u8) {
        assert!(!part.is_null());
        // SAFETY: the caller says how large it is.
        unsafe { part.cast::<u8>().write_bytes(byte, size) };
    }

    unsafe fn is_filled(part: *mut c_void, size: usize, byte: u8) -> bool {
        // SAFETY: the caller says how large it is, and has filled it.
        unsafe { std::slice::from_raw_parts(part.cast::<u8>(), size) }.iter().all(|found| *found == byte)
    }

    #[test]
    fn parts_are_aligned_apart_and_as_large_as_was_asked() {
        // SAFETY: what is filled is as large as was asked for, and each part is given back once, or moved.
        unsafe {
            let mut parts = Vec::new();
            for (index, size) in [0, 1, 15, 16, 17, 511, 4096, 70_000, 300_000].into_iter().enumerate() {
                for align in [16, 32, 256, 4096, PAGE] {
                    let byte = (index * 8 + align.ilog2() as usize) as u8;
                    let part = aligned_alloc(align, size);
                    assert_eq!(part.addr() % align, 0);
                    assert!(malloc_usable_size(part) >= size);
                    fill(part, size, byte);
                    parts.push((part, size, byte));
                }
            }
            for (part, size, byte) in &mut parts {
                assert!(is_filled(*part, *size, *byte));
                // As it was, as far as both reach.
                for new in [*size + 100, *size / 2, *size + 1] {
                    *part = realloc(*part, new);
                    assert!(is_filled(*part, (*size).min(new), *byte));
                    assert!(malloc_usable_size(*part) >= new);
                    fill(*part, new, *byte);
                    *size = new;
                }
            }
            for (part, size, byte) in parts {
                assert!(is_filled(part, size, byte));
                free(part);
            }
        }
    }

    #[test]
    fn what_is_cleared_is_zero() {
        // SAFETY: as above.
        unsafe {
            let used = malloc(1000);
            fill(used, 1000, 7);
            free(used);
            let cleared = calloc(10, 100);
            assert!(is_filled(cleared, 1000, 0));
            free(cleared);
            for part in [valloc(3), pvalloc(3), memalign(64, 3), realloc(null_mut(), 3)] {
                fill(part, 3, 1);
                free(part);
            }
            free(null_mut());
            assert_eq!(malloc_usable_size(null_mut()), 0);
        }
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let errno = || std::io::Error::last_os_error().raw_os_error();
        let mut made = null_mut();
        // SAFETY: nothing is given.
        unsafe {
            for impossible in [malloc(usize::MAX), malloc(isize::MAX as usize), calloc(usize::MAX, 2), pvalloc(usize::MAX)] {
                assert_eq!((impossible, errno()), (null_mut(), Some(libc::ENOMEM)));
            }
            let part = malloc(5);
            fill(part, 5, 9);
            assert_eq!((realloc(part, usize::MAX), errno()), (null_mut(), Some(libc::ENOMEM)));
            assert!(is_filled(part, 5, 9));
            free(part);
            assert_eq!((aligned_alloc(48, 1), errno()), (null_mut(), Some(libc::EINVAL)));
            assert_eq!(posix_memalign(&raw mut made, 4, 1), libc::EINVAL);
            assert_eq!(posix_memalign(&raw mut made, 32, usize::MAX - 40), libc::ENOMEM);
        }
    }
}
