//! For tests: a systemd that answers by a script, alone on a socket or as a service on a real bus. Not here: what is tested.

use crate::address::Addresses;
use crate::bus::{Bus, Clock, Endpoint};
use crate::wire::{self, Body, PRELUDE};
use serde::Serialize;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use zbus::wire::DynamicType;
use zbus::{ObjectPath, Variant};

/// A method call that arrived.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) serial: u32,
    pub(crate) sender: String,
    pub(crate) member: String,
    pub(crate) body: Body,
}

impl Call {
    pub(crate) fn answer<B: Serialize + DynamicType>(&self, body: &B) -> Vec<u8> {
        wire::answer(self.serial, &self.sender, body).unwrap()
    }

    pub(crate) fn refuse(&self, name: &str, text: &str) -> Vec<u8> {
        wire::refusal(self.serial, &self.sender, name, text).unwrap()
    }

    /// The properties of StartTransientUnit or SetUnitProperties, by name.
    pub(crate) fn properties(&self) -> Vec<String> {
        let list: Vec<(&str, Variant<'_>)> = if self.member == "StartTransientUnit" {
            self.body.read::<(&str, &str, Vec<(&str, Variant<'_>)>)>().unwrap().2
        } else {
            self.body.read::<(&str, bool, Vec<(&str, Variant<'_>)>)>().unwrap().2
        };
        list.into_iter().map(|(name, _)| name.to_owned()).collect()
    }
}

/// The path of a job.
pub(crate) fn job(number: u32) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}")).unwrap()
}

/// The signal at the end of a job.
pub(crate) fn removed(number: u32, result: &str) -> Vec<u8> {
    wire::signal("JobRemoved", &(number, job(number), "x.scope", result)).unwrap()
}

/// What a healthy systemd does.
pub(crate) fn healthy(call: &Call) -> Vec<Vec<u8>> {
    match call.member.as_str() {
        "Hello" => vec![call.answer(&(":1.7",))],
        "Get" => vec![call.answer(&(Variant::from("/"),))],
        "StartTransientUnit" | "StopUnit" => vec![call.answer(&(job(7),)), removed(7, "done")],
        _ => vec![call.answer(&())],
    }
}

/// A running fake. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) dir: tempfile::TempDir,
    socket: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Listens on a socket of its own. Connections are served one after the other, by one thread.
    pub(crate) fn start(script: impl FnMut(&Call) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let (calls, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended) = (calls.clone(), stop.clone());
        let mut script = script;
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.unwrap(), &log, &mut script);
            }
        });
        Self { dir, socket, calls, stop, thread: Some(thread) }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        addresses(&self.socket)
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Both buses at one socket.
pub(crate) fn addresses(socket: &Path) -> Addresses {
    let address = Some(format!("unix:path={}", socket.display()).into());
    Addresses { system: address.clone(), session: address, runtime_dir: None }
}

fn serve(mut stream: UnixStream, log: &Mutex<Vec<String>>, script: &mut impl FnMut(&Call) -> Vec<Vec<u8>>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"DATA\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        text.push(byte[0]);
    }
    let _ = stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n");
    if stream.read_exact(&mut [0; 7]).is_err() {
        return;
    }
    while let Some(call) = receive(&mut stream) {
        log.lock().unwrap().push(call.member.clone());
        for bytes in script(&call) {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

fn receive(stream: &mut UnixStream) -> Option<Call> {
    loop {
        let mut prelude = [0; PRELUDE];
        stream.read_exact(&mut prelude).ok()?;
        let mut bytes = prelude.to_vec();
        bytes.resize(wire::length(&prelude).unwrap(), 0);
        stream.read_exact(&mut bytes[PRELUDE..]).ok()?;
        if let Some((serial, sender, member, body)) = wire::read_call(bytes) {
            return Some(Call { serial, sender, member, body });
        }
    }
}

/// Serves as `org.freedesktop.systemd1` on a real bus, with `count` connections' worth of patience: until the bus goes away.
pub(crate) fn serve_on_bus(socket: &Path, script: impl FnMut(&Call) -> Vec<Vec<u8>> + Send + 'static) -> JoinHandle<()> {
    let clock = Clock::start(Duration::from_secs(60));
    let mut bus = Bus::connect(&Endpoint::bus_at(socket.to_owned()), &clock).unwrap();
    bus.own_name("org.freedesktop.systemd1", &clock).unwrap();
    let mut script = script;
    std::thread::spawn(move || {
        while let Ok(bytes) = bus.next_bytes(&clock) {
            if let Some((serial, sender, member, body)) = wire::read_call(bytes) {
                for reply in script(&Call { serial, sender, member, body }) {
                    bus.send_bytes(&reply, &clock).unwrap();
                }
            }
        }
    })
}
