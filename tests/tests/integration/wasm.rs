//! Containers that are WebAssembly, by each engine, in a build that has them (`cargo xtask handlers`), which the runtime hands over to. Wasmer's
//! library is a stand-in (`crates/wasm/tests/stand-in/wasmer.rs`). Not here: what happens where there is no handler (`handlers`).
//!
//! | variable | meaning |
//! |---|---|
//! | `PINNACE_HANDLERS` | the program with the handlers, which finds the libraries of engines |
//! | `PINNACE_HANDLERS_ALONE` | the same program as it was built, which finds what the machine has |
//! | `PINNACE_ENGINES` | the engines that can be used, separated by commas |
//! | `PINNACE_WASM_PROGRAM` | `tests/wasm/tell.rs`, compiled |

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Container, Need, Test, Value, json, pinnace_only};

const NEED: Need = Need::Variable("PINNACE_HANDLERS");
/// Engines that are part of the program.
const BUILT_IN: [&str; 2] = ["wasmtime", "wasmi"];
/// Engines that are libraries, with their names.
const LIBRARIES: [(&str, &str); 3] = [("wasmedge", "libwasmedge.so.0"), ("wamr", "libiwasm.so"), ("wasmer", "libwasmer.so")];

/// The engines that can be used here.
fn engines() -> Vec<&'static str> {
    let named = std::env::var("PINNACE_ENGINES").unwrap_or_else(|_| BUILT_IN.join(","));
    BUILT_IN.into_iter().chain(LIBRARIES.map(|(name, _)| name)).filter(|engine| named.split(',').any(|name| name == *engine)).collect()
}

/// The runtime with the program beside it that has the handlers.
fn beside(t: Test) -> Test {
    let dir = t.dir().join("bin");
    fs::create_dir(&dir).unwrap();
    symlink(&t.runtime.path, dir.join("pinnace")).unwrap();
    symlink(std::env::var("PINNACE_HANDLERS").unwrap(), dir.join("pinnace-handlers")).unwrap();
    t.with_binary(&dir.join("pinnace"))
}

fn module(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wasm").join(name)
}

/// A container whose program is one of the modules, without the right to execute it.
fn wasm<'t>(t: &'t Test, handler: &str, name: &str, args: &[&str]) -> Container<'t> {
    let c = t.container();
    let at = c.rootfs().join(name);
    fs::copy(module(name), &at).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o644)).unwrap();
    let program = format!("/{name}");
    c.args(&[&[program.as_str()], args].concat());
    c.edit(|s| s["annotations"]["run.oci.handler"] = handler.into());
    c
}

#[test]
fn files_arguments_environment_and_exit_status() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        let c = wasm(&t, engine, "tell.wat", &["-a", "b c"]);
        fs::create_dir_all(c.rootfs().join("data")).unwrap();
        fs::write(c.rootfs().join("data/in"), "what is in it\n").unwrap();
        fs::create_dir_all(c.rootfs().join("work")).unwrap();
        c.edit(|s| {
            s["process"]["cwd"] = "/work".into();
            s["process"]["env"] = json!(["A=1", "B=x=y"]);
            s["root"]["readonly"] = false.into();
        });
        let out = c.run().code(7).stdout();
        assert_eq!(out, "/tell.wat\0-a\0b c\0A=1\0B=x=y\0HOME=/\0what is in it\n", "{engine}");
        assert_eq!(fs::read_to_string(c.rootfs().join("work/out")).unwrap(), "what is in it\n", "{engine}");
        c.leaves_nothing();
    }
}

#[test]
fn engines_that_are_missing_are_named() {
    let _ = pinnace_only!(NEED);
    for (engine, library) in LIBRARIES.iter().filter(|(engine, _)| !engines().contains(engine)) {
        harness::report_skip(&format!("wasm by {engine}"), &format!("needs {library} (cargo xtask handlers says why it is not there)"));
    }
}

