//! Values of `org.systemd.property.*` annotations: the text format of GVariant, as far as unit properties need it. Not here: which
//! properties there are.
//!
//! Booleans, strings, numbers of every type, arrays and tuples of these. A number without a type is an int32, and a double where it has
//! a point or an exponent. A type word in front (`uint64 5`, `[uint64 1, 2]`) holds for the elements behind it too, and `@as []` types
//! an empty array of strings. No maybes, dictionaries or nested variants: no property takes one.

use zbus::wire::Signature;
use zbus::{Array, Structure, Variant};

type Parsed<T> = Result<T, String>;

/// Longest type on the bus, in letters (D-Bus specification, "Valid Signatures"). The library panics beyond it.
const SIGNATURE: usize = 255;

/// How deep arrays and tuples may be in each other.
const DEPTH: usize = 8;

/// Reads one value.
///
/// # Errors
/// What is wrong and where, in words.
pub(crate) fn parse(text: &str) -> Parsed<Variant<'static>> {
    let mut p = Parser { text, at: 0 };
    let value = p.value(None, 0)?;
    p.space();
    if p.at < text.len() {
        return Err(p.unexpected());
    }
    // The bus writes a value's type in front of it.
    if value.value_signature().to_string().len() > SIGNATURE { Err("too many parts".into()) } else { Ok(value) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Byte,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F64,
    Bool,
    Str,
    Path,
    Sig,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "byte" => Self::Byte,
            "int16" => Self::I16,
            "uint16" => Self::U16,
            "int32" => Self::I32,
            "uint32" => Self::U32,
            "int64" => Self::I64,
            "uint64" => Self::U64,
            "double" => Self::F64,
            "boolean" => Self::Bool,
            "string" => Self::Str,
            "objectpath" => Self::Path,
            "signature" => Self::Sig,
            _ => return None,
        })
    }

    fn of_code(code: char) -> Option<Self> {
        let (codes, kinds) = (
            "ynqiuxtdbsog",
            [
                Self::Byte,
                Self::I16,
                Self::U16,
                Self::I32,
                Self::U32,
                Self::I64,
                Self::U64,
                Self::F64,
                Self::Bool,
                Self::Str,
                Self::Path,
                Self::Sig,
            ],
        );
        codes.find(code).map(|i| kinds[i])
    }

    fn signature(self) -> Signature {
        match self {
            Self::Byte => Signature::U8,
            Self::I16 => Signature::I16,
            Self::U16 => Signature::U16,
            Self::I32 => Signature::I32,
            Self::U32 => Signature::U32,
            Self::I64 => Signature::I64,
            Self::U64 => Signature::U64,
            Self::F64 => Signature::F64,
            Self::Bool => Signature::Bool,
            Self::Str => Signature::Str,
            Self::Path => Signature::ObjectPath,
            Self::Sig => Signature::Signature,
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn unexpected(&self) -> String {
        match self.rest().chars().next() {
            Some(c) => format!("unexpected `{}` at byte {}", c.escape_debug(), self.at),
            None => "unexpected end".to_owned(),
        }
    }

    /// A run of the characters of words and numbers.
    fn word(&mut self) -> &'t str {
        self.space();
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn value(&mut self, kind: Option<Kind>, depth: usize) -> Parsed<Variant<'static>> {
        if depth > DEPTH {
            return Err(format!("more than {DEPTH} levels of brackets"));
        }
        match self.peek() {
            Some('\'' | '"') => self.string(kind),
            Some('[') => self.array(kind, depth),
            Some('(') => self.tuple(kind, depth),
            Some('@') => self.typed(depth),
            Some(c) if c.is_ascii_alphanumeric() || "+-.".contains(c) => {
                let start = self.at;
                let word = self.word();
                match Kind::of(word) {
                    Some(own) if kind.is_none_or(|k| k == own) => self.value(Some(own), depth + 1),
                    Some(_) => Err(format!("`{word}` among values of another type")),
                    None => scalar(word, kind).ok_or_else(|| {
                        self.at = start;
                        format!("not a value: `{}`", word.escape_debug())
                    }),
                }
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `@as []`, `@t 5`: a type in its letters.
    fn typed(&mut self, depth: usize) -> Parsed<Variant<'static>> {
        self.at += 1;
        let word = self.word();
        let mut codes = word.chars();
        let array = word.starts_with('a');
        let kind = if array { codes.nth(1) } else { codes.next() }.and_then(Kind::of_code);
        match kind.filter(|_| codes.next().is_none()) {
            Some(kind) if array && self.peek() == Some('[') => self.array(Some(kind), depth),
            Some(kind) if !array => self.value(Some(kind), depth + 1),
            _ => Err(format!("not a type for this value: `@{}`", word.escape_debug())),
        }
    }

    fn array(&mut self, kind: Option<Kind>, depth: usize) -> Parsed<Variant<'static>> {
        self.at += 1;
        let mut elements: Vec<Variant<'static>> = Vec::new();
        // The type word of the first element holds for the others.
        let mut kind = kind;
        while !self.eat(']') {
            if !elements.is_empty() && (!self.eat(',') || self.peek() == Some(']')) {
                return Err(self.unexpected());
            }
            let element = self.value(kind, depth + 1)?;
            kind = kind.or_else(|| kind_of(&element));
            elements.push(element);
        }
        let signature = match (elements.first(), kind) {
            (Some(first), _) => first.value_signature().clone(),
            (None, Some(kind)) => kind.signature(),
            (None, None) => return Err("an empty array needs a type, such as `@as []`".into()),
        };
        let mut array = Array::new(&signature);
        for element in elements {
            array.append(element).map_err(|_| "an array with elements of different types".to_owned())?;
        }
        Ok(array.into())
    }

    fn tuple(&mut self, kind: Option<Kind>, depth: usize) -> Parsed<Variant<'static>> {
        if kind.is_some() {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut fields = Structure::builder();
        let mut count = 0;
        while !self.eat(')') {
            // A tuple of one has a comma behind it: `('x',)`.
            if count > 0 && !self.eat(',') {
                return Err(self.unexpected());
            }
            if count > 0 && self.eat(')') {
                break;
            }
            fields = fields.append_field(self.value(None, depth + 1)?);
            count += 1;
        }
        fields.build().map(Variant::Structure).map_err(|_| "an empty tuple".to_owned())
    }

    fn string(&mut self, kind: Option<Kind>) -> Parsed<Variant<'static>> {
        let start = self.at;
        let mut chars = self.rest().chars();
        let quote = chars.next();
        let mut out = String::new();
        loop {
            match chars.next() {
                None => return Err(format!("the string at byte {start} has no end")),
                c if c == quote => break,
                Some('\\') => out.push(escaped(&mut chars).ok_or_else(|| format!("a bad escape in the string at byte {start}"))?),
                Some('\0') => return Err("a NUL in a string".into()),
                Some(c) => out.push(c),
            }
        }
        self.at = self.text.len() - chars.as_str().len();
        match kind {
            None | Some(Kind::Str) => Ok(Variant::from(out)),
            Some(Kind::Path) => zbus::ObjectPath::try_from(out).map(Variant::ObjectPath).map_err(|e| format!("not an object path: {e}")),
            // The library writes several types as a tuple of them, whose brackets count.
            Some(Kind::Sig) => match Signature::try_from(out.as_str()) {
                Ok(signature) if signature.to_string().len() <= SIGNATURE => Ok(Variant::Signature(signature)),
                Ok(_) => Err(format!("a signature of more than {SIGNATURE} letters")),
                Err(e) => Err(format!("not a signature: {e}")),
            },
            Some(_) => Err(format!("a string at byte {start} among values of another type")),
        }
    }
}

