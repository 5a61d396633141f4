//! The handler trait: something that runs a container's program in place of execve, such as an engine for WebAssembly or a small virtual
//! machine; and how a container comes to have one. Not here: any handler.
//!
//! A handler works in three places. In the **parent**, before anything is made, it may change the configuration ([`Handler::adjust`]) and
//! makes what a launch needs ([`Handler::prepare`]). In the **child**, inside the container, with its ids, capabilities and limits,
//! it loads the program while failures can still be reported ([`HandlerProcess::load`]), and runs it ([`HandlerProcess::run`]) as the last
//! thing that process does. What the parent and the child do after the clone happens to two copies of the same object.

use super::annotations::{CONTAINER_TYPE, HANDLER, WASM_VARIANT};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Handlers that engines and people know by name, with what each would need here. crun has all of them as options of its build.
const KNOWN: [(&str, &str); 9] = [
    ("wasm", "needs one of the features wasm-wasmtime, wasm-wasmi, wasm-wasmedge, wasm-wamr, wasm-wasmer"),
    ("wasmtime", "needs the feature wasm-wasmtime"),
    ("wasmi", "needs the feature wasm-wasmi"),
    ("wasmedge", "needs the feature wasm-wasmedge"),
    ("wasmer", "needs the feature wasm-wasmer"),
    ("wamr", "needs the feature wasm-wamr"),
    ("krun", "needs the feature krun"),
    ("spin", "needs a build with the spin engine, which no C library or crate offers to runtimes"),
    ("dotnet", "needs a build that embeds mono"),
];

/// errno(3); the interface has no C library to name it.
const EACCES: i32 = 13;

/// Most descriptors a handler can keep.
pub const MOST_KEPT: usize = 8;

/// What the program in `process.args[0]` has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A file with the right to execute it, as for execve.
    Executable,
    /// A file that can be read: what is no program to the kernel often comes without that right.
    Readable,
    /// Whatever the handler makes of it: nobody looks.
    Any,
}

/// A file that the runtime makes in the container's root file system when that is mounted; one of that name is replaced, and no symbolic
/// link is followed at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFile {
    /// Path in the container.
    pub path: String,
    /// Permission bits; the owner is root of the container.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

/// What a handler is told about a container that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct HandlerRequest<'a> {
    /// The configuration, checked and adjusted.
    pub spec: &'a Spec<'a>,
    /// The bytes of the configuration as it was given.
    pub config: &'a [u8],
    /// The root file system on the host, absolute. What is in it belongs to strangers, and mounts of the container are not there yet.
    pub rootfs: &'a Path,
    /// A directory of the runtime's own for things that outlive containers, which may be missing; below it each handler has its own.
    pub cache: &'a Path,
}

/// What a handler knows in the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerStart {
    /// The program, found as execvp(3) would; `process.args[0]` for [`Program::Any`].
    pub program: PathBuf,
    /// All arguments, the program's name first.
    pub args: Vec<OsString>,
    /// The environment, `NAME=value` each, with what the runtime adds. The process's own environment is overwritten: it was the runtime's.
    pub env: Vec<OsString>,
}

/// Runs programs in place of execve.
pub trait Handler: Send + Sync {
    /// Its name, by which it is asked for.
    fn name(&self) -> &'static str;

    /// Other names it goes by, such as `wasm`; the first handler of a name that can be used has it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// How crun's `--version` calls it, such as `WASM:wasmtime`.
    fn tag(&self) -> &'static str;

    /// Whether what it needs on this machine is there, such as a library that is loaded at run time.
    ///
    /// # Errors
    /// What is missing.
    fn usable(&self) -> Result<()> {
        Ok(())
    }

    /// What the program has to be.
    fn program(&self) -> Program {
        Program::Executable
    }

    /// Changes the configuration before anything is made of it: mounts, devices, limits. The configuration that is kept stays as it was.
    ///
    /// # Errors
    /// The configuration does not fit the handler, with the field's path.
    fn adjust(&self, _spec: &mut Spec<'_>) -> Result<()> {
        Ok(())
    }

