//! `explain` and `fsck`.

use strata_doctor::{Depth, Stores};
use strata_engine::Root;

use super::Failures;
use crate::{
    args::system::{Explain, Fsck},
    context::{Context, print},
    format::{json, template::Template},
};

/// The stores of each driver, as the doctor takes them.
fn stores_of(root: &Root) -> Vec<Stores<'_>> {
    let stores = root.stores().iter().map(|stores| Stores {
        root: root.path(),
        layers: stores.layers(),
        images: stores.images(),
        containers: root.containers(),
    });
    stores.collect()
}

pub fn explain(context: &Context, args: &Explain) -> anyhow::Result<()> {
    let root = context.read_layers()?;
    let stores = stores_of(&root);
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for object in &args.objects {
        let (explanations, failure) = strata_doctor::explain_all(&stores, object);
        found.extend(explanations);
        failure.into_iter().for_each(|error| failures.add(error.into()));
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
    let root = context.read()?;
    let stores = stores_of(&root);
    let depth = if args.contents { Depth::Contents } else { Depth::Metadata };
    let report = strata_doctor::check_all(&stores, depth);
    match args.format.as_str() {
        "json" => print(&format!("{}\n", json::pretty(&report)?))?,
        _ => print(&report.to_string())?,
    }
    Ok(u8::from(!report.is_sound()))
}
