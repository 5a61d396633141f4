//! The integration tests, one file an area. One program, so that it links once and libtest runs all areas in parallel.

mod create_start;
mod exec;
mod mounts;
mod process;
mod run;
