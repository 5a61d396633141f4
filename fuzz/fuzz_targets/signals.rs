//! Names and numbers of signals.
#![no_main]

use runtime_core::signals;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let Ok(number) = signals::parse(&text) else { return };
    assert!((0..=64).contains(&number), "{text}");
    if let Some(name) = signals::name(number) {
        assert_eq!(signals::parse(&name).ok(), Some(number), "{text} is {name}");
    }
});
