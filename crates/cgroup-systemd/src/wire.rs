//! D-Bus messages as bytes, over the codec of zbus. Not here: the connection (`bus`).

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, DynamicType, LE, Signature, Type, to_bytes};
use zbus::{ObjectPath, Variant};

/// The part of a header whose length does not vary.
pub(crate) const PRELUDE: usize = 16;
/// Longest message taken: systemd's own are a few hundred bytes, those of others on the bus that reach us not much more.
const LONGEST: usize = 1 << 24;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// An interface of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object {
    pub(crate) destination: &'static str,
    pub(crate) path: &'static str,
    pub(crate) interface: &'static str,
}

impl Object {
    pub(crate) fn method(self, member: &'static str) -> Method {
        Method { on: self, member }
    }
}

/// Whom a call goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    on: Object,
    pub(crate) member: &'static str,
}

/// The bytes of a method call.
pub(crate) fn call<B: Serialize + DynamicType>(serial: u32, method: &Method, body: &B) -> zbus::Result<Vec<u8>> {
    let signature = body.signature().to_string_no_parens();
    let body = to_bytes(Context::new(LE, 0), body)?;
    let mut fields = vec![
        (PATH, Field::Plain(Variant::ObjectPath(ObjectPath::try_from(method.on.path)?))),
        (INTERFACE, Field::Plain(Variant::from(method.on.interface))),
        (MEMBER, Field::Plain(Variant::from(method.member))),
        (DESTINATION, Field::Plain(Variant::from(method.on.destination))),
    ];
    if !body.bytes().is_empty() {
        fields.push((SIGNATURE, Field::Signature(signature)));
    }
    message(CALL, serial, fields, body.bytes())
}

/// Value of a header field, a variant.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    Plain(Variant<'a>),
    /// The signature of the arguments: that of a structure, but without brackets, for which `Variant` has no way.
    Signature(String),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Signature(text) => {
                // The two names are those by which the serializer knows a variant.
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", text)?;
                variant.end()
            }
        }
    }
}

