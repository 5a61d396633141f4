//! The child: it walks the plan's steps and makes system calls on data laid out before the clone. It does not allocate, lock, format, log
//! or unwind; a trapping allocator in the test build proves the first. Not here: which steps there are (`plan`), words (`engine::failure`).

mod classic;
mod copy_up;
mod exec;
mod handler;
mod home;
mod hook;
mod masks;
mod mounts;
mod namespaces;
mod nodes;
mod process;
mod resolve;
mod root;
mod stdio;
pub(crate) mod wire;

use crate::api::handler::{HandlerProcess, HandlerStart};
use crate::plan::step::Step;
use crate::sys::{self, Errno, PATH_MAX, SignalMask};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use wire::{Code, DETAIL_SIZE, Kind, Message, Wire};

/// Set in a child between clone and execve.
static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this is a container's child between clone and execve, where nothing may be allocated. For an embedder's test allocator.
pub fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// Why a step failed.
#[derive(Debug, Clone, Copy)]
struct Fail {
    errno: i32,
    code: Code,
    value: i64,
}

impl From<Errno> for Fail {
    fn from(e: Errno) -> Self {
        Self { errno: e.0, code: Code::Plain, value: 0 }
    }
}

impl Fail {
    fn new(errno: i32, code: Code) -> Self {
        Self { errno, code, value: 0 }
    }
}

type Done = Result<(), Fail>;

/// What the child carries from step to step.
struct Child<'a> {
    wire: &'a Wire,
    slots: &'a mut [RawFd],
    /// The container's root, once there is one.
    root: RawFd,
    /// `/dev` in the container, once it was mounted or a device was made there.
    dev: Option<RawFd>,
    /// It is a file system made here, so that nothing of the image is in it.
    fresh_dev: bool,
    /// `/sys` in the container, where it was mounted here.
    sys: Option<RawFd>,
    /// Namespaces that could not be joined in the first pass.
    deferred: u64,
    /// The working directory is to be tried again with the final ids.
    cwd_pending: bool,
    /// Mounts of this namespace that cover masked files and directories, of which copies can be made.
    mask_file: Option<RawFd>,
    mask_directory: Option<RawFd>,
    /// What the scratch memory has of the container's `/proc`.
    listing: masks::Listing,
    /// Some step runs a hook.
    has_hooks: bool,
    /// Some step makes the container's root the working directory.
    leaves_proc: bool,
    /// The working directory is the trusted procfs.
    lives_in_proc: bool,
    /// Mounts are made with mount(2), since a call for detached ones is missing.
    classic: bool,
    /// Where such a mount is made, while there is one.
    stage: Option<RawFd>,
    /// Nobody reads the socket any more.
    late: bool,
    /// The step that was to look at the executable, where that is left to execve(2).
    unchecked: Option<usize>,
    /// The step a failure is to be told of, where it is not the one that found it.
    blamed: Option<usize>,
    scratch: &'static mut sys::Scratch,
    /// The home directory is in it.
    has_home: bool,
    /// What runs the program in place of execve, and what it is told.
    handler: Option<&'a mut (dyn HandlerProcess + 'static)>,
    start: Option<HandlerStart>,
    detail: [u8; DETAIL_SIZE],
    detail_len: usize,
}

