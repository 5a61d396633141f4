//! The only `unsafe` code of the crate: system calls that the child makes, as raw calls, and the few the parent needs that nix and
//! rustix lack. Not here: policy.
//!
//! All of these are safe to call between `clone` and `execve`: they take borrowed C strings and plain numbers, allocate nothing, take
//! no locks, and use none of the C library's wrappers that do (its set*id functions signal every thread).

#![allow(unsafe_code)]

mod argv;
mod call;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod early;
mod files;
mod image;
mod inside;
mod mount;
mod owned;
mod process;
mod scratch;
mod shown;
mod stack;

pub(crate) use argv::Argv;
pub(crate) use call::{Errno, Result};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use early::protect_at_entry;
pub(crate) use files::*;
pub use image::standard_descriptors_are_open;
pub(crate) use image::{held_at_entry, move_program, tree_at_entry};
pub(crate) use inside::{Buffer, PATH_MAX, PathBuffer, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, ShortPath, open_inside};
pub(crate) use mount::*;
pub(crate) use owned::{
    Together, detached_mount, detached_tree, detached_tree_with, has_tree_namespaces, inherit_little, inside_root, may_copy_trees,
    memory_file, new_file_system, pidfd, sealable_file, taken_from, tree_namespace,
};
pub(crate) use process::*;
pub(crate) use scratch::{Scratch, scratch};
pub(crate) use shown::{OwnStat, Shown};
pub(crate) use stack::trim_stack;
