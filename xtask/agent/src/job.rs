//! One command as a transient unit of systemd: how it is started, spoken to and ended.
//!
//! A unit with `Delegate=yes` gives tests what a service sees: a cgroup of their own below which they may make others.
//! A user's command becomes a unit of the user's manager.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use vm_agent::Request;

/// A running command and its descriptors.
pub struct Job {
    child: Child,
    unit: String,
    account: Option<Account>,
    /// Becomes readable when the command has ended.
    pub ended: OwnedFd,
    /// Where input goes; `None` when closed.
    pub input: Option<OwnedFd>,
    /// Standard output or the terminal.
    pub output: Option<OwnedFd>,
    /// Standard error.
    pub error: Option<OwnedFd>,
    /// Whether `output` is a terminal.
    pub terminal: bool,
}

/// A user as `/etc/passwd` has it: a static program cannot ask the name service.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Account {
    fn find(name: &str) -> io::Result<Account> {
        let table = fs::read_to_string("/etc/passwd")?;
        table
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                match fields.as_slice() {
                    [found, _, uid, gid, _, home, ..] if *found == name => {
                        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: (*home).to_owned() })
                    }
                    _ => None,
                }
            })
            .next()
            .ok_or_else(|| io::Error::other(format!("no user {name}")))
    }

    /// Makes a command one of the user's session.
    fn apply(&self, command: &mut Command) {
        let runtime = format!("/run/user/{}", self.uid);
        command
            .uid(self.uid)
            .gid(self.gid)
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus"))
            .env("XDG_RUNTIME_DIR", runtime);
    }
}

impl Job {
    /// Starts a command.
    pub fn start(request: &Request) -> io::Result<Job> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unit = format!("pinnace-job-{}.service", COUNT.fetch_add(1, Ordering::Relaxed));
        let account = if request.user.is_empty() { None } else { Some(Account::find(&request.user)?) };
        let mut command = Command::new("systemd-run");
        let home = match &account {
            Some(account) => {
                account.apply(&mut command);
                command.arg("--user");
                account.home.clone()
            }
            None => "/root".to_owned(),
        };
        command
            .args(["--quiet", "--wait", "--collect", "--expand-environment=no", "--property=Delegate=yes"])
            .arg(format!("--unit={unit}"));
        command.arg(if request.terminal.is_some() { "--pty" } else { "--pipe" });
        let directory = if request.directory.is_empty() { &home } else { &request.directory };
        command.arg(format!("--working-directory={directory}"));
        if account.is_none() {
            command.args(["--setenv=HOME=/root", "--setenv=USER=root", "--setenv=LOGNAME=root"]);
        }
        for (key, value) in &request.environment {
            command.arg(format!("--setenv={key}={value}"));
        }
        command.arg("--").args(&request.argv);
        Job::spawn(command, unit, account, request)
    }

    fn spawn(mut command: Command, unit: String, account: Option<Account>, request: &Request) -> io::Result<Job> {
        let mut input = None;
        let mut output = None;
        let mut error = None;
        if let Some((rows, columns)) = request.terminal {
            let (host, guest) = terminal(rows, columns)?;
            command.env("TERM", request.environment.iter().find(|(key, _)| key == "TERM").map_or("linux", |(_, v)| v));
            command.env("SYSTEMD_TINT_BACKGROUND", "0").env("SYSTEMD_ADJUST_TERMINAL_TITLE", "0");
            command.stdin(guest.try_clone()?).stdout(guest.try_clone()?).stderr(guest);
            input = Some(host.try_clone()?);
            output = Some(host);
        } else {
            command.stdin(if request.input { Stdio::piped() } else { Stdio::null() });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        // The terminal's guest side must be closed here, or its end would never be seen.
        drop(command);
        input = input.or_else(|| child.stdin.take().map(OwnedFd::from));
        output = output.or_else(|| child.stdout.take().map(OwnedFd::from));
        error = error.or_else(|| child.stderr.take().map(OwnedFd::from));
        if let Some(input) = &input {
            let flags = rustix::fs::fcntl_getfl(input)?;
            rustix::fs::fcntl_setfl(input, flags | OFlags::NONBLOCK)?;
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Job { child, unit, account, ended, input, output, error, terminal: request.terminal.is_some() })
    }

    /// The exit status, once `ended` is readable.
    pub fn status(&mut self) -> io::Result<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait()?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        match &self.output {
            Some(output) if self.terminal => {
                rustix::termios::tcsetwinsize(output.as_fd(), size(rows, columns))?;
                // The terminal controls no session, so nobody is told by the kernel.
                Ok(rustix::process::pidfd_send_signal(&self.ended, Signal::WINCH)?)
            }
            _ => Ok(()),
        }
    }

    /// Kills every process of the unit; then the command ends by itself.
    pub fn kill(&mut self) -> io::Result<()> {
        let mut command = Command::new("systemctl");
        if let Some(account) = &self.account {
            account.apply(&mut command);
            command.arg("--user");
        }
        command.args(["kill", "--signal=KILL"]).arg(&self.unit);
        if !command.status()?.success() {
            // No such unit: it was not started yet or it is gone, so only the client remains.
            self.child.kill()?;
        }
        Ok(())
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A new terminal: our side and the command's.
fn terminal(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let host = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&host)?;
    rustix::pty::unlockpt(&host)?;
    let guest = rustix::pty::ioctl_tiocgptpeer(&host, flags)?;
    rustix::termios::tcsetwinsize(&host, size(rows, columns))?;
    Ok((host, guest))
}
