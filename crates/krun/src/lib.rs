#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod calls;
pub mod devices;
mod handler;
pub mod library;
pub mod passt;
pub mod settings;
mod spawn;
pub mod vm_file;

pub use handler::Krun;

/// An error of the system's as one that says what was tried ([`runtime_core::Context`]).
fn io(e: rustix::io::Errno) -> std::io::Error {
    e.into()
}
