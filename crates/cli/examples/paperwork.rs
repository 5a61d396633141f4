//! Writes the man pages, dated by SOURCE_DATE_EPOCH, and the completions of shells into a directory, from the very definitions by which the program reads its command line
//! and from the table of annotations. A program of its own, so that the runtime carries none of it: `cargo xtask dist` runs it.
//!
//! Here: what a page says beside the options, and what a shell is told that the parser does not need. Not here: the options themselves.
#![allow(dead_code, reason = "the program's own modules, of which only the definitions are used here")]

#[path = "../src/args.rs"]
mod args;
#[path = "../src/cmd/mod.rs"]
mod cmd;
#[path = "../src/global.rs"]
mod global;
#[path = "../src/output.rs"]
mod output;
#[path = "../src/persona.rs"]
mod persona;
#[path = "../src/regex.rs"]
mod regex;
#[path = "../src/version.rs"]
mod version;
#[path = "../src/wire.rs"]
mod wire;

use std::ffi::OsString;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use args::Typed;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use persona::Persona;
use runtime_core::Timestamp;
use runtime_core::api::annotations::ANNOTATIONS;

const PROGRAM: &str = "pinnace";

/// What a shell offers for options whose values are words: command, option, words. The program checks them itself, in crun's words.
const WORDS: [(&str, &str, &[&str]); 9] = [
    ("", "cgroup-manager", &["cgroupfs", "systemd", "disabled"]),
    ("", "log-format", &["text", "json"]),
    ("", "log-level", &["error", "warning", "debug"]),
    ("list", "format", &["table", "json"]),
    ("ps", "format", &["table", "json"]),
    ("checkpoint", "network-lock", &["iptables", "nftables", "skip"]),
    ("checkpoint", "manage-cgroups-mode", &["soft", "ignore", "full", "strict"]),
    ("restore", "network-lock", &["iptables", "nftables", "skip"]),
    ("restore", "manage-cgroups-mode", &["soft", "ignore", "full", "strict"]),
];

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| Error::other("usage: paperwork DIRECTORY"))?;
    pages(&directory.join("man"))?;
    completions(&directory.join("completions"))
}

/// A page for the program and one for each command.
fn pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    write_page(directory, PROGRAM, &program_page()?)?;
    for command in cmd::ALL {
        write_page(directory, &format!("{PROGRAM}-{}", command.name), &command_page(command)?)?;
    }
    Ok(())
}

fn write_page(directory: &Path, name: &str, page: &[u8]) -> Result<()> {
    fs::write(directory.join(format!("{name}.1")), page)
}

/// The page's frame. The date is that of the sources, so that equal sources give equal pages.
fn man(definition: Command, name: &str) -> Result<Man> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let epoch = epoch.ok_or_else(|| Error::other("SOURCE_DATE_EPOCH is not set to seconds: the date of the pages"))?;
    let date = Timestamp::from_unix(epoch, 0).to_string();
    let date = date.split('T').next().unwrap_or_default();
    let man = Man::new(definition)
        .date(date)
        .title(name.to_uppercase())
        .section("1")
        .source(format!("{PROGRAM} {}", version::VERSION))
        .manual("User Commands");
    Ok(man)
}

fn program_page() -> Result<Vec<u8>> {
    let man = man(global::definition(Persona::Pinnace, Typed::ALL).about("run containers by the OCI runtime specification"), PROGRAM)?;
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let mut text = Roff::new();
    text.control("SH", ["DESCRIPTION"]);
    first_paragraph(
        &mut text,
        "pinnace makes, starts and removes the containers that bundles describe: a directory with a config.json and a root file system. It takes crun's place below podman, buildah, CRI-O, containerd and Docker, which call it.",
    );
    paragraph(
        &mut text,
        "Called by the name crun, it answers as crun and uses its state directory. A name that ends in a handler's, pinnace-wasm or krun for example, gives that handler to every container.",
    );
    text.control("SH", ["COMMANDS"]);
    for command in cmd::ALL {
        item(&mut text, &format!("{PROGRAM}-{}(1)", command.name), command.about);
    }
    text.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut text = Roff::new();
    paragraph(&mut text, "Long options may be shortened as far as they stay unambiguous.");
    text.control("SH", ["ANNOTATIONS"]);
    first_paragraph(&mut text, "What a configuration can ask for by annotations, and what holds without them.");
    for annotation in ANNOTATIONS {
        let name = if annotation.name.ends_with('.') { format!("{}NAME", annotation.name) } else { annotation.name.to_owned() };
        item(&mut text, &name, &format!("{}. Without it: {}.", plain(annotation.meaning), plain(annotation.default)));
    }
    text.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        ("0", "The command did what it was told."),
        ("1", "It failed; one message says why."),
        ("64", "The command line is wrong."),
        ("N, 128+N", "Of run and exec in the foreground: the status of the container's process, or the signal N that ended it."),
    ] {
        item(&mut text, status, meaning);
    }
    text.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in [
        ("XDG_RUNTIME_DIR", "Directory that the state directory is in, where it is set and --root is not given."),
        ("NOTIFY_SOCKET", "The service manager's socket: the container gets one of its own, whose messages are passed on."),
        ("LISTEN_FDS", "Number of descriptors from 3 on that the container inherits; see sd_listen_fds(3)."),
        ("RUN_OCI_SECCOMP_RECEIVER", "As the annotation run.oci.seccomp.receiver."),
        ("PINNACE_PROFILE", "File that gets the time of each phase of a start: a table, or a trace where its name ends in .json."),
    ] {
        item(&mut text, name, meaning);
    }
    text.control("SH", ["FILES"]);
    for (name, meaning) in [
        ("/run/pinnace", "State of containers."),
        (
            "/usr/libexec/pinnace/pinnace-handlers",
            "The program with the handlers, which may also lie beside pinnace. Containers that ask for one are handed over to it.",
        ),
        ("/usr/share/pinnace/engines", "Configuration for engines, to be copied."),
    ] {
        item(&mut text, name, meaning);
    }
    let commands = cmd::ALL.iter().map(|command| format!("{PROGRAM}-{}(1)", command.name));
    see_also(&mut text, commands.chain(["podman(1)".to_owned(), "crun(1)".to_owned(), "criu(8)".to_owned()]));
    text.to_writer(&mut page)?;
    Ok(page)
}

