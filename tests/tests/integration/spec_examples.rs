//! The specification's own examples: the good ones load, the bad ones are refused; and the schemas the other tests
//! use agree with them.

use harness::{Container, Need, Value, behaviour, json};

use crate::schema;

macro_rules! example {
    ($name:literal) => {
        ($name, include_str!(concat!("../../data/examples/", $name)))
    };
}

const GOOD_CONFIGS: [(&str, &str); 5] = [
    example!("config/good/linux-netdevice.json"),
    example!("config/good/linux-rdma.json"),
    example!("config/good/minimal.json"),
    example!("config/good/minimal-for-start.json"),
    example!("config/good/spec-example.json"),
];

const BAD_CONFIGS: [(&str, &str); 4] = [
    example!("config/bad/invalid-json.json"),
    example!("config/bad/linux-hugepage.json"),
    example!("config/bad/linux-netdevice.json"),
    example!("config/bad/linux-rdma.json"),
];

/// Made ready to run here: the example's paths, users and devices are those of no real machine.
fn localise(c: &Container<'_>, example: &Value) {
    let own = c.config();
    c.edit(|s| {
        *s = example.clone();
        s["process"] = own["process"].clone();
        s["root"] = own["root"].clone();
        s["mounts"] = own["mounts"].clone();
        s.as_object_mut().unwrap().remove("hooks");
        if !s["linux"].is_object() {
            s["linux"] = own["linux"].clone();
        }
        let linux = s["linux"].as_object_mut().unwrap();
        for key in [
            "resources",
            "cgroupsPath",
            "devices",
            "netDevices",
            "uidMappings",
            "gidMappings",
            "intelRdt",
            "rootfsPropagation",
            "timeOffsets",
        ] {
            linux.remove(key);
        }
        linux.insert("namespaces".into(), own["linux"]["namespaces"].clone());
        linux.remove("mountLabel");
    });
}

#[test]
fn schemas_agree_with_the_examples() {
    for (name, text) in GOOD_CONFIGS {
        schema::fits("config-schema.json", &serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    for (name, text) in BAD_CONFIGS.iter().skip(1) {
        let value = serde_json::from_str(text).unwrap();
        assert_ne!(schema::errors("config-schema.json", &value), Vec::<String>::new(), "{name}");
    }
    for (_, text) in [example!("features/good/runc.json"), example!("features/good/minimal.json")] {
        schema::fits("features-schema.json", &serde_json::from_str(text).unwrap());
    }
    let (_, bad) = example!("features/bad/missing-ociVersionMax.json");
    assert_ne!(schema::errors("features-schema.json", &serde_json::from_str(bad).unwrap()), Vec::<String>::new());
    let (_, good) = example!("state/good/spec-example.json");
    schema::fits("state-schema.json", &serde_json::from_str(good).unwrap());
}

#[test]
fn good_examples_run_once_they_fit_this_machine() {
    let t = behaviour!();
    for (name, text) in GOOD_CONFIGS {
        let c = t.container();
        localise(&c, &serde_json::from_str(text).unwrap());
        let wanted = json!(["/probe", "exit", "11"]);
        c.edit(|s| s["process"]["args"] = wanted);
        let out = c.run();
        assert_eq!(out.status(), 11, "{name}: {out}");
    }
}

/// As they stand, they ask for things that aren't here; what is refused then is that, and not the file.
#[test]
fn good_examples_load_as_they_stand() {
    let t = behaviour!();
    for (name, text) in GOOD_CONFIGS {
        let c = t.container();
        c.raw_config(text);
        let out = c.run();
        let stderr = out.stderr();
        assert_ne!(out.status(), 0, "{name}: {out}");
        for word in ["parse", "invalid JSON", "missing field", "unknown field", "expected", "invalid type", "unknown variant"] {
            assert!(!stderr.contains(word), "{name}: `{word}` in {out}");
        }
        c.forget_cgroup_of_crun();
        c.leaves_nothing();
    }
}

#[test]
fn bad_examples_are_refused() {
    let t = behaviour!();
    for (name, text) in BAD_CONFIGS {
        let c = t.container();
        c.raw_config(text);
        let out = c.run();
        eprintln!("{name}");
        out.fails_with(&[]);
        c.forget_cgroup_of_crun();
        c.leaves_nothing();
    }
}

/// The bad ones are bad by one field: the error names it, even where the rest of the file is fit to run.
#[test]
fn bad_examples_are_refused_for_what_is_bad() {
    let t = behaviour!(Need::CrunDiffers("errors-name-the-field"));
    let table = [
        ("linux-hugepage.json", "linux.resources.hugepageLimits"),
        ("linux-netdevice.json", "linux.netDevices"),
        ("linux-rdma.json", "linux.resources.rdma"),
    ];
    for (file, field) in table {
        let (name, text) = BAD_CONFIGS.iter().find(|(n, _)| n.ends_with(file)).unwrap();
        let bad: Value = serde_json::from_str(text).unwrap();
        let c = t.container();
        c.edit(|s| {
            for (key, value) in bad["linux"].as_object().unwrap() {
                s["linux"][key] = value.clone();
            }
        });
        let out = c.refused(&[]);
        assert!(out.stderr().contains(field), "{name}: {out}");
    }
}
