//! Words of an instruction: splitting them with their quotes, taking the quotes off, putting variables in.

use crate::{Error, env};

/// Splits at blanks that are neither quoted nor escaped; quotes and backslashes stay.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote, mut escaped) = (None, None, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match quote {
            None if c.is_whitespace() => {
                words.extend(start.take().map(|start| &text[start..at]));
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        escaped = c == '\\' && quote != Some('\'');
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// Takes quotes and backslashes off `word` and puts `variables` in: `$NAME`, `${NAME}`, `${NAME:-other}`,
/// `${NAME:+other}`, `${NAME:?why}`.
pub(super) fn expand(word: &str, variables: &[String]) -> Result<String, Error> {
    let mut lexer = Lexer { rest: word.chars().peekable(), word, variables };
    let text = lexer.until(None, 0)?;
    Ok(text)
}

/// Variables within variables, at most.
const MAX_DEPTH: u32 = 32;

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    word: &'a str,
    variables: &'a [String],
}

impl Lexer<'_> {
    fn error(&self, what: &str) -> Error {
        Error::invalid(format!("failed to process {:?}: {what}", self.word))
    }

    /// Reads up to `end`, which is taken, or to the end of the word.
    fn until(&mut self, end: Option<char>, depth: u32) -> Result<String, Error> {
        if depth > MAX_DEPTH {
            return Err(self.error("variables are nested too deeply"));
        }
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                c if Some(c) == end => return Ok(out),
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out, depth)?,
                '$' => out.push_str(&self.variable(depth)?),
                '\\' => match self.rest.next() {
                    Some(next) => out.push(next),
                    None => out.push('\\'),
                },
                c => out.push(c),
            }
        }
        match end {
            None => Ok(out),
            Some(end) => Err(self.error(&format!("syntax error: missing '{end}'"))),
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), Error> {
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => return Err(self.error("unexpected end of statement while looking for matching single-quote")),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String, depth: u32) -> Result<(), Error> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable(depth)?),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '$' | '\\')) => out.push(c),
                    Some(c) => out.extend(['\\', c]),
                    None => out.push('\\'),
                },
                Some(c) => out.push(c),
                None => return Err(self.error("unexpected end of statement while looking for matching double-quote")),
            }
        }
    }

    /// What stands behind a `$`.
    fn variable(&mut self, depth: u32) -> Result<String, Error> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.error("syntax error: bad substitution"));
        }
        let value = self.value(&name);
        match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.rest.next();
                let word = self.until(Some('}'), depth + 1)?;
                let set = value.filter(|value| !value.is_empty());
                match modifier {
                    Some('-') => Ok(set.unwrap_or(word)),
                    Some('+') => Ok(set.map(|_| word).unwrap_or_default()),
                    Some('?') => set.ok_or_else(|| {
                        let why = if word.is_empty() { "is not allowed to be unset" } else { &word };
                        self.error(&format!("{name}: {why}"))
                    }),
                    _ => Err(self.error("unsupported modifier in substitution")),
                }
            }
            _ => Err(self.error("syntax error: missing '}'")),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        // Special and positional parameters are one character.
        if let Some(c) = self.rest.next_if(|c| "@*#?-$!".contains(*c) || c.is_ascii_digit()) {
            name.push(c);
            return name;
        }
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        let variable = self.variables.iter().find(|variable| env::key(variable) == name)?;
        Some(variable.split_once('=').map(|(_, value)| value).unwrap_or_default().to_owned())
    }
}
