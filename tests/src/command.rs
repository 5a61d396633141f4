//! Calls of the runtime: arguments in, exit status and texts out, and an end to those that hang.
//!
//! Output goes to files, not pipes: a created container keeps its descriptors, so a pipe would never end.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::Value;

use crate::executable;
use crate::hang;
use crate::report::Report;
use crate::runtime::{Kind, Runtime};
use crate::test::Test;
use crate::view;

/// A call that is being put together.
pub struct Invocation {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    stdin: Option<Stdio>,
    terminal: Option<OwnedFd>,
    descriptors: Vec<(OwnedFd, i32)>,
    user: Option<u32>,
    namespace: Option<OwnedFd>,
    argv0: Option<String>,
    wrapper: Vec<OsString>,
    traced: bool,
    output: PathBuf,
}

impl Invocation {
    pub(crate) fn new(test: &Test, program: &Path) -> Invocation {
        Invocation {
            program: program.to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: test.dir().to_path_buf(),
            stdin: None,
            terminal: None,
            descriptors: Vec::new(),
            user: test.user,
            namespace: test.namespace.as_ref().map(|fd| fd.try_clone().expect("copy a descriptor")),
            argv0: None,
            wrapper: Vec::new(),
            traced: false,
            output: test.dir().join(format!("call-{}", test.next())),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: &[S]) -> &mut Self {
        self.args.extend(args.iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the runtime's own environment.
    pub fn env(&mut self, key: &str, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.push((key.into(), value.as_ref().to_owned()));
        self
    }

    /// The directory to run in; the test's by default.
    pub fn cwd(&mut self, dir: &Path) -> &mut Self {
        self.cwd = dir.to_path_buf();
        self
    }

    /// What to call the program, for multi-call binaries.
    pub fn argv0(&mut self, name: &str) -> &mut Self {
        self.argv0 = Some(name.to_owned());
        self
    }

    /// Another build of the runtime.
    pub fn program(&mut self, path: &Path) -> &mut Self {
        self.program = path.to_path_buf();
        self
    }

    /// A program to run the runtime under, such as strace.
    pub fn under(&mut self, wrapper: &[&str]) -> &mut Self {
        self.wrapper = wrapper.iter().map(OsString::from).collect();
        self
    }

    /// The thread that starts it traces it (`trace`).
    pub(crate) fn traced(&mut self) -> &mut Self {
        self.traced = true;
        self
    }

    /// Text on the standard input; nothing by default.
    pub fn stdin(&mut self, text: &str) -> &mut Self {
        let path = self.output.with_extension("in");
        fs::write(&path, text).expect("write the input");
        self.stdin = Some(File::open(path).expect("open the input").into());
        self
    }

    /// A terminal on the standard input, output and error, made the controlling one of a new session.
    pub fn terminal(&mut self, side: OwnedFd) -> &mut Self {
        self.terminal = Some(side);
        self
    }

    /// A descriptor that the runtime gets as number `to`.
    pub fn descriptor(&mut self, fd: OwnedFd, to: i32) -> &mut Self {
        self.descriptors.push((fd, to));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If the program can't be started.
    pub fn spawn(&mut self) -> Running {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(uid) = self.user {
            words.push(view::program().into());
            words.extend(["host", "--user"].map(OsString::from));
            words.push(uid.to_string().into());
            words.push("--".into());
        }
        words.append(&mut self.wrapper);
        words.push(self.program.clone().into());
        words.append(&mut self.args);
        let text = words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.cwd);
        for name in ["NOTIFY_SOCKET", "RUN_OCI_SECCOMP_RECEIVER", "LISTEN_FDS", "LISTEN_PID", "XDG_RUNTIME_DIR", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.envs(self.env.drain(..));
        if let Some(name) = &self.argv0 {
            command.arg0(name);
        }
        let (stdout, stderr) = (self.output.with_extension("out"), self.output.with_extension("err"));
        let create = |path: &Path| File::create(path).expect("a file for the output");
        let controlling = self.terminal.take();
        if let Some(side) = &controlling {
            let copy = || Stdio::from(side.try_clone().expect("copy the terminal"));
            command.stdin(copy()).stdout(copy()).stderr(copy());
        } else {
            command.stdin(self.stdin.take().unwrap_or_else(Stdio::null)).stdout(create(&stdout)).stderr(create(&stderr));
        }
        let moves: Vec<(i32, i32)> = self.descriptors.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
        let session = controlling.is_some();
        let traced = self.traced;
        let namespace = self.namespace.take();
        let cwd = CString::new(self.cwd.as_os_str().as_bytes()).expect("no NUL in a path");
        // SAFETY: between fork and exec only system calls that are async-signal-safe are made, on descriptors that
        // this function holds open; nothing allocates.
        unsafe {
            command.pre_exec(move || {
                if let Some(namespace) = &namespace
                    && (libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) < 0 || libc::chdir(cwd.as_ptr()) < 0)
                {
                    return Err(std::io::Error::last_os_error());
                }
                for (from, to) in &moves {
                    if libc::dup2(*from, *to) < 0 || from == to && libc::fcntl(*from, libc::F_SETFD, 0) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                if session && (libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0) {
                    return Err(std::io::Error::last_os_error());
                }
                if traced && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        // std's spawn returns when the program is executed.
        let starting = executable::starting();
        let child = command.spawn().unwrap_or_else(|e| panic!("{text}: {e}"));
        drop(starting);
        self.descriptors.clear();
        Running { child: Some(child), text, stdout, stderr }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it can't be started or hangs.
    pub fn output(&mut self) -> Output {
        self.spawn().wait()
    }

    /// Runs it to its end, which must be a success.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&mut self) -> Output {
        self.output().code(0)
    }
}

/// A call that is running. Dropped, it is killed.
pub struct Running {
    child: Option<Child>,
    text: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        let id = self.child.as_ref().expect("not waited for yet").id();
        i32::try_from(id).expect("pids fit")
    }

    /// What came of it, where somebody else has waited for it.
    pub(crate) fn ended(&mut self, status: ExitStatus) -> Output {
        self.child = None;
        Output { status, text: self.text.clone(), stdout: self.stdout.clone(), stderr: self.stderr.clone() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child isn't reaped before `wait`.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// The standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Waits until the output has `text`.
    ///
    /// # Panics
    /// After the time limit, or when the runtime ends without having said it.
    pub fn until(&mut self, text: &str) -> &mut Self {
        let deadline = Instant::now() + limit();
        while !self.stdout().contains(text) {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            if let Some(status) = ended.filter(|_| !self.stdout().contains(text)) {
                panic!("{}: {status} before `{text}`: {}{}", self.text, self.stdout(), read(&self.stderr));
            }
            assert!(Instant::now() < deadline, "{}: no `{text}` in: {}", self.text, self.stdout());
            std::thread::sleep(Duration::from_millis(2));
        }
        self
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it hangs: it is killed then.
    pub fn wait(mut self) -> Output {
        let mut child = self.child.take().expect("waited for once");
        let deadline = Instant::now() + limit();
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for the runtime") {
                break status;
            }
            if Instant::now() > deadline {
                let doing = hang::told(child.id());
                let _ = child.kill();
                let _ = child.wait();
                panic!("{}: killed after {:?}: {}{}\n{doing}", self.text, limit(), self.stdout(), read(&self.stderr));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        };
        Output { status, text: self.text.clone(), stdout: self.stdout.clone(), stderr: self.stderr.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What came of a call. The texts are read anew each time, since a container may still write to them.
#[derive(Debug, Clone)]
pub struct Output {
    status: ExitStatus,
    text: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Output {
    /// The exit status; `-signal` where one ended it.
    pub fn status(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    /// The standard output.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// The standard error.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Demands an exit status.
    ///
    /// # Panics
    /// If it's another one; the text shows the call and all it printed.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Output {
        assert_eq!(self.status(), wanted, "{self}");
        self
    }

    /// Demands that the standard error has `text`.
    ///
    /// # Panics
    /// If it hasn't.
    #[track_caller]
    pub fn says(self, text: &str) -> Output {
        assert!(self.stderr().contains(text), "expected `{text}` on stderr of {self}");
        self
    }

    /// Demands exit status 1, the runtime's own for any failure.
    ///
    /// crun has others for some (`failure-exit-codes` in docs/crun-compat.md); from it, any but 0 will do.
    ///
    /// # Panics
    /// If it's another one.
    #[track_caller]
    pub fn failed(self) -> Output {
        if Runtime::get().kind == Kind::Crun {
            assert_ne!(self.status(), 0, "{self}");
            return self;
        }
        self.code(1)
    }

    /// Demands a failure of the runtime: exit 1, one line on stderr with all the `texts` and no trace of a panic.
    ///
    /// # Panics
    /// If anything of that isn't so.
    #[track_caller]
    pub fn fails_with(self, texts: &[&str]) -> Output {
        let out = self.failed();
        let stderr = out.stderr();
        for text in texts {
            assert!(stderr.contains(text), "expected `{text}` on stderr of {out}");
        }
        // crun 1.28 writes some of its errors as JSON of several lines (`json-log-lines` in docs/crun-compat.md).
        let lines = stderr.trim_end().lines().count();
        assert!(lines == 1 || Runtime::get().kind == Kind::Crun, "one line on stderr of {out}");
        assert!(!stderr.contains("panicked"), "{out}");
        out
    }

    /// The last line of the standard output as JSON.
    ///
    /// # Panics
    /// If it isn't.
    #[track_caller]
    pub fn json(&self) -> Value {
        let stdout = self.stdout();
        let last = stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).or_else(|_| serde_json::from_str(&stdout)).unwrap_or_else(|e| panic!("{e} in {self}"))
    }

    /// Each line of the standard output as JSON.
    ///
    /// # Panics
    /// If one isn't.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {self}"));
        self.stdout().lines().map(parse).collect()
    }

    /// The probe's report in the standard output.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn report(&self) -> Report {
        let line = self.stdout().lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|v| v.get("umask").is_some());
        Report(line.unwrap_or_else(|| panic!("no report in {self}")))
    }

    /// Waits until the standard output has `text`, for detached containers.
    ///
    /// # Panics
    /// After the time limit.
    #[track_caller]
    pub fn until(&self, text: &str) -> &Self {
        eventually(&format!("`{text}` in the output of {}", self.text), || self.stdout().contains(text));
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n--- stdout\n{}\n--- stderr\n{}", self.text, self.status, self.stdout(), self.stderr())
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After the time limit, naming `what`.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit();
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Demands exactly one record of level error in a JSON log. crun leaves it out for some failures
/// (`missing-log-records` in docs/crun-compat.md).
///
/// # Panics
/// If there are others.
#[track_caller]
pub fn one_error_record(path: &Path) {
    let all = log_records(path);
    if all.is_empty() && Runtime::get().kind == Kind::Crun {
        return;
    }
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["level"], "error", "{all:?}");
}

/// The records of a JSON log. One line each is demanded of pinnace only: crun 1.28 spreads them over several.
///
/// # Panics
/// If it isn't JSON.
#[track_caller]
pub fn log_records(path: &Path) -> Vec<Value> {
    let text = read(path);
    let all: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(|r| r.unwrap_or_else(|e| panic!("{e} in {text}"))).collect();
    if Runtime::get().kind == Kind::Pinnace {
        assert_eq!(text.lines().count(), all.len(), "one line a record: {text}");
    }
    all
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The watchdog's patience; no test asserts on time.
pub(crate) fn limit() -> Duration {
    let seconds = std::env::var("PINNACE_TEST_TIMEOUT").ok().and_then(|v| v.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}
