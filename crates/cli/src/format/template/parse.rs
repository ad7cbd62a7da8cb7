//! Parses tokens into a tree.

use std::collections::HashMap;

use super::{Error, error, lex::Token};

/// A template and the templates that it defines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
    /// Templates of `{{define "name"}}`, by name.
    pub defined: HashMap<String, Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    /// Prints the value of a pipeline, unless the pipeline sets variables.
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
    /// Executes a defined template with the argument.
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
    /// Whether the operator is `:=`, which declares the variables; `=` assigns them.
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
    /// A chain of fields: `.A.B`, `$x.A`, `(…).A`.
    Fields(Box<Operand>, Vec<String>),
}

/// Maximum depth of nested actions; the parser is recursive.
const MAX_DEPTH: usize = 100;

pub fn parse(tokens: Vec<Token>) -> Result<Tree, Error> {
    let tokens = tokens.into_iter().peekable();
    let mut parser =
        Parser { tokens, line: 1, depth: 0, ranges: 0, variables: vec![String::new()], defined: HashMap::new() };
    let nodes = match parser.list() {
        Ok((nodes, End::Input)) => Ok(nodes),
        Ok((_, End::Block)) => error("unexpected {{end}}"),
        Ok((_, End::Else(_))) => error("unexpected {{else}}"),
        Err(error) => Err(error),
    };
    match nodes {
        Ok(nodes) => Ok(Tree { nodes, defined: parser.defined }),
        Err(error) => Err(error.on(parser.line)),
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
    /// Line of the current action.
    line: usize,
    /// Number of open actions and parentheses.
    depth: usize,
    /// Number of open `range` actions.
    ranges: usize,
    /// Variables in scope, without their `$`.
    variables: Vec<String>,
    defined: HashMap<String, Vec<Node>>,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                Token::Open(line) => {
                    self.line = line;
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
                            let pipeline = self.pipeline("command")?;
                            self.close()?;
                            nodes.push(Node::Action(pipeline));
                        }
                    }
                }
                other => return error(format!("unexpected {}", shown(Some(&other)))),
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
        let outer = self.variables.len();
        let head = self.pipeline(keyword)?;
        self.close()?;
        self.ranges += usize::from(keyword == "range");
        let (then, end) = self.list()?;
        self.ranges -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Block => Vec::new(),
            End::Input => return error("unexpected EOF"),
            // `else if` has no `end` of its own.
            End::Else(Some(keyword)) => vec![self.block(&keyword)?],
            End::Else(None) => match self.list()? {
                (nodes, End::Block) => nodes,
                (_, End::Input) => return error("unexpected EOF"),
                (_, End::Else(_)) => return error("expected end; found {{else}}"),
            },
        };
        self.variables.truncate(outer);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: head, then, otherwise },
            "with" => Node::With { value: head, then, otherwise },
            _ => Node::Range { over: head, body: then, otherwise },
        })
    }

    /// Reads the name of a template after `keyword`.
    fn name(&mut self, keyword: &str) -> Result<String, Error> {
        self.spaces();
        match self.tokens.next() {
            Some(Token::String(name)) => Ok(name),
            other => error(format!("unexpected {} in {keyword} clause", shown(other.as_ref()))),
        }
    }

    /// Reads the body of the template `name` up to its `{{end}}`.
    fn define(&mut self, name: String) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return error(format!("more than {MAX_DEPTH} nested actions"));
        }
        let ranges = std::mem::take(&mut self.ranges);
        let variables = std::mem::replace(&mut self.variables, vec![String::new()]);
        let (nodes, end) = self.list()?;
        self.variables = variables;
        self.ranges = ranges;
        self.depth -= 1;
        match end {
            End::Block => self.defined.insert(name, nodes),
            End::Input => return error("unexpected EOF"),
            End::Else(_) => return error("unexpected {{else}} in define clause"),
        };
        Ok(())
    }

    /// Reads `{{template "name"}}`, or `{{block "name" argument}}…{{end}}`, which also defines the template.
    fn template(&mut self, keyword: &str) -> Result<Node, Error> {
        let name = self.name(keyword)?;
        self.spaces();
        let argument = match self.tokens.peek() {
            Some(Token::Close) if keyword == "template" => None,
            _ => Some(self.pipeline(keyword)?),
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
            Some(other) => error(format!("unexpected {} in command", shown(Some(&other)))),
            None => error("unclosed action"),
        }
    }

    /// Reads a pipeline; `context` is the keyword that it follows.
    fn pipeline(&mut self, context: &str) -> Result<Pipeline, Error> {
        let (variables, declares) = self.declaration()?;
        self.variables.extend(variables.iter().cloned());
        let mut commands = vec![self.command(context)?];
        while self.tokens.next_if_eq(&Token::Pipe).is_some() {
            commands.push(self.command(context)?);
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// Reads `$x :=`, `$x =` or `$k, $v :=`; consumes nothing if the pipeline starts otherwise.
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

    fn command(&mut self, context: &str) -> Result<Vec<Operand>, Error> {
        let mut operands = Vec::new();
        loop {
            self.spaces();
            match self.tokens.peek() {
                None | Some(Token::Close | Token::Pipe | Token::RightParen) => break,
                Some(_) => operands.push(self.operand()?),
            }
        }
        if operands.is_empty() { error(format!("missing value for {context}")) } else { Ok(operands) }
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let base = match self.tokens.next() {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field(name)) => Operand::Fields(Box::new(Operand::Dot), vec![name]),
            Some(Token::Variable(name)) if self.variables.contains(&name) => Operand::Variable(name),
            Some(Token::Variable(name)) => return error(format!("undefined variable \"${name}\"")),
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
                let inner = self.pipeline("parenthesized pipeline")?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some(Token::RightParen) => Operand::Parens(Box::new(inner)),
                    _ => return error("unclosed left paren"),
                }
            }
            other => return error(format!("unexpected {} in operand", shown(other.as_ref()))),
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

/// Shows a token in an error message.
fn shown(token: Option<&Token>) -> String {
    match token {
        None => "EOF".to_owned(),
        Some(Token::Text(text) | Token::String(text) | Token::Word(text)) => format!("{text:?}"),
        Some(Token::Field(name)) => format!("<.{name}>"),
        Some(Token::Variable(name)) => format!("\"${name}\""),
        Some(Token::Integer(value)) => format!("\"{value}\""),
        Some(Token::Float(value)) => format!("\"{value}\""),
        Some(Token::Dot) => "<.>".to_owned(),
        Some(Token::Open(_)) => "\"{{\"".to_owned(),
        Some(Token::Close) => "\"}}\"".to_owned(),
        Some(Token::Pipe) => "\"|\"".to_owned(),
        Some(Token::LeftParen) => "left paren".to_owned(),
        Some(Token::RightParen) => "right paren".to_owned(),
        Some(Token::Comma) => "\",\"".to_owned(),
        Some(Token::Declare) => "\":=\"".to_owned(),
        Some(Token::Assign) => "\"=\"".to_owned(),
        Some(Token::Space) => "\" \"".to_owned(),
    }
}
