//! `spec` and `features`: what they write, and that it fits the specification's schemas and this runtime itself.

use std::fs;

use harness::{Need, Value, behaviour, json};

use crate::schema;

#[test]
fn spec_writes_a_config_that_fits_the_schema() {
    let t = behaviour!();
    for options in [&[][..], &["--rootless"]] {
        let dir = tempfile::tempdir_in(t.dir()).unwrap();
        t.bare().arg("spec").args(options).cwd(dir.path()).ok();
        let config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        schema::fits("config-schema.json", &config);
        assert_eq!(config["process"]["args"], json!(["sh"]));
        assert_eq!(config["process"]["terminal"], true);
        assert_eq!(config["root"]["path"], "rootfs");
        let user = config["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == "user");
        assert_eq!(user, options == ["--rootless"]);
    }
}

#[test]
fn spec_does_not_overwrite() {
    let t = behaviour!();
    fs::write(t.dir().join("config.json"), "mine").unwrap();
    t.bare().arg("spec").output().failed();
    assert_eq!(fs::read_to_string(t.dir().join("config.json")).unwrap(), "mine");
}

#[test]
fn spec_takes_a_bundle() {
    let t = behaviour!();
    let dir = t.dir().join("elsewhere");
    fs::create_dir(&dir).unwrap();
    t.bare().args(&["spec", "--bundle"]).arg(&dir).ok();
    assert!(dir.join("config.json").is_file());
}

#[test]
fn spec_takes_a_file_name() {
    let t = behaviour!();
    let file = t.dir().join("other.json");
    t.bare().args(&["spec", "--file"]).arg(&file).ok();
    assert!(file.is_file());
}

#[test]
fn features_fit_the_schema() {
    let t = behaviour!();
    let text = t.bare().arg("features").ok().stdout();
    let features: Value = serde_json::from_str(&text).unwrap();
    schema::fits("features-schema.json", &features);
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let hooks: Vec<&str> = features["hooks"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(hooks.contains(&kind), "{kind}");
    }
    let options: Vec<&str> = features["mountOptions"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect();
    for option in ["bind", "rbind", "ro", "rro", "nosuid", "noexec", "tmpcopyup", "rslave"] {
        assert!(options.contains(&option), "{option}");
    }
    let linux = &features["linux"];
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(linux["namespaces"].as_array().unwrap().contains(&json!(kind)), "{kind}");
    }
    assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
    assert_eq!(linux["seccomp"]["enabled"], true);
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(|o| format!("SCMP_CMP_{o}"));
    assert_eq!(linux["seccomp"]["operators"], json!(operators));
    assert_eq!((&linux["cgroup"]["v1"], &linux["cgroup"]["v2"]), (&json!(true), &json!(true)));
}

#[test]
fn features_list_the_time_namespace() {
    let t = behaviour!(Need::CrunDiffers("features-time"));
    let features = t.bare().arg("features").ok().json();
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("time")));
}

#[test]
fn state_fits_the_schema() {
    let t = behaviour!();
    let c = t.container();
    c.edit(|s| s["annotations"] = json!({ "k": "v" }));
    c.args(&["/probe", "sleep"]);
    c.create();
    schema::fits("state-schema.json", &c.state());
    c.start();
    schema::fits("state-schema.json", &c.state());
    c.kill("KILL");
    c.until_status("stopped");
    schema::fits("state-schema.json", &c.state());
}

#[test]
fn hooks_get_a_state_that_fits_the_schema() {
    let t = behaviour!();
    let c = t.container();
    let file = t.dir().join("state.json");
    let script = format!("cat > {}", file.display());
    c.edit(|s| {
        s["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    });
    c.args(&["/probe", "exit", "0"]).run().code(0);
    let state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut complete = state.clone();
    // crun writes `1.0`, which is no semantic version.
    complete["ociVersion"] = json!("1.0.0");
    schema::fits("state-schema.json", &complete);
}
