#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod adopt;
mod apply;
mod cgroup;
mod controller;
mod destroy;
pub mod device;
mod disabled;
mod enable;
mod files;
mod freeze;
mod homes;
pub mod knobs;
mod layout;
mod manager;
mod named;
mod path;
mod place;
mod stats;
mod sys;
mod tree;
mod wait;

pub use adopt::{Adoption, adopt};
pub use cgroup::FsCgroup;
pub use controller::{Controller, ControllerSet, Split, Version};
pub use disabled::DisabledManager;
pub use layout::{Hierarchy, Layout};
pub use manager::CgroupfsManager;
pub use named::{named, with_named};
pub use path::{normalise, resolve};
