//! systemd as it should be, and as it should not: scripted, alone and on a real bus.

use super::*;
use crate::fake::{Call, Fake, addresses, healthy, job, removed, serve_on_bus};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Instant;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

fn link(fake: &Fake, patience: Duration) -> Link {
    Link::new(&fake.dir.path().join("state"), fake.addresses(), patience)
}

fn limit(name: &'static str) -> Property {
    Property { name: name.into(), value: Variant::U64(1), origin: Origin::Limit }
}

fn list() -> Vec<Property> {
    vec![
        Property { name: "Slice".into(), value: Variant::from("a.slice"), origin: Origin::Needed },
        limit("MemoryZSwapMax"),
        limit("TasksMax"),
        Property { name: "CollectMode".into(), value: Variant::from("inactive"), origin: Origin::Annotation },
    ]
}

fn start(link: &Link) -> Result<()> {
    link.connect(false)?.start("x.scope", list())
}

/// Answers one method by `answer`, all others as they should be.
fn but(member: &'static str, mut answer: impl FnMut(&Call) -> Vec<Vec<u8>> + Send + 'static) -> Fake {
    Fake::start(move |call| if call.member == member { answer(call) } else { healthy(call) })
}

/// The text with the seconds taken out, which no two runs have in common.
fn timeless(e: &Error) -> String {
    let text = e.to_string();
    let words = text.split(' ').map(|w| if w.parse::<f64>().is_ok() && w.contains('.') { "N" } else { w });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_scope_is_started_changed_and_stopped() {
    let fake = Fake::start(healthy);
    let link = link(&fake, LONG);
    start(&link).unwrap();
    link.connect(false).unwrap().set("x.scope", vec![limit("TasksMax")]).unwrap();
    link.connect(true).unwrap().stop("x.scope").unwrap();
    let greeting = ["Hello", "AddMatch"];
    let wanted = [&greeting[..], &["StartTransientUnit"], &greeting, &["SetUnitProperties"], &greeting, &["StopUnit", "ResetFailedUnit"]];
    assert_eq!(fake.calls(), wanted.concat());
}

#[test]
fn the_connection_is_kept_between_two_operations() {
    let fake = Fake::start(healthy);
    let link = link(&fake, LONG);
    let mut talk = link.connect(false).unwrap();
    assert_eq!(talk.control_group().unwrap(), "");
    talk.keep();
    link.resume(false).unwrap().start("x.scope", list()).unwrap();
    assert_eq!(fake.calls(), ["Hello", "AddMatch", "Get", "StartTransientUnit"]);
    // Another manager is another connection.
    link.connect(false).unwrap().keep();
    link.resume(true).unwrap().start("x.scope", list()).unwrap();
}

#[test]
fn the_managers_cgroup_is_a_path() {
    for (text, cgroup) in [("/", Ok("")), ("", Ok("")), ("/a/b/", Ok("/a/b")), ("/../x", Err("systemd's cgroup: `..` is not allowed"))] {
        let fake = but("Get", move |c| vec![c.answer(&(Variant::from(text),))]);
        match (link(&fake, LONG).connect(false).unwrap().control_group(), cgroup) {
            (got, Ok(wanted)) => assert_eq!(got.unwrap(), wanted),
            (got, Err(wanted)) => assert!(got.unwrap_err().to_string().starts_with(wanted)),
        }
    }
    let fake = but("Get", |c| vec![c.answer(&(Variant::from(5_u32),))]);
    let e = link(&fake, LONG).connect(false).unwrap().control_group().unwrap_err();
    assert_eq!(e.to_string(), "ask systemd for its cgroup: the answer is no text");
}

#[test]
fn the_end_of_a_job_may_come_at_any_moment() {
    let early = but("StartTransientUnit", |c| {
        let mut noise: Vec<_> = (100..600).map(|n| removed(n, "failed")).collect();
        noise.push(removed(7, "done"));
        noise.push(c.answer(&(job(7),)));
        noise
    });
    start(&link(&early, LONG)).unwrap();
    let late = but("StartTransientUnit", |c| vec![c.answer(&(job(7),)), removed(8, "failed"), removed(77, "failed"), removed(7, "done")]);
    start(&link(&late, LONG)).unwrap();
}

#[test]
fn silence_has_an_end_and_names_what_was_waited_for() {
    let without_job = but("StartTransientUnit", |c| vec![c.answer(&(job(7),)), removed(8, "done")]);
    let deaf = but("StartTransientUnit", |_| Vec::new());
    let mute = Fake::start(|_| Vec::new());
    for (fake, text) in [
        (without_job, "start unit `x.scope`: job 7 has not ended after N s"),
        (deaf, "start unit `x.scope`: systemd does not answer after N s"),
        (mute, "start unit `x.scope`: systemd does not answer after N s"),
    ] {
        let link = link(&fake, SHORT);
        let begun = Instant::now();
        assert_eq!(timeless(&start(&link).unwrap_err()), text);
        assert!((SHORT..SHORT * 20).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(link.is_silent());
    }
}

#[test]
fn a_socket_that_is_not_served_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    let patient = |patience| Link::new(dir.path(), addresses(&socket), patience);
    let e = patient(SHORT).connect(false).unwrap_err();
    assert_eq!(timeless(&e), format!("connect to systemd at `{}`: it does not answer after N s", socket.display()));
    // The backlog is full: connect(2) itself waits.
    rustix::net::listen(&listener, 0).unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| {
        let fd = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        );
        let fd = fd.unwrap();
        rustix::net::connect(&fd, &rustix::net::SocketAddrUnix::new(&socket).unwrap()).ok().map(|()| fd)
    })
    .collect();
    assert_eq!(timeless(&patient(SHORT).connect(false).unwrap_err()), timeless(&e));
    drop(waiting);
}

