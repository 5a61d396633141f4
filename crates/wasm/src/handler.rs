//! What all engines have in common: the handler around an engine. Not here: the engines.

use crate::signals;
use runtime_core::api::handler::{Handler, HandlerProcess, HandlerRequest, HandlerStart, Program};
use runtime_core::{Context, Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::path::Path;

/// Exit status of a program that traps: that of SIGABRT, as the engines' own programs have it.
const TRAPPED: i32 = 128 + libc::SIGABRT;

/// Largest program that is read, in bytes: what is larger would be memory of the container's, whose limit may be none.
pub(crate) const MOST_PROGRAM: u64 = 256 << 20;

/// Directories that the program may reach, by their names in it: all of the container, and the working directory for paths that are relative.
pub(crate) const PREOPENED: [&str; 2] = ["/", "."];

/// An engine.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
    /// How `--version` calls it.
    const TAG: &'static str;

    /// Whether what it needs on this machine is there.
    ///
    /// # Errors
    /// What is missing.
    fn usable() -> Result<()> {
        Ok(())
    }

    /// In the parent: what is known of the program before anything is made.
    ///
    /// # Errors
    /// Never for want of something that only saves time.
    fn prepare(request: &HandlerRequest<'_>) -> Result<Self>;

    /// In the child: compiles or checks the program.
    ///
    /// # Errors
    /// It is none, or asks for what the engine does not offer.
    ///
    /// No thread may be started: it would not have what the child gets later, the seccomp filter and labels.
    fn load(&mut self, program: &[u8], command: &Command) -> Result<()>;

    /// In the parent, afterwards: keeps what saves time.
    ///
    /// # Errors
    /// Anything.
    fn loaded(&mut self) -> Result<()> {
        Ok(())
    }

    /// In the child: runs it; the exit status it gave, or the message of what ended it.
    ///
    /// # Errors
    /// A trap, or a program that can't be started.
    fn run(&mut self, command: &Command) -> std::result::Result<i32, String>;
}

/// Arguments and environment as WASI has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Command {
    /// # Errors
    /// Something is not UTF-8, which WASI demands.
    fn of(start: &HandlerStart) -> Result<Self> {
        let text = |s: &OsStr, what: &str| {
            s.to_str().map(str::to_owned).ok_or_else(|| Error::invalid(format!("{what} `{}` is not UTF-8", s.to_string_lossy())))
        };
        let args = start.args.iter().map(|a| text(a, "the argument")).collect::<Result<_>>()?;
        let pair = |e: &std::ffi::OsString| {
            let (name, value) = text(e, "the variable")?.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap_or_default();
            Ok((name, value))
        };
        let env = start.env.iter().map(pair).collect::<Result<Vec<_>>>()?;
        // A name is what can be looked up by; the kernel's own strings without one are nothing to WASI.
        Ok(Self { args, env: env.into_iter().filter(|(name, _)| !name.is_empty()).collect() })
    }

    /// The environment as `NAME=value`.
    #[cfg(any(feature = "wamr", feature = "wasmedge"))]
    pub(crate) fn pairs(&self) -> impl Iterator<Item = String> + '_ {
        self.env.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

/// The handler of an engine.
pub(crate) struct Wasm<E>(PhantomData<fn() -> E>);

impl<E> Wasm<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Engine> Handler for Wasm<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["wasm"]
    }

    fn tag(&self) -> &'static str {
        E::TAG
    }

    fn usable(&self) -> Result<()> {
        E::usable()
    }

    fn program(&self) -> Program {
        Program::Readable
    }

    fn prepare(&self, request: &HandlerRequest<'_>) -> Result<Box<dyn HandlerProcess>> {
        Ok(Box::new(Process { engine: E::prepare(request)?, command: Command::default() }))
    }
}

struct Process<E> {
    engine: E,
    command: Command,
}

impl<E: Engine> HandlerProcess for Process<E> {
    fn load(&mut self, start: &HandlerStart) -> Result<()> {
        self.command = Command::of(start)?;
        self.engine.load(&read(&start.program, MOST_PROGRAM)?, &self.command)?;
        alone()
    }

