#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "c-library")]
mod c;
#[cfg(feature = "wasmtime")]
mod cache;
#[cfg(any(feature = "c-library", feature = "wasmi", feature = "wasmtime"))]
mod handler;
#[cfg(feature = "c-library")]
mod module;
#[cfg(any(feature = "c-library", feature = "wasmi", feature = "wasmtime"))]
mod signals;
#[cfg(feature = "wasmi")]
mod wasmi;
#[cfg(feature = "wasmtime")]
mod wasmtime;

use runtime_core::api::Handler;

/// The engines that are built in. The first one that can be used is meant by `wasm`, the name they all go by.
pub fn handlers() -> Vec<Box<dyn Handler>> {
    vec![
        #[cfg(feature = "wasmtime")]
        Box::new(handler::Wasm::<wasmtime::Wasmtime>::new()),
        #[cfg(feature = "wasmi")]
        Box::new(handler::Wasm::<wasmi::Wasmi>::new()),
        #[cfg(feature = "wasmedge")]
        Box::new(handler::Wasm::<c::wasmedge::WasmEdge>::new()),
        #[cfg(feature = "wamr")]
        Box::new(handler::Wasm::<c::wamr::Wamr>::new()),
        #[cfg(feature = "wasmer")]
        Box::new(handler::Wasm::<c::wasmer::Wasmer>::new()),
    ]
}