#[test]
fn without_a_bus_the_address_is_named() {
    let at = |socket: &str| Link::new(Path::new("/nonexistent"), addresses(Path::new(socket)), SHORT);
    let e = at("/nonexistent/bus").connect(false).unwrap_err();
    assert_eq!(e.to_string(), "connect to systemd at `/nonexistent/bus`: No such file or directory");
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let e = at("/nonexistent/bus").connect(true).unwrap_err().to_string();
    assert!(e.contains("loginctl enable-linger"), "{e}");
    let e = at(&format!("/{}", "x".repeat(200))).connect(false).unwrap_err().to_string();
    assert!(e.ends_with("File name too long"), "{e}");
}

#[test]
fn a_job_that_fails_is_an_error() {
    for result in ["failed", "canceled", "timeout", "dependency", "skipped", "", "some\nnew one"] {
        let fake = but("StartTransientUnit", move |c| vec![c.answer(&(job(7),)), removed(7, result)]);
        let text = format!("start unit `x.scope`: job 7 ended as `{}` after N s", result.escape_debug());
        assert_eq!(timeless(&start(&link(&fake, LONG)).unwrap_err()), text);
    }
}

#[test]
fn properties_that_are_unknown_are_left_out_and_remembered() {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let fake = but("StartTransientUnit", move |c| {
        let names = c.properties();
        log.lock().unwrap().push(names.clone());
        if names.iter().any(|n| n == "MemoryZSwapMax") {
            return vec![
                c.refuse("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property MemoryZSwapMax, or unknown property."),
            ];
        }
        healthy(c)
    });
    let link = link(&fake, LONG);
    start(&link).unwrap();
    start(&link).unwrap();
    let without = vec!["Slice".to_owned(), "TasksMax".to_owned(), "CollectMode".to_owned()];
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), &seen[1], &seen[2]), (3, &without, &without));
    let file = fake.dir.path().join("state/.cache/systemd-missing-properties");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "MemoryZSwapMax\n");
}

#[test]
fn a_value_that_is_refused_is_left_out_but_not_remembered() {
    let fake = but("SetUnitProperties", |c| {
        if c.properties().iter().any(|n| n == "TasksMax") {
            return vec![c.refuse("org.freedesktop.DBus.Error.InvalidArgs", "TasksMax= is out of range")];
        }
        healthy(c)
    });
    let link = link(&fake, LONG);
    link.connect(false).unwrap().set("x.scope", vec![limit("TasksMax"), limit("CPUWeight")]).unwrap();
    link.connect(false).unwrap().set("x.scope", vec![limit("TasksMax")]).unwrap();
    assert!(!fake.dir.path().join("state").exists());
}

