//! The allocator of a process that lives for milliseconds. Not here: that the container's child allocates nothing (`trap_alloc`).
//!
//! A start needs some 100 KiB. The C library's allocator asks the kernel for them four times and keeps lists that nobody comes back to; here
//! they are taken one after the other from memory that is part of the program, of which the kernel gives pages as they are touched. What is
//! freed is used again if it was the last, or by another large part if it is large: lists that grow leave such holes, and a page that nobody
//! touches is one less for the process that becomes the container, too. When that memory is used up, another allocator takes over, so that a long life
//! costs no more than the arena: the C library's, or in a program whose C code is given memory from here (`c_allocator`) that of a package.
#![allow(unsafe_code)]

#[cfg(c_allocator)]
use dlmalloc::GlobalDlmalloc as Beyond;
#[cfg(not(c_allocator))]
use std::alloc::System as Beyond;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

/// Bytes. A start with a seccomp filter of an engine's profile to be compiled takes more, and that is none where each call counts.
const SIZE: usize = 256 * 1024;

/// As strict as any type of the program wants it; stricter ones go beyond it.
const ALIGN: usize = 16;

/// From how many bytes on a hole is remembered.
const LARGE: usize = 512;

/// How many holes are remembered.
const HOLES: usize = 8;

/// See the module.
#[repr(C, align(16))]
pub(crate) struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    /// Bytes of it that are taken, from its start.
    used: AtomicUsize,
    /// What was given back before its end: the offset in the upper half, the size in the lower; 0 for none.
    holes: [AtomicU64; HOLES],
}

// SAFETY: nobody makes a reference to the array. Its bytes are reached by pointers alone, each of which is for a part of it that `used` or a
// hole gives to one caller at a time; who takes a part that was given back sees what was done to it before.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0), holes: [const { AtomicU64::new(0) }; HOLES] }
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// Where something in the arena begins; `None` for what came from beyond it.
    fn offset(&self, ptr: *mut u8) -> Option<usize> {
        ptr.addr().checked_sub(self.start().addr()).filter(|offset| *offset < SIZE)
    }

    /// Whether an allocation that reached to `from` reaches to `to` now: it is the last one, and there is room.
    fn moved(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }

    /// The start of a part of a hole, which is the taker's alone; what is left of the hole behind it stays one.
    // What is small, which is most, shall not pay for it.
    #[inline(never)]
    fn take_hole(&self, layout: Layout) -> Option<usize> {
        self.holes.iter().find_map(|hole| {
            let found = hole.load(Relaxed);
            let (start, end) = ends(found);
            let at = start.next_multiple_of(layout.align());
            let left = end.checked_sub(at + layout.size())?;
            let rest = if left < LARGE { 0 } else { packed(end - left, left) };
            hole.compare_exchange(found, rest, AcqRel, Relaxed).is_ok().then_some(at)
        })
    }

    /// Remembers what was given back, if there is room.
    #[inline(never)]
    fn leave_hole(&self, at: usize, size: usize) {
        let _ =
            self.holes.iter().any(|hole| hole.load(Relaxed) == 0 && hole.compare_exchange(0, packed(at, size), AcqRel, Relaxed).is_ok());
    }
}

fn packed(at: usize, size: usize) -> u64 {
    (at as u64) << 32 | size as u64
}

/// Start and end.
fn ends(hole: u64) -> (usize, usize) {
    let at = (hole >> 32) as usize;
    (at, at + hole as u32 as usize)
}

