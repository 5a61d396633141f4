//! The user's home directory, from the container's own passwd file. Not here: the variable's default (`plan::process`).

use super::Child;
use crate::sys;

/// Lines longer than this are passed over.
const LINE: usize = 4096;
/// Bytes read at most: the file is the image's and may be of any size.
const MOST: usize = 16 << 20;

impl Child<'_> {
    /// Looks `uid` up; what is found becomes `HOME=…`, and nothing is found where the file is missing, strange or unreadable.
    #[inline(never)]
    pub(super) fn home(&mut self, uid: u32) {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let Ok(fd) = sys::openat(libc::AT_FDCWD, c"/etc/passwd", flags, 0) else { return };
        if sys::fstat(fd).is_ok_and(|st| st.is_regular()) {
            let mut buf = [0; LINE];
            let (home, has_home) = (&mut self.scratch.home, &mut self.has_home);
            find(uid, &mut buf, |room| sys::read(fd, room).unwrap_or(0), |dir| *has_home = home.set(&[b"HOME=", dir]).is_ok());
        }
        sys::close(fd);
    }
}

/// Goes through the lines that `read` delivers until `uid` is found (passwd(5)).
fn find(uid: u32, buf: &mut [u8; LINE], mut read: impl FnMut(&mut [u8]) -> usize, mut found: impl FnMut(&[u8])) {
    let (mut len, mut too_long, mut total) = (0, false, 0);
    while total < MOST {
        let n = read(&mut buf[len..]);
        total += n;
        len += n;
        let mut start = 0;
        while let Some(end) = buf[start..len].iter().position(|b| *b == b'\n').map(|at| start + at) {
            if !std::mem::take(&mut too_long)
                && let Some(dir) = home_of(&buf[start..end], uid)
            {
                return found(dir);
            }
            start = end + 1;
        }
        if n == 0 {
            // The last line has no end.
            if !too_long && let Some(dir) = home_of(&buf[start..len], uid) {
                found(dir);
            }
            return;
        }
        buf.copy_within(start..len, 0);
        len -= start;
        if len == LINE {
            (len, too_long) = (0, true);
        }
    }
}

/// The sixth field of a line whose third is `uid`; an empty one is none.
fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|b| *b == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    if id.parse() != Ok(uid) {
        return None;
    }
    fields.nth(2).filter(|dir| dir.first() == Some(&b'/') && !dir.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(text: &str, uid: u32, step: usize) -> Option<String> {
        let (mut rest, mut out) = (text.as_bytes(), None);
        let read = |room: &mut [u8]| {
            let n = rest.len().min(room.len()).min(step);
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            n
        };
        find(uid, &mut [0; LINE], read, |dir| out = Some(String::from_utf8_lossy(dir).into_owned()));
        out
    }

    #[test]
    fn lines_of_all_kinds() {
        let long = "x".repeat(3 * LINE);
        let text = format!(
            "root:x:0:0:root:/root:/bin/sh\n\n#comment\nshort:x:5\nbad:x:-1:0::/bad:\nempty:x:7:7:::\n{long}:x:8:8::/long:\nu:x:1000:1000::/home/u"
        );
        for step in [1, 7, LINE] {
            for (uid, home) in [(0, Some("/root")), (1000, Some("/home/u")), (5, None), (7, None), (8, None), (u32::MAX, None), (9, None)] {
                assert_eq!(look_up(&text, uid, step).as_deref(), home, "{uid} in steps of {step}");
            }
        }
    }
}