/// The character that an escape of a C string stands for; `\u` and `\U` have four and eight digits.
fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'u' => 4,
        'U' => 8,
        'a' => return Some('\u{7}'),
        'b' => return Some('\u{8}'),
        'f' => return Some('\u{c}'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\u{b}'),
        other => return Some(other),
    };
    let text = chars.as_str().get(..digits)?;
    *chars = chars.as_str()[digits..].chars();
    u32::from_str_radix(text, 16).ok().and_then(char::from_u32).filter(|c| *c != '\0')
}

/// A boolean or a number.
fn scalar(word: &str, kind: Option<Kind>) -> Option<Variant<'static>> {
    if let "true" | "false" = word {
        return kind.is_none_or(|k| k == Kind::Bool).then(|| Variant::Bool(word == "true"));
    }
    let unsigned = word.trim_start_matches(['+', '-']);
    let hex = unsigned.starts_with("0x");
    let float = !hex && unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.contains(['.', 'e', 'E']);
    let kind = kind.unwrap_or(if float { Kind::F64 } else { Kind::I32 });
    if kind == Kind::F64 {
        return word.parse().ok().filter(|v: &f64| v.is_finite()).map(Variant::F64);
    }
    let n = integer(word)?;
    Some(match kind {
        Kind::Byte => Variant::U8(n.try_into().ok()?),
        Kind::I16 => Variant::I16(n.try_into().ok()?),
        Kind::U16 => Variant::U16(n.try_into().ok()?),
        Kind::I32 => Variant::I32(n.try_into().ok()?),
        Kind::U32 => Variant::U32(n.try_into().ok()?),
        Kind::I64 => Variant::I64(n.try_into().ok()?),
        Kind::U64 => Variant::U64(n.try_into().ok()?),
        Kind::F64 | Kind::Bool | Kind::Str | Kind::Path | Kind::Sig => return None,
    })
}

/// Decimal, hexadecimal (`0x1f`) or octal (`017`), as strtoll(3) reads them.
fn integer(word: &str) -> Option<i128> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let n = i128::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    Some(if negative { -n } else { n })
}