    /// Makes what a launch needs, in the parent, before anything is made of the container. Libraries are loaded here, since the container's
    /// root has none; threads must not be started.
    ///
    /// # Errors
    /// Anything that says that the container cannot be run.
    fn prepare(&self, request: &HandlerRequest<'_>) -> Result<Box<dyn HandlerProcess>>;
}

/// A handler at work for one container.
pub trait HandlerProcess {
    /// Files to be made in the root file system.
    fn files(&self) -> Vec<RootFile> {
        Vec::new()
    }

    /// Descriptors of the parent that the child keeps, at most [`MOST_KEPT`]; all others are closed before [`run`](Self::run).
    fn keeps(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// In the child, before the container counts as created: reads and checks the program, so that a bad one is an error of `create`.
    /// Descriptors opened here are closed before [`run`](Self::run), threads must not be started.
    ///
    /// # Errors
    /// What is wrong with the program, in one line of at most about 250 bytes: the rest is cut.
    fn load(&mut self, _start: &HandlerStart) -> Result<()> {
        Ok(())
    }

    /// In the parent, when the child has loaded the program: keeps what is of use for the next container. A failure concerns nobody but the
    /// log.
    ///
    /// # Errors
    /// Anything.
    fn loaded(&mut self) -> Result<()> {
        Ok(())
    }

    /// In the child, once it is to start: runs the program; gives the exit status of the process. Standard error is the container's, where
    /// a failure is told.
    fn run(&mut self, start: &HandlerStart) -> i32;
}

/// The name of the handler that a container asks for, if any: `chosen` is what the runtime itself was called by (`crun-NAME`). The sandbox
/// container of a Kubernetes pod has none, whatever it asks for.
///
/// # Errors
/// Both ask for one (EACCES, in crun's words).
pub fn wanted<'a>(chosen: Option<&'a str>, spec: &'a Spec<'_>) -> Result<Option<&'a str>> {
    if spec.annotation(CONTAINER_TYPE) == Some("sandbox") {
        return Ok(None);
    }
    let named = spec.annotation(HANDLER).filter(|name| !name.is_empty());
    if let Some(chosen) = chosen.filter(|_| named.is_some()) {
        return Err(Error::sys(EACCES, format!("invalid attempt to override already configured global handler: `{chosen}`")));
    }
    let smart = || is_wasm(spec).then_some("wasm");
    Ok(match (chosen.or(named), spec.annotation(WASM_VARIANT)) {
        (Some("wasm-smart"), _) => smart(),
        (Some("mono"), _) => Some("dotnet"),
        (Some(name), _) => Some(name),
        (None, Some("compat")) => Some("wasm"),
        (None, Some("compat-smart")) => smart(),
        (None, _) => None,
    })
}

/// Whether the program is WebAssembly by its name.
fn is_wasm(spec: &Spec<'_>) -> bool {
    let program = spec.process.as_ref().and_then(|p| p.args.first());
    program.is_some_and(|name| name.ends_with(".wasm") || name.ends_with(".wat"))
}