/// What a user would bring: a program with the standard library of a language, compiled by the compiler of a distribution.
#[test]
fn a_program_of_rusts_runs() {
    let t = beside(pinnace_only!(NEED, Need::Variable("PINNACE_WASM_PROGRAM")));
    for engine in engines() {
        for (cwd, from, to) in [("/", "/data/in", "/data/out"), ("/data", "in", "out")] {
            let c = wasm(&t, engine, "trap.wat", &[]);
            fs::copy(std::env::var("PINNACE_WASM_PROGRAM").unwrap(), c.rootfs().join("tell.wasm")).unwrap();
            fs::create_dir_all(c.rootfs().join("data")).unwrap();
            fs::write(c.rootfs().join("data/in"), "to be\nor not to be\n").unwrap();
            c.args(&["/tell.wasm", from, to, "41"]);
            c.edit(|s| {
                s["process"]["cwd"] = cwd.into();
                s["process"]["env"] = json!(["TELL_B=x=ü", "OTHER=1", "TELL_A="]);
                s["root"]["readonly"] = false.into();
            });
            let out = c.run().code(41);
            let arguments = format!("arguments [\"/tell.wasm\", {from:?}, {to:?}, \"41\"]\n");
            assert_eq!(out.stdout(), format!("{arguments}variables {{\"TELL_A\": \"\", \"TELL_B\": \"x=ü\"}}\n"), "{engine}");
            assert_eq!(out.stderr(), format!("{from} has 4 words\n"), "{engine}");
            assert_eq!(fs::read_to_string(c.rootfs().join("data/out")).unwrap(), "be 2\nnot 1\nor 1\nto 2\n", "{engine}");
            c.leaves_nothing();
            // A panic is a trap, told by the program itself.
            c.args(&["/tell.wasm", "nothing", to, "41"]);
            let out = c.run().code(134);
            assert!(out.stderr().contains("panicked at") && out.stderr().contains("the file to read"), "{engine}: {out}");
        }
    }
}

#[test]
fn a_library_that_is_missing_is_named() {
    let t = pinnace_only!(NEED, Need::Variable("PINNACE_HANDLERS_ALONE"));
    let t = t.with_binary(Path::new(&std::env::var("PINNACE_HANDLERS_ALONE").unwrap()));
    let features: Value = t.bare().arg("features").ok().json();
    let mut seen = 0;
    for (engine, library) in LIBRARIES {
        let why = features["annotations"][format!("run.oci.pinnace.handler.{engine}")].as_str().unwrap();
        if why == "usable" {
            continue;
        }
        seen += 1;
        assert!(why.starts_with(&format!("failed to open `{library}`: ")) && !why.contains('\n'), "{why}");
        let c = wasm(&t, engine, "trap.wat", &[]);
        c.refused(&[&format!("the handler `{engine}` cannot be used: failed to open `{library}`: ")]);
        c.leaves_nothing();
    }
    assert_ne!(seen, 0, "no engine is missing on this machine");
    // Whatever is missing, one by the name of all is there.
    let c = wasm(&t, "wasm", "component.wat", &[]);
    assert_eq!(c.run().code(1).stdout(), "a component speaks\n");
}

#[test]
fn what_an_engine_cannot_run_is_told() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        let begin = format!("load `/trap.wat` with the handler `{engine}`: ");
        if engine != "wasmtime" {
            let c = wasm(&t, engine, "trap.wat", &[]);
            fs::copy(module("component.wat"), c.rootfs().join("trap.wat")).unwrap();
            c.refused(&[&begin, "component"]);
        }
        let c = wasm(&t, engine, "trap.wat", &[]);
        let most = 256 << 20;
        fs::File::create(c.rootfs().join("trap.wat")).unwrap().set_len(most + 1).unwrap();
        c.refused(&[&begin, "`/trap.wat` is larger than the 256 MiB that a program may have"]);
        c.leaves_nothing();
        // What nobody offers it.
        let c = wasm(&t, engine, "trap.wat", &[]);
        let program = r#"(module (import "nobody" "offers" (func $f)) (memory (export "memory") 1) (func (export "_start") (call $f)))"#;
        fs::write(c.rootfs().join("trap.wat"), program).unwrap();
        c.run().code(134);
        c.leaves_nothing();
    }
}

#[test]
fn a_component_runs() {
    let t = beside(pinnace_only!(NEED));
    let c = wasm(&t, "wasm", "component.wat", &[]);
    assert_eq!(c.run().code(1).stdout(), "a component speaks\n");
    c.leaves_nothing();
}