    fn loaded(&mut self) -> Result<()> {
        self.engine.loaded()
    }

    fn run(&mut self, _: &HandlerStart) -> i32 {
        signals::end_the_first_process();
        self.engine.run(&self.command).unwrap_or_else(|message| {
            // Nobody is left to be told of a failure.
            let _ = writeln!(std::io::stderr(), "{}", message.trim_end());
            TRAPPED
        })
    }
}

/// # Errors
/// The process has more than one thread, where the container has a `/proc` to tell.
fn alone() -> Result<()> {
    match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads) if threads > 1 => Err(Error::other("the engine has started a thread, which the container's filter would not reach")),
        _ => Ok(()),
    }
}

/// Reads a regular file of at most `most` bytes. The look-up found one, but that was a moment ago.
fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let what = || format!("read `{}`", path.display());
    let fd = openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    let fd = fd.map_err(std::io::Error::from).context(what)?;
    let stat = fstat(&fd).map_err(std::io::Error::from).context(what)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Error::other(format!("`{}` is not a regular file", path.display())));
    }
    let large = || Error::invalid(format!("`{}` is larger than the {} MiB that a program may have", path.display(), most >> 20));
    if stat.st_size.cast_unsigned() > most {
        return Err(large());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    File::from(fd).take(most + 1).read_to_end(&mut bytes).context(what)?;
    if bytes.len() as u64 > most { Err(large()) } else { Ok(bytes) }
}

/// Whether the bytes are a component: behind the magic number stand the version and the layer, 0 for modules ("Binary Format" of the
/// component model).
#[cfg(any(feature = "c-library", feature = "wasmtime"))]
pub(crate) fn is_component(binary: &[u8]) -> bool {
    binary.get(6..8) == Some(&[1, 0])
}

/// A module that is no command.
pub(crate) fn no_start() -> Error {
    Error::invalid("the module exports no function `_start`")
}

/// The first lines of an engine's message, on one.
pub(crate) fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn arguments_and_environment_are_text() {
        let start = |env: Vec<&str>| HandlerStart {
            program: "/x.wasm".into(),
            args: vec!["x".into(), "-a=ü".into()],
            env: env.into_iter().map(Into::into).collect(),
        };
        let command = Command::of(&start(vec!["A=1=2", "B=", "=C"])).unwrap();
        assert_eq!(command.args, ["x", "-a=ü"]);
        assert_eq!(command.env, [("A".into(), "1=2".into()), ("B".into(), String::new())]);
        let mut bad = start(vec![]);
        bad.args.push(std::ffi::OsString::from_vec(vec![0xff]));
        assert_eq!(Command::of(&bad).unwrap_err().to_string(), "the argument `\u{fffd}` is not UTF-8");
    }

    #[test]
    fn a_large_file_is_refused_by_its_path_and_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.wasm");
        let text = |most| read(&path, most).map_err(|e| e.to_string());
        File::create(&path).unwrap().set_len((1 << 20) + 1).unwrap();
        assert_eq!(text(1 << 20), Err(format!("`{}` is larger than the 1 MiB that a program may have", path.display())));
        File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(text(1 << 20).map(|bytes| bytes.len()), Ok(1 << 20));
        // Its size says nothing, as that of files in /proc, and is not believed.
        assert!(read(Path::new("/proc/self/maps"), 3).unwrap_err().to_string().contains("larger than the 0 MiB"));
    }

    #[test]
    fn threads_are_noticed() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(alone().unwrap_err().to_string().contains("has started a thread"));
        drop(done);
        other.join().unwrap().unwrap_err();
    }

    #[test]
    fn only_files_are_read() {
        let refused = |path: &str, most| read(Path::new(path), most).unwrap_err().to_string();
        assert!(refused("/dev/null", 9).contains("is not a regular file"));
        assert!(refused("/nonexistent", 9).contains("No such file"));
        assert_eq!(one_line("a:\n\n  b\n"), "a: b");
    }
}
