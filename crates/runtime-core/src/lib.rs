#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
mod error;
mod id;
pub mod spec;

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod features;
#[cfg(feature = "engine")]
pub mod signals;
#[cfg(feature = "engine")]
pub mod state;

pub use error::{Context, Errno, Error, ErrorKind, Result, strerror};
pub use id::{ContainerId, MAX_ID_LEN};
