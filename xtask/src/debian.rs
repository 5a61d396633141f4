//! A small Debian for the tests to run as a container: the root file system that a user of images would have. Not here: the test
//! machines' image (`vm/image.rs`), which has an engine and a kernel's worth more in it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::store::{Key, Progress, Store};
use crate::vm::{apt, image};

/// What the test calls beyond the essential packages.
const PACKAGES: [&str; 2] = ["apt", "python3-minimal"];
/// Changes when the code here makes something else of the same inputs.
const FORMAT: u32 = 1;

/// The directory of the root file system, made if it is not there. The caller holds the store's lock.
pub fn root(store: &Store, progress: &Progress) -> Result<PathBuf> {
    let mut key = Key::new("debian", FORMAT);
    key.text(image::SUITE);
    key.text(&PACKAGES.join(","));
    let root = store.path(format!("debian-{}", key.finish()));
    if root.exists() {
        return Ok(root);
    }
    apt::ensure_tools(store, &apt::IMAGE_TOOLS, progress)?;
    progress.say(format!("Debian {}: install {} and what is essential", image::SUITE, PACKAGES.join(" and ")));
    let scratch = store.scratch()?;
    let draft = scratch.join("root");
    image::bootstrap(store, &draft, &PACKAGES)?;
    fs::rename(&draft, &root).with_context(|| format!("write {}", root.display()))?;
    store.remove_others("debian", &root)?;
    Ok(root)
}
