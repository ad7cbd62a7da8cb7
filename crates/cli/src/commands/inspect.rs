//! `inspect`, `image inspect`, `container inspect`.

use serde_json::Value;
use strata_engine::Root;
use strata_spec::ErrorKind;

use super::{Failures, Said};
use crate::{
    args::system::{Inspect, InspectOne},
    context::{Context, print},
    format::{
        json,
        template::{Template, types::Type},
    },
};

/// What `inspect` looks for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Image,
    Container,
}

pub fn any(context: &Context, args: &Inspect) -> anyhow::Result<()> {
    let kind = match args.kind.as_deref() {
        None => None,
        Some("container") => Some(Kind::Container),
        Some("image") => Some(Kind::Image),
        Some("") => anyhow::bail!("type is empty: must be one of \"container\", \"image\""),
        Some(other) => anyhow::bail!("unknown type: {other:?}: must be one of \"container\", \"image\""),
    };
    inspect(context, &args.one, kind)
}

pub fn images(context: &Context, args: &InspectOne) -> anyhow::Result<()> {
    inspect(context, args, Some(Kind::Image))
}

pub fn containers(context: &Context, args: &InspectOne) -> anyhow::Result<()> {
    inspect(context, args, Some(Kind::Container))
}

/// Prints the objects that exist and an error for each that does not, as Docker does: `[]` if there is none.
fn inspect(context: &Context, args: &InspectOne, kind: Option<Kind>) -> anyhow::Result<()> {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse_flag(text)?),
    };
    let root = context.read()?;
    let mut found = Vec::new();
    let mut failures = Failures::default();
    for name in &args.names {
        match one(&root, name, kind, args.size) {
            Ok(one) => found.push(one),
            Err(error) => failures.hold(error),
        }
    }
    let values: Vec<&Value> = found.iter().map(|(value, _)| value).collect();
    match template {
        None if args.format.as_deref() == Some("json") => {
            print(&format!("{}\n", strata_spec::gojson::to_text(&values)?))?;
        }
        None => print(&format!("{}\n", json::pretty(&values)?))?,
        Some(template) => {
            for (value, kind) in &found {
                match template.inspect(value, *kind) {
                    Ok(line) => print(&format!("{line}\n"))?,
                    Err(error) => failures.hold(error.into()),
                }
            }
        }
    }
    failures.end()
}

/// Returns the document of the object `name` and its type. A container takes precedence over an image of the same name.
fn one(root: &Root, name: &str, kind: Option<Kind>, size: bool) -> anyhow::Result<(Value, Type)> {
    if kind != Some(Kind::Image) {
        match root.container(name) {
            Ok(container) => {
                let document = root.containers().inspect(&container, size)?;
                return Ok((serde_json::to_value(document)?, Type::CONTAINER));
            }
            Err(error) if kind.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    match root.inspect_image(name) {
        Ok(image) => {
            if size {
                eprintln!("WARNING: --size ignored for image");
            }
            Ok((serde_json::to_value(image)?, Type::IMAGE))
        }
        Err(error) if kind.is_none() && error.kind() == ErrorKind::NotFound => anyhow::bail!("No such object: {name}"),
        Err(error) => Err(error.into()),
    }
}

impl Failures {
    /// Counts a failure, and prints it unless that was done.
    fn hold(&mut self, error: anyhow::Error) {
        if error.downcast_ref::<Said>().is_none() {
            self.add(error);
        }
    }
}
