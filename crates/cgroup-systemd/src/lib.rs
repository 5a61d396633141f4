#![doc = include_str!("../README.md")]
#![cfg_attr(any(test, fuzzing), allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
mod annotations;
mod bus;
mod cgroup;
mod devices;
#[cfg(test)]
mod fake;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gvariant;
mod manager;
mod missing;
mod properties;
mod systemd;
mod unit;
mod wire;

pub use address::Addresses;
pub use manager::SystemdManager;
pub use unit::Unit;
