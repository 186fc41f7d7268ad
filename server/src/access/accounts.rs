//! The file of users.
//!
//! ```toml
//! [users.reporter]
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."   # strata hash-password
//! access = "read"                                   # or "read-write"
//! prefixes = ["report:", "common:"]                 # any key without this
//! ```
//!
//! Always true: a set of accounts is never changed, a file that is read again makes another one; and an
//! error about the file names the user and the key, never what stands behind it.

use std::path::Path;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Argon2, Params, PasswordVerifier};
use strata_protocol::KEY_MAX_BYTES;
use toml::{Table, Value};

use super::Rights;
use crate::config::{USER_NAME_MAX_BYTES, USERS_FILE_MAX_BYTES, USERS_HASH_MAX_BYTES};

/// The users of a file.
#[derive(Debug)]
pub struct Accounts {
    list: Vec<Account>,
}

#[derive(Debug)]
struct Account {
    name: String,
    hash: PasswordHash,
    rights: Option<Arc<Rights>>,
}

impl Accounts {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence about the file, which tells no secret.
    pub fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let refused = |error| format!("--auth-file: cannot read {shown}: {error}");
        let bytes = std::fs::metadata(path).map_err(refused)?.len();
        if bytes > USERS_FILE_MAX_BYTES {
            return Err(format!(
                "--auth-file: {shown} has {bytes} bytes; {USERS_FILE_MAX_BYTES} are allowed"
            ));
        }
        let text = std::fs::read_to_string(path).map_err(refused)?;
        Self::parse(&text).map_err(|reason| format!("--auth-file: {shown}: {reason}"))
    }

    /// As [`load`](Accounts::load), of a text.
    ///
    /// # Errors
    /// The rest of such a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The error itself would show the line.
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start]
                    .bytes()
                    .filter(|byte| *byte == b'\n')
                    .count()
            });
            format!("line {line}: {}", error.message())
        })?;
        let mut users = None;
        for (name, value) in table {
            match (&name[..], value) {
                ("users", Value::Table(table)) => users = Some(table),
                _ => return Err(format!("{name} is no [users.NAME]")),
            }
        }
        let users = users.unwrap_or_default();
        if users.is_empty() {
            return Err("it has no user: [users.NAME]".into());
        }
        let accounts = users.into_iter().map(|(name, value)| {
            let reason = |reason| format!("user {name}: {reason}");
            account(&name, value).map_err(reason)
        });
        Ok(Self {
            list: accounts.collect::<Result<_, String>>()?,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether somebody has this name.
    #[must_use]
    pub fn knows(&self, name: &[u8]) -> bool {
        self.list
            .iter()
            .any(|account| account.name.as_bytes() == name)
    }

    /// The rights of the user with this name and password, if there is one. How long it takes does not tell
    /// whether the name is somebody's: of nobody's the first user's hash is computed.
    #[must_use]
    pub fn admit(&self, name: &[u8], password: &[u8]) -> Option<Option<Arc<Rights>>> {
        let mut all = self.list.iter();
        let found = all.find(|account| account.name.as_bytes() == name);
        let compared = found.or(self.list.first())?;
        let right = Argon2::default()
            .verify_password(password, &compared.hash)
            .is_ok();
        found
            .filter(|_| right)
            .map(|account| account.rights.clone())
    }
}

fn account(name: &str, value: Value) -> Result<Account, String> {
    let plain = |char: char| !char.is_whitespace() && !char.is_control();
    if !(1..=USER_NAME_MAX_BYTES).contains(&name.len()) || !name.chars().all(plain) {
        return Err(format!(
            "a name has 1 to {USER_NAME_MAX_BYTES} bytes, and no blanks among them"
        ));
    }
    let Value::Table(table) = value else {
        return Err("a user is a table with password and access".into());
    };
    let (mut hash, mut write, mut prefixes) = (None, None, Vec::new());
    for (key, value) in table {
        match (&key[..], value) {
            ("password", Value::String(text)) => hash = Some(password_hash(&text)?),
            ("access", Value::String(text)) if text == "read" => write = Some(false),
            ("access", Value::String(text)) if text == "read-write" => write = Some(true),
            ("access", _) => return Err("access is \"read\" or \"read-write\"".into()),
            ("prefixes", Value::Array(list)) => prefixes = prefix_list(list)?,
            ("password" | "prefixes", _) => return Err(format!("{key} is of the wrong type")),
            _ => {
                return Err(format!(
                    "there is no {key}; there are password, access and prefixes"
                ));
            }
        }
    }
    let write = write.ok_or("access is missing: \"read\" or \"read-write\"")?;
    let rights = Rights { write, prefixes };
    let unrestricted = write && rights.prefixes.is_empty();
    Ok(Account {
        name: name.to_owned(),
        hash: hash.ok_or("password is missing; strata hash-password makes one")?,
        rights: (!unrestricted).then(|| Arc::new(rights)),
    })
}

fn password_hash(text: &str) -> Result<PasswordHash, String> {
    let none = || "password is no Argon2id hash; strata hash-password makes one".to_owned();
    let hash = PasswordHash::new(text).map_err(|_| none())?;
    let params = Params::try_from(&hash).map_err(|_| none())?;
    if hash.algorithm != ARGON2ID_IDENT || hash.hash.is_none() || hash.salt.is_none() {
        return Err(none());
    }
    if u64::from(params.m_cost()) << 10 > USERS_HASH_MAX_BYTES as u64 {
        return Err(format!(
            "password asks for more than {} MiB of memory each time it is checked",
            USERS_HASH_MAX_BYTES >> 20
        ));
    }
    Ok(hash)
}

fn prefix_list(list: Vec<Value>) -> Result<Vec<Box<[u8]>>, String> {
    if list.is_empty() {
        return Err("prefixes is empty; leave it out to allow every key".into());
    }
    let prefixes = list.into_iter().map(|value| match value {
        Value::String(text) if (1..=KEY_MAX_BYTES).contains(&text.len()) => {
            Ok(text.into_bytes().into())
        }
        _ => Err(format!(
            "a prefix is a string of 1 to {KEY_MAX_BYTES} bytes"
        )),
    });
    prefixes.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use argon2::PasswordHasher;

    /// A hash that is computed in no time.
    pub fn quick_hash(password: &str) -> String {
        let params = Params::new(8, 1, 1, None).expect("allowed");
        let hash = Argon2::from(params).hash_password(password.as_bytes());
        hash.expect("a hash").to_string()
    }

    #[test]
    fn a_user_comes_in_with_its_own_password_alone() {
        let text = format!(
            "[users.all]\npassword = \"{}\"\naccess = \"read-write\"\n\
             [users.some]\npassword = \"{}\"\naccess = \"read\"\nprefixes = [\"a:\"]\n",
            quick_hash("one"),
            quick_hash("two words"),
        );
        let accounts = Accounts::parse(&text).expect("two users");
        assert_eq!(accounts.count(), 2);
        assert_eq!(accounts.admit(b"all", b"one"), Some(None));
        let rights = accounts.admit(b"some", b"two words").expect("it is right");
        assert!(!rights.expect("not all").write);
        for (user, password) in [
            ("all", "two words"),
            ("all", ""),
            ("all", "one "),
            ("some", "one"),
            ("", "one"),
            ("nobody", "one"),
            ("All", "one"),
        ] {
            let admitted = accounts.admit(user.as_bytes(), password.as_bytes());
            assert_eq!(admitted, None, "{user} {password}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        let hash = quick_hash("secret");
        let argon2i = hash.replace("argon2id", "argon2i");
        let greedy = hash.replace("m=8", "m=2000000");
        for (text, part) in [
            ("", "no user"),
            ("users = 3", "users is no"),
            ("[user.a]\nx = 1", "user is no"),
            (
                "[users.a]\naccess = \"read\"",
                "user a: password is missing",
            ),
            (
                "[users.a]\npassword = \"HASH\"",
                "user a: access is missing",
            ),
            (
                "[users.a]\npassword = \"HASH\"\naccess = \"write\"",
                "read-write",
            ),
            (
                "[users.a]\npassword = \"hunter2\"\naccess = \"read\"",
                "no Argon2id hash",
            ),
            (
                "[users.a]\npassword = \"ARGON2I\"\naccess = \"read\"",
                "no Argon2id hash",
            ),
            (
                "[users.a]\npassword = \"GREEDY\"\naccess = \"read\"",
                "64 MiB",
            ),
            (
                "[users.a]\npassword = 5\naccess = \"read\"",
                "password is of the wrong type",
            ),
            (
                "[users.a]\npasswort = \"HASH\"\naccess = \"read\"",
                "there is no passwort",
            ),
            (
                "[users.a]\npassword = \"HASH\"\naccess = \"read\"\nprefixes = []",
                "prefixes is empty",
            ),
            (
                "[users.a]\npassword = \"HASH\"\naccess = \"read\"\nprefixes = [\"\"]",
                "a prefix is",
            ),
            (
                "[users.\"a b\"]\npassword = \"HASH\"\naccess = \"read\"",
                "blanks",
            ),
            ("[users.a]\npassword = \"HASH", "line 2"),
            ("a:secret", "line 1"),
        ] {
            let text = text
                .replace("HASH", &hash)
                .replace("ARGON2I", &argon2i)
                .replace("GREEDY", &greedy);
            let error = Accounts::parse(&text).expect_err(&text);
            assert!(error.contains(part), "{text}: {error}");
            for secret in ["secret", "hunter2", "$argon2"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }
}