fn command_page(command: &cmd::Command) -> Result<Vec<u8>> {
    let definition = (command.options)(Typed::ALL);
    let usage = definition.get_overridden_usage().ok_or_else(|| Error::other(format!("{} has no usage", command.name)))?;
    let usage = format!("{PROGRAM} [GLOBAL OPTION]... {usage}");
    let name = format!("{PROGRAM}-{}", command.name);
    let description = definition.get_about().map(ToString::to_string).unwrap_or_default();
    // The name's line is `NAME - what it does`, the description says more.
    let man =
        man(definition.override_usage(usage).display_name(name.clone()).about(command.about).long_about(format!("{description}.")), &name)?;
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut text = Roff::new();
    see_also(&mut text, [format!("{PROGRAM}(1)")].into_iter());
    text.to_writer(&mut page)?;
    Ok(page)
}

fn first_paragraph(text: &mut Roff, words: &str) {
    text.text([roman(words)]);
}

fn paragraph(text: &mut Roff, words: &str) {
    text.control("PP", []);
    first_paragraph(text, words);
}

fn item(text: &mut Roff, name: &str, meaning: &str) {
    text.control("TP", []);
    text.text([bold(name)]);
    text.text([roman(meaning)]);
}

fn see_also(text: &mut Roff, pages: impl Iterator<Item = String>) {
    text.control("SH", ["SEE ALSO"]);
    text.text([roman(pages.collect::<Vec<_>>().join(", "))]);
}

/// The table's Markdown without its backticks.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn completions(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    check_words()?;
    let mut whole = whole();
    for (shell, name) in [(Shell::Bash, "pinnace"), (Shell::Zsh, "_pinnace"), (Shell::Fish, "pinnace.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut whole, PROGRAM, &mut script);
        fs::write(directory.join(name), script)?;
    }
    Ok(())
}

/// The program with all its commands, which it never builds at once.
fn whole() -> Command {
    let commands = cmd::ALL.iter().map(|command| {
        let mut definition = (command.options)(Typed::ALL).about(command.about);
        if command.name == "mounts" {
            definition = definition.subcommands([Command::new("add").about("add mounts"), Command::new("remove").about("remove mounts")]);
        }
        for_shells(definition, command.name)
    });
    for_shells(global::definition(Persona::Pinnace, Typed::ALL), "").allow_external_subcommands(false).subcommands(commands)
}

/// `-h` stands for `-?`, which shells take for a pattern; options of words get their words, those of paths a hint.
fn for_shells(mut definition: Command, name: &str) -> Command {
    let options: Vec<String> = definition.get_arguments().map(|option| option.get_id().to_string()).collect();
    for option in options {
        definition = definition.mut_arg(&option, |arg| match words(name, &option) {
            Some(words) => arg.value_parser(words.to_vec()),
            None if option == "help" => arg.short_alias(None).short('h'),
            None => hinted(arg),
        });
    }
    definition
}

fn words(command: &str, option: &str) -> Option<&'static [&'static str]> {
    WORDS.iter().find(|(of, name, _)| *of == command && *name == option).map(|(_, _, words)| *words)
}

fn hinted(arg: Arg) -> Arg {
    let hint = match arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()) {
        Some("DIR") => ValueHint::DirPath,
        Some("FILE" | "PATH" | "SOCKET") => ValueHint::FilePath,
        _ => return arg,
    };
    arg.value_hint(hint)
}

/// What shells offer is what the program takes: each option exists, and the global ones are read as the program reads them.
fn check_words() -> Result<()> {
    for (command, option, words) in WORDS {
        let definition = match cmd::ALL.iter().find(|known| known.name == command) {
            Some(known) => (known.options)(Typed::ALL),
            None => global::definition(Persona::Pinnace, Typed::ALL),
        };
        if !definition.get_arguments().any(|arg| arg.get_long() == Some(option)) {
            return Err(Error::other(format!("{command} has no option --{option}")));
        }
        for word in words.iter().filter(|_| command.is_empty()) {
            let line = [OsString::from(format!("--{option}={word}"))];
            let options = global::parse(Persona::Pinnace, &line).map_err(|stop| Error::other(format!("{stop:?}")))?.options;
            global::cgroup_manager(&options).and(global::log_settings(&options).map(drop)).map_err(|e| Error::other(e.to_string()))?;
        }
    }
    Ok(())
}
