//! A program for the tests of WebAssembly, compiled for WASI preview 1 by `cargo xtask handlers`: an ordinary program of Rust's, with its standard
//! library, as a user of an engine would write it. Not here: what the tests want of it (`tests/integration/wasm.rs`).
//!
//! Its arguments are a file to read, a file to write and an exit status. Kept to the Rust of 2021, since the compiler is the distribution's, and
//! away from the size of files, which the WAMR of the tests, of 2020, gives in the layout of an earlier WASI.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::{env, process};

fn main() {
    let args: Vec<String> = env::args().collect();
    let (from, to, status) = (&args[1], &args[2], args[3].parse().expect("an exit status"));
    let variables: BTreeMap<String, String> = env::vars().filter(|(name, _)| name.starts_with("TELL_")).collect();
    println!("arguments {:?}", args);
    println!("variables {:?}", variables);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in BufReader::new(File::open(from).expect("the file to read")).lines() {
        for word in line.expect("a line").split_whitespace() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    let mut output = BufWriter::new(File::create(to).expect("the file to write"));
    for (word, count) in &counts {
        writeln!(output, "{} {}", word, count).expect("write");
    }
    output.flush().expect("write");
    eprintln!("{} has {} words", from, counts.len());
    process::exit(status);
}
