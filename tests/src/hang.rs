//! What a call that does not end is doing. Not here: when that is asked (`command`).

use std::fmt::Write;
use std::fs;

/// A process and all below it, a line each: id, name, state, where in the kernel it waits, its system call; as root the kernel's stack, too.
pub(crate) fn told(pid: u32) -> String {
    let mut text = String::new();
    for pid in tree(pid) {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let state = file("status").lines().find_map(|line| line.strip_prefix("State:").map(|s| s.trim().to_owned()));
        let (name, place, call) = (file("comm"), file("wchan"), file("syscall"));
        let _ = writeln!(text, "{pid} {}: {} in {place}, call {}", name.trim(), state.unwrap_or_default(), call.trim());
        let _ = write!(text, "{}", file("stack"));
    }
    text
}

/// `pid` and what descends from it, parents first.
fn tree(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // proc_pid_stat(5): the name, which may have anything in it, ends at the last parenthesis.
            let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&above) = all.get(next) {
        all.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_those_below_are_told() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let text = told(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        let own = text.lines().position(|line| line.starts_with(&format!("{} ", std::process::id())));
        let below = text.lines().position(|line| line.starts_with(&format!("{} ", child.id())));
        assert!(own.is_some() && own < below, "{text}");
    }
}
