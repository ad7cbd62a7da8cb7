//! A tree over a value to text.

use serde_json::Value;

use super::{
    Error, error, functions,
    parse::{Node, Operand, Pipeline},
};

pub fn render(nodes: &[Node], value: &Value) -> Result<String, Error> {
    let mut run = Run { out: String::new(), variables: vec![(String::new(), value.clone())] };
    run.list(nodes, value)?;
    Ok(run.out)
}

enum Flow {
    Next,
    Break,
    Continue,
}

struct Run {
    out: String,
    /// Innermost last; the empty name is `$`, the value that the template is applied to.
    variables: Vec<(String, Value)>,
}

impl Run {
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        let depth = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if !matches!(flow, Flow::Next) {
                self.variables.truncate(depth);
                return Ok(flow);
            }
        }
        self.variables.truncate(depth);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&functions::print(&value));
                } else {
                    self.bind(pipeline, &[value])?;
                }
            }
            Node::If { condition, then, otherwise } => {
                let value = self.pipeline(condition, dot)?;
                return self.scoped(condition, &value, |run| {
                    run.list(if functions::truth(&value) { then } else { otherwise }, dot)
                });
            }
            Node::With { value: pipeline, then, otherwise } => {
                let value = self.pipeline(pipeline, dot)?;
                return self.scoped(pipeline, &value, |run| {
                    if functions::truth(&value) { run.list(then, &value) } else { run.list(otherwise, dot) }
                });
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn scoped(
        &mut self,
        pipeline: &Pipeline,
        value: &Value,
        body: impl FnOnce(&mut Self) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        let depth = self.variables.len();
        if !pipeline.variables.is_empty() {
            self.bind(pipeline, std::slice::from_ref(value))?;
        }
        let flow = body(self);
        self.variables.truncate(depth);
        flow
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, Error> {
        let items: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
            Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect(),
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(key, item)| (Value::from(key), item)).collect()
            }
            Value::Null => Vec::new(),
            other => return error(format!("range can't iterate over {}", functions::print(&other))),
        };
        if items.is_empty() {
            return self.list(otherwise, dot);
        }
        let depth = self.variables.len();
        for (key, item) in items {
            match over.variables.len() {
                0 => {}
                1 => self.bind(over, std::slice::from_ref(&item))?,
                _ => self.bind(over, &[key, item.clone()])?,
            }
            let flow = self.list(body, &item)?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind(&mut self, pipeline: &Pipeline, values: &[Value]) -> Result<(), Error> {
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                *self.variable(name)? = value.clone();
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Value, Error> {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value),
            None => error(format!("undefined variable \"${name}\"")),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    /// Evaluates one command; `last`, the value before the pipe, is its last argument.
    fn command(&mut self, command: &[Operand], last: Option<Value>, dot: &Value) -> Result<Value, Error> {
        let (head, arguments) = command.split_first().expect("the parser makes no empty command");
        if let Operand::Function(name) = head {
            return self.call(name, arguments, last, dot);
        }
        if !arguments.is_empty() || last.is_some() {
            return error("can't give arguments to a value that is not a function");
        }
        self.operand(head, dot)
    }

    fn call(&mut self, name: &str, arguments: &[Operand], last: Option<Value>, dot: &Value) -> Result<Value, Error> {
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            let value = self.operand(argument, dot)?;
            // `and` and `or` stop at the first argument that decides.
            let decided = (name == "and" && !functions::truth(&value)) || (name == "or" && functions::truth(&value));
            if decided {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(last);
        functions::call(name, &values)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Error> {
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Null,
            Operand::Bool(value) => Value::from(*value),
            Operand::Integer(value) => Value::from(*value),
            Operand::Float(value) => Value::from(*value),
            Operand::String(text) => Value::from(text.as_str()),
            Operand::Function(name) => functions::call(name, &[])?,
            Operand::Variable(name) => self.variable(name)?.clone(),
            Operand::Parens(pipeline) => self.pipeline(pipeline, dot)?,
            Operand::Fields(base, names) => {
                // Walks by reference: only the field that is asked for is copied.
                let owned;
                let mut value = match &**base {
                    Operand::Dot => dot,
                    base => {
                        owned = self.operand(base, dot)?;
                        &owned
                    }
                };
                for name in names {
                    value = field(value, name)?;
                }
                value.clone()
            }
        })
    }
}

fn field<'v>(value: &'v Value, name: &str) -> Result<&'v Value, Error> {
    match value {
        Value::Object(map) => match map.get(name) {
            Some(value) => Ok(value),
            None => error(format!(":1: executing \"\" at <.{name}>: map has no entry for key \"{name}\"")),
        },
        Value::Null => error(format!(":1: executing \"\" at <.{name}>: nil data; no entry for key \"{name}\"")),
        _ => error(format!(
            ":1: executing \"\" at <.{name}>: can't evaluate field {name} in {}",
            functions::print(value)
        )),
    }
}
