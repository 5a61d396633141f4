//! `in-view host|v2|v1 [--without CALL,…] [--user UID] -- COMMAND…`: runs a command in a private mount namespace that
//! shows a cgroup layout, without some system calls and as another user if asked. The work is in `harness::view` and
//! `harness::filter`.

use harness::filter::without;
use harness::view::{View, become_user, enter, exec};

const USAGE: &str = "usage: in-view host|v2|v1 [--without CALL,...] [--user UID] -- COMMAND [ARG...]";

fn main() {
    if let Err(text) = run(std::env::args().skip(1).collect()) {
        eprintln!("in-view: {text}");
        std::process::exit(125);
    }
}

fn run(args: Vec<String>) -> Result<(), String> {
    let split = args.iter().position(|a| a == "--").ok_or(USAGE)?;
    let (options, command) = (&args[..split], &args[split + 1..]);
    let view = match options.first().map(String::as_str) {
        Some("host") => View::Host,
        Some("v2") => View::V2,
        Some("v1") => View::V1,
        _ => return Err(USAGE.into()),
    };
    let (mut calls, mut user) = (Vec::new(), None);
    for pair in options[1..].chunks(2) {
        match pair {
            [option, names] if option == "--without" => calls.extend(names.split(',')),
            [option, uid] if option == "--user" => user = Some(uid.parse().map_err(|e| format!("--user {uid}: {e}"))?),
            _ => return Err(USAGE.into()),
        }
    }
    enter(view).map_err(|e| e.to_string())?;
    if !calls.is_empty() {
        without(&calls).map_err(|e| e.to_string())?;
    }
    if let Some(uid) = user {
        become_user(uid).map_err(|e| e.to_string())?;
    }
    exec(command).map(|_| ()).map_err(|e| e.to_string())
}