/// The handler of a name among `handlers`. Where several go by it, such as `wasm`, it is the first that can be used on this machine, and the first of
/// all where none can.
///
/// # Errors
/// [`ErrorKind::NoHandler`]: it is not there.
pub fn find<'h>(handlers: &'h [Box<dyn Handler>], name: &str) -> Result<&'h dyn Handler> {
    let named = || handlers.iter().filter(|h| h.name() == name || h.aliases().contains(&name));
    let found = match named().nth(1) {
        Some(_) => named().find(|h| h.usable().is_ok()).or(named().next()),
        None => named().next(),
    };
    found.map(|h| &**h).ok_or_else(|| {
        Error::new(
            ErrorKind::NoHandler,
            match KNOWN.iter().find(|(known, _)| *known == name) {
                Some((_, needs)) => format!("the handler `{name}` is not built in: it {needs}"),
                None => format!("unknown handler `{name}`"),
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(chosen: Option<&str>, annotations: &str, program: &str) -> String {
        let text = format!(r#"{{"ociVersion":"1.0.0","process":{{"cwd":"/","args":["{program}"]}},"annotations":{{{annotations}}}}}"#);
        let spec = Spec::parse(text.as_bytes()).unwrap();
        wanted(chosen, &spec).map_or_else(|e| e.to_string(), |name| name.unwrap_or("-").to_owned())
    }

    #[test]
    fn how_a_container_asks_for_one() {
        let handler = |name| format!(r#""run.oci.handler":"{name}""#);
        let variant = |word| format!(r#""module.wasm.image/variant":"{word}""#);
        let sandbox = r#""io.kubernetes.cri.container-type":"sandbox","run.oci.handler":"wasm""#;
        for (chosen, annotations, program, want) in [
            (None, String::new(), "/x.wasm", "-"),
            (None, handler(""), "/x.wasm", "-"),
            (None, handler("krun"), "/bin/sh", "krun"),
            (None, handler("mono"), "/x.dll", "dotnet"),
            (None, handler("wasm-smart"), "/bin/sh", "-"),
            (None, handler("wasm-smart"), "/x.wat", "wasm"),
            (None, variant("compat"), "/bin/sh", "wasm"),
            (None, variant("compat-smart"), "/bin/sh", "-"),
            (None, variant("compat-smart"), "x.wasm", "wasm"),
            (None, variant("other"), "x.wasm", "-"),
            (None, format!("{},{}", handler("wasmedge"), variant("compat")), "/x", "wasmedge"),
            (Some("wasm"), String::new(), "/bin/sh", "wasm"),
            (Some("wasm"), variant("compat-smart"), "/bin/sh", "wasm"),
            (
                Some("krun"),
                handler("wasm"),
                "/x",
                "invalid attempt to override already configured global handler: `krun`: Permission denied",
            ),
            (None, sandbox.to_owned(), "/pause", "-"),
            (Some("krun"), sandbox.to_owned(), "/pause", "-"),
        ] {
            assert_eq!(asked(chosen, &annotations, program), want, "{chosen:?} {annotations} {program}");
        }
    }

    /// Its name, and whether it can be used.
    struct Named(&'static str, bool);
    impl Handler for Named {
        fn name(&self) -> &'static str {
            self.0
        }
        fn aliases(&self) -> &'static [&'static str] {
            &["wasm"]
        }
        fn tag(&self) -> &'static str {
            "WASM"
        }
        fn usable(&self) -> Result<()> {
            if self.1 { Ok(()) } else { Err(Error::other("no library")) }
        }
        fn prepare(&self, _: &HandlerRequest<'_>) -> Result<Box<dyn HandlerProcess>> {
            Err(Error::other("not asked for here"))
        }
    }

    #[test]
    fn the_first_of_a_name_that_can_be_used_has_it() {
        let of = |a, b| -> Vec<Box<dyn Handler>> { vec![Box::new(Named("a", a)), Box::new(Named("b", b))] };
        for (a, b, want) in [(true, true, "a"), (true, false, "a"), (false, true, "b"), (false, false, "a")] {
            assert_eq!(find(&of(a, b), "wasm").unwrap().name(), want);
        }
        // By its own name it is found though it cannot be used: why, it says itself.
        assert_eq!(find(&of(true, false), "b").unwrap().name(), "b");
        let handlers = of(true, true);
        let found = |name| find(&handlers, name).map_or_else(|e| format!("{:?}: {e}", e.kind()), |h| h.name().to_owned());
        assert_eq!((found("wasm"), found("b")), ("a".to_owned(), "b".to_owned()));
        assert_eq!(found("c"), "NoHandler: unknown handler `c`");
        assert_eq!(found("krun"), "NoHandler: the handler `krun` is not built in: it needs the feature krun");
    }
}
