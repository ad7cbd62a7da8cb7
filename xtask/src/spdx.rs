//! SPDX licence expressions: `(MIT OR Apache-2.0) AND Unicode-3.0`.
//!
//! Source: SPDX specification 2.3, annex D; and `/` for `OR`, as old crates have it.

use std::fmt;

/// A licence expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A licence, and the exception that `WITH` adds.
    Licence(String, Option<String>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

/// A text that is not a licence expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// How deep parentheses may nest.
const DEPTH: usize = 32;

impl Expression {
    /// Reads an expression. `WITH` binds closest, then `AND`, then `OR`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut parser = Parser { tokens: spaced.split_whitespace().collect(), at: 0, depth: 0 };
        let expression = parser.or()?;
        match parser.peek() {
            None => Ok(expression),
            Some(token) => Err(Malformed(format!("{token:?} is left over in {text:?}"))),
        }
    }

    /// Whether the licences that `allowed` accepts are enough to use the work.
    pub fn satisfied(&self, allowed: &impl Fn(&str, Option<&str>) -> bool) -> bool {
        match self {
            Self::Licence(name, exception) => allowed(name, exception.as_deref()),
            Self::And(left, right) => left.satisfied(allowed) && right.satisfied(allowed),
            Self::Or(left, right) => left.satisfied(allowed) || right.satisfied(allowed),
        }
    }
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// Takes the operator if it comes next.
    fn take(&mut self, operator: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(operator));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Expression, Malformed> {
        let mut left = self.and()?;
        while self.take("OR") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, Malformed> {
        let mut left = self.simple()?;
        while self.take("AND") {
            left = Expression::And(Box::new(left), Box::new(self.simple()?));
        }
        Ok(left)
    }

    fn simple(&mut self) -> Result<Expression, Malformed> {
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEPTH {
                return Err(Malformed("parentheses nest too deep".to_owned()));
            }
            let inner = self.or()?;
            self.depth -= 1;
            return if self.take(")") { Ok(inner) } else { Err(Malformed("a ')' is missing".to_owned())) };
        }
        let name = self.name()?;
        let exception = if self.take("WITH") { Some(self.name()?) } else { None };
        Ok(Expression::Licence(name, exception))
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let token = self.next().ok_or_else(|| Malformed("a licence is missing at the end".to_owned()))?;
        let operator = ["AND", "OR", "WITH", "(", ")"].iter().any(|known| token.eq_ignore_ascii_case(known));
        let valid = token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+:".contains(&b));
        if operator || !valid {
            return Err(Malformed(format!("{token:?} stands where a licence should")));
        }
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn satisfied(text: &str) -> bool {
        let expression = Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        expression.satisfied(&|name, exception| matches!(name, "A" | "B") && matches!(exception, None | Some("X")))
    }

    #[test]
    fn expressions() {
        for (text, enough) in [
            ("A", true),
            ("C", false),
            ("A OR C", true),
            ("C/A", true),
            ("C / C", false),
            ("A AND C", false),
            ("A AND B", true),
            ("C AND A OR B", true),
            ("B OR A AND C", true),
            ("(B OR A) AND C", false),
            ("((A)) and (b OR B)", true),
            ("A WITH X", true),
            ("A WITH Y", false),
            ("C WITH X OR A WITH X AND B", true),
            ("C WITH X", false),
        ] {
            assert_eq!(satisfied(text), enough, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["", "A B", "A OR", "OR A", "(A", "A)", "()", "A WITH", "A WITH (B)", "A AND AND B", "A,B", "é"] {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
        assert!(Expression::parse(&"(".repeat(100_000)).is_err(), "nesting is bounded");
    }
}
