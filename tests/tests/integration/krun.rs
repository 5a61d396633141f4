//! Containers as virtual machines: every annotation and every field of the image's file reaches its call of libkrun, hostile images harm nothing, and
//! what is missing is told. libkrun is a stand-in (`examples/krun-stand-in.rs`) that starts the program in the container itself. Not here: what
//! the real library makes of the calls (`crates/krun/tests/real.rs`), how a container asks for a handler (`handlers`).

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use harness::{Container, Invocation, Need, Test, Value, json, pinnace_only};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// A directory with the stand-in under the names of libkrun's variants.
fn libraries(t: &Test) -> PathBuf {
    let dir = t.dir().join("lib");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
        for name in ["libkrun.so.1", "libkrun-sev.so.1", "libkrun-awsnitro.so.1"] {
            symlink(harness::krun_stand_in(), dir.join(name)).unwrap();
        }
    }
    dir
}

/// A container whose root file system can be written to, with the network of the runtime, where passt can be.
fn container<'t>(t: &'t Test, annotations: &[(&str, &str)]) -> Container<'t> {
    let c = t.container();
    c.args(&["/probe", "exit", "7"]).namespace("network", None).edit(|v| {
        v["root"]["readonly"] = false.into();
        for (name, value) in annotations {
            v["annotations"][*name] = (*value).into();
        }
    });
    c
}

fn image(c: &Container<'_>, vm: &Value) {
    fs::write(c.rootfs().join(".krun_vm.json"), vm.to_string()).unwrap();
}

/// A call of a runtime that has the handler, by the name `krun`.
fn launch(t: &Test, c: &Container<'_>, command: &str) -> Invocation {
    let mut call = by_annotation(t, c, command);
    call.argv0("krun");
    call
}

fn by_annotation(t: &Test, c: &Container<'_>, command: &str) -> Invocation {
    let mut call = c.launch(command, &[]);
    call.program(&harness::with_krun().unwrap()).env("LD_LIBRARY_PATH", libraries(t)).env("KRUN_STAND_IN", "/krun-calls");
    call
}

/// The calls of a container that ran.
fn calls(c: &Container<'_>) -> Vec<(String, Value)> {
    let text = fs::read_to_string(c.rootfs().join("krun-calls")).unwrap();
    let line = |line: &str| serde_json::from_str::<(String, Value)>(line).unwrap();
    text.lines().map(line).collect()
}

/// Runs it, and gives the arguments of one of the calls.
#[track_caller]
fn call_of(t: &Test, c: &Container<'_>, name: &str) -> Value {
    launch(t, c, "run").output().code(7);
    let all = calls(c);
    let found: Vec<_> = all.iter().filter(|(n, _)| n == name).collect();
    assert_eq!(found.len(), 1, "{name}: {all:#?}");
    found[0].1.clone()
}

#[test]
fn by_its_name_and_by_the_annotation() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let names = |c: &Container<'_>| calls(c).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let want = ["krun_create_ctx", "krun_set_log_level", "krun_set_vm_config", "krun_set_root", "krun_start_enter"];
    let c = container(&t, &[]);
    launch(&t, &c, "run").output().code(7);
    assert_eq!(names(&c), want);
    c.leaves_nothing();
    let c = container(&t, &[("run.oci.handler", "krun")]);
    by_annotation(&t, &c, "run").output().code(7);
    assert_eq!(names(&c), want);
    c.leaves_nothing();
}

#[test]
fn create_makes_the_machine_and_start_runs_it() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let c = container(&t, &[("krun.cpus", "2")]);
    launch(&t, &c, "create").ok();
    assert!(!c.rootfs().join("krun-calls").exists());
    c.start();
    c.until_status("stopped");
    assert_eq!(calls(&c).last().unwrap().0, "krun_start_enter");
}

