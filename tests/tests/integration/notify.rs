//! `NOTIFY_SOCKET`: a container's own notification socket, what of its messages reaches the service manager, and the sockets that get a
//! pidfd. Not here: descriptors that a service manager passes (`run`).

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use harness::{ConsoleSocket, Container, Kind, Need, Test, behaviour, json};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// A service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(t: &Test) -> Manager {
        let path = t.dir().join("manager.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Manager { socket, path }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The next message and how many descriptors came with it, which are closed.
    fn next(&self) -> (String, usize) {
        let mut bytes = [0u8; 4096];
        let mut space = nix::cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).expect("a message");
        let rights = |c| if let ControlMessageOwned::ScmRights(fds) = c { fds } else { Vec::new() };
        let fds: Vec<i32> = message.cmsgs().unwrap().flat_map(rights).collect();
        let length = message.bytes;
        fds.iter().for_each(|fd| nix::unistd::close(*fd).unwrap());
        (String::from_utf8(bytes[..length].to_vec()).unwrap(), fds.len())
    }

    /// `READY` of a service whose runtime stays. crun asks for a confirmation here too.
    fn hears_ready(&self, runtime: Kind) {
        assert_eq!(self.next().0, "READY=1");
        if runtime == Kind::Crun {
            assert_eq!(self.next().0, "BARRIER=1");
        }
    }

    /// `READY` of a service whose runtime ends then, and what comes with it. crun doesn't name the process.
    fn hears_of_the_main_process(&self, c: &Container<'_>, runtime: Kind) {
        assert_eq!(self.next().0, "READY=1");
        if runtime == Kind::Pinnace {
            assert_eq!(self.next().0, format!("MAINPID={}", c.pid()));
        }
        assert_eq!(self.next(), ("BARRIER=1".to_owned(), 1));
    }

    fn nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0u8; 64];
        let got = self.socket.recv(&mut bytes).map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned());
        assert!(got.is_err(), "{got:?}");
    }
}

fn sends(c: &Container<'_>, actions: &[&str]) {
    c.args(&[&["/probe"], actions].concat());
}

#[test]
fn the_socket_is_where_the_managers_is() {
    let t = behaviour!();
    let manager = Manager::listen(&t);
    let c = t.container();
    c.edit(|s| s["process"]["env"].as_array_mut().unwrap().push(json!("A=1")));
    let r = c.launch("run", &[]).env("NOTIFY_SOCKET", &manager.path).ok().report();
    let inside = format!("{}/notify", manager.text());
    assert_eq!(r.env("NOTIFY_SOCKET"), Some(&*inside));
    assert!(r.mount(manager.text()).is_some());
    assert!(c.report().env("NOTIFY_SOCKET").is_none());
}

#[test]
fn a_foreground_run_passes_ready_on() {
    let t = behaviour!();
    let manager = Manager::listen(&t);
    let c = t.container();
    // What is sent last may never be read by crun.
    sends(&c, &["notify", "READY=1", ",", "notify-barrier"]);
    let run = c.launch("run", &[]).env("NOTIFY_SOCKET", &manager.path).spawn();
    manager.hears_ready(t.runtime.kind);
    assert_eq!(run.wait().status(), 0);
    c.leaves_nothing();
}

#[test]
fn harmless_messages_are_passed_on_and_others_are_not() {
    let t = behaviour!(Need::CrunDiffers("notify-messages"));
    let manager = Manager::listen(&t);
    let c = t.container();
    let long = format!("STATUS={}", "x".repeat(5000));
    sends(
        &c,
        &[
            "notify",
            "STATUS=half way",
            "MAINPID=1",
            ",",
            "notify",
            "FDSTORE=1",
            ",",
            "notify",
            &long,
            ",",
            "notify",
            "READY=1",
            "STATUS=there",
            ",",
            "notify-barrier",
            ",",
            "notify",
            "RELOADING=1",
            "MONOTONIC_USEC=7",
            ",",
            "notify",
            "STOPPING=1",
            "NOTIFYACCESS=all",
            "WATCHDOG=1",
        ],
    );
    let out = c.launch("run", &[]).env("NOTIFY_SOCKET", &manager.path).ok();
    assert_eq!(out.stdout().matches("{\"errno\":null}").count(), out.stdout().lines().count(), "{out}");
    for want in ["STATUS=half way", "READY=1\nSTATUS=there", "RELOADING=1\nMONOTONIC_USEC=7", "STOPPING=1\nWATCHDOG=1"] {
        assert_eq!(manager.next(), (want.to_owned(), 0));
    }
    manager.nothing_more();
    c.leaves_nothing();
}

