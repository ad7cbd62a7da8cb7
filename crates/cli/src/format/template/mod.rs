//! `--format`: Go's `text/template`, executed over JSON values with the types of Docker's structures.
//!
//! Actions: fields, `$` variables, pipelines, `if`/`else if`/`else`, `with`, `range` (with `break` and `continue`), `define`, `template`,
//! `block`, comments, trim marks; Go's built-in functions (`and or not eq ne lt le gt ge index slice len print printf println html js urlquery
//! call`) and Docker's (`json join split lower upper title pad truncate`).
//!
//! | module | owns |
//! | --- | --- |
//! | `lex` | the tokens of a template |
//! | `parse` | its tree |
//! | `eval` | the execution of a tree |
//! | `types` | the fields of Docker's structures and their zero values |
//! | `value` | a JSON value with its type |
//! | `functions`, `printf` | the functions that a pipeline may call |
//!
//! Source: Go `text/template` documentation; docker/cli `templates/templates.go`.

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;
pub mod types;
mod value;

use serde_json::Value;

use types::Type;
use value::Typed;

/// A template that does not parse or cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "template: {}", self.0)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Adds the line that the parser was on, unless the message has one.
    fn on(self, line: usize) -> Self {
        match self.0.starts_with(':') {
            true => self,
            false => Self(format!(":{line}: {}", self.0)),
        }
    }
}

/// A template that does not parse, given to a command that shows one object.
///
/// Docker ends such a command with status 64.
#[derive(Debug)]
pub struct ParseError(Error);

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "template parsing error: {}", self.0)
    }
}

impl std::error::Error for ParseError {}

fn error<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error(text.into()))
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template {
    tree: parse::Tree,
}

impl Template {
    /// Parses `text`, in which the two characters `\t` mean a tab and `\n` a newline, as in Docker.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { tree: parse::parse(lex::lex(&text)?)? })
    }

    /// Parses the `--format` of a command that shows one object: `inspect`, `info`, `version`.
    pub fn parse_flag(text: &str) -> Result<Self, ParseError> {
        Self::parse(text).map_err(ParseError)
    }

    /// Applies the template to `value`.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        self.render_as(value, Type::Any)
    }

    /// Applies the template to `value`, which has the type `kind`.
    pub fn render_as(&self, value: &Value, kind: Type) -> Result<String, Error> {
        eval::render(&self.tree, &Typed::new(value.clone(), kind))
    }

    /// Applies the template to `value`, read as `kind`. If that fails, applies it to the untyped JSON document, so that a template may
    /// name either the fields of a structure or the keys of the document.
    ///
    /// Source: docker/cli `cli/command/inspect/inspector.go`, `tryRawInspectFallback`.
    pub fn inspect(&self, value: &Value, kind: Type) -> Result<String, Error> {
        self.render_as(value, kind).or_else(|_| self.render(value))
    }
}

#[cfg(test)]
mod tests;