/// Runs the steps; ends in execve, in a handler or in a failure reported to the parent. `slots` are the descriptors the plan asked for.
pub(crate) fn run(steps: &[Step], wire: &Wire, slots: &mut [RawFd], handler: Option<&mut (dyn HandlerProcess + 'static)>) -> ! {
    IN_CHILD.store(true, Ordering::Relaxed);
    sys::close(wire.parents);
    if let Some((first, last)) = wire.tree {
        // What it fails at is left for execve.
        let _ = sys::close_span(first, last);
    }
    #[cfg(feature = "trap-alloc")]
    if wire.plant_allocation {
        drop(std::hint::black_box(Box::new(0u8)));
    }
    // Handlers of the parent are reset by execve; what it ignores on purpose stays ignored, as with every program it starts. A mask,
    // the parent's own or its caller's, is nothing a program expects.
    let unmasked = sys::set_signal_mask(&SignalMask::NONE);
    let Some(scratch) = sys::scratch() else {
        // Each child is a process of its own, and comes here once.
        sys::exit(1);
    };
    let mut child = Child {
        wire,
        slots,
        root: -1,
        dev: None,
        fresh_dev: false,
        sys: None,
        deferred: 0,
        cwd_pending: false,
        mask_file: None,
        mask_directory: None,
        listing: masks::Listing::Unread,
        has_hooks: steps.iter().any(|step| matches!(step, Step::Hook(_))),
        leaves_proc: steps.iter().any(|step| matches!(step, Step::Pivot { .. } | Step::GoToRoot)),
        lives_in_proc: false,
        unchecked: None,
        blamed: None,
        classic: false,
        stage: None,
        late: false,
        scratch,
        has_home: false,
        handler,
        start: None,
        detail: [0; DETAIL_SIZE],
        detail_len: 0,
    };
    wire::note(wire.times, 0);
    if let Err(e) = unmasked {
        child.report(0, Fail::new(e.0, Code::SignalMask));
        sys::exit(1);
    }
    for (index, step) in steps.iter().enumerate() {
        if let Err(fail) = child.step(index, step) {
            child.report(child.blamed.unwrap_or(index), fail);
            sys::exit(1);
        }
        wire::note(wire.times, index + 1);
    }
    sys::exit(0)
}

impl Child<'_> {
    fn step(&mut self, index: usize, step: &Step) -> Done {
        match step {
            Step::JoinCgroups => self.join_cgroups(),
            Step::SetNs(ns) => self.set_ns(ns),
            Step::SetNsOf { pidfd, flags } => namespaces::set_ns_of(self.slots[*pidfd], *flags),
            Step::Unshare { flags } => Ok(sys::unshare(*flags)?),
            Step::Fork => self.fork(),
            Step::Unshared => self.tell(Kind::Unshared),
            Step::AwaitParent if self.wire.await_parent => self.await_go(),
            Step::AwaitParent => Ok(()),
            Step::Affinity { cpus, field } => namespaces::set_affinity(cpus, field.is_some()),
            Step::MemoryPolicy { mode, nodes } => Ok(sys::set_memory_policy(*mode, nodes.as_deref())?),
            Step::BecomeRoot { clear_groups } => namespaces::become_root(*clear_groups),
            Step::TimeOffsets { text } => self.time_offsets(text),
            Step::JoinKeyring { name, label } => self.join_keyring(name, label.as_deref()),
            Step::Loopback => Ok(sys::loopback_up()?),
            Step::Umask(mask) => {
                sys::umask(*mask);
                Ok(())
            }
            Step::Undumpable => Ok(sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?),
            Step::Propagation { flags } => Ok(sys::mount(None, c"/", None, *flags, None)?),
            Step::Root { path, private_parents } => self.root_mount(path, *private_parents),
            Step::RootNamespace { path, slot } => self.root_namespace(path, self.slots[*slot]),
            Step::RootDirectory { path } => self.root_directory(path),
            Step::CurrentRoot => self.root_directory(c"/"),
            Step::Tree(t) => self.copy_tree(t),
            Step::Unmount { dest } => self.unmount(dest),
            Step::Mount(m) => self.mount(m),
            Step::SetAttrs { slot, set, .. } => self.set_attributes(self.slots[*slot], *set),
            Step::Device(d) => self.device(d),
            Step::Symlink { target, dest } => self.symlink(target, dest),
            Step::Mask { dest, by } => self.mask(dest, *by),
            Step::ReadonlyPath { dest } => self.readonly_path(dest),
            Step::Sysctl { path, value } => self.sysctl(path, value),
            Step::Hostname(name) => Ok(sys::sethostname(name.to_bytes())?),
            Step::Domainname(name) => Ok(sys::setdomainname(name.to_bytes())?),
            Step::Mounted => self.tell(Kind::Mounted).and_then(|()| self.await_go()),
            Step::Hook(h) => self.hook(h),
            Step::RootReadonly => self.set_attributes(self.root, root::READ_ONLY),
            Step::File(f) => self.file(f),
            Step::Directory { path } => self.directory(path),
            Step::GoToRoot => self.go_to_root(),
            Step::Pivot { how, propagation } => self.pivot(*how, *propagation),
            _ => self.process_step(index, step),
        }
    }

    /// The tail that every process goes through.
    fn process_step(&mut self, index: usize, step: &Step) -> Done {
        match step {
            Step::CloseOnExec { first } => stdio::close_on_exec(*first),
            Step::Forget => {
                self.forget();
                Ok(())
            }
            Step::Stdio { uid, gid } => stdio::prepare(*uid, *gid, self.fresh_dev),
            Step::Setsid => process::setsid(),
            Step::Personality(domain) => Ok(sys::personality(*domain)?),
            Step::Terminal { console, rows, columns, uid, bind_console } => {
                self.terminal(self.slots[*console], (*rows, *columns), *uid, *bind_console)
            }
            Step::Rlimit { resource, soft, hard, .. } => Ok(sys::set_rlimit(0, *resource, *soft, *hard)?),
            Step::OomScoreAdj(score) => self.write_proc(c"self/oom_score_adj", score.to_bytes()),
            Step::Label { file, label } => self.label(file, label),
            Step::LabelFile { file, slot } => {
                self.slots[*slot] = self.label_file(file)?;
                Ok(())
            }
            Step::LateLabel { slot, label } => self.late_label(*slot, label),
            Step::Cwd { path, last } => self.cwd(path, *last),
            Step::Credentials(c) => process::credentials(c),
            Step::NoNewPrivs => Ok(sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?),
            Step::Dumpable => Ok(sys::prctl(libc::PR_SET_DUMPABLE, 1, 0)?),
            Step::Seccomp => self.seccomp(),
            Step::Lookup(l) => self.lookup(index, l),
            Step::Home { uid } => {
                self.home(*uid);
                Ok(())
            }
            Step::Gate { first, keep } => self.gate(*first, keep),
            Step::Exec { argv, envp } => self.exec(argv, envp),
            Step::Load { argv, envp, .. } => self.load(argv, envp),
            Step::Handle { first, .. } => self.handle(*first),
            // Everything else is handled in `step`.
            _ => Err(Fail::from(Errno(libc::ENOSYS))),
        }
    }

    /// Sends a bare message.
    fn tell(&self, kind: Kind) -> Done {
        Ok(Message::new(kind).send(self.wire.socket)?)
    }

    /// Waits for the parent's word. A parent that died leaves nothing to go on for.
    fn await_go(&self) -> Done {
        match Message::recv(self.wire.socket)? {
            Some(m) if m.kind == Kind::Go => Ok(()),
            _ => Err(Fail::from(Errno(libc::EPIPE))),
        }
    }

    /// Keeps bytes that say more than an error number can.
    fn set_detail(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(DETAIL_SIZE);
        self.detail[..n].copy_from_slice(&bytes[..n]);
        self.detail_len = n;
    }

    fn report(&self, step: usize, fail: Fail) {
        if self.late {
            self.report_on_stderr(step, fail);
            return;
        }
        let mut m = Message::new(Kind::Failed);
        m.step = step as u16;
        (m.errno, m.code, m.value) = (fail.errno, fail.code, fail.value);
        m.set_detail(&self.detail[..self.detail_len]);
        let _ = m.send(self.wire.socket);
    }

    /// The container's own standard error is all that is left: the words prepared for the step, the detail, the error's text.
    fn report_on_stderr(&self, step: usize, fail: Fail) {
        let words = self.wire.late_texts.get(step).and_then(Option::as_deref).map_or(&b"start the container"[..], |t| t.to_bytes());
        let put = |bytes: &[u8]| {
            // Nobody is left to be told of a failure.
            let _ = sys::write(2, bytes);
        };
        put(words);
        let detail = &self.detail[..self.detail_len];
        match fail.code {
            _ if detail.is_empty() => {}
            Code::HookStatus | Code::HookSignal | Code::HookTimeout => {
                put(b": ");
                put(detail.trim_ascii_end());
            }
            _ => {
                put(b": `");
                put(detail);
                put(b"` is missing");
            }
        }
        if fail.errno != 0 {
            put(b": ");
            put(sys::error_text(fail.errno).to_bytes());
        }
        put(b"\n");
    }
}

/// Descriptors are closed by execve; only where a container has so many mounts that numbers run high are they closed one by one.
fn done_with(fd: RawFd) {
    const MANY: RawFd = 64;
    if fd >= MANY {
        sys::close(fd);
    }
}