// SAFETY: an allocation in the arena is the bytes from the old to the new value of `used`, which one compare-exchange changes for one caller,
// or bytes of a hole that one compare-exchange takes out of it; only the owner of the last allocation moves `used` back, and only the owner of
// one before it makes it a hole. Everything else is the other allocator's, which gets back what it gave.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE
            && layout.align() <= ALIGN
            && let Some(at) = self.take_hole(layout)
        {
            // SAFETY: a hole is in the array.
            return unsafe { self.start().add(at) };
        }
        let mut used = self.used.load(Relaxed);
        // Nothing is larger than `isize::MAX`, so that no sum overflows.
        while layout.align() <= ALIGN && used.next_multiple_of(layout.align()) + layout.size() <= SIZE {
            let at = used.next_multiple_of(layout.align());
            match self.used.compare_exchange_weak(used, at + layout.size(), AcqRel, Relaxed) {
                // SAFETY: with its size, which is not 0, it ends in the array.
                Ok(_) => return unsafe { self.start().add(at) },
                Err(now) => used = now,
            }
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { Beyond.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match self.offset(ptr) {
            Some(at) => {
                if !self.moved(at + layout.size(), at) && layout.size() >= LARGE {
                    self.leave_hole(at, layout.size());
                }
            }
            // SAFETY: the caller's promise, passed on; what is not in the arena came from there.
            None => unsafe { Beyond.dealloc(ptr, layout) },
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(at) = self.offset(ptr) else {
            // SAFETY: the caller's promise, passed on; what is not in the arena came from there.
            return unsafe { Beyond.realloc(ptr, layout, new_size) };
        };
        if self.moved(at + layout.size(), at + new_size) || new_size <= layout.size() {
            return ptr;
        }
        // SAFETY: the caller promises that `new_size` is a size that a layout with this alignment can have. The two allocations do not overlap,
        // both are longer than what is copied, and the old one is not used any more.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(ptr, layout.size());
                self.dealloc(ptr, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn parts_are_apart_and_what_does_not_fit_is_the_c_librarys() {
        let (three, eight) = (layout(3, 1), layout(8, 8));
        let arena = Box::new(Arena::new());
        // SAFETY: no size is 0. Each part is read and written within its size, and not after it was moved or given back; what is given back has
        // the layout that it was given, or was changed to, with.
        unsafe {
            let a = arena.alloc(three);
            let b = arena.alloc(eight);
            assert_eq!((arena.offset(a), arena.offset(b)), (Some(0), Some(8)));
            a.write_bytes(1, 3);
            b.write_bytes(2, 8);

            // The last one grows and shrinks where it is.
            let grown = arena.realloc(b, eight, 100);
            assert_eq!(grown, b);
            assert_eq!(arena.used.load(Relaxed), 108);
            assert_eq!(arena.realloc(grown, layout(100, 8), 8), b);
            assert_eq!(arena.used.load(Relaxed), 16);

            // Another one moves, with what is in it; a smaller one stays.
            assert_eq!(arena.realloc(a, three, 2), a);
            let moved = arena.realloc(a, layout(2, 1), 5);
            assert_eq!(arena.offset(moved), Some(16));
            assert_eq!(std::slice::from_raw_parts(moved, 2), [1, 1]);
            assert_eq!(std::slice::from_raw_parts(b, 8), [2; 8]);

            // What is freed last is used again, and is zero where that was asked for.
            arena.dealloc(moved, layout(5, 1));
            let zeroed = arena.alloc_zeroed(layout(5, 1));
            assert_eq!(zeroed, moved);
            assert_eq!(std::slice::from_raw_parts(zeroed, 5), [0; 5]);

            // Too large, too strict, and more than is left.
            for foreign in [layout(SIZE, 1), layout(8, 4096)] {
                let ptr = arena.alloc(foreign);
                assert_eq!((arena.offset(ptr), ptr.addr() % foreign.align()), (None, 0));
                ptr.write_bytes(3, foreign.size());
                let ptr = arena.realloc(ptr, foreign, 2 * SIZE);
                assert_eq!(ptr.read(), 3);
                arena.dealloc(ptr, layout(2 * SIZE, foreign.align()));
            }
            let rest = layout(SIZE - arena.used.load(Relaxed), 1);
            let last = arena.alloc(rest);
            assert!(arena.offset(last).is_some());
            assert_eq!(arena.offset(arena.realloc(last, rest, rest.size() + 1)), None);
            assert_eq!(std::slice::from_raw_parts(b, 8), [2; 8]);
        }
    }

    #[test]
    fn large_holes_are_used_again() {
        let arena = Box::new(Arena::new());
        // SAFETY: no size below is 0.
        let at = |size: usize, align: usize| unsafe { arena.offset(arena.alloc(layout(size, align))) };
        // SAFETY: each of these is what `at` gave, given back once; nobody reads or writes it.
        let free = |at: usize, size: usize| unsafe { arena.dealloc(arena.start().add(at), layout(size, 1)) };
        let used = || arena.used.load(Relaxed);
        assert_eq!([at(3, 1), at(2000, 1), at(600, 1), at(5, 1)], [Some(0), Some(3), Some(2003), Some(2603)]);
        free(3, 2000);
        // Not by small parts, and not beyond its end.
        assert_eq!([at(LARGE - 1, 1), at(2001, 1)], [Some(2608), Some(2608 + LARGE - 1)]);
        // From its first aligned byte; what is left is a hole, too, if it is large.
        assert_eq!([at(1000, 16), at(900, 8), at(LARGE, 1)], [Some(16), Some(1016), Some(used() - LARGE)]);
        // The whole of it, at the end of what is taken: that goes back.
        let end = used();
        let last = at(LARGE, 1).unwrap();
        free(last - LARGE, LARGE);
        free(last, LARGE);
        assert_eq!((used(), at(LARGE, 1)), (end, Some(end - LARGE)));
        free(end - LARGE, LARGE);
        assert_eq!(used(), end - LARGE);
        // More holes than are remembered are lost and nothing else.
        let parts: Vec<usize> = (0..2 * HOLES).map(|_| at(LARGE, 1).zip(at(1, 1)).unwrap().0).collect();
        parts.iter().for_each(|part| free(*part, LARGE));
        let end = used();
        let mut again: Vec<usize> = (0..HOLES).map(|_| at(LARGE, 1).unwrap()).collect();
        again.sort_unstable();
        assert_eq!((again.as_slice(), used()), (&parts[..HOLES], end));
        assert_eq!(at(LARGE, 1), Some(end));
    }

    #[test]
    fn threads_get_parts_of_their_own() {
        static ARENA: Arena = Arena::new();
        let threads: Vec<_> = (0..8_u8)
            .map(|n| {
                std::thread::spawn(move || {
                    for size in (1..200).chain(LARGE..LARGE + 200) {
                        let layout = layout(size, 1 << (size % 4));
                        // SAFETY: the part is this thread's, all of it is written before it is read, and it is given back once.
                        unsafe {
                            let ptr = ARENA.alloc(layout);
                            ptr.write_bytes(n, size);
                            std::thread::yield_now();
                            assert!(std::slice::from_raw_parts(ptr, size).iter().all(|byte| *byte == n));
                            ARENA.dealloc(ptr, layout);
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