#[test]
fn a_machine_takes_no_further_process() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let c = container(&t, &[("run.oci.handler", "krun")]);
    c.args(&["/probe", "sleep"]);
    by_annotation(&t, &c, "create").ok();
    c.start();
    c.exec(&[], &["/probe", "exit", "0"]).fails_with(&["the handler does not support exec"]);
    c.kill("KILL");
    c.until_status("stopped");
}

#[test]
fn a_read_only_root_is_no_hindrance() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let c = container(&t, &[]);
    c.edit(|v| v["root"]["readonly"] = true.into());
    launch(&t, &c, "run").env("KRUN_STAND_IN", "/dev/shm/krun-calls").output().code(7);
    assert!(c.rootfs().join(".krun_config.json").exists());
}

#[test]
fn every_annotation_reaches_its_call() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    for (annotations, name, want) in [
        (&[("krun.cpus", "3"), ("krun.ram_mib", "256")][..], "krun_set_vm_config", json!([0, 3, 256])),
        (&[("krun.nested_virt", "1")], "krun_set_nested_virt", json!([0, true])),
        (&[("krun.nested_virt", "1")], "krun_check_nested_virt", json!([])),
    ] {
        assert_eq!(call_of(&t, &container(&t, annotations), name), want, "{annotations:?}");
    }
}

#[test]
fn every_field_of_the_images_file_reaches_its_call() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let kernel = json!({ "kernel_path": "/k", "kernel_format": 1, "initrd_path": "/i", "kernel_cmdline": "quiet a=b" });
    for (vm, name, want) in [
        (json!({ "cpus": 4, "ram_mib": 333 }), "krun_set_vm_config", json!([0, 4, 333])),
        (json!({ "gpu_flags": 64 }), "krun_set_gpu_options", json!([0, 64])),
        (json!({ "nested_virt": true }), "krun_set_nested_virt", json!([0, true])),
        (kernel, "krun_set_kernel", json!([0, "/k", 1, "/i", "quiet a=b"])),
        (json!({ "kernel_path": "/k", "kernel_format": 0 }), "krun_set_kernel", json!([0, "/k", 0, null, null])),
        (json!({ "virtiofs_tag": "t" }), "krun_add_virtiofs2", json!([0, "t", "/", 1 << 29])),
        (json!({ "virtiofs_shm_size": 1 << 20 }), "krun_add_virtiofs2", json!([0, "/dev/root", "/", 1 << 20])),
    ] {
        let c = container(&t, &[]);
        image(&c, &vm);
        assert_eq!(call_of(&t, &c, name), want, "{vm}");
    }
    // What the engine says comes first.
    let c = container(&t, &[("krun.cpus", "2")]);
    image(&c, &json!({ "cpus": 4, "ram_mib": 200 }));
    assert_eq!(call_of(&t, &c, "krun_set_vm_config"), json!([0, 2, 200]));
}

#[test]
fn memory_and_processors_of_the_container_are_the_machines() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"), Need::Controller("memory"));
    let c = container(&t, &[]);
    c.edit(|v| v["linux"]["resources"]["memory"] = json!({ "limit": 300 << 20 }));
    let told = call_of(&t, &c, "krun_set_vm_config");
    let here = std::thread::available_parallelism().unwrap().get().min(16);
    assert!(told[1].as_u64().is_some_and(|n| (1..=16).contains(&n)), "{told}");
    // The runtime may be confined to fewer than the container has.
    assert!(told[1].as_u64() >= Some(here as u64), "{told}, {here} here");
    assert_eq!(told[2], 300);
}

