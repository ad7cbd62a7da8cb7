//! `load`, `save`, `import`.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Context as _, bail};
use strata_archive::Limits;
use strata_image::load::{Input, Options};
use strata_spec::{Cancel, Reference, config::RunConfig};

use crate::{
    args::image,
    context::{Context, print},
    progress::bars,
};

pub fn load(context: &Context, args: &image::Load) -> anyhow::Result<()> {
    let input = match &args.input {
        Some(path) => Input::open(path)?,
        None if io::stdin().is_terminal() => {
            bail!("requested load from stdin, but stdin is empty; give a file with --input")
        }
        None => stdin_input()?,
    };
    let root = context.write()?;
    let stores = root.for_new()?;
    let progress = bars(args.quiet);
    let platform = args.platform.as_deref().map(str::parse).transpose()?;
    let options = Options { platform, limits: limits(&args.limits), progress: &*progress, cancel: Cancel::new() };
    for image in stores.images().load(input, &options)? {
        for line in image.lines() {
            print(&format!("{line}\n"))?;
        }
    }
    Ok(())
}

/// Standard input: by position where it is a regular file (`< app.tar`), else as a stream.
fn stdin_input() -> anyhow::Result<Input<'static>> {
    use std::os::fd::AsFd;
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let at_start = io::Seek::stream_position(&mut &file).is_ok_and(|position| position == 0);
    Ok(match file.metadata()?.is_file() && at_start {
        true => Input::File(file),
        false => Input::Stream(Box::new(file)),
    })
}

fn limits(args: &image::Limits) -> Limits {
    let default = Limits::default();
    Limits {
        entries: args.max_entries.unwrap_or(default.entries),
        bytes: args.max_bytes.unwrap_or(default.bytes),
        ratio: args.max_ratio.unwrap_or(default.ratio),
        ..default
    }
}

pub fn save(context: &Context, args: &image::Save) -> anyhow::Result<()> {
    let root = context.hold()?;
    let progress = bars(args.quiet);
    let _length = match &args.output {
        Some(path) => root.save_to(&args.images, path, &*progress)?,
        None if io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => root.save(&args.images, &mut io::stdout(), &*progress)?,
    };
    Ok(())
}

pub fn import(context: &Context, args: &image::Import) -> anyhow::Result<()> {
    let reference = args.reference.as_deref().map(Reference::parse).transpose()?.map(Reference::with_default_tag);
    if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        bail!("cannot import digest reference");
    }
    let mut config = RunConfig::default();
    strata_container::change::apply(&mut config, &args.change)?;
    let input: Box<dyn io::Read + Send> = match args.source.as_str() {
        "-" if io::stdin().is_terminal() => bail!("requested import from stdin, but stdin is empty; give a file"),
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(Path::new(path)).with_context(|| format!("cannot open {path}"))?),
    };
    let root = context.write()?;
    let stores = root.for_new()?;
    let options = strata_image::import::Options {
        config,
        message: args.message.clone(),
        platform: args.platform.as_deref().map(str::parse).transpose()?,
        created: None,
        limits: limits(&args.limits),
        name: reference,
    };
    let id = stores.images().import(input, options)?;
    print(&format!("{id}\n"))
}