fn kind_of(value: &Variant<'_>) -> Option<Kind> {
    Some(match value {
        Variant::U8(_) => Kind::Byte,
        Variant::I16(_) => Kind::I16,
        Variant::U16(_) => Kind::U16,
        Variant::I32(_) => Kind::I32,
        Variant::U32(_) => Kind::U32,
        Variant::I64(_) => Kind::I64,
        Variant::U64(_) => Kind::U64,
        Variant::F64(_) => Kind::F64,
        Variant::Bool(_) => Kind::Bool,
        Variant::Str(_) => Kind::Str,
        Variant::ObjectPath(_) => Kind::Path,
        Variant::Signature(_) => Kind::Sig,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        let strings = |list: &[&str]| Variant::from(list.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>());
        for (text, value) in [
            ("true", Variant::Bool(true)),
            (" false ", Variant::Bool(false)),
            ("'a b'", Variant::from("a b")),
            ("\"it's\"", Variant::from("it's")),
            (r"'it\'s \\ \u00e9\n'", Variant::from("it's \\ é\n")),
            ("['a','b']", strings(&["a", "b"])),
            ("[ 'a' , \"b\" ]", strings(&["a", "b"])),
            ("@as []", strings(&[])),
            ("uint64 5", Variant::U64(5)),
            ("uint64 18446744073709551615", Variant::U64(u64::MAX)),
            ("int64 -9", Variant::I64(-9)),
            ("uint32 7", Variant::U32(7)),
            ("int32 7", Variant::I32(7)),
            ("7", Variant::I32(7)),
            ("-7", Variant::I32(-7)),
            ("0x10", Variant::I32(16)),
            ("010", Variant::I32(8)),
            ("byte 255", Variant::U8(255)),
            ("int16 -2", Variant::I16(-2)),
            ("@q 2", Variant::U16(2)),
            ("1.5", Variant::F64(1.5)),
            ("1e3", Variant::F64(1000.0)),
            ("double 2", Variant::F64(2.0)),
            ("[uint64 1, 2]", Variant::from(vec![1_u64, 2])),
            ("@at [1, 2]", Variant::from(vec![1_u64, 2])),
            ("[('/dev/sda', uint64 100)]", Variant::from(vec![("/dev/sda", 100_u64)])),
            ("('x',)", Variant::Structure(Structure::builder().add_field("x").build().unwrap())),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn refusals_say_what_and_where() {
        for (text, wrong) in [
            ("", "unexpected end"),
            ("'a", "the string at byte 0 has no end"),
            (r"'\u12'", "a bad escape in the string at byte 0"),
            ("'a' b", "unexpected `b` at byte 4"),
            ("[]", "an empty array needs a type, such as `@as []`"),
            ("['a', 1]", "not a value: `1`"),
            ("[1, 'a']", "a string at byte 4 among values of another type"),
            ("[1, uint64 2]", "`uint64` among values of another type"),
            ("[1, 2,]", "unexpected `]` at byte 6"),
            ("[('a', 1), ('b', true)]", "an array with elements of different types"),
            ("()", "an empty tuple"),
            ("yes", "not a value: `yes`"),
            ("4294967296", "not a value: `4294967296`"),
            ("uint32 -1", "not a value: `-1`"),
            ("byte 256", "not a value: `256`"),
            ("1-2", "not a value: `1-2`"),
            ("--1", "not a value: `--1`"),
            ("09", "not a value: `09`"),
            ("inf", "not a value: `inf`"),
            ("{'a': 1}", "unexpected `{` at byte 0"),
            ("@a{sv} {}", "not a type for this value: `@a`"),
            ("[[[[[[[[[[1]]]]]]]]]]", "more than 8 levels of brackets"),
            ("objectpath 'x'", "not an object path: Invalid object path"),
        ] {
            assert_eq!(parse(text).unwrap_err(), wrong, "{text}");
        }
    }

    /// Found by the fuzz target `systemd`: the library panics when it writes these.
    #[test]
    fn types_too_long_for_the_bus() {
        for (long, short) in [
            (format!("@g \"{}\"", "t".repeat(254)), format!("@g \"{}\"", "t".repeat(253))),
            (format!("({})", vec!["1"; 254].join(",")), format!("({})", vec!["1"; 253].join(","))),
        ] {
            assert!(parse(&long).is_err(), "{long}");
            crate::fuzz::property(format!("Long\n{long}").as_bytes());
            assert!(parse(&short).is_ok(), "{short}");
            crate::fuzz::property(format!("Long\n{short}").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,24}|[\\[\\]()@a-z0-9'\", \\\\u.-]{0,32}") {
            let _ = parse(&text);
        }

        #[test]
        fn numbers_come_back(n: i32, big: u64) {
            prop_assert_eq!(parse(&n.to_string()).unwrap(), Variant::I32(n));
            prop_assert_eq!(parse(&format!("uint64 {big}")).unwrap(), Variant::U64(big));
        }
    }
}
