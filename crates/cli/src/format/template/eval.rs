//! Executes a tree over a value.

use serde_json::Value;

use super::{
    Error, error, functions,
    parse::{Node, Operand, Pipeline, Tree},
    value::Typed,
};

/// Maximum depth of template calls.
const MAX_DEPTH: usize = 100;

/// Maximum output in bytes; a template that calls itself twice would write without bound.
const MAX_OUTPUT: usize = 64 << 20;

pub fn render(tree: &Tree, value: &Typed) -> Result<String, Error> {
    let mut run = Run { tree, out: String::new(), variables: vec![(String::new(), value.clone())], depth: 0 };
    run.list(&tree.nodes, value)?;
    Ok(run.out)
}

enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    tree: &'a Tree,
    out: String,
    /// Variables, innermost last. The empty name is `$`, the argument of the template.
    variables: Vec<(String, Typed)>,
    /// Current depth of template calls.
    depth: usize,
}

impl Run<'_> {
    fn list(&mut self, nodes: &[Node], dot: &Typed) -> Result<Flow, Error> {
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

    fn node(&mut self, node: &Node, dot: &Typed) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&value.print());
                } else {
                    self.bind(pipeline, &[value])?;
                }
            }
            Node::If { condition, then, otherwise } => {
                let value = self.pipeline(condition, dot)?;
                return self
                    .scoped(condition, &value, |run| run.list(if value.truth() { then } else { otherwise }, dot));
            }
            Node::With { value: pipeline, then, otherwise } => {
                let value = self.pipeline(pipeline, dot)?;
                return self.scoped(pipeline, &value, |run| {
                    if value.truth() { run.list(then, &value) } else { run.list(otherwise, dot) }
                });
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Template { name, argument } => self.template(name, argument.as_ref(), dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn scoped(
        &mut self,
        pipeline: &Pipeline,
        value: &Typed,
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

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Typed) -> Result<Flow, Error> {
        let value = self.pipeline(over, dot)?;
        let Some(items) = value.elements() else {
            return error(format!("range can't iterate over {}", value.print()));
        };
        if items.is_empty() {
            return self.list(otherwise, dot);
        }
        let depth = self.variables.len();
        for (key, item) in items {
            match over.variables.len() {
                0 => {}
                1 => self.bind(over, std::slice::from_ref(&item))?,
                _ => self.bind(over, &[key.into(), item.clone()])?,
            }
            let flow = self.list(body, &item)?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind(&mut self, pipeline: &Pipeline, values: &[Typed]) -> Result<(), Error> {
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                *self.variable(name)? = value.clone();
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Typed, Error> {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value),
            None => error(format!("undefined variable \"${name}\"")),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Typed) -> Result<Typed, Error> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or_else(|| Value::Null.into()))
    }

    /// Evaluates one command; `last`, the value of the command before the pipe, becomes its last argument.
    fn command(&mut self, command: &[Operand], last: Option<Typed>, dot: &Typed) -> Result<Typed, Error> {
        let (head, arguments) = command.split_first().expect("the parser makes no empty command");
        if let Operand::Function(name) = head {
            return self.call(name, arguments, last, dot);
        }
        // A field with arguments is a method call.
        if let (Operand::Fields(base, names), Some((method, fields))) = (head, method(head))
            && (!arguments.is_empty() || last.is_some())
        {
            debug_assert_eq!(names.len(), fields.len() + 1);
            let value = fields.iter().try_fold(self.operand(base, dot)?, |value, name| value.field(name))?;
            let mut values = arguments.iter().map(|one| self.operand(one, dot)).collect::<Result<Vec<_>, _>>()?;
            values.extend(last);
            return value.method(method, &values);
        }
        if !arguments.is_empty() || last.is_some() {
            return error("can't give arguments to a value that is not a function");
        }
        self.operand(head, dot)
    }

    fn call(&mut self, name: &str, arguments: &[Operand], last: Option<Typed>, dot: &Typed) -> Result<Typed, Error> {
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            let value = self.operand(argument, dot)?;
            // `and` and `or` evaluate arguments until one decides.
            let decided = (name == "and" && !value.truth()) || (name == "or" && value.truth());
            if decided {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(last);
        functions::call(name, &values)
    }

    fn template(&mut self, name: &str, argument: Option<&Pipeline>, dot: &Typed) -> Result<(), Error> {
        let Some(nodes) = self.tree.defined.get(name) else {
            return error(format!("template {name:?} not defined"));
        };
        if self.depth == MAX_DEPTH || self.out.len() > MAX_OUTPUT {
            return error(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        let value = argument.map_or_else(|| Ok(Value::Null.into()), |argument| self.pipeline(argument, dot))?;
        // A template sees no variable of its caller; its `$` is its argument.
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
        self.depth += 1;
        let result = self.list(nodes, &value);
        self.depth -= 1;
        self.variables = outer;
        result.map(drop)
    }

    fn operand(&mut self, operand: &Operand, dot: &Typed) -> Result<Typed, Error> {
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Null.into(),
            Operand::Bool(value) => Value::from(*value).into(),
            Operand::Integer(value) => Value::from(*value).into(),
            Operand::Float(value) => Value::from(*value).into(),
            Operand::String(text) => Value::from(text.as_str()).into(),
            Operand::Function(name) => functions::call(name, &[])?,
            Operand::Variable(name) => self.variable(name)?.clone(),
            Operand::Parens(pipeline) => self.pipeline(pipeline, dot)?,
            Operand::Fields(base, names) => {
                let (first, rest) = names.split_first().expect("the parser makes no empty chain of fields");
                // Copy only the requested field.
                let value = match &**base {
                    Operand::Dot => dot.field(first)?,
                    base => self.operand(base, dot)?.field(first)?,
                };
                rest.iter().try_fold(value, |value, name| value.field(name))?
            }
        })
    }
}

/// Splits a chain of fields into its last field and the fields before it.
fn method(head: &Operand) -> Option<(&String, &[String])> {
    match head {
        Operand::Fields(_, names) => names.split_last(),
        _ => None,
    }
}
