//! A Rust file without its comments and strings, so that a word found is a word of the program.
//!
//! Here: blanking, and where a file's tests begin. Not here: what is looked for.

/// `text` with every comment, string and character literal blanked; lines and columns stay where they were.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Whole literals were blanked, so no character was cut in two.
    String::from_utf8_lossy(&out).into_owned()
}

/// The code before the tests: a module behind `#[cfg(test)]` is the last thing in a file by this project's habit.
pub fn without_tests(code: &str) -> &str {
    let inline = code.match_indices("#[cfg(test)]").find(|(at, attribute)| {
        let rest = code[at + attribute.len()..].trim_start();
        rest.starts_with("mod ") && rest.find('{').is_some_and(|open| rest.find(';').is_none_or(|end| open < end))
    });
    inline.map_or(code, |(at, _)| &code[..at])
}

/// The line of a byte, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].bytes().filter(|byte| *byte == b'\n').count()
}

/// Where `word` stands by itself in `code`.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let starts = word.as_bytes().first().is_some_and(|b| b.is_ascii_alphanumeric());
        let ends = word.as_bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        !(starts && part(before) || ends && part(bytes.get(at + word.len())))
    })
}

/// The end of the comment or literal that begins at `at`, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let inside_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => Some(rest.iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)),
        [b'/', b'*', ..] => Some(block_comment_end(bytes, at)),
        [b'"', ..] => Some(string_end(bytes, at + 1, b'"')),
        [b'r', b'"' | b'#', ..] if !inside_word => raw_string_end(bytes, at + 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_word => raw_string_end(bytes, at + 2),
        [b'\'', ..] => char_end(bytes, at),
        _ => None,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// From the first `#` or the quote of a raw string; `None` for a raw identifier such as `r#type`.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start..].iter().take_while(|b| **b == b'#').count();
    let open = start + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let end = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    Some(end.map_or(bytes.len(), |n| open + 1 + n + close.len()))
}

/// A character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    match &bytes[at + 1..] {
        [b'\\', ..] => Some(string_end(bytes, at + 1, b'\'')),
        [first, ..] => {
            // The length of a UTF-8 character by its first byte (RFC 3629).
            let length = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + length + 2)
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let text = "a // unsafe\nb /* unsafe /* unsafe */ unsafe */ c \"unsafe \\\" unsafe\" d r#\"unsafe \" unsafe\"# e 'u' '\\'' f<'unsafe_life>";
        let blanked = code(text);
        assert_eq!(blanked.len(), text.len());
        assert_eq!(blanked.matches("unsafe").count(), 1, "{blanked}");
        let letters: Vec<&str> = blanked.split_whitespace().collect();
        assert_eq!(letters, ["a", "b", "c", "d", "e", "f<'unsafe_life>"]);
    }

    #[test]
    fn raw_identifiers_and_byte_strings() {
        assert_eq!(code("r#type b\"x\" br#\"y\"# c\"z\" x").split_whitespace().collect::<Vec<_>>(), ["r#type", "b", "c", "x"]);
        assert_eq!(code("'é' é"), format!("{}{}", " ".repeat(5), "é"));
    }

    #[test]
    fn tests_are_cut_off() {
        assert_eq!(without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), "fn a() {}\n");
        let elsewhere = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(without_tests(elsewhere), elsewhere);
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("unsafe_op unsafe {", "unsafe").collect::<Vec<_>>(), [10]);
        assert_eq!(words("x.to_owned() y.to_owned()", ".to_owned(").count(), 2);
    }
}
