//! The functions of a start side by side in the program: `cargo xtask order` finds out which they are, [`link`] puts them there.
//!
//! The kernel makes 64 KiB of a program resident at a page fault. Functions stand in a program as their crates do, so that those of a start, a sixth
//! of all, made nearly all of it resident, fault by fault. Here: the list and the second link. Not here: who asks for it (`dist`, `bench`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use crate::bench::bundle;
use crate::store::{capture, execute, workspace};
use crate::{binaries, host};

/// The word behind which the part in the private view begins.
pub const INNER: &str = "order-in-view";

/// Names of the functions, as a person reads them and without the hashes of a compiler, in the order they shall have.
const LIST: &str = "crates/cli/start.functions";

/// Names tell instances of a generic function apart: by the older mangling all have the same but for a hash.
pub const FLAGS: &str = "-C symbol-mangling-version=v0";

/// Modules that run in the process which becomes the container: what it does before its execve is not counted.
const CHILD: [&str; 4] = ["runtime_core::init", "<runtime_core::init", "runtime_core::sys", "<runtime_core::sys"];

/// What is executed, and valgrind does not see: it shows programs no vDSO, which the C library would look into, and the process that becomes the
/// container does not end as one that is counted.
const UNSEEN: [&str; 14] = [
    "_dl_new_object",
    "_dl_setup_hash",
    "_dl_vdso_vsym",
    "_dl_lookup_symbol_x",
    "do_lookup_x",
    "check_match",
    "_dl_add_to_namespace_list",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "umask",
    "fstatfs64",
    "syscall",
    "_exit",
    "recv",
];

const VALGRIND: host::Need = host::Need::new(host::Sign::Program("valgrind"), "counts what a program executes", "valgrind", "valgrind");

/// What containers are started and looked after with: the bundle, then the words.
const COMMANDS: [(&str, &[&str]); 10] = [
    ("plain", &["run", "pinnace-order-a"]),
    ("lasting", &["create", "pinnace-order-b"]),
    ("lasting", &["start", "pinnace-order-b"]),
    ("lasting", &["state", "pinnace-order-b"]),
    ("lasting", &["exec", "pinnace-order-b", "/probe", "exit", "0"]),
    ("lasting", &["exec", "--detach", "pinnace-order-b", "/probe", "exit", "0"]),
    ("lasting", &["kill", "pinnace-order-b", "KILL"]),
    ("lasting", &["delete", "--force", "pinnace-order-b"]),
    // Not started: what valgrind asks the kernel for is not all allowed.
    ("seccomp", &["create", "pinnace-order-c"]),
    ("seccomp", &["delete", "--force", "pinnace-order-c"]),
];

