//! Bytes of one record. Not here: where they are written.

use crate::settings::Format;
use runtime_core::Timestamp;
use runtime_core::api::{Level, Record};
use std::fmt::Write;

/// One line of the log, with its end. `terminal` adds time and colour to text.
pub(crate) fn line(record: &Record<'_>, format: Format, terminal: bool, time: impl FnOnce() -> Timestamp) -> String {
    match format {
        Format::Json => json(record, time()),
        Format::Text if terminal => format!("\x1b[1;{}m{}: {}\x1b[0m\n", colour(record.level), time(), record.message),
        Format::Text => format!("{}\n", record.message),
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::Error => 31,
        Level::Warning => 33,
        Level::Debug => 34,
    }
}

fn json(record: &Record<'_>, time: Timestamp) -> String {
    // Serialising a str cannot fail.
    let message = serde_json::to_string(record.message).unwrap_or_default();
    let mut out = String::with_capacity(message.len() + 72);
    // Writing to a String cannot fail either.
    let _ = writeln!(out, r#"{{"msg":{message},"level":"{}","time":"{time}"}}"#, record.level.as_str());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(level: Level, message: &str, format: Format, terminal: bool) -> String {
        line(&Record { level, message }, format, terminal, || Timestamp::from_unix(1_788_257_472, 123_456_000))
    }

    #[test]
    fn text_has_a_time_on_a_terminal_only() {
        assert_eq!(at(Level::Error, "open `x`", Format::Text, false), "open `x`\n");
        for (level, number) in [(Level::Error, 31), (Level::Warning, 33), (Level::Debug, 34)] {
            let want = format!("\x1b[1;{number}m2026-09-01T10:11:12.123456Z: m\x1b[0m\n");
            assert_eq!(at(level, "m", Format::Text, true), want);
        }
    }

    #[test]
    fn json_is_one_line_whatever_the_message_holds() {
        let want = "{\"msg\":\"a \\\"b\\\"\\nc\\u0001\",\"level\":\"warning\",\"time\":\"2026-09-01T10:11:12.123456Z\"}\n";
        assert_eq!(at(Level::Warning, "a \"b\"\nc\u{1}", Format::Json, false), want);
        assert_eq!(at(Level::Warning, "a \"b\"\nc\u{1}", Format::Json, true), want);
        let v: serde_json::Value = serde_json::from_str(want).unwrap();
        assert_eq!(v["msg"], "a \"b\"\nc\u{1}");
    }
}
