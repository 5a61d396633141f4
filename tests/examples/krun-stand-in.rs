//! A stand-in for libkrun, the one thing that this project mocks: the real one needs KVM and a kernel for guests, which the machines of the tests
//! lack. It has libkrun's functions with libkrun's types, writes down each call as a line of JSON, and starts the container's program in the
//! container where libkrun would start it in a guest. What the real library makes of the calls before that, `crates/krun/tests/real.rs` shows
//! where it is installed. Not here: the tests (`tests/integration/krun.rs`).
//!
//! | variable of the runtime's environment | meaning |
//! |---|---|
//! | `KRUN_STAND_IN` | the file for the calls, in the container |
//! | `KRUN_STAND_IN_ANSWERS` | answers other than 0, as `FUNCTION=NUMBER,…` |
//!
//! The calls are kept until the machine is to run: most are made where that file cannot be reached, or where the environment is gone.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

/// What was called so far, and what the environment said in the beginning.
struct Record {
    file: String,
    answers: String,
    calls: Vec<Value>,
}

static RECORD: Mutex<Record> = Mutex::new(Record { file: String::new(), answers: String::new(), calls: Vec::new() });

/// Writes a call down; the answer to it.
fn called(name: &str, arguments: Value) -> i32 {
    let mut record = RECORD.lock().expect("the record");
    if record.file.is_empty() {
        record.file = std::env::var("KRUN_STAND_IN").unwrap_or_default();
        record.answers = std::env::var("KRUN_STAND_IN_ANSWERS").unwrap_or_default();
    }
    record.calls.push(json!([name, arguments]));
    let answer = record.answers.split(',').filter_map(|pair| pair.split_once('=')).find(|(function, _)| *function == name);
    answer.map_or(0, |(_, number)| number.parse().expect("KRUN_STAND_IN_ANSWERS has numbers"))
}

/// # Safety
/// Null, or a string of C.
unsafe fn text(at: *const c_char) -> Value {
    // SAFETY: the caller's promise.
    if at.is_null() { Value::Null } else { unsafe { CStr::from_ptr(at) }.to_string_lossy().into() }
}

/// # Safety
/// Strings of C, with null after the last.
unsafe fn list(at: *const *const c_char) -> Value {
    // SAFETY: the caller's promise: nothing after the null is looked at.
    (0..).map(|i| unsafe { *at.add(i) }).take_while(|s| !s.is_null()).map(|s| unsafe { text(s) }).collect()
}

/// The file behind a descriptor, `socket` for a socket.
fn kind(fd: c_int) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    link.to_string_lossy().split(':').next().unwrap_or_default().to_owned()
}

#[unsafe(no_mangle)]
extern "C" fn krun_create_ctx() -> i32 {
    called("krun_create_ctx", json!([]))
}

#[unsafe(no_mangle)]
extern "C" fn krun_has_feature(feature: u64) -> c_int {
    // All of them, but for what a test takes away.
    called("krun_has_feature", json!([feature])) + 1
}

#[unsafe(no_mangle)]
extern "C" fn krun_check_nested_virt() -> i32 {
    called("krun_check_nested_virt", json!([])) + 1
}

#[unsafe(no_mangle)]
extern "C" fn krun_set_log_level(level: u32) -> i32 {
    called("krun_set_log_level", json!([level]))
}

#[unsafe(no_mangle)]
extern "C" fn krun_set_vm_config(id: u32, cpus: u8, ram_mib: u32) -> i32 {
    called("krun_set_vm_config", json!([id, cpus, ram_mib]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_root(id: u32, path: *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_set_root", json!([id, unsafe { text(path) }]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_add_virtiofs2(id: u32, tag: *const c_char, path: *const c_char, shm_size: u64) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_add_virtiofs2", json!([id, unsafe { text(tag) }, unsafe { text(path) }, shm_size]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_root_disk(id: u32, path: *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_set_root_disk", json!([id, unsafe { text(path) }]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_tee_config_file(id: u32, path: *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_set_tee_config_file", json!([id, unsafe { text(path) }]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_kernel(id: u32, path: *const c_char, format: u32, initrd: *const c_char, cmdline: *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    let (path, initrd, cmdline) = unsafe { (text(path), text(initrd), text(cmdline)) };
    called("krun_set_kernel", json!([id, path, format, initrd, cmdline]))
}

#[unsafe(no_mangle)]
extern "C" fn krun_set_gpu_options(id: u32, flags: u32) -> i32 {
    called("krun_set_gpu_options", json!([id, flags]))
}

#[unsafe(no_mangle)]
extern "C" fn krun_set_nested_virt(id: u32, enabled: bool) -> i32 {
    called("krun_set_nested_virt", json!([id, enabled]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_exec(id: u32, path: *const c_char, args: *const *const c_char, env: *const *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_set_exec", unsafe { json!([id, text(path), list(args), list(env)]) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_set_console_output(id: u32, path: *const c_char) -> i32 {
    // SAFETY: as libkrun.h demands of the caller.
    called("krun_set_console_output", json!([id, unsafe { text(path) }]))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn krun_add_net_unixstream(id: u32, path: *const c_char, fd: c_int, mac: *const u8, features: u32, flags: u32) -> i32 {
    // SAFETY: as libkrun.h demands of the caller: six bytes, and an open descriptor.
    let (path, mac) = unsafe { (text(path), std::slice::from_raw_parts(mac, 6)) };
    // SAFETY: as above; it is only borrowed for the write.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let greeting = nix::unistd::write(socket, b"packets").is_ok();
    called("krun_add_net_unixstream", json!([id, path, kind(fd), greeting, mac, features, flags]))
}

/// Writes the calls down and becomes the container's program. Like the original it comes back only when that fails.
#[unsafe(no_mangle)]
extern "C" fn krun_start_enter(id: u32) -> i32 {
    let answer = called("krun_start_enter", json!([id]));
    {
        let record = RECORD.lock().expect("the record");
        let lines: String = record.calls.iter().map(|call| format!("{call}\n")).collect();
        std::fs::write(&record.file, lines).expect("write the calls down");
    }
    if answer != 0 {
        return answer;
    }
    let config = std::fs::read("/.krun_config.json").expect("read the configuration for the guest");
    let config: Value = serde_json::from_slice(&config).expect("the configuration for the guest is JSON");
    let strings = |at: &str| -> Vec<String> {
        config["process"][at].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let args = strings("args");
    let env = strings("env");
    let pairs = env.iter().filter_map(|pair| pair.split_once('='));
    let failed = Command::new(&args[0]).args(&args[1..]).env_clear().envs(pairs).exec();
    -failed.raw_os_error().unwrap_or(nix::libc::EIO)
}
