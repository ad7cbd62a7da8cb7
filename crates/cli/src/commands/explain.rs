//! `explain` and `fsck`.

use strata_doctor::{Depth, Stores};
use strata_engine::Engine;

use super::Failures;
use crate::{
    args::system::{Explain, Fsck},
    context::{Context, print},
    format::{json, template::Template},
};

fn stores(engine: &Engine) -> Stores<'_> {
    Stores {
        root: engine.root().path(),
        layers: engine.layers(),
        images: engine.images(),
        containers: engine.containers(),
    }
}

pub fn explain(context: &Context, args: &Explain) -> anyhow::Result<()> {
    let engines = context.read()?;
    let stores: Vec<Stores<'_>> = engines.iter().map(stores).collect();
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for object in &args.objects {
        let (explanations, failure) = strata_doctor::explain_all(&stores, object);
        // It may be there.
        if explanations.is_empty() {
            context.tell_of_closed(&engines);
        }
        found.extend(explanations);
        failure.into_iter().for_each(|error| failures.add(error));
    }
    match args.format.as_str() {
        "text" | "" => print(&found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?,
        // One object as itself, several as a list: a program that asks for one gets one.
        "json" if found.len() == 1 && args.objects.len() == 1 => print(&format!("{}\n", json::pretty(&found[0])?))?,
        "json" => print(&format!("{}\n", json::pretty(&found)?))?,
        template => {
            let template = Template::parse(template)?;
            for explanation in &found {
                print(&format!("{}\n", template.render(&serde_json::to_value(explanation)?)?))?;
            }
        }
    }
    failures.end()
}

pub fn fsck(context: &Context, args: &Fsck) -> anyhow::Result<u8> {
    let engines = context.read()?;
    let stores: Vec<Stores<'_>> = engines.iter().map(stores).collect();
    let depth = if args.contents { Depth::Contents } else { Depth::Metadata };
    let closed: Vec<_> = engines.closed().iter().map(|(driver, why)| (driver.clone(), why.to_string())).collect();
    let report = strata_doctor::check_all(&stores, &closed, depth);
    match args.format.as_str() {
        "json" => print(&format!("{}\n", json::pretty(&report)?))?,
        _ => print(&report.to_string())?,
    }
    Ok(u8::from(!report.is_sound()))
}
