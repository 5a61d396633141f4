#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "wasmtime")]
mod cache;
#[cfg(any(feature = "wasmi", feature = "wasmtime"))]
mod handler;
#[cfg(any(feature = "wasmi", feature = "wasmtime"))]
mod signals;
#[cfg(feature = "wasmi")]
mod wasmi;
#[cfg(feature = "wasmtime")]
mod wasmtime;

use runtime_core::api::Handler;

/// The engines that are built in. The first one is meant by `wasm`, the name they all go by.
pub fn handlers() -> Vec<Box<dyn Handler>> {
    vec![
        #[cfg(feature = "wasmtime")]
        Box::new(handler::Wasm::<wasmtime::Wasmtime>::new()),
        #[cfg(feature = "wasmi")]
        Box::new(handler::Wasm::<wasmi::Wasmi>::new()),
    ]
}
