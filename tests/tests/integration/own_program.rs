//! The runtime's own program, as a container may find it: each way it is protected, and the attacks on it. Not here: why each way holds
//! (`docs/self-protection.md`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Container, Need, Output, Test, Value, behaviour, executable, json, pinnace_only, view};

/// A copy of the runtime in a directory of its own, that the test may do anything to.
fn own_copy(t: &Test, dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let copy = dir.join("pinnace");
    executable::copy(&t.runtime.path, &copy);
    copy
}

/// What tells one state of a file from another.
fn state(path: &Path) -> (u64, i64, i64, i64, Vec<u8>) {
    let meta = fs::metadata(path).unwrap();
    (meta.size(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), fs::read(path).unwrap())
}

/// What the runtime says about its program, under `wrapper`.
fn told(c: &Container<'_>, wrapper: &[&str]) -> String {
    c.args(&["/probe", "exit", "0"]);
    let out = c.global(&["--debug"]).launch("run", &[]).under(wrapper).ok();
    let text = out.stderr();
    let word = text.split("is protected: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("{out}")).to_owned()
}

/// That, and how often it executed itself. Not for users, whose maps are written by a program that gets no rights under strace.
fn protection(t: &Test, c: &Container<'_>, wrapper: &[&str]) -> (String, usize) {
    let trace = t.dir().join("trace");
    let mut all = vec!["strace", "-f", "-e", "trace=execveat", "-o", trace.to_str().unwrap()];
    all.extend(wrapper);
    let told = told(c, &all);
    let again = fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains("execveat(")).count();
    (told, again)
}

#[test]
fn a_writable_one_is_executed_by_a_read_only_mount() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let copy = own_copy(&t, &t.dir().join("own"));
    let t = t.with_binary(&copy);
    assert_eq!(protection(&t, &t.container(), &[]), ("ReadOnlyMount".into(), 1));
}

#[test]
fn one_on_a_read_only_mount_is_left_alone() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let dir = t.dir().join("own");
    let copy = own_copy(&t, &dir);
    let t = t.with_binary(&copy);
    let script = format!("mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' && exec \"$@\"", dir.display());
    let wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    assert_eq!(protection(&t, &t.container(), &wrapper), ("ReadOnlyMount".into(), 0));
}

/// Kernels and filters without detached mounts, and users who may not mount: a sealed copy.
#[test]
fn without_detached_mounts_a_sealed_copy_is_executed() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let copy = own_copy(&t, &t.dir().join("own"));
    let t = t.with_binary(&copy);
    let in_view = view::program();
    for call in ["open_tree", "mount_setattr"] {
        let wrapper = [in_view.to_str().unwrap(), "host", "--without", call, "--"];
        assert_eq!(protection(&t, &t.container(), &wrapper), ("Sealed".into(), 1), "without {call}");
    }
}

#[test]
fn an_immutable_one_is_left_alone() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"), Need::Tool("chattr"));
    // A file system that has the attribute: the test's own directory is mostly on one that has not.
    let dir = tempfile::Builder::new().prefix("pinnace-own-").tempdir_in("/var/tmp").unwrap();
    let copy = own_copy(&t, dir.path());
    let chattr = |word: &str| Command::new("chattr").arg(word).arg(&copy).output().unwrap().status.success();
    if !chattr("+i") {
        t.skip("needs a file system with immutable files at /var/tmp (covered by cargo xtask vm test)");
        return;
    }
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let t = t.with_binary(&copy);
        protection(&t, &t.container(), &[])
    }));
    assert!(chattr("-i"));
    assert_eq!(done.unwrap(), ("Immutable".into(), 0));
}

/// On a file system of its own, which is mounted for the runtime alone.
#[test]
fn one_under_fs_verity_is_left_alone() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"), Need::Tool("mkfs.ext4"));
    let (image, dir) = (t.dir().join("image"), t.dir().join("own"));
    fs::create_dir(&dir).unwrap();
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-O", "verity"]).arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let probe = t.container().rootfs().join("probe");
    let script = format!(
        "mount -o loop '{}' '{dir}' && cp '{}' '{dir}/pinnace' && sync && '{probe}' seal-by-verity '{dir}/pinnace' >&3 && exec \"$@\"",
        image.display(),
        t.runtime.path.display(),
        probe = probe.display(),
        dir = dir.display(),
    );
    let said = t.dir().join("said");
    let script = format!("exec 3>'{}'; {script}", said.display());
    let wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    let tried = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output().unwrap();
    if !fs::read_to_string(&said).is_ok_and(|text| text.contains("\"errno\":null")) {
        let why = String::from_utf8_lossy(&tried.stderr).trim().replace('\n', " ");
        t.skip(&format!("needs loop devices and a kernel with fs-verity (covered by cargo xtask vm test): {why}"));
        return;
    }
    // What was tried is on the image.
    let script = format!("mount -o loop '{}' '{}' && exec \"$@\"", image.display(), dir.display());
    let wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"];
    let t = t.with_binary(&dir.join("pinnace"));
    assert_eq!(protection(&t, &t.container(), &wrapper), ("Verity".into(), 0));
}