fn message(kind: u8, serial: u32, fields: Vec<(u8, Field<'_>)>, body: &[u8]) -> zbus::Result<Vec<u8>> {
    let length = u32::try_from(body.len()).map_err(|_| zbus::Error::ExcessData)?;
    let header = (b'l', kind, 0_u8, 1_u8, length, serial, fields);
    let mut out = to_bytes(Context::new(LE, 0), &header)?.bytes().to_vec();
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend_from_slice(body);
    Ok(out)
}

/// What the first bytes say: the length of the whole message, or that this is none.
pub(crate) fn length(prelude: &[u8; PRELUDE]) -> Result<usize, String> {
    let number = |at: usize| {
        let bytes = [prelude[at], prelude[at + 1], prelude[at + 2], prelude[at + 3]];
        if prelude[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    if !matches!(prelude[0], b'l' | b'B') || prelude[3] != 1 {
        return Err("what comes from the bus is no D-Bus message".into());
    }
    let fields = (PRELUDE + number(12) as usize).next_multiple_of(8);
    match fields.checked_add(number(4) as usize) {
        Some(all) if all <= LONGEST => Ok(all),
        _ => Err("the bus sends a message that is too long".into()),
    }
}

/// A message that concerns us.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A method returned; the body is [`Body`].
    Return { serial: u32, body: Body },
    /// A method failed.
    Error { serial: u32, name: String, text: String },
    /// A signal.
    Signal { member: String, body: Body },
    /// Anything else.
    Other,
}

/// The arguments of a message.
#[derive(Debug)]
pub(crate) struct Body(Data<'static, 'static>);

impl Body {
    /// The arguments, if they have the type `T`, a tuple.
    pub(crate) fn read<'d, T: Deserialize<'d> + Type>(&'d self) -> Option<T> {
        self.0.deserialize().ok().map(|(value, _)| value)
    }
}

/// Reads a whole message.
///
/// # Errors
/// It is malformed.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Incoming, String> {
    let endian = if bytes.first() == Some(&b'B') { BE } else { LE };
    let data = Data::new(bytes, Context::new(endian, 0));
    let broken = |e: zbus::Error| format!("a message from the bus is malformed: {e}");
    let (header, end): (Header<'_>, usize) = data.deserialize().map_err(broken)?;
    let start = end.next_multiple_of(8).min(data.bytes().len());
    let body = Body(Data::new(data.bytes()[start..].to_vec(), Context::new(endian, 0)));
    let field = |code: u8| header.6.iter().find(|(c, _)| *c == code).map(|(_, v)| v);
    let text = |code: u8| match field(code) {
        Some(Variant::Str(s)) => s.as_str().to_owned(),
        _ => String::new(),
    };
    let serial = match field(REPLY_SERIAL) {
        Some(Variant::U32(n)) => *n,
        _ => 0,
    };
    Ok(match header.1 {
        RETURN => Incoming::Return { serial, body },
        ERROR => {
            // The message is the first argument, where there is one.
            let first = body.read::<(&str,)>().map(|(t,)| t.to_owned());
            Incoming::Error { serial, name: text(ERROR_NAME), text: first.unwrap_or_default() }
        }
        SIGNAL => Incoming::Signal { member: text(MEMBER), body },
        _ => Incoming::Other,
    })
}

/// For tests: the other side's messages.
#[cfg(test)]
mod other_side {
    use super::*;

    const SENDER: u8 = 7;

    fn fields(body: Signature, mut fields: Vec<(u8, Field<'static>)>, length: usize) -> Vec<(u8, Field<'static>)> {
        if length > 0 {
            fields.push((SIGNATURE, Field::Signature(body.to_string_no_parens())));
        }
        fields
    }

    fn to(destination: &str) -> Vec<(u8, Field<'static>)> {
        let plain = (!destination.is_empty()).then(|| (DESTINATION, Field::Plain(Variant::from(destination.to_owned()))));
        plain.into_iter().collect()
    }

    pub(crate) fn answer<B: Serialize + DynamicType>(serial: u32, destination: &str, body: &B) -> zbus::Result<Vec<u8>> {
        let bytes = to_bytes(Context::new(LE, 0), body)?;
        let mut list = to(destination);
        list.push((REPLY_SERIAL, Field::Plain(Variant::U32(serial))));
        message(RETURN, 1, fields(body.signature(), list, bytes.bytes().len()), bytes.bytes())
    }

    pub(crate) fn refusal(serial: u32, destination: &str, name: &str, text: &str) -> zbus::Result<Vec<u8>> {
        let bytes = to_bytes(Context::new(LE, 0), &(text,))?;
        let mut list = to(destination);
        list.push((REPLY_SERIAL, Field::Plain(Variant::U32(serial))));
        list.push((ERROR_NAME, Field::Plain(Variant::from(name.to_owned()))));
        message(ERROR, 1, fields((text,).signature(), list, bytes.bytes().len()), bytes.bytes())
    }

    pub(crate) fn signal<B: Serialize + DynamicType>(member: &str, body: &B) -> zbus::Result<Vec<u8>> {
        let bytes = to_bytes(Context::new(LE, 0), body)?;
        let list = vec![
            (PATH, Field::Plain(Variant::ObjectPath(ObjectPath::try_from("/org/freedesktop/systemd1")?))),
            (INTERFACE, Field::Plain(Variant::from("org.freedesktop.systemd1.Manager"))),
            (MEMBER, Field::Plain(Variant::from(member.to_owned()))),
        ];
        message(SIGNAL, 1, fields(body.signature(), list, bytes.bytes().len()), bytes.bytes())
    }

    /// Serial, sender, member and arguments of a call; `None` for another message.
    pub(crate) fn read_call(bytes: Vec<u8>) -> Option<(u32, String, String, Body)> {
        let data = Data::new(bytes, Context::new(LE, 0));
        let (header, end): (Header<'_>, usize) = data.deserialize().ok()?;
        let text = |code| match header.6.iter().find(|(c, _)| *c == code) {
            Some((_, Variant::Str(s))) => s.as_str().to_owned(),
            _ => String::new(),
        };
        let body = data.bytes()[end.next_multiple_of(8).min(data.bytes().len())..].to_vec();
        (header.1 == CALL).then(|| (header.5, text(SENDER), text(MEMBER), Body(Data::new(body, Context::new(LE, 0)))))
    }
}
#[cfg(test)]
pub(crate) use other_side::{answer, read_call, refusal, signal};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_comes_back_and_its_signature_has_no_brackets() {
        let on = Object { destination: "a.b", path: "/c", interface: "d.e" };
        let bytes = call(9, &on.method("F"), &("x", 7_u32, vec![("n", Variant::from("v"))])).unwrap();
        assert_eq!(length(bytes.first_chunk().unwrap()).unwrap(), bytes.len());
        assert!(bytes.windows(9).any(|w| w == b"\x07sua(sv)\0"), "{bytes:?}");
        let (serial, _, member, body) = read_call(bytes).unwrap();
        assert_eq!((serial, member.as_str()), (9, "F"));
        assert_eq!(body.read::<(&str, u32)>().unwrap(), ("x", 7));
        let empty = call(1, &on.method("F"), &()).unwrap();
        assert_eq!(length(empty.first_chunk().unwrap()).unwrap(), empty.len());
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let mut p = [0_u8; PRELUDE];
        assert_eq!(length(&p).unwrap_err(), "what comes from the bus is no D-Bus message");
        (p[0], p[3]) = (b'l', 1);
        assert_eq!(length(&p).unwrap(), PRELUDE);
        p[7] = 0xff;
        assert_eq!(length(&p).unwrap_err(), "the bus sends a message that is too long");
        (p[0], p[7], p[4]) = (b'B', 0, 0xff);
        assert!(length(&p).is_err());
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(at in 0..120_usize, byte: u8, cut in 0..200_usize) {
            let mut bytes = refusal(3, ":1.1", "some.Error", "text").unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(PRELUDE));
            let _ = read(bytes);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 16..128)) {
            let mut bytes = bytes;
            (bytes[0], bytes[3]) = (b'l', 1);
            let _ = length(bytes.first_chunk().unwrap());
            let _ = read(bytes);
        }
    }
}
