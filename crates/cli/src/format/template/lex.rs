//! Splits a template into tokens.

use super::{Error, error};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Literal text between actions.
    Text(String),
    /// `{{`, and the line that it is on, counted from 1.
    Open(usize),
    /// `}}`
    Close,
    /// `.Name`, without its dot; a chain `.A.B` gives two tokens.
    Field(String),
    /// A lone `.`.
    Dot,
    /// A variable, without its `$`; `$` itself has the empty name.
    Variable(String),
    Word(String),
    String(String),
    Integer(i64),
    Float(f64),
    Pipe,
    LeftParen,
    RightParen,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// White space inside an action, which separates arguments.
    Space,
}

pub fn lex(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(at) = rest.find("{{") {
        let (mut literal, after) = (&rest[..at], &rest[at + 2..]);
        if trim_next {
            literal = literal.trim_start();
        }
        let body = match after.strip_prefix("- ") {
            Some(body) => {
                literal = literal.trim_end();
                body
            }
            None => after,
        };
        if !literal.is_empty() {
            tokens.push(Token::Text(literal.to_owned()));
        }
        let line = 1 + text[..text.len() - after.len()].matches('\n').count();
        if let Some(comment) = body.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or(Error("unclosed comment".into()).on(line))?;
            let tail = &comment[end + 2..];
            let close = tail.find("}}").ok_or(Error("comment ends before closing delimiter".into()).on(line))?;
            trim_next = tail[..close].trim_end().ends_with('-');
            rest = &tail[close + 2..];
            continue;
        }
        tokens.push(Token::Open(line));
        rest = lex_action(body, &mut tokens).map_err(|error| error.on(line))?;
        trim_next = false;
    }
    let literal = if trim_next { rest.trim_start() } else { rest };
    if !literal.is_empty() {
        tokens.push(Token::Text(literal.to_owned()));
    }
    Ok(tokens)
}

/// Lexes an action up to its `}}` and returns the text after it, without leading white space after ` -}}`.
fn lex_action<'t>(body: &'t str, tokens: &mut Vec<Token>) -> Result<&'t str, Error> {
    let mut rest = body;
    loop {
        let Some(c) = rest.chars().next() else { return error("unclosed action") };
        if let Some(after) = rest.strip_prefix("}}") {
            tokens.push(Token::Close);
            return Ok(after);
        }
        if c.is_whitespace() {
            let after = rest.trim_start();
            if let Some(after) = after.strip_prefix("-}}") {
                tokens.push(Token::Close);
                return Ok(after.trim_start());
            }
            tokens.push(Token::Space);
            rest = after;
            continue;
        }
        rest = match c {
            '|' => one(tokens, Token::Pipe, rest),
            '(' => one(tokens, Token::LeftParen, rest),
            ')' => one(tokens, Token::RightParen, rest),
            ',' => one(tokens, Token::Comma, rest),
            '=' => one(tokens, Token::Assign, rest),
            ':' if rest.starts_with(":=") => {
                tokens.push(Token::Declare);
                &rest[2..]
            }
            '"' => lex_quoted(rest, tokens)?,
            '`' => {
                let end = rest[1..].find('`').ok_or(Error("unterminated raw quoted string".into()))?;
                tokens.push(Token::String(rest[1..=end].to_owned()));
                &rest[end + 2..]
            }
            '\'' => {
                let mut chars = rest[1..].chars();
                match (chars.next(), chars.next()) {
                    (Some(c), Some('\'')) if !matches!(c, '\'' | '\\') => {
                        tokens.push(Token::Integer(u32::from(c).into()));
                        chars.as_str()
                    }
                    _ => {
                        let end = rest[1..].find('\'').map_or(rest.len(), |at| at + 2);
                        return error(format!("malformed character constant: {}", &rest[..end]));
                    }
                }
            }
            '$' => {
                let (name, after) = word(&rest[1..]);
                tokens.push(Token::Variable(name.to_owned()));
                after
            }
            '.' => {
                let (name, after) = word(&rest[1..]);
                tokens.push(if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) });
                after
            }
            '0'..='9' | '+' | '-' => lex_number(rest, tokens)?,
            c if c.is_alphabetic() || c == '_' => {
                let (name, after) = word(rest);
                tokens.push(Token::Word(name.to_owned()));
                after
            }
            c => return error(format!("unexpected \"{c}\" in command")),
        };
    }
}

fn one<'t>(tokens: &mut Vec<Token>, token: Token, rest: &'t str) -> &'t str {
    tokens.push(token);
    &rest[1..]
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

fn lex_number<'t>(rest: &'t str, tokens: &mut Vec<Token>) -> Result<&'t str, Error> {
    let end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '.').map_or(rest.len(), |at| at + 1);
    let (text, after) = rest.split_at(end);
    let hexadecimal = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    if let Some(integer) = hexadecimal.or_else(|| text.parse().ok()) {
        tokens.push(Token::Integer(integer));
    } else if let Ok(float) = text.parse() {
        tokens.push(Token::Float(float));
    } else {
        return error(format!("bad number syntax: {text:?}"));
    }
    Ok(after)
}

fn lex_quoted<'t>(rest: &'t str, tokens: &mut Vec<Token>) -> Result<&'t str, Error> {
    let mut text = String::new();
    let mut chars = rest[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                tokens.push(Token::String(text));
                return Ok(&rest[at + 2..]);
            }
            '\\' => match chars.next() {
                Some((_, escape)) => text.push(escaped(escape, &mut chars).ok_or(Error("invalid syntax".into()))?),
                None => break,
            },
            c => text.push(c),
        }
    }
    error("unterminated quoted string")
}

/// Reads an escape sequence of Go after its backslash; `None` if it is invalid.
fn escaped(escape: char, rest: &mut std::str::CharIndices<'_>) -> Option<char> {
    let mut code = |digits| {
        let digits: String = rest.by_ref().take(digits).map(|(_, c)| c).collect();
        char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
    };
    Some(match escape {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        '"' | '\\' => escape,
        'x' => code(2).filter(char::is_ascii)?,
        'u' => code(4)?,
        'U' => code(8)?,
        _ => return None,
    })
}
