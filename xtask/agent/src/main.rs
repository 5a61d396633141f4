//! The guest side of `cargo xtask vm`, one static program in two roles: the first process of the initramfs, which mounts
//! the real root and becomes systemd ([`init`]), and the service that runs commands for the host ([`serve`]).

mod init;
mod job;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = if std::process::id() == 1 { init::run() } else { serve::run() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pinnace-vm-agent: {error}");
            if std::process::id() == 1 {
                init::give_up();
            }
            ExitCode::FAILURE
        }
    }
}
