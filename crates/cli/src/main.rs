//! The command line of pinnace. Not here: anything a container is made of; the libraries do the work, this crate reads arguments, wires
//! the backends and prints.
//!
//! The program has no `fn main` of Rust's: see [`entry`].
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod app;
#[cfg(not(feature = "trap-alloc"))]
mod arena;
mod args;
#[cfg(any(c_allocator, test))]
mod c_allocator;
mod cmd;
#[cfg(not(test))]
mod entry;
mod global;
mod handover;
mod output;
mod persona;
mod profile;
mod regex;
#[cfg(feature = "trap-alloc")]
mod trap_alloc;
mod version;
mod wire;

#[cfg(not(any(test, feature = "trap-alloc")))]
#[global_allocator]
static ALLOCATOR: arena::Arena = arena::Arena::new();

#[cfg(feature = "trap-alloc")]
#[global_allocator]
static ALLOCATOR: trap_alloc::Trap = trap_alloc::Trap;
