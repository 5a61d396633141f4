//! Validated names that become parts of paths: the container id. Not here: cgroup paths (the managers' affair).

use crate::error::{Error, Result};
use std::fmt;

/// A container id: `[a-zA-Z0-9_+-][a-zA-Z0-9_+.-]*`, at most 255 bytes, so that it can be joined to a directory safely.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(Box<str>);

/// Longest id accepted. A directory entry holds 255 bytes; a longer id fails at `mkdir` in crun, here with a clear text.
pub const MAX_ID_LEN: usize = 255;

impl ContainerId {
    /// Checks `id`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with crun's texts: ``empty container ID``, ``invalid container ID `X` ``
    /// for a leading dot, ``invalid character `C` in the container ID `X` ``.
    pub fn new(id: &str) -> Result<Self> {
        if id.is_empty() {
            return Err(Error::invalid("empty container ID"));
        }
        if id.starts_with('.') {
            return Err(Error::invalid(format!("invalid container ID `{}`", shown(id))));
        }
        if let Some(c) = id.chars().find(|&c| !(c.is_ascii_alphanumeric() || "_+-.".contains(c))) {
            let c: String = c.escape_debug().collect();
            return Err(Error::invalid(format!("invalid character `{c}` in the container ID `{}`", shown(id))));
        }
        if id.len() > MAX_ID_LEN {
            return Err(Error::invalid(format!("container ID longer than {MAX_ID_LEN} bytes: `{}`", shown(id))));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id for an error message: control characters escaped, cut to a readable length.
fn shown(id: &str) -> String {
    let cut: String = id.chars().take(80).flat_map(char::escape_debug).collect();
    if id.chars().count() > 80 { format!("{cut}…") } else { cut }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::ops::Deref for ContainerId {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids() {
        for good in ["a", "A-1", "_x", "+", "-", "a.b", "0..1"] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
        for (bad, text) in [
            ("", "empty container ID"),
            (".", "invalid container ID `.`"),
            ("..", "invalid container ID `..`"),
            (".a", "invalid container ID `.a`"),
            ("a/b", "invalid character `/` in the container ID `a/b`"),
            ("a b", "invalid character ` ` in the container ID `a b`"),
            ("a\n", "invalid character `\\n` in the container ID `a\\n`"),
            ("é", "invalid character `é` in the container ID `é`"),
        ] {
            assert_eq!(ContainerId::new(bad).unwrap_err().to_string(), text);
        }
        assert!(ContainerId::new(&"x".repeat(256)).unwrap_err().to_string().starts_with("container ID longer than 255"));
        assert!(ContainerId::new(&"x".repeat(255)).is_ok());
    }

    proptest! {
        #[test]
        fn accepted_ids_are_one_component_of_a_path(text in "\\PC{0,8}|[a-zA-Z0-9_+./\u{0}-]{0,300}") {
            match ContainerId::new(&text) {
                Ok(id) => {
                    prop_assert_eq!(id.as_str(), &text);
                    prop_assert!(std::path::Path::new("/r").join(id.as_str()).strip_prefix("/r").is_ok_and(|p| p.components().count() == 1));
                    prop_assert!(!text.contains(['/', '\0', '\n']) && text != ".." && text.len() <= MAX_ID_LEN);
                }
                Err(e) => prop_assert!(e.to_string().len() < 2000 && !e.to_string().contains(['\0', '\n'])),
            }
        }
    }
}
