//! `push`.

use anyhow::bail;
use strata_distribution::push::Options;
use strata_spec::{Cancel, ErrorKind, Reference};

use super::pull::{client, progress, spent};
use crate::{
    args::registry_client::Push,
    context::{Context, print},
    progress::{Json, Shown},
};

pub fn push(context: &Context, args: &Push) -> anyhow::Result<()> {
    let reference = Reference::parse(&args.name)?;
    if reference.digest().is_some() {
        bail!("cannot push a digest reference");
    }
    let root = context.write()?;
    let client = client(&args.connection)?;
    let references = match (args.all_tags, reference.is_name_only()) {
        (true, false) => bail!("tag can't be used with --all-tags/-a"),
        (true, true) => {
            let names = root.for_new()?.images().tags().read()?.in_repository(&reference);
            names.into_iter().map(|(name, _)| name).filter(|name| name.digest().is_none()).collect()
        }
        (false, true) => {
            if !args.quiet && args.format.is_none() {
                print("Using default tag: latest\n")?;
            }
            vec![reference.clone().with_default_tag()]
        }
        (false, false) => vec![reference.clone()],
    };
    if references.is_empty() {
        bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
    }
    for reference in references {
        let stores = match args.all_tags {
            true => root.for_new()?,
            false => match root.image_to_read(&reference.to_string()) {
                Ok(image) => image.stores,
                // The push says so, in Docker's words.
                Err(error) if error.kind() == ErrorKind::NotFound => root.main(),
                Err(error) => return Err(error.into()),
            },
        };
        let (progress, shown) = progress(args.quiet, args.format);
        let options = Options { progress: &*progress, cancel: &Cancel::new() };
        let pushed = match args.all_platforms {
            true => stores.push_platforms(&client, &reference, &options)?,
            false => stores.push(&client, &reference, &options)?,
        };
        drop(progress);
        match shown {
            Shown::Json => print(&Json::end(&reference, pushed.digest, pushed.kept))?,
            Shown::Nothing => print(&format!("{reference}\n"))?,
            Shown::Lines => {
                let tag = reference.tag().unwrap_or_default();
                print(&format!("{tag}: digest: {} size: {}\n", pushed.digest, pushed.size))?;
            }
        }
        if args.verbose {
            eprint!("{}", spent(&pushed.times));
        }
    }
    Ok(())
}
