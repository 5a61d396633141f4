#![doc = include_str!("../README.md")]
#![cfg_attr(any(test, fuzzing), allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
mod error;
mod id;
pub mod spec;
mod time;

#[cfg(feature = "engine")]
mod bundle;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
mod facts;
#[cfg(feature = "engine")]
pub mod features;
#[cfg(all(feature = "engine", any(test, fuzzing)))]
pub mod fuzz;
#[cfg(feature = "engine")]
mod handled;
#[cfg(feature = "engine")]
mod init;
#[cfg(feature = "engine")]
mod plan;
#[cfg(feature = "private-dir")]
pub mod private_dir;
#[cfg(feature = "engine")]
pub mod signals;
#[cfg(feature = "engine")]
pub mod state;
#[cfg(feature = "engine")]
mod sys;
#[cfg(feature = "engine")]
mod validate;

pub use error::{Context, Errno, Error, ErrorKind, Result, strerror};
pub use id::{ContainerId, MAX_ID_LEN};
pub use time::Timestamp;