/// Entry of `cargo xtask order`.
///
/// # Errors
/// It is not root, or something does not build or run.
pub fn run(args: &[String]) -> Result<u8> {
    if !args.is_empty() {
        bail!("usage: cargo xtask order\n\nWrites {LIST}, from what callgrind counts.");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("order needs root: it runs containers");
    }
    host::ensure(&host::BUILD.iter().chain([&VALGRIND]).collect::<Vec<_>>())?;
    let (program, probe, in_view) = (binaries::pinnace_with_names()?, binaries::probe()?, binaries::in_view()?);
    let status = Command::new(in_view).args(["v2", "--"]).arg(std::env::current_exe()?).arg(INNER).args([&program, &probe]).status()?;
    Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

/// The part in the private view: a pure cgroup v2 layout and a tmpfs for the state.
///
/// # Errors
/// See [`run`].
pub fn run_in_view(args: &[String]) -> Result<u8> {
    let [program, probe] = args else { bail!("two programs are needed") };
    let dir = PathBuf::from("/run/pinnace-order");
    fs::create_dir(&dir).context("make a directory")?;
    let counted = count(program.as_ref(), probe.as_ref(), &dir);
    fs::remove_dir_all(&dir).context("remove the directory")?;
    let list = arranged(&counted?);
    fs::write(workspace().join(LIST), list.join("\n") + "\n").with_context(|| format!("write {LIST}"))?;
    println!("{LIST}: {} functions", list.len());
    Ok(0)
}

/// What each command executes.
fn count(program: &Path, probe: &Path, dir: &Path) -> Result<Vec<BTreeSet<String>>> {
    // valgrind keeps descriptors for itself, and lets nobody change that limit.
    let limited = |config: &mut serde_json::Value| {
        config["process"]["rlimits"] = serde_json::json!([{ "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }]);
    };
    bundle::make(dir, "plain", program, probe, limited)?;
    bundle::make(dir, "lasting", program, probe, |config| {
        limited(config);
        config["process"]["args"] = serde_json::json!(["/probe", "sleep"]);
    })?;
    bundle::make(dir, "seccomp", program, probe, |config| {
        limited(config);
        bundle::seccomp(config);
    })?;
    let root = dir.join("state");
    let mut all = Vec::new();
    for (bundle, words) in COMMANDS {
        let out = dir.join("counted");
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--tool=callgrind", "--demangle=no"]).arg(format!("--callgrind-out-file={}", out.display()));
        command.arg(program).arg("--root").arg(&root).args(words);
        let status = command.current_dir(dir.join(bundle)).stdin(Stdio::null()).stdout(Stdio::null()).status().context("start valgrind")?;
        if !status.success() {
            bail!("pinnace {}: {status}", words.join(" "));
        }
        all.push(executed(&fs::read_to_string(&out).context("read what callgrind counted")?));
    }
    Ok(all)
}

/// Names of functions in a file of callgrind's (its manual, "Callgrind Format Specification"): `fn=(ID) NAME` the first time.
fn executed(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let rest = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="))?;
        let (_, name) = rest.split_once(") ")?;
        // The second of a cycle has a number.
        Some(readable(name.split('\'').next().unwrap_or(name)))
    };
    text.lines().filter_map(name).filter(|name| !name.starts_with("0x") && !name.starts_with('(')).collect()
}

/// A symbol's name as a person reads it, without hashes and without the number of a copy.
fn readable(symbol: &str) -> String {
    let copy = symbol.rsplit_once('.').filter(|(_, number)| number.bytes().all(|b| b.is_ascii_digit()));
    format!("{:#}", rustc_demangle::demangle(copy.map_or(symbol, |(name, _)| name)))
}

/// First what most commands execute, then what a `run` does, then the rest: the page at the end of a group is shared by the next.
fn arranged(commands: &[BTreeSet<String>]) -> Vec<String> {
    let mut often: BTreeMap<&String, usize> = BTreeMap::new();
    commands.iter().flatten().for_each(|name| *often.entry(name).or_default() += 1);
    let run = commands.first();
    let group = |name: &String, times: usize| match run.is_some_and(|run| run.contains(name)) {
        true if times > commands.len() / 2 => 0,
        true => 1,
        false => 2,
    };
    let mut names: Vec<_> = often.into_iter().map(|(name, times)| (group(name, times), name.clone())).collect();
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}

/// Links `program` twice: the first one tells how this compiler names the functions of the list, which is in `source`, the second has them in its
/// order. `cargo` gives a cargo for each, `arguments` what it is to build; what is behind `--` goes to rustc for the program alone, so that nothing
/// else is built again.
///
/// Only where rustc links with lld, whose option this is: x86_64 with the C library of GNU, from Rust 1.90 on. Elsewhere it links once.
///
/// # Errors
/// It does not build.
pub fn link(cargo: impl Fn() -> Command, arguments: &[&str], source: &Path, program: &Path) -> Result<()> {
    let rustc = |flags: &[String]| execute(cargo().arg("rustc").args(arguments).arg("--").args(flags));
    if host::triple()? != "x86_64-unknown-linux-gnu" {
        return rustc(&[]);
    }
    rustc(&["-Cstrip=none".to_owned()])?;
    let list = fs::read_to_string(source.join(LIST)).with_context(|| format!("read {LIST}"))?;
    let program_so_far = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let (functions, variables) = (symbols(&program_so_far)?, small_variables(&program_so_far)?);
    let text = ordered(&list, &functions).into_iter().chain(variables.iter().map(String::as_str)).collect::<Vec<_>>().join("\n");
    // Another order is another file, so that cargo links again.
    let order = program.with_file_name(format!("order-{}", &blake3::hash(text.as_bytes()).to_hex()[..16]));
    fs::write(&order, text).context("write the order")?;
    let option = |text: String| format!("-Clink-arg=-Wl,{text}");
    let mut options = vec![option(format!("--symbol-ordering-file={}", order.display())), option("--no-warn-symbol-ordering".to_owned())];
    if relocates_packed(&capture(Command::new("getconf").arg("GNU_LIBC_VERSION"))?) {
        options.push(option("-z,pack-relative-relocs".to_owned()));
    }
    rustc(&options)
}

/// Whether a C library of this version (`glibc 2.36`, the first one) starts a static program whose relocations are packed (DT_RELR): a hundredth of
/// the size, all of which is read at the start.
fn relocates_packed(version: &str) -> bool {
    let number = version.trim().strip_prefix("glibc ").and_then(|number| number.split_once('.'));
    number.is_some_and(|(major, minor)| (major.parse().unwrap_or(0), minor.parse().unwrap_or(0)) >= (2, 36))
}

/// The functions of a program: what a person reads, and the symbols. A function has several where it is chosen at run time (STT_GNU_IFUNC): of
/// those lld orders by the one that is local, of the function that chooses.
fn symbols(program: &[u8]) -> Result<BTreeMap<String, Vec<String>>> {
    let file = object::File::parse(program).context("read the program's symbols")?;
    let functions = || file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && !symbol.is_undefined());
    let mut there: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for symbol in functions() {
        there.entry(symbol.address()).or_default().push(symbol.name().context("a symbol without a name")?.to_owned());
    }
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for symbols in there.values() {
        for name in symbols {
            all.entry(readable(name)).or_default().extend(symbols.iter().cloned());
        }
    }
    Ok(all)
}

/// Variables that begin as zeros and are smaller than a page, as they lie in the program: in a row they share pages, and those that have pages of their
/// own, of which hardly any is touched, come behind them.
fn small_variables(program: &[u8]) -> Result<Vec<String>> {
    const PAGE: u64 = 4096;
    let file = object::File::parse(program).context("read the program's symbols")?;
    let zeroed = |symbol: &object::Symbol<'_, '_>| {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        section.is_some_and(|section| section.kind() == SectionKind::UninitializedData)
    };
    let small = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Data && symbol.size() < PAGE && zeroed(symbol));
    let named: BTreeMap<u64, &str> = small.filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?))).collect();
    Ok(named.into_values().map(str::to_owned).collect())
}

