//! `strata hash-password`: a password from standard input, its hash on standard output.

use std::io::Read;
use std::process::ExitCode;

use argon2::{Argon2, PasswordHasher};

use crate::args::layers::EX_USAGE;
use crate::config::PASSWORD_MAX_BYTES;

/// The word that asks for it.
pub const COMMAND: &str = "hash-password";

/// Reads one password and prints what stands for it in a file of users.
#[must_use]
pub fn run() -> ExitCode {
    let mut input = Vec::new();
    let most = PASSWORD_MAX_BYTES as u64 + 2;
    let read = std::io::stdin().take(most).read_to_end(&mut input);
    let made = read
        .map_err(|error| format!("cannot read standard input: {error}"))
        .and_then(|_| hash(&input));
    match made {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("strata {COMMAND}: {sentence}");
            ExitCode::from(EX_USAGE)
        }
    }
}

/// The hash of a password with or without a line end behind it.
fn hash(input: &[u8]) -> Result<String, String> {
    let password = input.strip_suffix(b"\n").unwrap_or(input);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if !(1..=PASSWORD_MAX_BYTES).contains(&password.len()) {
        return Err(format!(
            "a password of 1 to {PASSWORD_MAX_BYTES} bytes is read from standard input"
        ));
    }
    // Argon2id with the crate's parameters, which are OWASP's, and a salt of the system's.
    let hash = Argon2::default().hash_password(password);
    hash.map(|hash| hash.to_string())
        .map_err(|error| format!("no hash can be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Accounts;

    #[test]
    fn what_is_made_lets_the_password_in() {
        for (input, password) in [
            (&b"a secret\n"[..], &b"a secret"[..]),
            (b"x", b"x"),
            (b" \r\n", b" "),
        ] {
            let made = hash(input).expect("a hash");
            let text = format!("[users.u]\npassword = \"{made}\"\naccess = \"read-write\"\n");
            let accounts = Accounts::parse(&text).expect("a user");
            assert_eq!(accounts.admit(b"u", password), Some(None));
            assert_eq!(accounts.admit(b"u", b"other"), None);
        }
        assert_ne!(hash(b"x"), hash(b"x"), "the salt is the same");
        assert!(hash(b"").is_err() && hash(b"\n").is_err());
        assert!(hash(&[b'x'; PASSWORD_MAX_BYTES + 1]).is_err());
    }
}
