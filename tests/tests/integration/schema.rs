//! The specification's JSON schemas (`tests/data/schema`), ready to validate against. No test is here.

use harness::Value;
use jsonschema::{Retrieve, Uri};

/// Each file of the schema directory, by name.
const FILES: [(&str, &str); 14] = [
    ("config-schema.json", include_str!("../../data/schema/config-schema.json")),
    ("config-linux.json", include_str!("../../data/schema/config-linux.json")),
    ("config-freebsd.json", include_str!("../../data/schema/config-freebsd.json")),
    ("config-solaris.json", include_str!("../../data/schema/config-solaris.json")),
    ("config-vm.json", include_str!("../../data/schema/config-vm.json")),
    ("config-windows.json", include_str!("../../data/schema/config-windows.json")),
    ("config-zos.json", include_str!("../../data/schema/config-zos.json")),
    ("defs.json", include_str!("../../data/schema/defs.json")),
    ("defs-linux.json", include_str!("../../data/schema/defs-linux.json")),
    ("defs-windows.json", include_str!("../../data/schema/defs-windows.json")),
    ("defs-vm.json", include_str!("../../data/schema/defs-vm.json")),
    ("features-linux.json", include_str!("../../data/schema/features-linux.json")),
    ("features-schema.json", include_str!("../../data/schema/features-schema.json")),
    ("state-schema.json", include_str!("../../data/schema/state-schema.json")),
];

const MORE: [(&str, &str); 2] = [
    ("defs-freebsd.json", include_str!("../../data/schema/defs-freebsd.json")),
    ("defs-zos.json", include_str!("../../data/schema/defs-zos.json")),
];

/// Any absolute base will do: [`Files`] only looks at the last part.
const BASE: &str = "schema:///";

fn file(name: &str) -> Option<Value> {
    let text = FILES.iter().chain(&MORE).find(|(n, _)| *n == name)?.1;
    serde_json::from_str(text).ok()
}

struct Files;

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().trim_start_matches('/');
        file(name).ok_or_else(|| format!("no schema {name}").into())
    }
}

/// What doesn't fit, one text an error.
pub(crate) fn errors(schema: &str, value: &Value) -> Vec<String> {
    let root = file(schema).expect("a known schema");
    let options = jsonschema::options().with_retriever(Files).with_base_uri(format!("{BASE}{schema}"));
    let validator = options.build(&root).expect("the schema is valid");
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// Demands that a value fits.
#[track_caller]
pub(crate) fn fits(schema: &str, value: &Value) {
    let errors = errors(schema, value);
    assert!(errors.is_empty(), "{schema}: {errors:#?} in {value:#}");
}
