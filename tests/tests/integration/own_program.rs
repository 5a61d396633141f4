//! The runtime's own program, as a container may find it: each way it is protected, and the attacks on it. Not here: why each way holds
//! (`docs/self-protection.md`).

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Container, Need, Output, Test, Value, behaviour, executable, json, pinnace_only, view};

/// A copy of the runtime in a directory of its own, that the test may do anything to.
fn own_copy(t: &Test, dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let copy = dir.join("pinnace");
    executable::copy(t.binary(), &copy);
    copy
}

/// The test with a copy that containers could write to.
fn with_own_copy(t: Test) -> Test {
    let copy = own_copy(&t, &t.dir().join("own"));
    t.with_binary(&copy)
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

/// The same where the kernel lacks calls.
fn protection_without(t: &Test, calls: &str) -> (String, usize) {
    protection(t, &t.container(), &[view::program().to_str().unwrap(), "host", "--without", calls, "--"])
}

#[test]
fn a_writable_one_is_moved_to_a_read_only_mount() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let t = with_own_copy(t);
    assert_eq!(protection(&t, &t.container(), &[]), ("ReadOnlyMount".into(), 0));
    assert_eq!(protection_without(&t, "open_tree_attr"), ("ReadOnlyMount".into(), 0));
}

/// A program with a loader, which has written to it by the time that it begins: what was written comes along.
#[test]
fn one_with_a_loader_is_moved_too() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"), Need::Plugins).with_plugins();
    let t = with_own_copy(t);
    assert_eq!(protection(&t, &t.container(), &[]), ("ReadOnlyMount".into(), 0));
}

/// What the kernel tells of the process stays as it was: engines and people look there.
#[test]
fn a_moved_one_looks_as_before() {
    let t = pinnace_only!(Need::Root);
    let t = with_own_copy(t);
    let copy = t.binary();
    let c = t.container();
    let mut running = c.args(&["/probe", "ready", ",", "pause"]).launch("run", &[]).env("PINNACE_TEST_WORD", "a thing").spawn();
    running.until("READY");
    let shown = |file: &str| fs::read(format!("/proc/{}/{file}", running.pid())).unwrap();
    let words: Vec<_> = shown("cmdline").split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    assert_eq!((words[0].as_str(), words.last().map(String::as_str)), (copy.to_str().unwrap(), Some("")), "{words:?}");
    assert!(words.contains(&"run".to_owned()), "{words:?}");
    assert!(shown("environ").split(|b| *b == 0).any(|word| word == b"PINNACE_TEST_WORD=a thing"));
    assert_eq!(shown("comm"), b"pinnace\n");
    // Nothing of it is mapped from the file as it was executed, and by the link nobody can write to it, not when it has ended either.
    assert!(!String::from_utf8_lossy(&shown("maps")).contains(copy.to_str().unwrap()));
    let link = format!("/proc/{}/exe", running.pid());
    assert_eq!(fs::read(&link).unwrap(), fs::read(copy).unwrap());
    let kept = fs::File::open(&link).unwrap();
    c.kill("KILL");
    running.wait();
    let again = fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", kept.as_raw_fd()));
    assert_eq!(again.unwrap_err().raw_os_error(), Some(nix::libc::EROFS));
}

/// Where the kernel does not change the program of a process, the read-only mount's is executed.
#[test]
fn where_it_cannot_be_moved_it_is_executed_again() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let t = with_own_copy(t);
    assert_eq!(protection_without(&t, "PR_SET_MM"), ("ReadOnlyMount".into(), 1));
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
fn without_detached_mounts_it_is_a_sealed_copy() {
    let t = pinnace_only!(Need::Root, Need::Tool("strace"));
    let t = with_own_copy(t);
    for (calls, executed) in [("open_tree", 0), ("mount_setattr", 0), ("open_tree,PR_SET_MM", 1)] {
        assert_eq!(protection_without(&t, calls), ("Sealed".into(), executed), "without {calls}");
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
    let t = with_own_copy(t);
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
    let t = with_own_copy(t);
    let before = state(t.binary());
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
        assert!(state(t.binary()) == before, "{name}: the runtime was changed");
    }
}

/// What of the runtime shows while it enters.
#[test]
fn a_process_that_enters_shows_nothing_to_write_to() {
    let t = behaviour!(Need::Root);
    let t = with_own_copy(t);
    let before = state(t.binary());
    let c = t.container();
    let attack = attack(&c);
    for _ in 0..60 {
        c.exec(&[], &["/probe", "exit", "0"]).code(0);
    }
    failed(&attack);
    assert!(state(t.binary()) == before, "the runtime was changed");
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
