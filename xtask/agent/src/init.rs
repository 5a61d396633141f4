//! The first process: from the initramfs to systemd.
//!
//! It loads the modules that the initramfs holds, mounts the root disk and the disk with the kernel's modules, leaves a
//! copy of this program and its unit in `/run`, so that the image itself need not know them, and becomes `/sbin/init`.
//! The kernel's command line says which: `pinnace.root=DEVICE pinnace.modules=DEVICE`.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};

const NEW_ROOT: &str = "/root";
/// Where the modules of the initramfs are, with their order in a file of that name.
const MODULES: &str = "/modules";
const AGENT: &str = "/run/pinnace-vm-agent";
const UNIT: &str = "pinnace-vm-agent.service";
/// How long a disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the machine after an error: the host sees that at once, and the error on the console.
pub fn give_up() {
    rustix::fs::sync();
    // If this fails, the first process ends, which the kernel answers with a panic.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
}

/// Becomes systemd; returns only when something failed.
pub fn run() -> io::Result<()> {
    mount_at("devtmpfs", "dev", "/dev", MountFlags::empty(), "")?;
    mount_at("proc", "proc", "/proc", MountFlags::empty(), "")?;
    load_modules()?;
    let line = fs::read_to_string("/proc/cmdline")?;
    let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned);
    let missing = |what: &str| io::Error::other(format!("the kernel's command line has no {what}"));
    let root = word("pinnace.root=").ok_or_else(|| missing("pinnace.root"))?;
    let modules = word("pinnace.modules=").ok_or_else(|| missing("pinnace.modules"))?;
    await_device(&root)?;
    mount_at("ext4", &root, NEW_ROOT, MountFlags::NOATIME, "")?;
    await_device(&modules)?;
    mount_at("ext4", &modules, &format!("{NEW_ROOT}/usr/lib/modules"), MountFlags::RDONLY, "")?;
    // systemd keeps a /run that it finds mounted.
    mount_at("tmpfs", "run", &format!("{NEW_ROOT}/run"), MountFlags::NOSUID | MountFlags::NODEV, "mode=755")?;
    leave_agent()?;
    switch_root()?;
    Err(Command::new("/sbin/init").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").exec())
}

fn mount_at(kind: &str, source: &str, target: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let options = CString::new(options)?;
    mount(source, target, kind, flags, options.as_c_str())
        .map_err(|error| io::Error::other(format!("mount {kind} {source} at {target}: {error}")))
}

fn load_modules() -> io::Result<()> {
    let Ok(order) = fs::read_to_string(format!("{MODULES}/order")) else { return Ok(()) };
    for name in order.lines() {
        let file = File::open(format!("{MODULES}/{name}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            // One module less may not matter; if it does, a later step says what is missing.
            Err(error) => eprintln!("pinnace-vm-agent: load {name}: {error}"),
        }
    }
    // The initramfs stays in memory, and memory is what a snapshot holds.
    fs::remove_dir_all(MODULES)
}

fn await_device(path: &str) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !Path::new(path).exists() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no disk {path}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn leave_agent() -> io::Result<()> {
    let agent = format!("{NEW_ROOT}{AGENT}");
    fs::copy("/init", &agent)?;
    fs::set_permissions(&agent, Permissions::from_mode(0o755))?;
    let wants = format!("{NEW_ROOT}/run/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    fs::write(format!("{NEW_ROOT}/run/systemd/system/{UNIT}"), unit())?;
    symlink(format!("../{UNIT}"), format!("{wants}/{UNIT}"))
}

/// The agent starts when the user's manager is up too, so that a user's command can be its unit from the first moment.
/// Without it the machine is of no use, so when it ends, however it does, the machine does.
fn unit() -> String {
    format!(
        "[Unit]\nDescription=Runs commands for the host\nAfter=multi-user.target user@1000.service\n\
         Wants=user@1000.service\nSuccessAction=poweroff-immediate\nFailureAction=poweroff-immediate\n\n[Service]\nExecStart={AGENT}\nOOMScoreAdjust=-900\n\
         StandardOutput=journal+console\nStandardError=journal+console\n"
    )
}

fn switch_root() -> io::Result<()> {
    mount_move("/dev", format!("{NEW_ROOT}/dev"))?;
    unmount("/proc", UnmountFlags::DETACH)?;
    fs::remove_file("/init")?;
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}
