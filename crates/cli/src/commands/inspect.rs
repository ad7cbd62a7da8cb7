//! `inspect`, `image inspect`, `container inspect`.

use serde_json::Value;
use strata_engine::Root;
use strata_spec::ErrorKind;

use super::{Failures, Said};
use crate::{
    args::system::{Inspect, InspectOne, Kind},
    context::{Context, print},
    format::{
        json,
        template::{Template, types::Type},
    },
};

pub fn any(context: &Context, args: &Inspect) -> anyhow::Result<()> {
    inspect(context, &args.one, args.kind)
}

pub fn images(context: &Context, args: &InspectOne) -> anyhow::Result<()> {
    inspect(context, args, Some(Kind::Image))
}

pub fn containers(context: &Context, args: &InspectOne) -> anyhow::Result<()> {
    inspect(context, args, Some(Kind::Container))
}

/// Shows what was found, then says what was not, as Docker does.
fn inspect(context: &Context, args: &InspectOne, kind: Option<Kind>) -> anyhow::Result<()> {
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
    match args.format.as_deref() {
        None | Some("") => print(&format!("{}\n", json::pretty(&values)?))?,
        Some("json") => print(&format!("{}\n", strata_spec::gojson::to_text(&values)?))?,
        Some(text) => {
            let template = Template::parse(text)?;
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

/// The document of what `name` means, and the structure that it is. Containers come before images of the same name.
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
        Ok(image) => Ok((serde_json::to_value(image)?, Type::IMAGE)),
        Err(error) if kind.is_none() && error.kind() == ErrorKind::NotFound => anyhow::bail!("No such object: {name}"),
        Err(error) => Err(error.into()),
    }
}

impl Failures {
    /// Keeps a failure to be said behind the output.
    fn hold(&mut self, error: anyhow::Error) {
        if error.downcast_ref::<Said>().is_none() {
            self.add(error);
        }
    }
}
