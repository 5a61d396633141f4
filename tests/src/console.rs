//! Terminals: a socket that receives a container's pty, and a pty to run the runtime on.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// The master side of a pty, with all that was read from it.
pub struct Pty {
    master: File,
    seen: String,
}

impl Pty {
    /// A new pty of a size, and its other side.
    ///
    /// # Panics
    /// If there is none to be had.
    pub fn open(rows: u16, columns: u16) -> (Pty, OwnedFd) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pty");
        (Pty::from(pair.master), pair.slave)
    }

    /// Changes the window size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a valid pointer to what the ioctl reads.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }

    /// Types text.
    ///
    /// # Panics
    /// If the other side is gone.
    pub fn type_(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type on the terminal");
    }

    /// All that was printed up to `text`.
    ///
    /// # Panics
    /// If it isn't printed in time.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> &str {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.seen.contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` on the terminal: {:?}", self.seen);
            self.pump();
        }
        &self.seen
    }

    /// All that was printed until the other side was closed.
    pub fn rest(&mut self) -> &str {
        while self.pump() {}
        &self.seen
    }

    /// Reads what is there; false at the end.
    fn pump(&mut self) -> bool {
        let mut buf = [0u8; 4096];
        match self.master.read(&mut buf) {
            Ok(0) => false,
            Ok(n) => {
                self.seen.push_str(&String::from_utf8_lossy(&buf[..n]));
                true
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2));
                true
            }
            // EIO: no process has the other side open any more.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(2));
                false
            }
        }
    }
}

impl From<OwnedFd> for Pty {
    fn from(master: OwnedFd) -> Pty {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("make the terminal non-blocking");
        Pty { master: master.into(), seen: String::new() }
    }
}

/// A listening socket for `--console-socket` and other sockets that get a descriptor.
pub struct ConsoleSocket {
    listener: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

impl ConsoleSocket {
    /// Listens in `dir`, for any user.
    ///
    /// # Panics
    /// If it can't.
    pub fn listen(dir: &Path) -> ConsoleSocket {
        let path = dir.join("console.sock");
        let listener = UnixListener::bind(&path).expect("listen on the console socket");
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, everyone).expect("open the socket to all");
        ConsoleSocket { listener, path }
    }

    /// Takes the connection and the descriptor that came over it, with the message's bytes.
    ///
    /// # Panics
    /// If none comes.
    pub fn receive(&self) -> (Pty, Vec<u8>) {
        let (fd, bytes) = self.receive_fd();
        (Pty::from(fd), bytes)
    }

    /// The same for a descriptor that is no terminal's.
    ///
    /// # Panics
    /// If none comes.
    pub fn receive_fd(&self) -> (OwnedFd, Vec<u8>) {
        let (stream, _) = self.accept();
        let mut data = [0u8; 4096];
        let mut control = nix::cmsg_space!([i32; 4]);
        let (length, fds) = {
            let mut slices = [IoSliceMut::new(&mut data)];
            let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())
                .expect("a message on the console socket");
            let fds: Vec<i32> = message
                .cmsgs()
                .expect("control messages")
                .filter_map(|c| if let ControlMessageOwned::ScmRights(fds) = c { Some(fds) } else { None })
                .flatten()
                .collect();
            (message.bytes, fds)
        };
        assert_eq!(fds.len(), 1, "one descriptor comes over the console socket");
        // SAFETY: the kernel just made this descriptor for us, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        (fd, data[..length].to_vec())
    }

    fn accept(&self) -> (UnixStream, std::os::unix::net::SocketAddr) {
        self.listener.set_nonblocking(true).expect("non-blocking");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.listener.accept() {
                Ok(pair) => {
                    pair.0.set_nonblocking(false).expect("blocking");
                    return pair;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "nobody connected to the console socket");
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => panic!("accept: {e}"),
            }
        }
    }
}
