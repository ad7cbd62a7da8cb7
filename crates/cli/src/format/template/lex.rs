//! Text and `{{ … }}` to tokens.

use super::{Error, error};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Literal text between actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.Name` as `Name`; the dots of a chain come one by one.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$` or `$name`, without the dollar sign.
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
    /// White space inside an action: it parts arguments.
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
        if let Some(comment) = body.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or(Error("unclosed comment".into()))?;
            let tail = &comment[end + 2..];
            let close = tail.find("}}").ok_or(Error("comment ends before closing delimiter".into()))?;
            trim_next = tail[..close].trim_end().ends_with('-');
            rest = &tail[close + 2..];
            continue;
        }
        tokens.push(Token::Open);
        rest = lex_action(body, &mut tokens)?;
        trim_next = false;
    }
    let literal = if trim_next { rest.trim_start() } else { rest };
    if !literal.is_empty() {
        tokens.push(Token::Text(literal.to_owned()));
    }
    Ok(tokens)
}

/// Lexes up to `}}` and returns what follows it (with white space trimmed after ` -}}`).
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
                    _ => return error("malformed character constant"),
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
            c => return error(format!("unexpected {c:?} in an action")),
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
    let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |at| at + 1);
    let (text, after) = rest.split_at(end);
    if let Ok(integer) = text.parse() {
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
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, c)) => text.push(c),
                None => break,
            },
            c => text.push(c),
        }
    }
    error("unterminated quoted string")
}
