//! The door for the fuzz target `systemd` in `fuzz/`: annotations that set properties of a unit. It exists in tests and under
//! `cfg(fuzzing)` only. Not here: the grammar of values (`gvariant`).

use crate::annotations::Wishes;
use crate::{gvariant, properties};
use runtime_core::spec::Map;

/// A property by annotation: its name is the first line, its value the rest.
pub fn property(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, value) = text.split_once('\n').unwrap_or(("TimeoutStopSec", text));
    let key = format!("org.systemd.property.{name}");
    match Wishes::of(&Map(vec![(key.as_str().into(), value.into())])) {
        Ok(wishes) => {
            assert_eq!(wishes.properties.len(), 1, "{key} = {value:?}");
            // What is accepted can be said on the bus.
            let body = wishes.properties.iter().map(|p: &properties::Property| (p.name.as_ref(), &p.value)).collect::<Vec<_>>();
            let context = zbus::wire::serialized::Context::new(zbus::wire::LE, 0);
            assert!(zbus::wire::to_bytes(context, &body).is_ok(), "{key} = {value:?} is accepted but cannot be sent");
        }
        Err(e) => assert!(e.to_string().starts_with("annotation `"), "{e}"),
    }
    let _ = gvariant::parse(value);
}
