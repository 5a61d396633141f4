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
