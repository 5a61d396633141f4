//! Container ids: what is accepted is one component of a path.
#![no_main]

use runtime_core::{ContainerId, MAX_ID_LEN};
use std::path::{Component, Path};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match ContainerId::new(&text) {
        Ok(id) => {
            assert!(id.as_str() == text && id.len() <= MAX_ID_LEN);
            let parts: Vec<_> = Path::new(id.as_str()).components().collect();
            assert!(matches!(parts[..], [Component::Normal(_)]) && !id.starts_with('.'), "{id}");
        }
        Err(e) => assert!(!e.to_string().contains(['\n', '\0', '\x1b']) && e.to_string().len() < 2000, "{e}"),
    }
});
