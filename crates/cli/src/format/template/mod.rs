//! `--format`: Go's `text/template`, as far as Docker's users write it, over JSON values.
//!
//! Actions: fields, `$` variables, pipelines, `if`/`else if`/`else`, `with`, `range` (with `break` and `continue`), comments, trim marks;
//! Go's built-in functions (`and or not eq ne lt le gt ge index slice len print printf println html js urlquery`) and Docker's
//! (`json join split lower upper title pad truncate`).
//!
//! Source: Go `text/template` documentation; docker/cli `templates/templates.go`.
//!
//! # Limitations
//!
//! `define`, `template` and `block` are not there: one `--format` is one template.

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;

use serde_json::Value;

/// A template that does not parse, or cannot be applied to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "template: {}", self.0)
    }
}

impl std::error::Error for Error {}

fn error<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error(text.into()))
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses `text`; `\t` and `\n` written out in it mean a tab and a new line, as with Docker.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { nodes: parse::parse(lex::lex(&text)?)? })
    }

    /// Applies the template to `value`.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        eval::render(&self.nodes, value)
    }
}

#[cfg(test)]
mod tests;
