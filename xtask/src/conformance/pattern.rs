//! The bytes in a line of a transcript: literal ones with escapes, repetitions, and places that only have a shape.
//!
//! | written | means |
//! |---|---|
//! | `\r` `\n` `\t` `\\` `\{` `\"` `\xHH` | that byte |
//! | `{"text"*251}` | `text`, 251 times |
//! | `{" k%" for 1..=120}` | ` k1 k2 ... k120`: every `%` is the number |
//! | `{num}` | decimal digits, at least one |
//! | `{num:a}` | the same, named: the first time it names the number, later it must be that number |
//! | `{text}` | the rest of the line: anything but CR and LF |
//!
//! A request may hold named numbers that are known by then, and no other shapes.

use std::collections::HashMap;

/// A line's bytes, part by part. Neighbouring literal parts are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// In the order of the line.
    pub parts: Vec<Part>,
}

/// One part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Exactly these bytes.
    Literal(Vec<u8>),
    /// Decimal digits; with a name, the number of that name.
    Number(Option<String>),
    /// Anything up to CR or LF.
    Text,
    /// Eight bytes of a number, the highest first; with a name, the number of that name. Only packets have it.
    Wide(Option<String>),
}

impl Part {
    fn is_line_end(&self) -> bool {
        matches!(self, Self::Literal(bytes) if matches!(bytes.first(), Some(b'\r' | b'\n')))
    }
}

/// Numbers by the names a transcript gave them.
pub type Names = HashMap<String, u64>;

impl Pattern {
    /// Reads a line; `end` is what follows it on the wire.
    ///
    /// # Errors
    /// Not the notation above; the message shows where.
    pub fn parse(line: &str, end: &[u8]) -> Result<Self, String> {
        let mut pattern = Self { parts: Vec::new() };
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let close =
                    closing_brace(rest).ok_or_else(|| format!("no closing brace: {rest}"))?;
                pattern.parse_braces(&rest[1..close])?;
                rest = &rest[close + 1..];
            } else {
                let (bytes, after) = one_character(rest)?;
                pattern.push(&bytes);
                rest = after;
            }
        }
        pattern.push(end);
        let follows = |pair: &[Part]| matches!(pair, [Part::Text, next] if !next.is_line_end());
        if pattern.parts.windows(2).any(follows) {
            return Err(format!("{{text}} takes the rest of its line: {line}"));
        }
        Ok(pattern)
    }

    /// The bytes to send, with the numbers known so far.
    ///
    /// # Errors
    /// A part that has no definite bytes.
    pub fn bytes(&self, names: &Names) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => bytes.extend(literal),
                Part::Number(Some(name)) | Part::Wide(Some(name)) => {
                    let number = names
                        .get(name)
                        .ok_or_else(|| format!("no number is named {name} yet"))?;
                    match part {
                        Part::Wide(_) => bytes.extend(number.to_be_bytes()),
                        _ => bytes.extend(number.to_string().bytes()),
                    }
                }
                Part::Number(None) | Part::Wide(None) | Part::Text => {
                    return Err("a request must say its bytes".into());
                }
            }
        }
        Ok(bytes)
    }

    fn parse_braces(&mut self, inside: &str) -> Result<(), String> {
        if let Some(quoted) = inside.strip_prefix('"') {
            let close =
                closing_quote(quoted).ok_or_else(|| format!("no closing quote: {inside}"))?;
            let (text, how) = (&quoted[..close], quoted[close + 1..].trim());
            let wrong = || format!("neither `* N` nor `for A..=B`: {how}");
            if let Some(count) = how.strip_prefix('*') {
                let count: usize = count.trim().parse().map_err(|_| wrong())?;
                self.push(&literal(text)?.repeat(count));
            } else {
                let range = how.strip_prefix("for ").ok_or_else(wrong)?;
                let (from, to) = range.split_once("..=").ok_or_else(wrong)?;
                let (from, to): (u32, u32) = (
                    from.trim().parse().map_err(|_| wrong())?,
                    to.trim().parse().map_err(|_| wrong())?,
                );
                for number in from..=to {
                    self.push(&literal(&text.replace('%', &number.to_string()))?);
                }
            }
            return Ok(());
        }
        self.parts.push(match inside.split_once(':') {
            None if inside == "num" => Part::Number(None),
            None if inside == "text" => Part::Text,
            Some(("num", name)) if !name.is_empty() => Part::Number(Some(name.to_owned())),
            _ => return Err(format!("no such shape: {{{inside}}}")),
        });
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Literal(literal)) => literal.extend(bytes),
            _ if bytes.is_empty() => {}
            _ => self.parts.push(Part::Literal(bytes.to_vec())),
        }
    }
}

