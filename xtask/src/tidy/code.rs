//! A Rust file as flat tokens with line numbers, without comments, strings' contents or (on demand) test code.
//!
//! Rules search these instead of the text, so that prose about a clock is not a clock.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token: a word, a punctuation character, a bracket, or `""` for any literal.
pub struct Token {
    /// As written; literals are reduced to `""`.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// All tokens of a file. `with_tests` keeps what stands behind an attribute that names `test`.
///
/// # Errors
/// The text is not Rust; the message says where.
pub fn tokens(text: &str, with_tests: bool) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text
        .parse()
        .map_err(|error: proc_macro2::LexError| error.to_string())?;
    let mut tokens = Vec::new();
    flatten(stream, with_tests, &mut tokens);
    Ok(tokens)
}

/// The lines on which `pattern` starts: tokens separated by spaces, compared one by one.
pub fn find(tokens: &[Token], pattern: &str) -> Vec<usize> {
    let pattern: Vec<&str> = pattern.split(' ').collect();
    let matches = |window: &&[Token]| {
        window
            .iter()
            .zip(&pattern)
            .all(|(token, wanted)| token.text == *wanted)
    };
    tokens
        .windows(pattern.len())
        .filter(matches)
        .map(|window| window[0].line)
        .collect()
}

/// The lines on which something inside module `parent` is named, as `parent::child` or as `parent::{child, ...}`.
pub fn find_path(tokens: &[Token], parent: &str, child: &str) -> Vec<usize> {
    let mut lines = find(tokens, &format!("{parent} : : {child}"));
    let texts = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    for at in 0..tokens.len() {
        if texts(at) != parent
            || texts(at + 1) != ":"
            || texts(at + 2) != ":"
            || texts(at + 3) != "{"
        {
            continue;
        }
        let (mut depth, mut before) = (0, "");
        for token in &tokens[at + 3..] {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                name if name == child && depth == 1 && matches!(before, "{" | ",") => {
                    lines.push(token.line)
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            before = &token.text;
        }
    }
    lines
}

fn flatten(stream: TokenStream, with_tests: bool, out: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    let mut skipping = false;
    while let Some(tree) = trees.next() {
        if skipping {
            // An item ends with its braces or with a semicolon, whatever stands before them.
            skipping = match &tree {
                TokenTree::Group(group) => group.delimiter() != Delimiter::Brace,
                TokenTree::Punct(punct) => punct.as_char() != ';',
                _ => true,
            };
            continue;
        }
        let line = tree.span().start().line;
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' && !with_tests => {
                if let Some(TokenTree::Group(attribute)) = trees.peek()
                    && attribute.delimiter() == Delimiter::Bracket
                    && is_test(attribute.stream())
                {
                    skipping = true;
                } else {
                    out.push(Token {
                        text: "#".into(),
                        line,
                    });
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(Token {
                    text: open.into(),
                    line,
                });
                flatten(group.stream(), with_tests, out);
                out.push(Token {
                    text: close.into(),
                    line: group.span_close().end().line,
                });
            }
            TokenTree::Literal(_) => out.push(Token {
                text: "\"\"".into(),
                line,
            }),
            other => out.push(Token {
                text: other.to_string(),
                line,
            }),
        }
    }
}

/// `test`, `cfg(test)`, `cfg(all(test, ...))`; but not `cfg(not(test))`.
fn is_test(attribute: TokenStream) -> bool {
    let words: Vec<String> = attribute
        .to_string()
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_owned)
        .collect();
    words.iter().any(|word| word == "test")
        && !words.iter().any(|word| word == "not" || word == "cfg_attr")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, pattern: &str) -> Vec<usize> {
        find(&tokens(text, false).expect("Rust"), pattern)
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert!(
            lines(
                "// unsafe\n/* unsafe */ const A: &str = \"unsafe\";",
                "unsafe"
            )
            .is_empty()
        );
        assert_eq!(lines("\nfn f() { unsafe { g() } }", "unsafe"), [2]);
    }

    #[test]
    fn test_code_is_left_out_and_what_follows_it_is_not() {
        let text =
            "#[cfg(test)]\nmod tests { fn f() { clock() } }\n#[cfg(not(test))]\nfn g() { clock() }";
        assert_eq!(lines(text, "clock"), [4]);
        assert_eq!(find(&tokens(text, true).expect("Rust"), "clock"), [2, 4]);
    }

    #[test]
    fn a_path_is_found_in_a_use_list_too() {
        let tokens = tokens(
            "use std::{cmp, time::Instant};\nfn f() { std::time::Instant::now(); }",
            false,
        )
        .unwrap();
        let mut lines = find_path(&tokens, "std", "time");
        lines.sort_unstable();
        assert_eq!(lines, [1, 2]);
        assert!(find_path(&tokens, "std", "net").is_empty());
    }
}
