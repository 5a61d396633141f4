//! A small image for engines: a shell with its tools and the probe, as a tar of its files and as an image of the OCI's form. Not here: engines.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::executable;
use crate::probe;

/// The shell and all its tools in one static program (Debian's busybox-static).
pub const SHELL: &str = "busybox";

/// A tar of the image's files below `dir`.
///
/// # Panics
/// If it can't be made: without an image no engine does anything.
pub fn archive(dir: &Path) -> PathBuf {
    let tree = dir.join("image");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "data", "root", "run", "var/log"] {
        fs::create_dir_all(tree.join(name)).expect("make the image's directories");
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("open the image's /tmp");
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/data:/bin/sh\n").expect("write passwd");
    fs::write(tree.join("etc/group"), "root:x:0:\nguest:x:1000:\nfriends:x:2000:guest\n").expect("write group");
    executable::copy(probe::path(), &tree.join("probe"));
    fs::set_permissions(tree.join("probe"), fs::Permissions::from_mode(0o755)).expect("make the probe executable");
    fs::write(tree.join("bin/no-program"), "text\n").expect("write a file that can't be executed");
    let shell = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|dir| dir.join(SHELL)).find(|path| path.is_file());
    executable::copy(&shell.expect("the test needs the shell"), &tree.join("bin").join(SHELL));
    for tool in said(Command::new(SHELL).arg("--list")).lines().filter(|tool| *tool != SHELL) {
        symlink(SHELL, tree.join("bin").join(tool)).expect("link a tool");
    }
    let archive = dir.join("image.tar");
    said(Command::new("tar").arg("-C").arg(&tree).args(["--owner=0", "--group=0", "--numeric-owner", "-cf"]).arg(&archive).arg("."));
    archive
}

/// A tar of an image layout (image-spec, image-layout.md) with that image under `name`, of the tar of its files. Without a command it waits: a pod keeps
/// its namespaces by it.
///
/// # Panics
/// If it can't be made.
pub fn layout(dir: &Path, files: &Path, name: &str) -> PathBuf {
    let tree = dir.join("layout");
    let blobs = tree.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make the layout's directories");
    let blob = |media: &str, from: &Path| -> Value {
        let sum = said(Command::new("sha256sum").arg(from));
        let sum = sum.split(' ').next().expect("sha256sum prints a sum").to_owned();
        let size = fs::copy(from, blobs.join(&sum)).expect("copy a blob");
        json!({ "mediaType": media, "digest": format!("sha256:{sum}"), "size": size })
    };
    let written = |media: &str, value: &Value| {
        let file = dir.join("blob.json");
        fs::write(&file, value.to_string()).expect("write a blob");
        blob(media, &file)
    };
    let layer = blob("application/vnd.oci.image.layer.v1.tar", files);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "100000"] }, "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = written("application/vnd.oci.image.config.v1+json", &config);
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer] });
    let mut manifest = written("application/vnd.oci.image.manifest.v1+json", &manifest);
    manifest["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
    fs::write(tree.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string()).expect("write the index");
    fs::write(tree.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write the layout's version");
    let archive = dir.join("layout.tar");
    said(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."));
    archive
}

/// What a program prints that can't fail here.
fn said(command: &mut Command) -> String {
    let _starting = executable::starting();
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}
