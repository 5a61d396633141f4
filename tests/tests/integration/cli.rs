//! The command line: version and help, abbreviations, both forms of options, and what is refused with which status.

use harness::{Need, behaviour, pinnace_only};

#[test]
fn version() {
    let t = behaviour!(Need::CrunNeedsRoot("rundir-made"));
    let out = t.bare().arg("--version").ok();
    let text = out.stdout();
    let first = text.lines().next().unwrap();
    assert!(first.contains(" version "), "{first}");
    assert!(text.lines().any(|l| l.starts_with("spec: 1.")), "{text}");
    assert!(text.lines().any(|l| l.starts_with("rundir: ")), "{text}");
    assert!(text.lines().last().unwrap().contains("+SECCOMP"), "{text}");
    assert_eq!(out.stderr(), "");
}

#[test]
fn version_by_the_short_option() {
    let t = behaviour!(Need::CrunNeedsRoot("rundir-made"));
    assert_eq!(t.bare().arg("-V").ok().stdout(), t.bare().arg("--version").ok().stdout());
}

#[test]
fn rundir_follows_the_environment() {
    let t = behaviour!(Need::CrunNeedsRoot("rundir-made"));
    let text = t.bare().env("XDG_RUNTIME_DIR", "/somewhere").arg("--version").ok().stdout();
    assert!(text.lines().any(|l| l.starts_with("rundir: /somewhere/")), "{text}");
}

#[test]
fn called_as_crun_it_says_so() {
    let t = pinnace_only!();
    let text = t.bare().argv0("/usr/bin/crun").arg("--version").ok().stdout();
    assert!(text.starts_with("crun version "), "{text}");
    assert!(text.lines().any(|l| l == "rundir: /run/crun"), "{text}");
    let own = t.bare().arg("--version").ok().stdout();
    assert!(own.starts_with("pinnace version "), "{own}");
    assert!(own.lines().any(|l| l == "rundir: /run/pinnace"), "{own}");
}

#[test]
fn help_names_every_command() {
    let t = behaviour!();
    let text = t.bare().arg("--help").ok().stdout();
    for command in ["create", "delete", "exec", "features", "kill", "list", "ps", "run", "spec", "start", "state"] {
        assert!(text.contains(command), "{command} in {text}");
    }
}

#[test]
fn each_command_has_help() {
    let t = behaviour!();
    let table = [
        ("create", "--bundle"),
        ("run", "--detach"),
        ("exec", "--process"),
        ("kill", "--all"),
        ("delete", "--force"),
        ("list", "--quiet"),
        ("ps", "--format"),
        ("spec", "--rootless"),
        ("start", "CONTAINER"),
        ("state", "CONTAINER"),
    ];
    for (command, word) in table {
        let text = t.bare().args(&[command, "--help"]).ok().stdout();
        assert!(text.contains(word), "{command}: {word} in {text}");
    }
}

#[test]
fn unknown_command_is_named() {
    let t = behaviour!();
    t.bare().arg("nonsense").output().code(1).says("unknown command nonsense");
}

#[test]
fn no_command_is_refused() {
    let t = behaviour!();
    assert_ne!(t.bare().output().status(), 0);
}

#[test]
fn unknown_option_is_a_usage_error() {
    let t = behaviour!();
    t.bare().args(&["--nonsense", "list"]).output().code(64).says("nonsense");
    t.bare().args(&["run", "--nonsense", "id"]).output().code(64).says("nonsense");
}

#[test]
fn missing_value_is_a_usage_error() {
    let t = behaviour!();
    t.bare().args(&["list", "--format"]).output().code(64).says("format");
}

#[test]
fn missing_id_is_told() {
    let t = behaviour!();
    for command in ["create", "run"] {
        t.runtime().arg(command).output().failed().says("please specify a ID for the container");
    }
    for command in ["start", "state", "delete", "kill", "ps"] {
        assert_ne!(t.runtime().arg(command).output().status(), 0, "{command}");
    }
}

#[test]
fn too_many_arguments_are_refused() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    assert_ne!(c.call("state").arg(&c.id).arg("more").output().status(), 0);
}

#[test]
fn long_options_can_be_abbreviated() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "sleep"]).write();
    let pid_file = t.dir().join("pid");
    let mut call = t.bare();
    call.arg("--log-form=text").arg(format!("--root={}", t.root().display())).arg("run").args(&["--det", "--bun"]).arg(&c.bundle);
    call.arg(format!("--pid-f={}", pid_file.display())).arg(&c.id).ok();
    assert_eq!(c.status(), "running");
    assert!(pid_file.exists());
    assert_eq!(t.runtime().args(&["list", "--qui"]).ok().stdout(), format!("{}\n", c.id));
    c.call("delete").arg("--fo").arg(&c.id).ok();
}

#[test]
fn ambiguous_abbreviation_is_a_usage_error() {
    let t = behaviour!();
    // --pid-file and --preserve-fds.
    t.runtime().args(&["run", "--p", "x", "id"]).output().code(64).says("--p");
}

#[test]
fn short_options_can_be_joined_with_their_value() {
    let t = behaviour!();
    let c = t.container();
    c.args(&["/probe", "exit", "3"]).write();
    c.call("run").arg(format!("-b{}", c.bundle.display())).arg(&c.id).output().code(3);
    t.runtime().args(&["list", "-fjson"]).ok();
}

#[test]
fn two_dashes_end_the_options() {
    let t = behaviour!();
    let c = t.container();
    c.sleeping();
    c.call("state").arg("--").arg(&c.id).ok();
    c.call("exec").arg(&c.id).args(&["/probe", "exit", "5"]).output().code(5);
}

#[test]
fn global_options_stand_before_the_command() {
    let t = behaviour!();
    assert_eq!(t.bare().args(&["list", "--root", "/x"]).output().status(), 64);
}

#[test]
fn unknown_format_is_refused() {
    let t = behaviour!();
    let c = t.container();
    t.runtime().args(&["list", "--format", "xml"]).output().failed();
    c.sleeping();
    c.call("ps").args(&["--format", "xml"]).arg(&c.id).output().failed();
}

#[test]
fn rootless_is_accepted_and_means_nothing() {
    let t = behaviour!();
    t.runtime().args(&["--rootless", "true", "list", "-q"]).ok();
}

#[test]
fn unknown_cgroup_manager_is_named() {
    let t = behaviour!();
    t.runtime().args(&["--cgroup-manager", "nonsense", "list"]).output().failed().says("cgroup manager");
}

#[test]
fn a_closed_standard_output_does_no_harm() {
    let t = behaviour!(Need::CrunDiffers("closed-streams"));
    let c = t.container();
    c.args(&["/probe", "exit", "4"]);
    c.launch("run", &[]).under(&["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).output().code(4);
}