#[test]
fn what_the_user_or_the_runtime_needs_is_not_left_out() {
    for (property, text) in [
        (
            "CollectMode",
            "start unit `x.scope`: annotation for the property `CollectMode`: Cannot set property CollectMode, or so (some.Error)",
        ),
        ("Slice", "start unit `x.scope`: Cannot set property Slice, or so (some.Error)"),
        ("Other", "start unit `x.scope`: Cannot set property Other, or so (some.Error)"),
    ] {
        let fake = but("StartTransientUnit", move |c| vec![c.refuse("some.Error", &format!("Cannot set property {property}, or so"))]);
        assert_eq!(start(&link(&fake, LONG)).unwrap_err().to_string(), text);
        assert!(!fake.dir.path().join("state").exists());
    }
}

#[test]
fn errors_with_odd_names_are_told() {
    for (name, text, told) in [
        ("org.freedesktop.DBus.Error.AccessDenied", "Permission denied", "Permission denied (org.freedesktop.DBus.Error.AccessDenied)"),
        ("x", "", "systemd refuses: x"),
        ("", "", "systemd refuses without a word"),
        ("  ", "what", "what"),
        ("un\nklar ä", "t", "t (un\\nklar ä)"),
        ("org.freedesktop.systemd1.NoSuchUnit", "gone", "gone (org.freedesktop.systemd1.NoSuchUnit)"),
    ] {
        let fake = but("StartTransientUnit", move |c| vec![c.refuse(name, text)]);
        assert_eq!(start(&link(&fake, LONG)).unwrap_err().to_string(), format!("start unit `x.scope`: {told}"));
    }
    // Refusals of the bus itself.
    let fake = but("Hello", |c| vec![c.refuse("org.freedesktop.DBus.Error.LimitsExceeded", "too many connections")]);
    let e = start(&link(&fake, LONG)).unwrap_err().to_string();
    assert_eq!(e, "start unit `x.scope`: too many connections (org.freedesktop.DBus.Error.LimitsExceeded)");
}

#[test]
fn a_unit_that_failed_before_is_reset_once() {
    let mut times = 0;
    let fake = but("StartTransientUnit", move |c| {
        times += 1;
        if times == 1 { vec![c.refuse(UNIT_EXISTS, "Unit x.scope was already loaded")] } else { healthy(c) }
    });
    start(&link(&fake, LONG)).unwrap();
    assert_eq!(fake.calls()[2..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    let fake = but("StartTransientUnit", |c| vec![c.refuse(UNIT_EXISTS, "Unit x.scope was already loaded")]);
    let link = link(&fake, LONG);
    let e = start(&link).unwrap_err().to_string();
    assert_eq!(e, format!("start unit `x.scope`: Unit x.scope was already loaded ({UNIT_EXISTS})"));
    // Whose it is, it stays.
    assert!(link.is_foreign("x.scope") && !link.is_foreign("y.scope"));
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    let fake = but("StopUnit", |c| vec![c.refuse(NO_SUCH_UNIT, "Unit x.scope not loaded.")]);
    link(&fake, LONG).connect(false).unwrap().stop("x.scope").unwrap();
    let fake = but("ResetFailedUnit", |c| vec![c.refuse(NO_SUCH_UNIT, "Unit x.scope not loaded.")]);
    link(&fake, LONG).connect(false).unwrap().stop("x.scope").unwrap();
    let fake = but("StopUnit", |c| vec![c.refuse("a.B", "no")]);
    let e = link(&fake, LONG).connect(false).unwrap().stop("x.scope").unwrap_err().to_string();
    assert_eq!(e, "stop unit `x.scope`: no (a.B)");
}

#[test]
fn garbage_is_no_answer() {
    for (bytes, text) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "start unit `x.scope`: what comes from the bus is no D-Bus message"),
        ([&b"l\x02\0\x01\xff\xff\xff\xff"[..], &[0; 8]].concat(), "start unit `x.scope`: the bus sends a message that is too long"),
    ] {
        let fake = but("StartTransientUnit", move |_| vec![bytes.clone()]);
        assert_eq!(timeless(&start(&link(&fake, LONG)).unwrap_err()), text);
    }
    let fake = but("StartTransientUnit", |c| vec![c.answer(&(5_u32,))]);
    assert_eq!(start(&link(&fake, LONG)).unwrap_err().to_string(), "start unit `x.scope`: the answer names no job");
    // Header fields that are none.
    let fake = but("StartTransientUnit", |_| vec![[&b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x08\0\0\0"[..], &[0xff; 8]].concat()]);
    let e = start(&link(&fake, LONG)).unwrap_err().to_string();
    assert!(e.starts_with("start unit `x.scope`: a message from the bus is malformed: "), "{e}");
}

#[test]
fn a_connection_that_ends_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        for reply in [&b""[..], b"REJECTED EXTERNAL\r\n", &[b'x'; 5000]] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
            let _ = std::io::Write::write_all(&mut stream, reply);
        }
    });
    let link = Link::new(dir.path(), addresses(&socket), LONG);
    let e: Vec<_> = (0..3).map(|_| timeless(&link.connect(false).unwrap_err())).collect();
    server.join().unwrap();
    let at = format!("connect to systemd at `{}`", socket.display());
    assert_eq!(e[0], format!("{at}: the connection was closed after N s"));
    assert_eq!(e[1], format!("{at}: the bus refuses the authentication: `REJECTED EXTERNAL`"));
    assert_eq!(e[2], format!("{at}: the bus answers the authentication with a line without an end"));
}

