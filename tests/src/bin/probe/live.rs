//! What goes on for long, to be checkpointed and restored: counting, serving TCP. And the scripted peer that stands in for CRIU, which
//! answers the runtime as a file tells it to and writes down what it was asked. Not here: what is made of that.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::libc;

use crate::emit_line;

/// Counts in a file, fifty times a second, from 1 on.
pub(crate) fn count(file: &str) -> Result<(), String> {
    let file = fs::File::create(file).map_err(|e| format!("create {file}: {e}"))?;
    let mut n = 0u64;
    loop {
        n += 1;
        // In one call and always as long: whoever copies the file, or looks at it while the process is stopped anywhere, finds a number.
        file.write_all_at(format!("{n:020}").as_bytes(), 0).map_err(|e| format!("write a number: {e}"))?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Locks a file for as long as the process lives.
pub(crate) fn lock(file: &str) -> Result<(), String> {
    let lock = fs::File::create(file).map_err(|e| e.to_string())?;
    lock.try_lock().map_err(|e| e.to_string())?;
    std::mem::forget(lock);
    Ok(())
}

/// Says ten times a second to the standard output how often it has done so.
pub(crate) fn tick() {
    let mut n = 0u64;
    loop {
        n += 1;
        emit_line(&format!("TICK {n}"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Answers each line of one TCP client with its number and the line.
pub(crate) fn serve(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let (stream, _) = listener.accept().map_err(|e| e.to_string())?;
    let mut out = stream.try_clone().map_err(|e| e.to_string())?;
    for (n, line) in BufReader::new(stream).lines().enumerate() {
        let line = line.map_err(|e| e.to_string())?;
        out.write_all(format!("{n} {line}\n").as_bytes()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Kinds of messages (criu_req_type).
const RESTORE: u8 = 2;
const NOTIFY: u8 = 6;
const VERSION: u8 = 10;

/// The stand-in for `criu swrk FD`. In the directory `$PINNACE_TEST_PEER`, `answer` says how it behaves; each message it gets becomes a file
/// `0`, `1`, …, and `descriptors` says what it inherited.
pub(crate) fn swrk(fd: i32) -> Result<(), String> {
    let dir = std::env::var("PINNACE_TEST_PEER").map_err(|e| format!("PINNACE_TEST_PEER: {e}"))?;
    let answer = fs::read_to_string(format!("{dir}/answer")).unwrap_or_default();
    let mut got = 0;
    let mut receive = || -> Result<Option<Vec<u8>>, String> {
        let mut bytes = vec![0; 65536];
        // SAFETY: a buffer of the length given.
        let n = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        let n = usize::try_from(n).map_err(|_| std::io::Error::last_os_error().to_string())?;
        bytes.truncate(n);
        if n > 0 {
            fs::write(format!("{dir}/{got}"), &bytes).map_err(|e| e.to_string())?;
            got += 1;
        }
        Ok((n > 0).then_some(bytes))
    };
    let descriptors: Vec<String> = (0..64)
        .filter_map(|n| Some(format!("{n} {}", fs::read_link(format!("/proc/self/fd/{n}")).ok()?.display())))
        .chain([format!("mounts {}", fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())])
        .collect();
    fs::write(format!("{dir}/descriptors"), descriptors.join("\n")).map_err(|e| e.to_string())?;
    while let Some(request) = receive()? {
        // The first field of each message is its kind.
        let kind = request.get(1).copied().unwrap_or(0);
        let minor = if answer == "old" { 14 } else { 19 };
        let reply = match (kind, answer.as_str()) {
            (VERSION, _) => message(kind, true, &[0x52, 4, 0x08, 3, 0x10, minor]),
            (_, "silence") => return Ok(()),
            (_, "garbage") => vec![0xff; 40],
            (_, "refuse") => {
                let text = b"planted failure";
                message(kind, false, &[&[0x38, 52, 0x4a, text.len() as u8], &text[..]].concat())
            }
            (RESTORE, _) => {
                let pid = sibling()?;
                for stage in ["pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore", "post-resume"] {
                    let inner = [&[0x0a, stage.len() as u8], stage.as_bytes(), &[0x10], &varint(pid)].concat();
                    send(fd, &message(NOTIFY, true, &[&[0x2a, inner.len() as u8], &inner[..]].concat()))?;
                    // The third field of the answer tells whether to go on.
                    let going = receive()?.is_some_and(|answer| answer.windows(2).any(|w| w == [0x18, 1]));
                    if !going || answer == stage {
                        // SAFETY: the process is not reaped by anybody before its parent does.
                        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
                        return send(fd, &message(RESTORE, false, &[0x38, 1]));
                    }
                }
                let inner = [&[0x08], &varint(pid)[..]].concat();
                message(RESTORE, true, &[&[0x22, inner.len() as u8], &inner[..]].concat())
            }
            (kind, _) => message(kind, true, &[]),
        };
        send(fd, &reply)?;
    }
    Ok(())
}

fn message(kind: u8, success: bool, rest: &[u8]) -> Vec<u8> {
    [&[0x08, kind, 0x10, u8::from(success)], rest].concat()
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 127 {
        out.push((n & 127) as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn send(fd: i32, bytes: &[u8]) -> Result<(), String> {
    // SAFETY: a buffer of the length given.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if n < 0 { Err(std::io::Error::last_os_error().to_string()) } else { Ok(()) }
}

/// A process that waits, a child of this one's parent, as CRIU restores them.
fn sibling() -> Result<u64, String> {
    // SAFETY: without CLONE_VM it is a fork; no pointers are passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        loop {
            // SAFETY: waits for a signal; no pointers.
            unsafe { libc::pause() };
        }
    }
    u64::try_from(pid).map_err(|_| std::io::Error::last_os_error().to_string())
}
