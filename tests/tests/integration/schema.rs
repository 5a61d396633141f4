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

/// All fields below some properties of a schema: path as in the runtime's messages (`[0]` for the items of an array, `any` for the
/// entries of a map), JSON type.
pub(crate) fn fields(schema: &str, at: &str, names: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root = file(schema).expect("a known schema");
    for name in names {
        let node = root.pointer(&format!("{at}/{name}")).expect("a section of the schema");
        collect(schema, node, name.to_string(), &mut found);
    }
    found
}

fn collect(schema: &str, node: &Value, path: String, found: &mut Vec<(String, String)>) {
    if let Some(reference) = node["$ref"].as_str() {
        let (name, place) = reference.split_once('#').expect("a reference has a place");
        let name = if name.is_empty() { schema } else { name };
        let target = file(name).expect("a known schema");
        return collect(name, target.pointer(place).expect("a place in the schema"), path, found);
    }
    let Some(kind) = node["type"].as_str() else {
        let one_of = ["anyOf", "oneOf", "allOf"].iter().find_map(|word| node[word].get(0)).expect("a type or a choice");
        return collect(schema, one_of, path, found);
    };
    found.push((path.clone(), kind.to_owned()));
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        collect(schema, field, format!("{path}.{name}"), found);
    }
    if node["items"].is_object() {
        collect(schema, &node["items"], format!("{path}[0]"), found);
    }
    let entries = node["patternProperties"].as_object().into_iter().flat_map(|all| all.values());
    for entry in entries.chain(node.get("additionalProperties").filter(|entry| entry.is_object())) {
        collect(schema, entry, format!("{path}.any"), found);
    }
}
