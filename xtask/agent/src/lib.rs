//! What host and guest of a test machine say to each other, over one byte stream.
//!
//! A message is a frame: one byte of kind, the length of the rest as four bytes, least significant first, and the rest.
//! Inside, texts and lists are preceded by their length in the same form. Host and guest are always built from the same
//! source, so there is no version. One command runs at a time. Not here: how the stream is made (a virtio port, a serial
//! line) and what is done with the messages.

use std::io::{self, Read, Write};

/// No message is longer: a larger length means that the stream is out of step.
const LONGEST: u32 = 16 << 20;

/// From host to guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGuest {
    /// Say [`ToHost::Ready`]: sent after a snapshot was restored, when the guest's own has long been said, and while a
    /// command says nothing for long.
    Ping,
    /// Prepare for commands; answered by [`ToHost::Ready`] or [`ToHost::Failed`].
    Setup(Setup),
    /// Run a command; answered by output and one [`ToHost::Exit`] or [`ToHost::Failed`].
    Run(Request),
    /// Bytes for the command's standard input or terminal; empty means that there will be no more.
    Input(Vec<u8>),
    /// The terminal's new size: rows, columns.
    Resize(u16, u16),
    /// End the command and all that it started. Its exit is reported as ever.
    Kill,
}

/// From guest to host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHost {
    /// The system is up, or what was asked for is done.
    Ready,
    /// The command wrote to standard output or to its terminal.
    Output(Vec<u8>),
    /// The command wrote to standard error.
    ErrorOutput(Vec<u8>),
    /// The command ended with this status, 128 + N for signal N.
    Exit(i32),
    /// What was asked for did not work.
    Failed(String),
}

/// What a guest needs to know before its first command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Seconds and nanoseconds since 1970, when the clock is to be set: a restored machine's has stood still.
    pub time: Option<(u64, u32)>,
    /// Directories of the host.
    pub mounts: Vec<Mount>,
}

/// One mount(2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// File system type.
    pub kind: String,
    /// Source or tag.
    pub source: String,
    /// Absolute path in the guest; made if missing.
    pub target: String,
    /// Options of the file system.
    pub options: String,
}

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Additions to the environment.
    pub environment: Vec<(String, String)>,
    /// The user, or root's system manager when empty. A user's command is a unit of the user's own manager.
    pub user: String,
    /// Working directory; the user's home when empty.
    pub directory: String,
    /// A terminal of so many rows and columns instead of three pipes.
    pub terminal: Option<(u16, u16)>,
    /// Whether [`ToGuest::Input`] will follow; otherwise standard input is `/dev/null`.
    pub input: bool,
}

impl ToGuest {
    /// Writes one frame.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut body = Encoder::default();
        let kind = match self {
            ToGuest::Ping => b'P',
            ToGuest::Setup(setup) => {
                body.flag(setup.time.is_some());
                let (seconds, nanoseconds) = setup.time.unwrap_or_default();
                body.bytes.extend(seconds.to_le_bytes());
                body.number(nanoseconds);
                body.list(&setup.mounts, |body, mount| {
                    for text in [&mount.kind, &mount.source, &mount.target, &mount.options] {
                        body.text(text);
                    }
                });
                b'S'
            }
            ToGuest::Run(request) => {
                body.list(&request.argv, |body, text| body.text(text));
                body.list(&request.environment, |body, (key, value)| {
                    body.text(key);
                    body.text(value);
                });
                body.text(&request.user);
                body.text(&request.directory);
                body.flag(request.terminal.is_some());
                let (rows, columns) = request.terminal.unwrap_or_default();
                body.number(u32::from(rows));
                body.number(u32::from(columns));
                body.flag(request.input);
                b'C'
            }
            ToGuest::Input(bytes) => {
                body.bytes.extend_from_slice(bytes);
                b'I'
            }
            ToGuest::Resize(rows, columns) => {
                body.number(u32::from(*rows));
                body.number(u32::from(*columns));
                b'W'
            }
            ToGuest::Kill => b'K',
        };
        write_frame(to, kind, &body.bytes)
    }

    /// Reads one frame.
    pub fn read(from: &mut impl Read) -> io::Result<ToGuest> {
        let (kind, bytes) = read_frame(from)?;
        let mut body = Decoder { bytes: &bytes };
        Ok(match kind {
            b'P' => ToGuest::Ping,
            b'S' => {
                let timed = body.flag()?;
                let time = (u64::from_le_bytes(body.array()?), body.number()?);
                let mounts =
                    body.list(|body| Ok(Mount { kind: body.text()?, source: body.text()?, target: body.text()?, options: body.text()? }))?;
                ToGuest::Setup(Setup { time: timed.then_some(time), mounts })
            }
            b'C' => {
                let argv = body.list(Decoder::text)?;
                let environment = body.list(|body| Ok((body.text()?, body.text()?)))?;
                let (user, directory) = (body.text()?, body.text()?);
                let wanted = body.flag()?;
                let size = (body.short()?, body.short()?);
                let input = body.flag()?;
                ToGuest::Run(Request { argv, environment, user, directory, terminal: wanted.then_some(size), input })
            }
            b'I' => ToGuest::Input(bytes),
            b'W' => ToGuest::Resize(body.short()?, body.short()?),
            b'K' => ToGuest::Kill,
            other => return Err(out_of_step(other)),
        })
    }
}