#[test]
fn variants_have_libraries_and_calls_of_their_own() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let names = |c: &Container<'_>| calls(c).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let sev = ["krun_create_ctx", "krun_set_log_level", "krun_set_root_disk", "krun_set_tee_config_file", "krun_start_enter"];
    for vm in [json!({ "flavor": "sev", "cpus": 2 }), json!({})] {
        let c = container(&t, &[]);
        image(&c, &vm);
        fs::write(c.rootfs().join("krun-sev.json"), "{}").unwrap();
        assert_eq!(call_of(&t, &c, "krun_set_root_disk"), json!([0, "/disk.img"]));
        assert_eq!(
            (names(&c).iter().map(String::as_str).collect::<Vec<_>>(), calls(&c)[3].1.clone()),
            (sev.into(), json!([0, "/krun-sev.json"]))
        );
    }
    let c = container(&t, &[]);
    image(&c, &json!({ "flavor": "aws-nitro", "ram_mib": 512, "cpus": 2 }));
    c.edit(|v| v["process"]["env"] = json!(["PATH=/bin", "A=b"]));
    assert_eq!(call_of(&t, &c, "krun_set_vm_config"), json!([0, 2, 512]));
    let told = |name: &str| calls(&c).into_iter().find(|(n, _)| n == name).unwrap().1;
    let exec = told("krun_set_exec");
    assert_eq!((&exec[1], &exec[2]), (&json!("/probe"), &json!(["exit", "7"])));
    assert!(exec[3].as_array().unwrap().contains(&json!("A=b")), "{exec}");
    assert_eq!(told("krun_set_console_output"), json!([0, "/dev/stdout"]));
    // The call comes back when an enclave has ended.
    launch(&t, &c, "run").env("KRUN_STAND_IN_ANSWERS", "krun_start_enter=5").output().code(5);
    // Each in the file that is named so, or in none.
    fs::remove_file(libraries(&t).join("libkrun-awsnitro.so.1")).unwrap();
    launch(&t, &c, "run").output().fails_with(&["failed to open `libkrun-awsnitro.so.1`: "]);
    c.leaves_nothing();
}

