//! The names and passwords that `-Y` asks clients for.
//!
//! Always true: how long a check takes does not tell how much of a name or password was right, nor
//! whose it was: every entry is compared, whole. A set is never changed; a file that is read again
//! makes another one, and each worker takes it over between two requests.

use std::hint::black_box;
use std::path::Path;

use crate::config::{USER_LINE_MAX_BYTES, USERS_FILE_MAX_BYTES};

/// Who may come in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Users {
    entries: Vec<User>,
}

#[derive(Debug, PartialEq, Eq)]
struct User {
    name: Box<[u8]>,
    password: Box<[u8]>,
}

impl Users {
    /// Reads lines of the form `name:password`.
    ///
    /// # Errors
    /// A sentence about the file, which tells no password.
    pub fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let refused = |error| format!("-Y: cannot read {shown}: {error}");
        let size = std::fs::metadata(path).map_err(refused)?.len();
        if size > USERS_FILE_MAX_BYTES {
            return Err(format!(
                "-Y: {shown} has {size} bytes; {USERS_FILE_MAX_BYTES} are allowed"
            ));
        }
        let text = std::fs::read(path).map_err(refused)?;
        Self::parse(&text).map_err(|line| {
            format!(
                "-Y: line {line} of {shown} is no name:password of at most {USER_LINE_MAX_BYTES} bytes"
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self, usize> {
        let mut entries = Vec::new();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|byte| *byte == b':');
            match colon {
                Some(colon) if line.len() <= USER_LINE_MAX_BYTES => {
                    entries.push(User {
                        name: line[..colon].into(),
                        password: line[colon + 1..].into(),
                    });
                }
                _ => return Err(at + 1),
            }
        }
        Ok(Self { entries })
    }

    /// Whether somebody with this name has this password.
    #[must_use]
    pub fn know(&self, user: &[u8], password: &[u8]) -> bool {
        let mut known = false;
        for entry in &self.entries {
            known |= same(&entry.name, user) & same(&entry.password, password);
        }
        black_box(known)
    }
}

/// Compares without stopping at the first difference.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(secret.len() != given.len());
    for at in 0..USER_LINE_MAX_BYTES {
        let byte = |bytes: &[u8]| bytes.get(at).copied().unwrap_or(0);
        difference |= black_box(byte(secret) ^ byte(given));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_pair_is_known() {
        let users = Users::parse(b"u:pw\r\nbob:a secret: word\n").expect("two lines");
        assert!(users.know(b"u", b"pw") && users.know(b"bob", b"a secret: word"));
        for (user, password) in [
            ("u", "p"),
            ("u", "pwx"),
            ("bob", "pw"),
            ("", ""),
            ("U", "pw"),
            ("u", "pw\0"),
        ] {
            assert!(!users.know(user.as_bytes(), password.as_bytes()), "{user}");
        }
        assert!(!Users::default().know(b"", b""));
        let empty = Users::parse(b"u:").expect("a line");
        assert!(empty.know(b"u", b"") && !empty.know(b"u", b"\0"));
    }

    #[test]
    fn a_line_without_a_colon_is_named() {
        assert_eq!(Users::parse(b"u:pw\nbob"), Err(2));
        assert_eq!(Users::parse(b""), Err(1));
        assert_eq!(Users::parse(b"u:pw\n\n"), Err(2));
        let long = [b"u:".as_slice(), &[b'p'; USER_LINE_MAX_BYTES - 1]].concat();
        assert_eq!(Users::parse(&long), Err(1));
        assert!(Users::parse(&long[1..]).is_ok());
    }
}
