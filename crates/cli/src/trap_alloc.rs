//! An allocator that proves a claim: the container's child allocates nothing between clone and execve. Not here: the claim's reasons
//! (`runtime_core::init`).
//!
//! Built in by the cargo feature `trap-alloc` for tests. Freeing trips it too, since it takes the same locks.
#![allow(unsafe_code)]

use runtime_core::engine::in_child;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, as long as this is not the child.
pub(crate) struct Trap;

fn check() {
    if in_child() {
        const MESSAGE: &[u8] = b"allocation in the container's child\n";
        // SAFETY: write reads MESSAGE.len() bytes from MESSAGE; neither call allocates.
        unsafe {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::abort();
        }
    }
}

// SAFETY: every method hands its arguments to the system's allocator unchanged, so the caller's promises hold for it and its own hold
// for the caller; `check` returns or ends the process.
unsafe impl GlobalAlloc for Trap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise, passed on; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        check();
        // SAFETY: the caller's promise, passed on; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