/// Root's program run by a user: no id of the user's containers is its owner.
#[test]
fn one_of_another_user_is_left_alone() {
    let t = pinnace_only!(Need::Rootless).as_user(54_321);
    assert_eq!(told(&t.container(), &[]), "OfAnother");
}

#[test]
fn a_users_own_is_executed_from_a_sealed_copy() {
    const USER: u32 = 54_321;
    let t = pinnace_only!(Need::Rootless);
    let copy = own_copy(&t, &t.dir().join("own"));
    std::os::unix::fs::chown(&copy, Some(USER), Some(USER)).unwrap();
    let t = t.as_user(USER).with_binary(&copy);
    assert_eq!(told(&t.container(), &[]), "Sealed");
}

#[test]
fn arguments_and_environment_come_along() {
    let t = pinnace_only!(Need::Root);
    let copy = own_copy(&t, &t.dir().join("own"));
    let t = t.with_binary(&copy);
    let c = t.container();
    let out = c.args(&["/probe", "sleep"]).launch("run", &["--detach"]).argv0("crun").env("SOME", "thing").ok();
    out.until("READY");
    // By the name it was called, the state is crun's kind, and everything finds it.
    assert_eq!(c.status(), "running");
    c.exec(&[], &["/probe", "exit", "7"]).code(7);
}

/// The classic: the container's command, its interpreter, or the interpreter of its command is the runtime.
#[test]
fn the_command_may_be_the_runtime_itself() {
    let t = behaviour!(Need::Root);
    let copy = own_copy(&t, &t.dir().join("own"));
    let before = state(&copy);
    let t = t.with_binary(&copy);
    for name in ["link", "script", "thread"] {
        let c = t.container();
        let file = c.rootfs().join("bin/attack");
        match name {
            "link" => symlink("/proc/self/exe", &file).unwrap(),
            "thread" => symlink("/proc/thread-self/exe", &file).unwrap(),
            _ => {
                fs::write(&file, "#!/proc/self/exe\n").unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let attack = attack(&c);
        for _ in 0..20 {
            let _ = c.exec(&[], &["/bin/attack", "--version"]);
        }
        failed(&attack);
        let c = t.container();
        symlink("/proc/self/exe", c.rootfs().join("bin/attack")).unwrap();
        let _ = c.args(&["/bin/attack", "--version"]).run();
        assert!(state(&copy) == before, "{name}: the runtime was changed");
    }
}

/// What of the runtime shows while it enters.
#[test]
fn a_process_that_enters_shows_nothing_to_write_to() {
    let t = behaviour!(Need::Root);
    let copy = own_copy(&t, &t.dir().join("own"));
    let before = state(&copy);
    let t = t.with_binary(&copy);
    let c = t.container();
    let attack = attack(&c);
    for _ in 0..60 {
        c.exec(&[], &["/probe", "exit", "0"]).code(0);
    }
    failed(&attack);
    assert!(state(&copy) == before, "the runtime was changed");
}

fn all_capabilities(c: &Container<'_>) {
    let all = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_FOWNER", "CAP_CHOWN", "CAP_KILL"];
    c.edit(|s| {
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            s["process"]["capabilities"][set] = json!(all);
        }
        s["root"]["readonly"] = json!(false);
    });
}

/// Starts the container's attack on what enters it, which lasts 3 seconds.
fn attack(c: &Container<'_>) -> Output {
    all_capabilities(c);
    c.args(&["/probe", "ready", ",", "attack-programs", "1500", ",", "pause"]);
    let out = c.launch("run", &["--detach"]).ok();
    out.until("READY");
    out
}

/// Its end, and that nothing was written to.
fn failed(attack: &Output) {
    attack.until("written");
    let told = attack.stdout();
    let line = told.lines().find(|line| line.contains("written")).unwrap();
    eprintln!("{line}");
    let told: Value = line.parse().unwrap();
    assert_eq!(told["written"], 0, "{line}");
}
