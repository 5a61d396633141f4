//! The stack of this process. Not here: when it is trimmed (`init`).

use super::call::call;

/// Gives the kernel back what of the process's first stack lies below the caller's: calls that have returned have used it, and who comes to wait for long
/// has no use for it. Nothing happens on another thread's stack, where something else may follow.
// What it keeps on the stack is below what it gives back from, but for the page that is left.
#[inline(never)]
pub(crate) fn trim_stack() {
    /// Far more than was ever used. The kernel leaves 128 MiB free below the stack of a new program for it to grow (`mmap_base`).
    const MOST: usize = 512 << 10;
    let here = 0u8;
    let at = (&raw const here).addr();
    // SAFETY: reads what the kernel left on the stack.
    let (top, page) = unsafe { (libc::getauxval(libc::AT_RANDOM) as usize, libc::getauxval(libc::AT_PAGESZ) as usize) };
    if page == 0 || !(at..at + MOST).contains(&top) {
        return;
    }
    let end = (at & !(page - 1)) - page;
    // SAFETY: the bytes that AT_RANDOM tells of lie at the beginning of the first stack, and this frame less than 512 KiB from them, so that is where it is. The
    // range lies below all frames, with a page between, in which this call's own frame ends. Where the stack does not reach so far nothing is mapped.
    let _ = unsafe { call!(SYS_madvise, end - MOST, MOST, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_trimmed_and_goes_on_to_be_used() {
        fn deep(n: u32) -> u64 {
            let bytes = std::hint::black_box([n as u8; 4096]);
            if n == 0 { 0 } else { deep(n - 1) + u64::from(bytes[n as usize]) }
        }
        let sum = deep(20);
        // On the stack of a test's thread: nothing happens.
        trim_stack();
        assert_eq!(deep(20), sum);
    }
}