/// Symbols in the order of the list; behind those that it has, the child's, and what another processor takes in place of some.
fn ordered<'a>(list: &str, symbols: &'a BTreeMap<String, Vec<String>>) -> Vec<&'a str> {
    let families: BTreeSet<&str> = list.lines().filter_map(family).collect();
    let unlisted = |name: &str| {
        UNSEEN.contains(&name) || CHILD.iter().any(|module| name.starts_with(module)) || family(name).is_some_and(|f| families.contains(f))
    };
    let child = symbols.iter().filter(|(name, _)| unlisted(name));
    let mut seen = BTreeSet::new();
    let all = list.lines().filter_map(|name| symbols.get(name)).chain(child.map(|(_, symbols)| symbols)).flatten();
    all.map(String::as_str).filter(|symbol| seen.insert(*symbol)).collect()
}

/// What functions of the C library have in common that do the same with other instructions: of `__memmove_evex_unaligned`, `__memmove`.
fn family(name: &str) -> Option<&str> {
    let end = ["_avx", "_evex", "_sse"].iter().find_map(|set| name.find(set))?;
    name.starts_with("__").then(|| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    #[test]
    fn names_have_no_hashes_and_no_numbers() {
        for (symbol, name) in [
            (
                "_RNvXsZ_NtCslNYArtu3iFV_5alloc6stringNtB5_6StringNtNtCsgEmfK2I1SDS_4core3fmt5Write10write_char.1405",
                "<alloc::string::String as core::fmt::Write>::write_char",
            ),
            ("_ZN12runtime_core4plan7compile17ha0c707360efb7482E", "runtime_core::plan::compile"),
            ("__memmove_avx_unaligned_erms", "__memmove_avx_unaligned_erms"),
            ("_dlfo_sort_mappings.part.0", "_dlfo_sort_mappings.part"),
        ] {
            assert_eq!(readable(symbol), name);
        }
    }

    #[test]
    fn functions_are_read_from_what_callgrind_wrote() {
        let text = "events: Ir\nfl=(1) ???\nfn=(3) main\n0 5\ncfn=(4) _dl_start'2\ncalls=1 0\nfn=(3)\ncfn=(7) 0x00000000000dcf70\nfn=(8) (below main)\n";
        assert_eq!(Vec::from_iter(executed(text)), ["_dl_start", "main"]);
    }

    #[test]
    fn what_most_commands_execute_comes_first() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let commands = [set(&["z", "m", "b"]), set(&["z", "a"]), set(&["z", "m"])];
        assert_eq!(arranged(&commands), ["m", "z", "b", "a"]);
    }

    #[test]
    fn a_symbol_has_the_place_of_its_first_mention() {
        let names = ["__memset_evex", "__memcpy_evex", "__memcpy_avx2", "a", "runtime_core::init::run", "other"];
        let mut symbols: BTreeMap<_, _> = names.map(|name| (name.to_owned(), vec![format!("_{name}")])).into();
        symbols.insert("b".to_owned(), vec!["_b.1".to_owned(), "_b.2".to_owned()]);
        let expected = ["_b.1", "_b.2", "___memcpy_avx2", "_a", "___memcpy_evex", "_runtime_core::init::run"];
        assert_eq!(ordered("b\nnone\n__memcpy_avx2\na\nb\n", &symbols), expected);
    }

    #[test]
    fn relocations_are_packed_from_2_36_on() {
        for (version, packed) in [("glibc 2.36\n", true), ("glibc 2.41", true), ("glibc 3.0", true), ("glibc 2.35", false), ("musl", false)]
        {
            assert_eq!(relocates_packed(version), packed, "{version}");
        }
    }

    #[test]
    fn this_program_has_functions() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(symbols(&own).unwrap().contains_key("xtask::order::tests::this_program_has_functions"));
    }

    #[test]
    fn large_variables_come_last() {
        static SMALL: AtomicU8 = AtomicU8::new(0);
        static LARGE: [AtomicU8; 5000] = [const { AtomicU8::new(0) }; 5000];
        SMALL.store(LARGE[4999].load(Ordering::Relaxed), Ordering::Relaxed);
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let names: Vec<_> = small_variables(&own).unwrap().iter().map(|name| readable(name)).collect();
        let has = |end: &str| names.iter().any(|name| name.ends_with(end));
        assert_eq!((has("large_variables_come_last::SMALL"), has("large_variables_come_last::LARGE")), (true, false));
    }
}
