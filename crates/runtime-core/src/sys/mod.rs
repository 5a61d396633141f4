//! The only `unsafe` code of the crate: system calls that the child makes, as raw calls, and the few the parent needs that nix and
//! rustix lack. Not here: policy.
//!
//! All of these are safe to call between `clone` and `execve`: they take borrowed C strings and plain numbers, allocate nothing, take
//! no locks, and use none of the C library's wrappers that do (its set*id functions signal every thread).

#![allow(unsafe_code)]

mod argv;
mod call;
mod files;
mod mount;
mod owned;
mod process;

pub(crate) use argv::Argv;
pub(crate) use call::{Errno, Result};
pub(crate) use files::*;
pub(crate) use mount::*;
pub(crate) use owned::{close_others, detached_mount, detached_tree, memory_file, new_file_system, pidfd, sealable_file, taken_from};
pub(crate) use process::*;
