//! A file of options: TOML, flat, one key for each option.
//!
//! Always true: a value that is not of its key's kind is an error that names the line; what a value
//! means is for the command line to judge, which gets it as the text a flag would have.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Kind;
use crate::config::CONFIG_FILE_MAX_BYTES;

/// One line of a file.
pub(super) struct Entry {
    pub name: String,
    pub line: usize,
    pub value: Value,
}

/// What stands behind a key, as texts where the kind wants that.
pub(super) enum Value {
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<String>),
    /// Something else, by its name.
    Other(&'static str),
}

impl Value {
    /// The texts that a flag of this kind would have.
    ///
    /// # Errors
    /// What is wanted and what is there.
    pub fn texts(self, kind: Kind) -> Result<Vec<String>, String> {
        let is = match &self {
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list of strings",
            Self::Other(name) => name,
        };
        match (kind, self) {
            (Kind::Switch, Self::Bool(on)) => Ok(vec![on.to_string()]),
            // As parameter groups have it.
            (Kind::Switch, Self::Number(text)) if text == "0" => Ok(vec!["false".into()]),
            (Kind::Switch, Self::Number(text)) if text == "1" => Ok(vec!["true".into()]),
            (Kind::List, Self::List(texts)) => Ok(texts),
            (Kind::List, Self::Text(text)) => Ok(vec![text]),
            (Kind::One, Self::Text(text) | Self::Number(text)) => Ok(vec![text]),
            (Kind::Count, Self::Number(text)) => Ok(vec![text]),
            (kind, _) => {
                let wanted = match kind {
                    Kind::Switch => "true or false is wanted",
                    Kind::Count => "a number is wanted",
                    Kind::List => "a list of strings is wanted",
                    Kind::One => "a number or a string is wanted",
                };
                Err(format!("{wanted}, and this is {is}"))
            }
        }
    }
}

/// Reads a file of options.
///
/// # Errors
/// A sentence that names the file and, if there is one, the line.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let shown = path.display();
    let refused = |error| format!("--config: cannot read {shown}: {error}");
    let bytes = std::fs::metadata(path).map_err(refused)?.len();
    if bytes > CONFIG_FILE_MAX_BYTES {
        return Err(format!(
            "--config: {shown} has {bytes} bytes; {CONFIG_FILE_MAX_BYTES} are allowed"
        ));
    }
    let text = std::fs::read_to_string(path).map_err(refused)?;
    parse(&text).map_err(|(line, reason)| format!("{shown}:{line}: {reason}"))
}

fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_of = |offset: usize| 1 + text[..offset].matches('\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, error.message().to_owned())
    })?;
    let mut entries: Vec<Entry> = table
        .into_inner()
        .into_iter()
        .map(|(key, value)| Entry {
            line: line_of(key.span().start),
            name: key.into_inner().into_owned(),
            value: convert(value.into_inner()),
        })
        .collect();
    // In the order of the file, so that the first mistake is named first.
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn convert(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(on) => Value::Bool(on),
        // As it was written: of an access mask the digits count.
        DeValue::Integer(number) => {
            let prefix = match number.radix() {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            Value::Number(format!("{prefix}{}", number.as_str()))
        }
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Array(values) => {
            let texts = values.into_iter().map(Spanned::into_inner);
            let texts = texts.map(|value| match value {
                DeValue::String(text) => Some(text.into_owned()),
                _ => None,
            });
            match texts.collect() {
                Some(texts) => Value::List(texts),
                None => Value::Other("a list with something else in it"),
            }
        }
        DeValue::Table(_) => Value::Other("a table"),
        DeValue::Datetime(_) => Value::Other("a date"),
    }
}
