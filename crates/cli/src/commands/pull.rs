//! `pull`, and what `run` and `create` do about an image that is not there.

use anyhow::bail;
use strata_archive::Limits;
use strata_container::Request;
use strata_distribution::{Client, Settings, Times, pull::Options};
use strata_engine::{DriverStores, Root};
use strata_spec::{
    Cancel, Platform, Reference,
    progress::{Progress, Silent},
};

use crate::{
    args::{
        container::PullPolicy,
        registry_client::{Connection, Format, Pull},
    },
    context::{Context, print},
    format::units,
    progress::{Json, Shown, on_stderr, on_stdout},
};

pub fn pull(context: &Context, args: &Pull) -> anyhow::Result<()> {
    let mut reference = Reference::parse(&args.name)?;
    let platform: Option<Platform> = args.platform.as_deref().map(str::parse).transpose()?;
    let root = context.write()?;
    let stores = root.for_new()?;
    let client = client(&args.connection)?;
    if args.all_tags {
        if !reference.is_name_only() {
            bail!("tag can't be used with --all-tags/-a");
        }
        let tags = client.tags(&reference)?;
        if tags.is_empty() {
            bail!("{} has no tags", reference.familiar_name());
        }
        for tag in tags {
            one(stores, &client, args, &reference.with_tag(&tag)?, platform.clone())?;
        }
        return Ok(());
    }
    if reference.is_name_only() {
        reference = reference.with_default_tag();
        if !args.quiet && args.format.is_none() {
            print("Using default tag: latest\n")?;
        }
    }
    one(stores, &client, args, &reference, platform)
}

fn one(
    stores: &DriverStores,
    client: &Client,
    args: &Pull,
    reference: &Reference,
    platform: Option<Platform>,
) -> anyhow::Result<()> {
    let (progress, shown) = progress(args.quiet, args.format);
    let options = Options {
        platform,
        all_platforms: args.all_platforms,
        limits: Limits::default(),
        progress: &*progress,
        cancel: &Cancel::new(),
    };
    let pulled = stores.pull(client, reference, &options)?;
    drop(progress);
    match shown {
        Shown::Json => print(&Json::end(&pulled.reference, pulled.digest, pulled.up_to_date))?,
        Shown::Nothing => print(&format!("{reference}\n"))?,
        Shown::Lines => {
            let status = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
            print(&format!("Digest: {}\nStatus: {status} for {}\n{reference}\n", pulled.digest, reference.familiar()))?;
        }
    }
    if args.verbose {
        eprint!("{}", spent(&pulled.times));
    }
    Ok(())
}

/// Where the time went, a line each.
pub fn spent(times: &Times) -> String {
    let mut text = String::new();
    for (part, time) in times.parts() {
        text.push_str(&format!("{part:>9} {:>8.3} s\n", time.as_secs_f64()));
    }
    let bytes = times.bytes.load(std::sync::atomic::Ordering::Relaxed);
    let rate = bytes as f64 / times.parts()[6].1.as_secs_f64().max(1e-9);
    text.push_str(&format!(
        "{:>9} {} at {}/s; all but the total are sums over threads\n",
        "network",
        units::size(bytes),
        units::size(rate as u64)
    ));
    text
}

/// What to show of a pull or a push, and how to report its end.
pub fn progress(quiet: bool, format: Option<Format>) -> (Box<dyn Progress>, Shown) {
    match (format, quiet) {
        (Some(Format::Json), _) => (Box::new(Json::default()), Shown::Json),
        (None, true) => (Box::new(Silent), Shown::Nothing),
        (None, false) => (on_stdout(), Shown::Lines),
    }
}

/// A client with this machine's settings.
pub fn client(connection: &Connection) -> anyhow::Result<Client> {
    let mut settings = Settings::of_machine()?;
    settings.insecure_all |= connection.insecure;
    Ok(Client::new(settings)?)
}

/// Pulls the image of `request` where `policy` says so. Messages go to standard error, as with docker: standard output is the container's.
pub fn for_container(root: &Root, policy: PullPolicy, request: &Request) -> anyhow::Result<()> {
    let policy = match policy {
        PullPolicy::Always => strata_engine::PullPolicy::Always,
        PullPolicy::Missing => strata_engine::PullPolicy::Missing,
        PullPolicy::Never => strata_engine::PullPolicy::Never,
    };
    let progress = on_stderr();
    let options = Options {
        platform: request.platform.clone(),
        all_platforms: false,
        limits: Limits::default(),
        progress: &*progress,
        cancel: &Cancel::new(),
    };
    let missing = |reference: &Reference| eprintln!("Unable to find image '{}' locally", reference.familiar());
    let client = || Client::new(Settings::of_machine()?);
    let pulled = root.pull_for_container(&request.image, policy, &options, client, missing)?;
    drop(progress);
    if let Some(pulled) = pulled {
        let status = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
        eprintln!("Digest: {}\nStatus: {status} for {}", pulled.digest, pulled.reference.familiar());
    }
    Ok(())
}
