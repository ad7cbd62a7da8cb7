//! Tokens to a tree.

use std::collections::HashMap;

use super::{Error, error, lex::Token};

/// A template and those that it defines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
    /// By name: `{{define "name"}}`.
    pub defined: HashMap<String, Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    /// Prints its value, unless it declares or assigns variables.
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// Writes what a defined template gives for the argument.
    Template {
        name: String,
        argument: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// `$a, $b := command | command …`
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `:=` makes the variables, `=` changes them.
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Function(String),
    Variable(String),
    Parens(Box<Pipeline>),
    /// Fields of a value: `.A.B`, `$x.A`, `(…).A`.
    Fields(Box<Operand>, Vec<String>),
}

/// Nested actions deeper than this are refused: a template is parsed by recursion.
const MAX_DEPTH: usize = 100;

pub fn parse(tokens: Vec<Token>) -> Result<Tree, Error> {
    let tokens = tokens.into_iter().peekable();
    let mut parser = Parser { tokens, depth: 0, ranges: 0, defined: HashMap::new() };
    let (nodes, end) = parser.list()?;
    match end {
        End::Input => Ok(Tree { nodes, defined: parser.defined }),
        End::Block => error("unexpected {{end}}"),
        End::Else(_) => error("unexpected {{else}}"),
    }
}

