//! The test machines: `cargo xtask vm build|run|shell|test`.

pub mod apt;
pub mod image;

use anyhow::{Result, bail};

use crate::store::{Progress, Store};

/// Entry of `cargo xtask vm`.
pub fn run(args: &[String]) -> Result<u8> {
    match args.first().map(String::as_str) {
        Some("build") => {
            let store = Store::open()?;
            let _lock = store.lock()?;
            image::build(&store, &Progress::start())?;
            Ok(0)
        }
        _ => bail!("usage: cargo xtask vm build|run|shell|test"),
    }
}