/// Whether a whole line (without its end) has the pattern's shape; names it meets become known.
pub fn matches_line(pattern: &Pattern, line: &[u8], names: &mut Names) -> bool {
    let mut rest = line;
    for part in &pattern.parts {
        rest = match part {
            Part::Literal(literal) => match rest.strip_prefix(literal.as_slice()) {
                Some(rest) => rest,
                None => return false,
            },
            Part::Number(name) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if !accept_number(name.as_deref(), &rest[..digits], names) {
                    return false;
                }
                &rest[digits..]
            }
            Part::Text => &[],
            Part::Wide(_) => return false,
        };
    }
    rest.is_empty()
}

/// Whether digits are a number, and the one the name stands for if it stands for one.
pub fn accept_number(name: Option<&str>, digits: &[u8], names: &mut Names) -> bool {
    let Some(number) = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
    else {
        return false;
    };
    accept(name, number, names)
}

/// Whether a number is the one the name stands for, if it stands for one.
pub fn accept(name: Option<&str>, number: u64, names: &mut Names) -> bool {
    name.is_none_or(|name| *names.entry(name.to_owned()).or_insert(number) == number)
}

/// Where the brace that opens `text` closes; braces inside quotes do not count.
fn closing_brace(text: &str) -> Option<usize> {
    if let Some(quoted) = text.strip_prefix("{\"") {
        let quote = 2 + closing_quote(quoted)?;
        return Some(quote + text[quote..].find('}')?);
    }
    text.find('}')
}

/// Where the quote closes whose inside starts at `text`.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })
}

/// Text with escapes and nothing else.
fn literal(mut text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while !text.is_empty() {
        let (one, after) = one_character(text)?;
        bytes.extend(one);
        text = after;
    }
    Ok(bytes)
}

/// The bytes of the first character or escape, and what follows it.
fn one_character(text: &str) -> Result<(Vec<u8>, &str), String> {
    let first = text
        .chars()
        .next()
        .expect("the caller saw that there is more");
    if first != '\\' {
        return Ok((first.to_string().into_bytes(), &text[first.len_utf8()..]));
    }
    let wrong = || format!("no such escape: {text}");
    let byte = match text.as_bytes().get(1).ok_or_else(wrong)? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        same @ (b'\\' | b'{' | b'"') => *same,
        b'x' => {
            let digits = text.get(2..4).ok_or_else(wrong)?;
            return Ok((
                vec![u8::from_str_radix(digits, 16).map_err(|_| wrong())?],
                &text[4..],
            ));
        }
        _ => return Err(wrong()),
    };
    Ok((vec![byte], &text[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(line: &str) -> Vec<u8> {
        Pattern::parse(line, b"")
            .expect("a pattern")
            .bytes(&Names::new())
            .expect("definite")
    }

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(bytes(r"a\r\n\x00\xff\\\{}"), b"a\r\n\x00\xff\\{}");
    }

    #[test]
    fn a_repetition_is_written_out() {
        assert_eq!(
            bytes(r#"get {"ab"*3}{" k%" for 9..=11}."#),
            b"get ababab k9 k10 k11."
        );
        assert_eq!(bytes(r#"{"}\"%\r\n" for 1..=2}"#), b"}\"1\r\n}\"2\r\n");
    }

    #[test]
    fn a_named_number_must_stay_itself() {
        let mut names = Names::new();
        let pattern = Pattern::parse("STAT a {num:x} {text}", b"").expect("a pattern");
        assert!(matches_line(&pattern, b"STAT a 17 b c", &mut names));
        assert_eq!(names["x"], 17);
        assert!(!matches_line(&pattern, b"STAT a 18 b c", &mut names));
        assert!(!matches_line(&pattern, b"STAT a  b", &mut names));
        assert_eq!(
            Pattern::parse("cas {num:x}", b"\r\n")
                .unwrap()
                .bytes(&names)
                .unwrap(),
            b"cas 17\r\n"
        );
    }

    #[test]
    fn what_is_not_the_notation_is_an_error() {
        for line in [
            "{num",
            "{number}",
            r"\q",
            r"\x4",
            r#"{"a"*x}"#,
            r#"{"a" for 1..2}"#,
            "{num:}",
        ] {
            assert!(Pattern::parse(line, b"").is_err(), "{line}");
        }
        assert!(
            Pattern::parse("{num}", b"")
                .unwrap()
                .bytes(&Names::new())
                .is_err()
        );
    }
}
