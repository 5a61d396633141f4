//! Images that are damaged, of another bundle or of another runtime. Not here: images that are in order (`checkpoint`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use harness::{Container, Need, json, pinnace_only};

use crate::checkpoint::{checkpoint, comes_back, counting, counts_on, images, started};

/// A restore that must be refused; what CRIU says goes to a file here.
fn refused(c: &Container<'_>, texts: &[&str]) {
    let out = c.call("restore").arg("--bundle").arg(&c.bundle).arg("--image-path").arg(images(c)).arg("--detach").arg(&c.id).output();
    let out = out.failed();
    for text in texts {
        assert!(out.stderr().contains(text), "expected `{text}`: {out}");
    }
    c.leaves_nothing();
}

#[test]
fn damaged_images_are_refused_and_nothing_stays() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    started(&c);
    checkpoint(&c, &[]).code(0);
    let dir = PathBuf::from(images(&c));
    for name in ["pstree.img", "inventory.img", "core-1.img", "pages-1.img", "files.img"] {
        let path = dir.join(name);
        let Ok(whole) = fs::read(&path) else { continue };
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        refused(&c, &["CRIU restoring failed"]);
        fs::remove_file(&path).unwrap();
        refused(&c, &["CRIU restoring failed"]);
        fs::write(&path, whole).unwrap();
    }
    // Whole again, it comes back.
    comes_back(&c);
}

#[test]
fn images_of_another_bundle_are_refused() {
    let t = pinnace_only!(Need::Criu);
    let c = counting(&t);
    let volume = t.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    c.mount(json!({ "destination": "/v", "type": "bind", "source": volume, "options": ["bind"] }));
    started(&c);
    checkpoint(&c, &[]).code(0);
    let other = counting(&t);
    other.write();
    fs::rename(images(&c), images(&other)).unwrap();
    refused(&other, &["CRIU restoring failed", "--- excerpt from CRIU log", "No mapping for"]);
}

#[test]
fn images_of_either_runtime_are_restored_by_pinnace() {
    let t = pinnace_only!(Need::Criu, Need::Tool("crun"));
    let c = counting(&t);
    c.write();
    let root = t.dir().join("crun");
    let crun = |words: &[&str]| {
        let out = Command::new("crun")
            .arg("--root")
            .arg(&root)
            .args(words)
            .stdin(std::process::Stdio::null())
            .stdout(null())
            .stderr(null())
            .status();
        assert!(out.unwrap().success(), "{words:?}");
    };
    crun(&["run", "--detach", "--bundle", c.bundle.to_str().unwrap(), &c.id]);
    counts_on(&c, 2);
    crun(&["checkpoint", "--image-path", &images(&c), &c.id]);
    comes_back(&c);
}

fn null() -> std::process::Stdio {
    std::process::Stdio::null()
}