#[test]
fn passt_gets_one_end_and_the_machine_the_other() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let bin = t.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    let said = t.dir().join("passt-said");
    // Like passt it returns when it is ready and goes on in the background, in the network namespace it was started in.
    let script = format!(
        "#!/bin/sh\nfor last; do :; done\nexec 9<&\"$last\"\n(head -c 7 <&9; echo; echo \"$*\"; readlink /proc/self/ns/net) >{0}.new 2>&1 </dev/null && mv {0}.new {0} &\n",
        said.display()
    );
    fs::write(bin.join("passt"), script).unwrap();
    fs::set_permissions(bin.join("passt"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    for (annotations, vm) in [(&[("krun.use_passt", "1")][..], json!({})), (&[], json!({ "use_passt": true }))] {
        let c = container(&t, annotations);
        c.namespace("network", Some("/proc/self/ns/net"));
        image(&c, &vm);
        launch(&t, &c, "run").env("PATH", &path).output().code(7);
        let net = calls(&c).into_iter().find(|(name, _)| name == "krun_add_net_unixstream").unwrap().1;
        assert_eq!((&net[1], &net[2], &net[3], &net[6]), (&json!(null), &json!("socket"), &json!(true), &json!(2)), "{net}");
        harness::eventually("passt has read", || said.exists());
        let text = fs::read_to_string(&said).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "packets");
        assert!(lines[1].starts_with("--quiet --tcp-ports all --udp-ports all --no-map-gw --fd "), "{text}");
        assert_eq!(Path::new(lines[2]), own);
        fs::remove_file(&said).unwrap();
        c.leaves_nothing();
    }
    // The image alone does not have it started in the host's network.
    let c = container(&t, &[]);
    c.edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network"));
    c.edit(|s| s["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "sysfs"));
    image(&c, &json!({ "use_passt": true }));
    launch(&t, &c, "run").env("PATH", &path).output().code(7);
    assert!(calls(&c).iter().all(|(name, _)| name != "krun_add_net_unixstream"), "{:?}", calls(&c));
    // What it says when it fails, and that there is none, is told.
    let c = container(&t, &[("krun.use_passt", "true")]);
    fs::write(bin.join("passt"), "#!/bin/sh\necho no interface >&2\nexit 1\n").unwrap();
    launch(&t, &c, "run")
        .env("PATH", &path)
        .output()
        .fails_with(&["network by passt (`krun.use_passt`): ", "(exit status: 1): no interface"]);
    c.leaves_nothing();
    let c = container(&t, &[("krun.use_passt", "true")]);
    c.new_namespace("network");
    launch(&t, &c, "run").env("PATH", &path).output().fails_with(&["a new network namespace has no network that passt could use"]);
    c.leaves_nothing();
}

#[test]
fn the_guest_gets_the_configuration_whatever_the_image_put_there() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let canary = t.dir().join("canary");
    fs::write(&canary, "untouched").unwrap();
    type Put = fn(&Path, &Path);
    let puts: [(&str, Put); 6] = [
        ("nothing", |_, _| ()),
        ("a file", |at, _| fs::write(at, "old and much longer than nothing").unwrap()),
        ("a link", |at, canary| symlink(canary, at).unwrap()),
        ("a dangling link", |at, canary| symlink(canary.with_extension("not"), at).unwrap()),
        ("a fifo", |at, _| mknod(at, SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap()),
        ("a device", |at, _| mknod(at, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap()),
    ];
    for (what, put) in puts {
        let c = container(&t, &[]);
        let at = c.rootfs().join(".krun_config.json");
        put(&at, &canary);
        launch(&t, &c, "run").output().code(7);
        assert!(fs::symlink_metadata(&at).unwrap().is_file(), "{what}");
        assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&at).unwrap(), fs::read(c.bundle.join("config.json")).unwrap(), "{what}");
    }
    let c = container(&t, &[]);
    fs::create_dir(c.rootfs().join(".krun_config.json")).unwrap();
    fs::write(c.rootfs().join(".krun_config.json/kept"), "").unwrap();
    launch(&t, &c, "run").output().fails_with(&[".krun_config.json", "Is a directory"]);
    assert!(c.rootfs().join(".krun_config.json/kept").exists());
    c.leaves_nothing();
    assert_eq!(fs::read_to_string(&canary).unwrap(), "untouched");
    assert!(!canary.with_extension("not").exists());
}

#[test]
fn other_users_and_user_namespaces_have_machines_too() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    for user_namespace in [false, true] {
        let c = container(&t, &[]);
        c.edit(|v| v["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
        if user_namespace {
            c.new_user_namespace(100_000);
            std::os::unix::fs::chown(c.rootfs(), Some(100_000), Some(100_000)).unwrap();
        }
        launch(&t, &c, "run").env("KRUN_STAND_IN", "/tmp/krun-calls").output().code(7);
        assert!(c.rootfs().join("tmp/krun-calls").exists());
        // The library reads it for the guest, as that user.
        let config = fs::metadata(c.rootfs().join(".krun_config.json")).unwrap();
        let owner = if user_namespace { 100_000 } else { 0 };
        assert_eq!((config.uid(), config.permissions().mode() & 0o7777), (owner, 0o644));
    }
}

#[test]
fn a_file_for_the_machine_that_is_none_is_refused() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let secret = t.dir().join("secret");
    fs::write(&secret, r#"{"cpus":2}"#).unwrap();
    type Put = fn(&Path, &Path);
    let puts: [(Put, &str); 6] = [
        (|at, secret| symlink(secret, at).unwrap(), "is not a regular file"),
        (|at, _| fs::create_dir(at).unwrap(), "is not a regular file"),
        (|at, _| mknod(at, SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap(), "is not a regular file"),
        (|at, _| mknod(at, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap(), "is not a regular file"),
        (|at, _| fs::File::create(at).unwrap().set_len(1 << 40).unwrap(), "is longer than 65536 bytes"),
        (|at, _| fs::write(at, r#"{"cpus":"many"}"#).unwrap(), "cpus: invalid type: string \"many\""),
    ];
    for (put, why) in puts {
        let c = container(&t, &[]);
        put(&c.rootfs().join(".krun_vm.json"), &secret);
        launch(&t, &c, "run").output().fails_with(&["`/.krun_vm.json` of the root file system: ", why]);
        c.leaves_nothing();
    }
}

#[test]
fn annotations_that_cannot_be_are_named() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    for (name, value) in [
        ("krun.cpus", "17"),
        ("krun.ram_mib", "127"),
        ("krun.gpu_flags", "venus"),
        ("krun.use_passt", "maybe"),
        ("krun.nested_virt", "2"),
        ("krun.variant", "tdx"),
    ] {
        let c = container(&t, &[(name, value)]);
        launch(&t, &c, "run").output().fails_with(&[&format!("annotation `{name}`: `{value}` is not ")]);
        c.leaves_nothing();
    }
}

#[test]
fn what_the_library_refuses_is_told() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let nested = &[("krun.nested_virt", "1")][..];
    for (annotations, answers, text) in [
        (&[][..], "krun_create_ctx=-12", "create the virtual machine: Cannot allocate memory"),
        (&[], "krun_set_vm_config=-22", "set the processors and the memory of the virtual machine: Invalid argument"),
        (&[], "krun_set_root=-2", "set the root `/`: No such file or directory"),
        (nested, "krun_check_nested_virt=-1", "nested virtualization (`krun.nested_virt`): the KVM of this host has it off"),
    ] {
        let c = container(&t, annotations);
        launch(&t, &c, "run").env("KRUN_STAND_IN_ANSWERS", answers).output().fails_with(&[text]);
        c.leaves_nothing();
    }
    // With the container already made, it is its own output that tells it.
    let c = container(&t, &[]);
    let out = launch(&t, &c, "run").env("KRUN_STAND_IN_ANSWERS", "krun_start_enter=-2").output().code(1);
    assert_eq!(out.stderr().trim_end(), "krun: run the virtual machine: No such file or directory");
    c.leaves_nothing();
}

#[test]
fn a_library_or_kvm_that_is_not_there_is_told() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"), Need::Tool("unshare"));
    let c = container(&t, &[]);
    fs::remove_file(libraries(&t).join("libkrun.so.1")).unwrap();
    image(&c, &json!({}));
    launch(&t, &c, "run").output().fails_with(&["failed to open `libkrun.so.1`: "]);
    c.leaves_nothing();
    symlink(harness::krun_stand_in(), libraries(&t).join("libkrun.so.1")).unwrap();
    let script = format!("mount --bind {} /dev/kvm && exec \"$0\" \"$@\"", c.bundle.join("config.json").display());
    c.edit(|v| v["annotations"]["run.oci.handler"] = "krun".into());
    let out = by_annotation(&t, &c, "run").under(&["unshare", "--mount", "sh", "-c", &script]).output();
    out.fails_with(&["the handler `krun`: `/dev/kvm` is not available: it is no character device"]);
    c.leaves_nothing();
}

#[test]
fn the_container_has_the_device_and_may_open_it() {
    let t = pinnace_only!(Need::Root, Need::Krun, Need::Device("/dev/kvm"));
    let c = container(&t, &[]);
    c.args(&["/probe", "report"]);
    let r = launch(&t, &c, "run").output().code(0).report();
    let kvm = &r["dev"]["/dev/kvm"];
    assert_eq!((&kvm["kind"], &kvm["mode"]), (&json!("char"), &json!(0o666)), "{kvm}");
    // Whether KVM works is the host's affair; that the cgroup refuses would be EPERM.
    c.args(&["/probe", "try-open", "/dev/kvm", "rw"]);
    let opened = launch(&t, &c, "run").output().code(0).json();
    assert_ne!(opened["errno"], json!(1), "{opened}");
    let listed = fs::symlink_metadata("/dev/kvm").unwrap().file_type();
    assert!(listed.is_char_device());
    // The image asks for a GPU, and gets no device of the host for that.
    let c = container(&t, &[]);
    image(&c, &json!({ "gpu_flags": 1 }));
    c.args(&["/probe", "report"]);
    let r = launch(&t, &c, "run").output().code(0).report();
    assert!(r["dev"].as_object().unwrap().keys().all(|name| !name.starts_with("/dev/dri")));
}
