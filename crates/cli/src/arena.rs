//! The allocator of a process that lives for milliseconds. Not here: that the container's child allocates nothing (`trap_alloc`).
//!
//! A start needs some 100 KiB. The C library's allocator asks the kernel for them four times and keeps lists that nobody comes back to; here
//! they are taken one after the other from memory that is part of the program, of which the kernel gives pages as they are touched. What is
//! freed is used again only if it was the last. When that memory is used up, the C library's allocator takes over, so that a long life costs
//! no more than the arena.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

/// Bytes. A start with a seccomp filter of an engine's profile to be compiled takes more, and that is none where each call counts.
const SIZE: usize = 256 * 1024;

/// As strict as any type of the program wants it; stricter ones go to the C library.
const ALIGN: usize = 16;

/// See the module.
#[repr(C, align(16))]
pub(crate) struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    /// Bytes of it that are taken, from its start.
    used: AtomicUsize,
}

// SAFETY: nobody makes a reference to the array. Its bytes are reached by pointers alone, each of which is for a part of it that `used` gives
// to one caller at a time; who takes a part that was given back sees what was done to it before.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// Where something in the arena begins; `None` for what came from the C library.
    fn offset(&self, ptr: *mut u8) -> Option<usize> {
        ptr.addr().checked_sub(self.start().addr()).filter(|offset| *offset < SIZE)
    }

    /// Whether an allocation that reached to `from` reaches to `to` now: it is the last one, and there is room.
    fn moved(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }
}

// SAFETY: an allocation in the arena is the bytes from the old to the new value of `used`, which one compare-exchange changes for one caller;
// only the owner of the last allocation moves it back. Everything else is the C library's, which gets back what it gave.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
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
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        match self.offset(ptr) {
            Some(at) => _ = self.moved(at + layout.size(), at),
            // SAFETY: the caller's promise, passed on; what is not in the arena came from `System`.
            None => unsafe { System.dealloc(ptr, layout) },
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(at) = self.offset(ptr) else {
            // SAFETY: the caller's promise, passed on; what is not in the arena came from `System`.
            return unsafe { System.realloc(ptr, layout, new_size) };
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
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn parts_are_apart_and_what_does_not_fit_is_the_c_librarys() {
        let (three, eight) = (layout(3, 1), layout(8, 8));
        let arena = Box::new(Arena::new());
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
    fn threads_get_parts_of_their_own() {
        static ARENA: Arena = Arena::new();
        let threads: Vec<_> = (0..8_u8)
            .map(|n| {
                std::thread::spawn(move || {
                    for size in 1..200 {
                        let layout = layout(size, 1 << (size % 4));
                        #[allow(clippy::undocumented_unsafe_blocks)]
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
