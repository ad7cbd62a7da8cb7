//! `registry serve`, `config`, `garbage-collect`.

use anyhow::{Context as _, anyhow};
use strata_registry::{
    Config, Running,
    config::{Overrides, section},
    gc::{Options, Run, Untagged},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use crate::{
    args::registry::{GarbageCollect, RegistryCommand, Serve, Source},
    context::print,
    format::units,
};

/// Threads for what blocks: files, hashes, an object store.
const THREADS: usize = 64;

pub fn registry(command: &RegistryCommand) -> anyhow::Result<()> {
    match command {
        RegistryCommand::Serve(args) => serve(args),
        RegistryCommand::Config(args) => {
            let config = load(args)?;
            config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            print(&config.text())
        }
        RegistryCommand::GarbageCollect(args) => garbage_collect(args),
    }
}

fn load(source: &Source) -> anyhow::Result<Config> {
    let overrides = Overrides { root: source.root.clone(), address: source.addr.clone() };
    // Variables whose names or values are no text are none of ours.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(source.config.as_deref(), variables, &overrides)?)
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().enable_all().max_blocking_threads(THREADS).build().context("cannot start threads")
}

fn serve(args: &Serve) -> anyhow::Result<()> {
    let config = load(&args.source)?;
    let level = &config.log_level;
    let filter = format!("warn,strata_registry={level},strata={level},access={level}");
    // The configuration says what is logged, so that `main` has left it to this.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_target(false)
        .init();
    runtime()?.block_on(async {
        let (mut term, mut int, mut hup) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let running = Running::start(config).await?;
        tracing::info!(address = %running.address(), "the registry serves");
        print(&format!("{scheme}://{}\n", running.address()))?;
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => running.reload(),
            }
        }
        tracing::info!("the registry stops");
        running.stop().await;
        Ok(())
    })
}

fn garbage_collect(args: &GarbageCollect) -> anyhow::Result<()> {
    let config = load(&args.source)?;
    let grace = match &args.grace {
        Some(text) => section::duration(text).map_err(|problem| anyhow!("--grace: {problem}"))?,
        None => config.rules.grace,
    };
    let options = Options {
        run: if args.dry_run { Run::Dry } else { Run::ForReal },
        grace,
        untagged: if args.delete_untagged { Untagged::Remove } else { config.collecting.untagged },
        uploads: config.purging.map(|purging| purging.age),
    };
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let report = strata_registry::run::collect(&config, &options)?;
    let mut out = String::new();
    if !args.quiet {
        report.manifests.iter().for_each(|manifest| out.push_str(&format!("manifest {manifest}\n")));
        report.blobs.iter().for_each(|blob| out.push_str(&format!("blob {blob}\n")));
        report.uploads.iter().for_each(|upload| out.push_str(&format!("upload {upload}\n")));
    }
    for damaged in &report.damaged {
        eprintln!("damaged: {damaged}");
    }
    for name in &report.kept_whole {
        eprintln!(
            "{name}: kept whole, because what is damaged may name any of its blobs; push it again or delete it, then collect again"
        );
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    out.push_str(&format!(
        "{} repositories, {} objects kept, {} manifests and {} blobs {done}, {}\n",
        report.repositories,
        report.kept,
        report.manifests.len(),
        report.blobs.len(),
        units::size(report.bytes)
    ));
    print(&out)
}