#[test]
fn a_detached_run_returns_when_the_service_is_ready() {
    let t = behaviour!();
    let manager = Manager::listen(&t);
    let c = t.container();
    sends(&c, &["notify", "READY=1", ",", "sleep"]);
    let run = c.launch("run", &["--detach"]).env("NOTIFY_SOCKET", &manager.path).spawn();
    manager.hears_of_the_main_process(&c, t.runtime.kind);
    assert_eq!(run.wait().status(), 0);
    assert_eq!(c.status(), "running");
}

#[test]
fn a_service_that_ends_before_it_is_ready_is_not_waited_for() {
    let t = behaviour!();
    let manager = Manager::listen(&t);
    let c = t.container();
    sends(&c, &["exit", "3"]);
    c.launch("run", &["--detach"]).env("NOTIFY_SOCKET", &manager.path).output().code(3);
    c.until_status("stopped");
    manager.nothing_more();
}

#[test]
fn start_waits_for_a_container_created_with_a_socket() {
    let t = behaviour!();
    let manager = Manager::listen(&t);
    let c = t.container();
    sends(&c, &["notify", "READY=1", ",", "sleep"]);
    c.launch("create", &[]).env("NOTIFY_SOCKET", &manager.path).ok();
    let start = c.call("start").env("NOTIFY_SOCKET", &manager.path).arg(&c.id).spawn();
    manager.hears_of_the_main_process(&c, t.runtime.kind);
    assert_eq!(start.wait().status(), 0);
    c.kill("KILL").code(0);
    c.until_status("stopped");
    c.do_("delete").code(0);
    c.leaves_nothing();
}

#[test]
fn all_users_of_the_container_reach_it() {
    let t = behaviour!(Need::CrunDiffers("notify-messages"));
    let manager = Manager::listen(&t);
    let c = t.container();
    c.edit(|s| s["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    sends(&c, &["notify", "READY=1"]);
    c.launch("run", &[]).env("NOTIFY_SOCKET", &manager.path).ok();
    assert_eq!(manager.next().0, "READY=1");
}

#[test]
fn a_user_namespace_reaches_its_socket() {
    let t = behaviour!(Need::Root);
    let manager = Manager::listen(&t);
    let c = t.container();
    c.new_user_namespace(200_000);
    sends(&c, &["notify", "READY=1", ",", "notify-barrier"]);
    let run = c.launch("run", &[]).env("NOTIFY_SOCKET", &manager.path).spawn();
    manager.hears_ready(t.runtime.kind);
    assert_eq!(run.wait().status(), 0);
}

#[test]
fn a_manager_that_is_gone_does_not_end_the_service() {
    let t = behaviour!(Need::CrunDiffers("notify-messages"));
    let c = t.container();
    sends(&c, &["notify", "READY=1", ",", "exit", "5"]);
    c.launch("run", &[]).env("NOTIFY_SOCKET", t.dir().join("nobody")).output().code(5);
    c.leaves_nothing();
}

#[test]
fn addresses_that_are_none_are_refused() {
    let t = behaviour!(Need::CrunDiffers("notify-messages"));
    let c = t.container();
    let out = c.launch("run", &[]).env("NOTIFY_SOCKET", "vsock:2:1234").output();
    out.fails_with(&["NOTIFY_SOCKET", "vsock:2:1234", "neither an absolute path nor an abstract name"]);
    c.leaves_nothing();
}

#[test]
fn a_pidfd_is_sent_to_the_receiver_of_the_annotation() {
    let t = behaviour!();
    let socket = ConsoleSocket::listen(t.dir());
    let c = t.container();
    c.edit(|s| s["annotations"]["run.oci.pidfd_receiver"] = json!(socket.path));
    c.sleeping();
    let (pidfd, _) = socket.receive_fd();
    assert_eq!(pid_of(&pidfd), c.pid());
}

#[test]
fn a_pidfd_is_sent_to_the_pidfd_socket() {
    let t = behaviour!(Need::CrunDiffers("runc-options"));
    let socket = ConsoleSocket::listen(t.dir());
    let path = socket.path.to_str().unwrap();
    let c = t.container();
    c.args(&["/probe", "sleep"]);
    c.launch("create", &["--pidfd-socket", path]).ok();
    assert_eq!(pid_of(&socket.receive_fd().0), c.pid());
    c.start().code(0);
    let exec = c.call("exec").args(&["--pidfd-socket", path, "--detach", "--pid-file", "pid", &c.id, "/probe", "sleep"]).cwd(t.dir()).ok();
    let pid: i32 = std::fs::read_to_string(t.dir().join("pid")).unwrap().parse().unwrap();
    assert_eq!(pid_of(&socket.receive_fd().0), pid, "{exec}");
}

/// The process behind a pidfd.
fn pid_of(pidfd: &OwnedFd) -> i32 {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap().read_to_string(&mut text).unwrap();
    text.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().parse().unwrap()
}