enum End {
    Input,
    /// `{{end}}`
    Block,
    /// `{{else}}`, or `{{else if …}}` with its keyword.
    Else(Option<String>),
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
    ranges: usize,
    defined: HashMap<String, Vec<Node>>,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                Token::Open => {
                    self.spaces();
                    let keyword = match self.tokens.peek() {
                        Some(Token::Word(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match keyword.as_str() {
                        "end" => {
                            self.tokens.next();
                            self.close()?;
                            return Ok((nodes, End::Block));
                        }
                        "else" => {
                            self.tokens.next();
                            return Ok((nodes, End::Else(self.after_else()?)));
                        }
                        "break" | "continue" if self.ranges == 0 => {
                            return error(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                        }
                        "break" | "continue" => {
                            self.tokens.next();
                            self.close()?;
                            nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                        }
                        "if" | "with" | "range" => {
                            self.tokens.next();
                            nodes.push(self.block(&keyword)?);
                        }
                        "define" if self.depth > 0 => return error("unexpected {{define}}"),
                        "define" => {
                            self.tokens.next();
                            let name = self.name("define")?;
                            self.close()?;
                            self.define(name)?;
                        }
                        "template" | "block" => {
                            self.tokens.next();
                            nodes.push(self.template(&keyword)?);
                        }
                        _ => {
                            let pipeline = self.pipeline()?;
                            self.close()?;
                            nodes.push(Node::Action(pipeline));
                        }
                    }
                }
                other => return error(format!("unexpected {other:?}")),
            }
        }
        Ok((nodes, End::Input))
    }

    fn after_else(&mut self) -> Result<Option<String>, Error> {
        self.spaces();
        match self.tokens.peek() {
            Some(Token::Word(word)) if word == "if" || word == "with" => {
                let word = word.clone();
                self.tokens.next();
                Ok(Some(word))
            }
            _ => self.close().map(|()| None),
        }
    }

    fn block(&mut self, keyword: &str) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return error(format!("more than {MAX_DEPTH} nested actions"));
        }
        let head = self.pipeline()?;
        self.close()?;
        self.ranges += usize::from(keyword == "range");
        let (then, end) = self.list()?;
        self.ranges -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Block => Vec::new(),
            End::Input => {
                return error(format!("unexpected end of the template: {{{{{keyword}}}}} has no {{{{end}}}}"));
            }
            // `else if` shares the `end` of the action that it belongs to.
            End::Else(Some(keyword)) => vec![self.block(&keyword)?],
            End::Else(None) => match self.list()? {
                (nodes, End::Block) => nodes,
                _ => return error("expected {{end}} after {{else}}"),
            },
        };
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: head, then, otherwise },
            "with" => Node::With { value: head, then, otherwise },
            _ => Node::Range { over: head, body: then, otherwise },
        })
    }

    /// The name of a template behind `keyword`.
    fn name(&mut self, keyword: &str) -> Result<String, Error> {
        self.spaces();
        match self.tokens.next() {
            Some(Token::String(name)) => Ok(name),
            other => error(format!("unexpected {other:?} in {keyword} clause")),
        }
    }

    /// Reads the body of the template `name`, to its `{{end}}`.
    fn define(&mut self, name: String) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return error(format!("more than {MAX_DEPTH} nested actions"));
        }
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, end) = self.list()?;
        self.ranges = ranges;
        self.depth -= 1;
        match end {
            End::Block => self.defined.insert(name, nodes),
            _ => return error(format!("unexpected end of the template {name:?}: it has no {{{{end}}}}")),
        };
        Ok(())
    }

    /// `{{template "name"}}`, or `{{block "name" argument}}…{{end}}`, which defines the template in its place.
    fn template(&mut self, keyword: &str) -> Result<Node, Error> {
        let name = self.name(keyword)?;
        self.spaces();
        let argument = match self.tokens.peek() {
            Some(Token::Close) if keyword == "template" => None,
            _ => Some(self.pipeline()?),
        };
        self.close()?;
        if keyword == "block" {
            self.define(name.clone())?;
        }
        Ok(Node::Template { name, argument })
    }

    fn spaces(&mut self) {
        while self.tokens.next_if_eq(&Token::Space).is_some() {}
    }

    fn close(&mut self) -> Result<(), Error> {
        self.spaces();
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            Some(other) => error(format!("unexpected {other:?} in an action")),
            None => error("unclosed action"),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, Error> {
        let (variables, declares) = self.declaration()?;
        let mut commands = vec![self.command()?];
        while self.tokens.next_if_eq(&Token::Pipe).is_some() {
            commands.push(self.command()?);
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// `$x :=`, `$x =`, `$k, $v :=`; none of these leaves the tokens as they are.
    fn declaration(&mut self) -> Result<(Vec<String>, bool), Error> {
        self.spaces();
        let mut ahead = self.tokens.clone();
        let mut variables = Vec::new();
        while let Some(Token::Variable(name)) = ahead.next() {
            variables.push(name);
            while ahead.next_if_eq(&Token::Space).is_some() {}
            match ahead.next() {
                Some(Token::Comma) => while ahead.next_if_eq(&Token::Space).is_some() {},
                Some(token @ (Token::Declare | Token::Assign)) => {
                    self.tokens = ahead;
                    return Ok((variables, token == Token::Declare));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Vec<Operand>, Error> {
        let mut operands = Vec::new();
        loop {
            self.spaces();
            match self.tokens.peek() {
                None | Some(Token::Close | Token::Pipe | Token::RightParen) => break,
                Some(_) => operands.push(self.operand()?),
            }
        }
        if operands.is_empty() { error("missing value for command") } else { Ok(operands) }
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let base = match self.tokens.next() {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field(name)) => Operand::Fields(Box::new(Operand::Dot), vec![name]),
            Some(Token::Variable(name)) => Operand::Variable(name),
            Some(Token::String(text)) => return Ok(Operand::String(text)),
            Some(Token::Integer(value)) => return Ok(Operand::Integer(value)),
            Some(Token::Float(value)) => return Ok(Operand::Float(value)),
            Some(Token::Word(word)) => match word.as_str() {
                "true" | "false" => return Ok(Operand::Bool(word == "true")),
                "nil" => return Ok(Operand::Nil),
                _ => {
                    if !super::functions::exists(&word) {
                        return error(format!("function {word:?} not defined"));
                    }
                    Operand::Function(word)
                }
            },
            Some(Token::LeftParen) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return error(format!("more than {MAX_DEPTH} nested actions"));
                }
                let inner = self.pipeline()?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some(Token::RightParen) => Operand::Parens(Box::new(inner)),
                    _ => return error("unclosed left paren"),
                }
            }
            other => return error(format!("unexpected {other:?} in an action")),
        };
        let (base, mut names) = match base {
            Operand::Fields(base, names) => (base, names),
            base => (Box::new(base), Vec::new()),
        };
        while let Some(Token::Field(_)) = self.tokens.peek() {
            if let Some(Token::Field(name)) = self.tokens.next() {
                names.push(name);
            }
        }
        Ok(if names.is_empty() { *base } else { Operand::Fields(base, names) })
    }
}