#[test]
fn no_thread_is_started() {
    // Other tests have threads of their own: the counting happens in a process with this test alone.
    const ALONE: &str = "CGROUP_SYSTEMD_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "systemd::tests::no_thread_is_started";
        let out =
            Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let fake = Fake::start(healthy);
    let link = link(&fake, LONG);
    let before = tasks();
    let mut talk = link.connect(false).unwrap();
    talk.control_group().unwrap();
    assert_eq!(tasks(), before);
    talk.keep();
    // This is where the engine clones.
    assert_eq!(tasks(), before);
    link.resume(false).unwrap().start("x.scope", list()).unwrap();
    assert_eq!(tasks(), before);
}

/// A bus of our own. It ends with the test.
struct Daemon {
    dir: tempfile::TempDir,
    process: std::process::Child,
}

impl Daemon {
    /// `None`, with a word on standard error, where there is no dbus-daemon.
    fn start(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context='default'>\
<allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
            dir.path().join("bus").display()
        );
        std::fs::write(dir.path().join("bus.conf"), config).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", dir.path().join("bus.conf").display())).args(["--nofork", "--print-address"]);
        let Ok(mut process) = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            eprintln!("SKIPPED {test}: needs the program dbus-daemon (install it)");
            return None;
        };
        // The address is printed when the bus listens.
        let mut byte = [0];
        std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut byte).unwrap();
        Some(Self { dir, process })
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("bus")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn over_a_real_bus() {
    let Some(daemon) = Daemon::start("over_a_real_bus") else { return };
    let link = Link::new(daemon.dir.path(), addresses(&daemon.socket()), LONG);
    let e = start(&link).unwrap_err().to_string();
    assert!(e.starts_with("start unit `x.scope`: The name org.freedesktop.systemd1 was not provided"), "{e}");
    let service = serve_on_bus(&daemon.socket(), |call| match call.member.as_str() {
        "" | "NameAcquired" => Vec::new(),
        "SetUnitProperties" => vec![call.refuse("odd.Name", "no, thank you")],
        _ => healthy(call),
    });
    let mut talk = link.connect(false).unwrap();
    assert_eq!(talk.control_group().unwrap(), "");
    talk.keep();
    link.resume(false).unwrap().start("x.scope", list()).unwrap();
    let e = link.connect(true).unwrap().set("x.scope", vec![limit("TasksMax")]).unwrap_err().to_string();
    assert_eq!(e, "set properties of unit `x.scope`: no, thank you (odd.Name)");
    for _ in 0..50 {
        link.connect(false).unwrap().stop("x.scope").unwrap();
    }
    drop(daemon);
    service.join().unwrap();
}
