//! Finding the executable, executing it, and saying why that failed. Not here: handlers (`handler`).

use super::{Child, Done, Fail, PATH_MAX, handler, resolve::PathBuffer, wire::Code, wire::Gate};
use crate::api::handler::Program;
use crate::plan::step::Lookup;
use crate::sys::{self, Argv, Errno};
use std::ffi::CStr;

impl Child<'_> {
    /// Where nothing comes between this and execve(2) that might change the answer or take note of a failure, a path is left to that.
    pub(super) fn lookup(&mut self, index: usize, l: &Lookup) -> Done {
        let check = match l.what {
            Program::Executable => check,
            Program::Readable => handler::check_readable,
            Program::Any => return Ok(()),
        };
        if l.name.is_empty() {
            return Err(Fail::new(libc::ENOENT, Code::NotInPath));
        }
        if l.dirs.is_empty() {
            self.scratch.exe.set(&[l.name.to_bytes()])?;
            let waits = matches!(self.wire.gate, Gate::Fifo(_));
            if self.handler.is_none() && !self.has_hooks && self.wire.seccomp.is_none() && !waits {
                self.unchecked = Some(index);
                return Ok(());
            }
            return check(self.scratch.exe.as_c_str());
        }
        let mut worst = Fail::new(libc::ENOENT, Code::NotInPath);
        for dir in &l.dirs {
            self.scratch.exe.set(&[dir.to_bytes(), l.name.to_bytes()])?;
            match check(self.scratch.exe.as_c_str()) {
                Ok(()) => return Ok(()),
                Err(Fail { code: Code::NotInPath, .. }) => {}
                Err(f) => worst = f,
            }
        }
        Err(worst)
    }

    pub(super) fn exec(&mut self, argv: &Argv, envp: &Argv) -> Done {
        let e = sys::execve(self.scratch.exe.as_c_str(), argv, envp, self.has_home.then(|| self.scratch.home.as_c_str()));
        if self.unchecked.is_some()
            && let Err(fail) = check(self.scratch.exe.as_c_str())
        {
            self.blamed = self.unchecked;
            return Err(fail);
        }
        if e.0 != libc::ENOENT {
            return Err(e.into());
        }
        // The file was there a moment ago, so what is missing is what interprets it.
        let code = match interpreter(self.scratch.exe.as_c_str()) {
            Some((path, code)) => {
                self.set_detail(path.as_c_str().to_bytes());
                code
            }
            None => Code::Plain,
        };
        Err(Fail::new(e.0, code))
    }
}

/// Whether a path can be executed with the ids and capabilities of now.
fn check(path: &CStr) -> Done {
    match sys::may_execute(path) {
        Ok(()) => {}
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Err(Fail::new(libc::ENOENT, Code::NotInPath)),
        Err(Errno(libc::EACCES)) => {
            // Not reachable, or reachable and not executable.
            return match sys::fstatat(libc::AT_FDCWD, path, 0) {
                Ok(st) if st.is_regular() => Err(Fail::new(libc::EPERM, Code::NotExecutable)),
                Ok(_) => Err(Fail::new(0, Code::NotRegular)),
                Err(_) => Err(Fail::new(libc::EACCES, Code::Plain)),
            };
        }
        Err(e) => return Err(e.into()),
    }
    if sys::fstatat(libc::AT_FDCWD, path, 0)?.is_regular() { Ok(()) } else { Err(Fail::new(0, Code::NotRegular)) }
}

/// The interpreter named by a script's first line (execve(2)) or by an ELF file's PT_INTERP (elf(5)).
#[inline(never)]
fn interpreter(path: &CStr) -> Option<(PathBuffer, Code)> {
    let fd = sys::openat(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK, 0).ok()?;
    let mut head = [0u8; PATH_MAX];
    let n = sys::read(fd, &mut head);
    sys::close(fd);
    let head = &head[..n.ok()?];
    let mut out = PathBuffer::new();
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?.trim_ascii();
        out.set(&[line.split(u8::is_ascii_whitespace).next()?]).ok()?;
        return Some((out, Code::ScriptInterpreter));
    }
    out.set(&[elf_interpreter(head)?]).ok()?;
    Some((out, Code::ElfInterpreter))
}

/// PT_INTERP of a 64-bit ELF file of this machine's byte order, as far as it lies in the first page, where linkers put it.
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u32 = 3;
    let u16_at = |o: usize| Some(u16::from_ne_bytes(head.get(o..o + 2)?.try_into().ok()?));
    let u32_at = |o: usize| Some(u32::from_ne_bytes(head.get(o..o + 4)?.try_into().ok()?));
    let u64_at = |o: usize| usize::try_from(u64::from_ne_bytes(head.get(o..o.checked_add(8)?)?.try_into().ok()?)).ok();
    if head.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size, count) = (u64_at(32)?, usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    for i in 0..count.min(64) {
        let entry = table.checked_add(i * size)?;
        if entry.checked_add(40)? > head.len() {
            return None;
        }
        if u32_at(entry)? == PT_INTERP {
            let (offset, len) = (u64_at(entry + 8)?, u64_at(entry + 32)?);
            return head.get(offset..offset.checked_add(len)?)?.split(|b| *b == 0).next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_names_its_interpreter_or_has_none() {
        let exe = std::fs::read("/proc/self/exe").unwrap();
        let got = elf_interpreter(&exe[..PATH_MAX]).map(|p| String::from_utf8_lossy(p).into_owned());
        assert!(got.is_none_or(|p| p.starts_with('/') && std::path::Path::new(&p).exists()));
    }

    #[test]
    fn scripts_and_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let at = |text: &[u8]| {
            let p = dir.path().join("f");
            std::fs::write(&p, text).unwrap();
            let c = std::ffi::CString::new(p.to_str().unwrap()).unwrap();
            interpreter(&c).map(|(p, code)| (p.as_c_str().to_str().unwrap().to_owned(), code))
        };
        assert_eq!(at(b"#! /no/such -x\nrest"), Some(("/no/such".into(), Code::ScriptInterpreter)));
        assert_eq!(at(b"\x7fELF\x02"), None);
        assert_eq!(at(&[0xff; 5000]), None);
        let mut evil = vec![0u8; 4096];
        evil[..5].copy_from_slice(b"\x7fELF\x02");
        evil[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        evil[54..58].copy_from_slice(&[56, 0, 4, 0]);
        assert_eq!(at(&evil), None);
    }
}