#[test]
fn every_way_to_ask_for_it() {
    let t = beside(pinnace_only!(NEED));
    for variant in ["compat", "compat-smart"] {
        let c = wasm(&t, "", "component.wat", &[]);
        c.edit(|s| s["annotations"] = json!({ "module.wasm.image/variant": variant }));
        assert_eq!(c.run().code(1).stdout(), "a component speaks\n", "{variant}");
    }
    let c = wasm(&t, "", "component.wat", &[]);
    for name in ["crun-wasm", "pinnace-wasmtime"] {
        // Called by another name, in the directory where the other program is.
        let name = t.dir().join("bin").join(name);
        let out = c.launch("run", &[]).argv0(name.to_str().unwrap()).output().code(1);
        assert_eq!(out.stdout(), "a component speaks\n", "{out}");
    }
    let features = t.bare().argv0("pinnace").arg("features").ok().json();
    assert_eq!(features["annotations"].get("run.oci.pinnace.handler.wasmtime"), None, "the runtime itself has none");
}

#[test]
fn a_broken_module_is_one_clear_line() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        for (content, text) in
            [(&b"\0asm\x01\0\0\0\x01\xff"[..], ""), (b"no module at all", ""), (b"", ""), (b"(module)", "exports no function `_start`")]
        {
            let c = wasm(&t, engine, "trap.wat", &[]);
            fs::write(c.rootfs().join("trap.wat"), content).unwrap();
            let begin = format!("load `/trap.wat` with the handler `{engine}`: ");
            let out = c.run().fails_with(&[&begin, text]);
            assert_eq!(out.stderr().lines().count(), 1, "{out}");
            c.leaves_nothing();
        }
        // What is missing is told as for any program.
        let c = wasm(&t, engine, "trap.wat", &[]);
        c.args(&["/nothing.wasm"]);
        c.refused(&["executable file `/nothing.wasm` not found in $PATH"]);
    }
}

#[test]
fn a_trap_ends_with_a_status_and_its_message() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        let c = wasm(&t, engine, "trap.wat", &[]);
        let out = c.run().code(134);
        assert!(out.stderr().contains("unreachable") && out.stderr().lines().count() == 1, "{engine}: {out}");
        c.leaves_nothing();
    }
}

#[test]
fn signals_end_it() {
    let t = beside(pinnace_only!(NEED, Need::CrunDiffers("wasm-signals")));
    for engine in engines() {
        let c = wasm(&t, engine, "wait.wat", &[]);
        let mut running = c.spawn();
        running.until("ready");
        let exec = c.exec(&[], &["/probe", "exit", "0"]).failed();
        assert!(exec.stderr().contains("the handler does not support exec"), "{exec}");
        c.kill("TERM");
        running.wait().code(143);
        c.leaves_nothing();
    }
}

#[test]
fn create_checks_and_start_runs() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        let c = wasm(&t, engine, "wait.wat", &[]);
        c.create();
        assert_eq!(c.status(), "created");
        c.start();
        c.until_status("running");
        c.kill("KILL");
        c.until_status("stopped");
        c.do_("delete");
        c.leaves_nothing();
        let c = wasm(&t, engine, "trap.wat", &[]);
        fs::write(c.rootfs().join("trap.wat"), "(module").unwrap();
        c.launch("create", &[]).output().failed();
        c.leaves_nothing();
    }
}

/// There is no execve that would replace what the runtime's caller gave it.
#[test]
fn nothing_of_the_runtime_is_to_be_seen() {
    let t = beside(pinnace_only!(NEED, Need::CrunDiffers("wasm-environment")));
    for engine in engines() {
        let show = |file: &str| {
            let c = wasm(&t, engine, "show.wat", &[file]);
            c.launch("run", &[]).env("PINNACE_TEST_SECRET", "of the caller").output().code(0).stdout()
        };
        assert!(show("proc/self/environ").trim_matches('\0').is_empty(), "{engine}");
        assert!(show("proc/self/cmdline").starts_with("/show.wat\0proc/self/cmdline\0\0"), "{engine}");
        assert_eq!(show("proc/self/comm"), "show.wat\n", "{engine}");
    }
}

