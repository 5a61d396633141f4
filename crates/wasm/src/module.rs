//! A program for an engine that is a C library: text becomes binary, and what is no valid command of WASI preview 1 is refused before the library
//! sees it. Not here: engines in Rust, which do that themselves.
//!
//! Such a library is written in a language whose mistakes a hostile image could use, although only against its own container. What reaches it has
//! been validated by the WebAssembly project's own parser, and so is told in the same words whatever the engine.

use crate::handler::{is_component, no_start, one_line};
use runtime_core::{Error, Result};
use std::borrow::Cow;
use wasmparser::{ExternalKind, Parser, Payload, Validator, WasmFeatures};

/// The module's binary form.
///
/// # Errors
/// It is no module, a component, or exports no function `_start`.
pub(crate) fn command(program: &[u8]) -> Result<Cow<'_, [u8]>> {
    let binary = wat::parse_bytes(program).map_err(|e| Error::invalid(one_line(&e.to_string())))?;
    if is_component(&binary) {
        return Err(Error::invalid("a component: the engine runs modules of WASI preview 1 only"));
    }
    // What is a proposal to one engine is finished to another: that much it says itself.
    let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(&binary).and_then(|_| starts(&binary));
    match valid.map_err(|e| Error::invalid(one_line(&e.to_string())))? {
        true => Ok(binary),
        false => Err(no_start()),
    }
}

/// Whether a module exports a function `_start`.
fn starts(binary: &[u8]) -> wasmparser::Result<bool> {
    for payload in Parser::new(0).parse_all(binary) {
        let Payload::ExportSection(exports) = payload? else { continue };
        for export in exports {
            let export = export?;
            if export.name == "_start" && export.kind == ExternalKind::Func {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(program: &[u8]) -> String {
        let text = command(program).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    #[test]
    fn only_a_valid_command_passes() {
        let text = br#"(module (func (export "_start")))"#;
        let binary = command(text).unwrap().into_owned();
        assert!(binary.starts_with(b"\0asm\x01\0\0\0"));
        assert!(matches!(command(&binary).unwrap(), Cow::Borrowed(_)));
        assert!(refused(br#"(module (memory (export "_start") 1))"#).contains("exports no function `_start`"));
        assert!(refused(b"(component)").contains("a component"));
        // A function that takes what the stack has not got.
        assert!(refused(b"(module (func (export \"_start\") drop))").contains("type mismatch"));
        for broken in [&binary[..binary.len() - 1], b"\0asm\x02\0\0\0", b"\0asm\x01\0\0\0\x01\xff", b"no module at all", b""] {
            refused(broken);
        }
    }
}