impl ToHost {
    /// Writes one frame.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            ToHost::Ready => write_frame(to, b'R', &[]),
            ToHost::Output(bytes) => write_frame(to, b'O', bytes),
            ToHost::ErrorOutput(bytes) => write_frame(to, b'E', bytes),
            ToHost::Exit(status) => write_frame(to, b'X', &status.to_le_bytes()),
            ToHost::Failed(text) => write_frame(to, b'F', text.as_bytes()),
        }
    }

    /// Reads one frame.
    pub fn read(from: &mut impl Read) -> io::Result<ToHost> {
        let (kind, bytes) = read_frame(from)?;
        Ok(match kind {
            b'R' => ToHost::Ready,
            b'O' => ToHost::Output(bytes),
            b'E' => ToHost::ErrorOutput(bytes),
            b'X' => ToHost::Exit(i32::from_le_bytes(Decoder { bytes: &bytes }.array()?)),
            b'F' => ToHost::Failed(String::from_utf8_lossy(&bytes).into_owned()),
            other => return Err(out_of_step(other)),
        })
    }
}

fn write_frame(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
    // One write: a frame that is sent in pieces would be one wake-up of an emulated machine for each.
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.push(kind);
    frame.extend(length.to_le_bytes());
    frame.extend_from_slice(body);
    to.write_all(&frame)
}

fn read_frame(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(out_of_step(kind));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

fn out_of_step(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("message out of step: kind {kind:#04x}"))
}

#[derive(Default)]
struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn flag(&mut self, flag: bool) {
        self.bytes.push(u8::from(flag));
    }

    fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        // A longer text makes a frame beyond LONGEST, which write_frame refuses.
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Encoder, &T)) {
        self.number(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for each in items {
            item(self, each);
        }
    }
}

struct Decoder<'a> {
    bytes: &'a [u8],
}

impl Decoder<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let short = || io::Error::new(io::ErrorKind::InvalidData, "message too short");
        let (head, tail) = self.bytes.split_at_checked(count).ok_or_else(short)?;
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn flag(&mut self) -> io::Result<bool> {
        Ok(self.array::<1>()? != [0])
    }

    fn number(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn short(&mut self) -> io::Result<u16> {
        u16::try_from(self.number()?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "number too large"))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "text is not UTF-8"))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        (0..self.number()?).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_to_the_guest_survive() {
        let request = Request {
            argv: vec!["sh".into(), "-c".into(), "echo \u{e4}".into()],
            environment: vec![("K".into(), "a=b".into())],
            user: "tester".into(),
            directory: String::new(),
            terminal: Some((24, 80)),
            input: true,
        };
        let mount = Mount { kind: "9p".into(), source: "s".into(), target: "/t".into(), options: "a,b".into() };
        let messages = [
            ToGuest::Ping,
            ToGuest::Setup(Setup { time: Some((1 << 40, 5)), mounts: vec![mount] }),
            ToGuest::Setup(Setup::default()),
            ToGuest::Run(request),
            ToGuest::Run(Request::default()),
            ToGuest::Input(vec![0, 255]),
            ToGuest::Resize(1, 65535),
            ToGuest::Kill,
        ];
        let mut stream = Vec::new();
        for message in &messages {
            message.write(&mut stream).expect("write");
        }
        let mut rest = stream.as_slice();
        for message in messages {
            assert_eq!(ToGuest::read(&mut rest).expect("read"), message);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn messages_to_the_host_survive() {
        for message in
            [ToHost::Ready, ToHost::Output(b"x".to_vec()), ToHost::ErrorOutput(Vec::new()), ToHost::Exit(-1), ToHost::Failed("no".into())]
        {
            let mut stream = Vec::new();
            message.write(&mut stream).expect("write");
            assert_eq!(ToHost::read(&mut stream.as_slice()).expect("read"), message);
        }
    }

    #[test]
    fn a_stream_out_of_step_is_an_error() {
        for bytes in [&b"Z\0\0\0\0"[..], b"O\xff\xff\xff\xff", b"C\x04\0\0\0\x01\0\0\0", b"W\x01\0\0\0\0", b"R"] {
            let to_host = ToHost::read(&mut &*bytes);
            let to_guest = ToGuest::read(&mut &*bytes);
            assert!(to_host.is_err() && to_guest.is_err(), "{bytes:?}");
        }
    }
}