/// As execve would leave it, for an unprivileged process and for root.
#[test]
fn capabilities_are_those_of_a_program() {
    let t = beside(pinnace_only!(NEED, Need::Root));
    for engine in engines() {
        for (uid, caps, wanted) in [(0, json!(["CAP_KILL", "CAP_CHOWN"]), 0x21), (1000, json!(["CAP_KILL"]), 0)] {
            let c = wasm(&t, engine, "show.wat", &["proc/self/status"]);
            c.edit(|s| {
                s["process"]["user"] = json!({ "uid": uid, "gid": uid });
                s["process"]["capabilities"] =
                    json!({ "bounding": caps, "permitted": caps, "effective": caps, "inheritable": [], "ambient": [] });
            });
            let status = c.run().code(0).stdout();
            let set = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            assert_eq!((set("CapPrm:"), set("CapEff:")), (wanted, wanted), "{engine} {uid}: {status}");
        }
    }
}

#[test]
fn descriptors_of_the_runtime_are_closed() {
    let t = beside(pinnace_only!(NEED));
    for engine in engines() {
        let c = wasm(&t, engine, "wait.wat", &[]);
        let mut running = c.spawn();
        running.until("ready");
        let fds = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().map(|fd| fd.unwrap());
        let own = fds.filter(|fd| !["0", "1", "2"].iter().any(|n| fd.file_name() == **n));
        let links: Vec<String> = own.map(|fd| fs::read_link(fd.path()).unwrap().display().to_string()).collect();
        // Its two directories, and what the engine waits with.
        let waits = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"];
        let odd = links.iter().filter(|l| *l != "/" && !waits.contains(&l.as_str()));
        assert_eq!(odd.collect::<Vec<_>>(), [""; 0], "{engine}");
        assert_eq!(links.iter().filter(|l| *l == "/").count(), 2, "{engine}: {links:?}");
        c.kill("KILL");
        running.wait();
    }
}

/// Names of the files of compiled code.
fn kept(t: &Test) -> Vec<PathBuf> {
    let dir = t.root().join(".cache/wasm");
    fs::read_dir(dir).map(|list| list.map(|e| e.unwrap().path()).collect()).unwrap_or_default()
}

#[test]
fn compiled_code_is_kept_and_found() {
    let t = beside(pinnace_only!(NEED));
    let c = wasm(&t, "wasmtime", "component.wat", &[]);
    c.run().code(1);
    let files = kept(&t);
    assert_eq!(files.len(), 1, "{files:?}");
    let meta = fs::metadata(&files[0]).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    // It is used: nothing is written again, neither by this container nor by another with the same program.
    std::thread::sleep(Duration::from_millis(20));
    c.run().code(1);
    wasm(&t, "wasmtime", "component.wat", &[]).run().code(1);
    assert_eq!(kept(&t), files);
    assert_eq!(fs::metadata(&files[0]).unwrap().modified().unwrap(), meta.modified().unwrap());
    // Damage is noticed, and what others could have written is not read.
    let good = fs::read(&files[0]).unwrap();
    fs::write(&files[0], [&good[..good.len() - 1], b"x"].concat()).unwrap();
    assert_eq!(c.run().code(1).stdout(), "a component speaks\n");
    fs::set_permissions(&files[0], fs::Permissions::from_mode(0o666)).unwrap();
    let out = c.global(&["--debug"]).run().code(1);
    assert!(out.stderr().contains("is no file of ours"), "{out}");
}

#[test]
fn a_cache_that_others_can_enter_is_not_used() {
    let t = beside(pinnace_only!(NEED));
    let dir = t.root().join(".cache/wasm");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let c = wasm(&t, "wasmtime", "component.wat", &[]);
    assert_eq!(c.run().code(1).stdout(), "a component speaks\n");
    assert_eq!(kept(&t).len(), 0);
}

#[test]
fn features_and_version_list_them() {
    let t = pinnace_only!(NEED);
    let t = t.with_binary(Path::new(&std::env::var("PINNACE_HANDLERS").unwrap()));
    let version = t.bare().arg("--version").ok().stdout();
    assert!(version.contains(" +WASM:wasmtime +WASM:wasmi +WASM:wasmedge +WASM:wamr +WASM:wasmer"), "{version}");
    let features: Value = t.bare().arg("features").ok().json();
    for engine in engines() {
        assert_eq!(features["annotations"][format!("run.oci.pinnace.handler.{engine}")], "usable");
    }
    let c = t.container();
    c.edit(|s| s["annotations"]["run.oci.handler"] = "spin".into());
    // It has nobody to hand it over to.
    let out = c.refused(&["the handler `spin` is not built in: it needs "]);
    assert!(!out.stderr().contains("pinnace-handlers"), "{out}");
}
