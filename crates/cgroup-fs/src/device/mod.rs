//! Device rules: what they mean, and the program that enforces them on v2. Not here: the files of v1 (`knobs`).

mod attach;
mod pin;
mod program;
mod rules;

pub(crate) use attach::enforce;
pub use pin::{can_pin, pin, repin, unpin};
pub use program::{Insn, program};
pub use rules::{ALL_ACCESS, DEFAULTS, Kind, MKNOD, READ, Rule, WRITE, allows_everything, parse};
