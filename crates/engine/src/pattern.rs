//! Shell patterns over image names, as Go's `path.Match` has them.
//!
//! `*` and `?` stop at slashes, `[a-z]` and `[^a-z]` are classes, a backslash takes the next character literally.
//!
//! Source: Go, `path/match.go`.

use std::str::Chars;

use crate::Error;

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Clone, Debug)]
enum Token {
    /// Any characters but slashes.
    Star,
    /// One character but a slash.
    Any,
    Literal(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Parses `text`; `Invalid` in Go's words if it is malformed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut rest = text.chars();
        let mut tokens = Vec::new();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut rest)?,
                '\\' => Token::Literal(rest.next().ok_or_else(malformed)?),
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the pattern matches all of `text`. Costs the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // `reached[n]`: the tokens so far can match the first `n` characters.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            if let Token::Star = token {
                for (n, c) in text.iter().enumerate() {
                    reached[n + 1] |= reached[n] && *c != '/';
                }
                continue;
            }
            for (n, c) in text.iter().enumerate().rev() {
                reached[n + 1] = reached[n] && token.takes(*c);
            }
            reached[0] = false;
        }
        reached[text.len()]
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::Literal(literal) => c == *literal,
            Self::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// Reads a class behind its `[`.
fn class(rest: &mut Chars<'_>) -> Result<Token, Error> {
    let next = |rest: &Chars<'_>| rest.clone().next();
    let negated = next(rest) == Some('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || next(rest) != Some(']') {
        let from = bound(rest)?;
        let to = match next(rest) {
            Some('-') => {
                rest.next();
                bound(rest)?
            }
            _ => from,
        };
        ranges.push((from, to));
    }
    rest.next();
    Ok(Token::Class { negated, ranges })
}

/// Reads a bound of a range.
fn bound(rest: &mut Chars<'_>) -> Result<char, Error> {
    match rest.next() {
        None | Some('-' | ']') => Err(malformed()),
        Some('\\') => rest.next().ok_or_else(malformed),
        Some(c) => Ok(c),
    }
}

fn malformed() -> Error {
    Error::Invalid("syntax error in pattern".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        let cases = [
            ("debian", "debian", true),
            ("deb*", "debian:12", true),
            ("*", "a/b", false),
            ("*/*", "a/b:1", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a[b-d]c", "acc", true),
            ("a[^b]c", "abc", false),
            ("a[^b]c", "axc", true),
            ("a[]x]", "a]", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[\\-x]", "-", true),
            ("", "", true),
            ("", "a", false),
            ("*********************b", &"a".repeat(200), false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::parse(pattern).is_ok_and(|p| p.matches(text)), expected, "{pattern} {text}");
        }
        for malformed in ["a[", "a[]", "a[b-]", "[-]", "a\\", "[a"] {
            assert_eq!(Pattern::parse(malformed).unwrap_err().to_string(), "syntax error in pattern", "{malformed}");
        }
    }
}
