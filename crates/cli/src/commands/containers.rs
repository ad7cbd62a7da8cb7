//! `ps`, `rm`, `commit`, `diff`, `export`, `container prune`.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use strata_container::{CommitRequest, Container, Meanwhile, RemoveOptions, ps::Summary};
use strata_engine::{Engine, Engines, filter::Filters, prune::CONTAINER_FILTERS};
use strata_spec::{ErrorKind, ImageId, Reference};

use super::{Failures, images::ellipsis, under_each};
use crate::{
    args::container,
    context::{Context, confirm, print},
    format::{list::List, units},
};

/// Filters that `ps` knows.
const FILTERS: &[&str] = &["id", "name", "label", "label!", "status", "exited", "ancestor", "before", "since"];

const LIST: List<'static> = List {
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("Driver", "DRIVER"),
    ],
    default: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
};

const WITH_SIZE: List<'static> = List {
    default: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..LIST
};

pub fn list(context: &Context, args: &container::Ps) -> anyhow::Result<()> {
    let engines = context.read_all()?;
    let filters = Filters::parse(&args.filters.filter, FILTERS)?;
    let now = Timestamp::now();
    let selection = Selection::new(&engines, &filters, args)?;
    let mut failures = Failures::default();
    let found = under_each(&engines, &mut failures, |engine| {
        let listing = engine.containers().list()?;
        let names = engine.images().tags().read()?;
        let image_named = |name: &str| Reference::parse(name).ok().and_then(|name| names.get(&name));
        let mut rows = Vec::new();
        for container in &listing.containers {
            let summary = engine.containers().summary(container, now, &image_named);
            if selection.takes(&summary) {
                rows.push((summary.created, row(engine, container, &summary, args)));
            }
        }
        Ok((rows, listing.damaged))
    })?;
    let (rows, damaged): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    let mut damaged: Vec<_> = damaged.into_iter().flatten().collect();
    // Each driver's are sorted; among each other they are not yet.
    rows.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).take(selection.limit).collect();
    let form = if args.size { WITH_SIZE } else { LIST };
    let (format, quiet) = (args.listing.format.as_deref(), args.listing.quiet);
    print(&form.render_of(&rows, format, quiet, engines.are_several())?)?;
    damaged.dedup();
    for damage in &damaged {
        eprintln!("Damaged container {}: {}: {}", damage.id.short(), damage.path.display(), damage.reason);
    }
    failures.end()
}

/// Which containers a user wants to see.
struct Selection<'a> {
    filters: &'a Filters,
    /// The images that `ancestor` names.
    ancestors: Vec<ImageId>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    running_only: bool,
    limit: usize,
}

impl<'a> Selection<'a> {
    fn new(engines: &Engines, filters: &'a Filters, args: &container::Ps) -> anyhow::Result<Self> {
        let created = |key: &str| -> anyhow::Result<Option<Timestamp>> {
            let Some(name) = filters.get(key).next() else { return Ok(None) };
            Ok(engines.of_container(name)?.containers().get(name)?.record.created_at())
        };
        let last = if args.latest { Some(1) } else { args.last };
        let shows_state = filters.has("status") || filters.has("exited");
        Ok(Self {
            ancestors: filters
                .get("ancestor")
                .flat_map(|name| engines.iter().filter_map(|engine| engine.images().resolve(name).ok()))
                .collect(),
            before: created("before")?,
            since: created("since")?,
            running_only: !args.all && last.is_none() && !shows_state,
            limit: last.unwrap_or(usize::MAX),
            filters,
        })
    }

    fn takes(&self, summary: &Summary) -> bool {
        let filters = self.filters;
        let code = summary.exit_code.to_string();
        (!self.running_only || matches!(summary.status.as_str(), "running" | "paused" | "restarting"))
            && filters.any("id", |id| summary.id.as_str().starts_with(id))
            && filters
                .any("name", |name| summary.name.contains(name.trim_start_matches(['^', '/']).trim_end_matches('$')))
            && filters.any("status", |status| summary.status.as_str() == status)
            && filters.any("exited", |wanted| wanted == code && matches!(summary.status.as_str(), "exited" | "dead"))
            && (!filters.has("ancestor") || summary.image_id.is_some_and(|id| self.ancestors.contains(&id)))
            && self.before.is_none_or(|before| summary.created.is_some_and(|time| time < before))
            && self.since.is_none_or(|since| summary.created.is_some_and(|time| time > since))
            && filters.labels(|name| summary.labels.get(name).map(String::as_str))
    }
}

fn row(engine: &Engine, container: &Container, summary: &Summary, args: &container::Ps) -> Value {
    let whole = args.listing.no_trunc;
    let mounts: Vec<_> = summary
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() })
        .map(|name| if whole { name } else { ellipsis(&name, 15) })
        .collect();
    let wants_size = args.size || args.listing.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let size = match wants_size.then(|| engine.containers().size(container)) {
        Some(Ok(size)) => format!("{} (virtual {})", units::size3(size.rw), units::size3(size.root)),
        Some(Err(_)) => "N/A".to_owned(),
        None => "0B".to_owned(),
    };
    let command = if whole { summary.command.clone() } else { ellipsis(&summary.command, 20) };
    let image = match summary.image.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ => summary.image.clone(),
    };
    let labels = summary.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    json!({
        "ID": if whole { summary.id.as_str() } else { summary.id.short() },
        "Image": image,
        "Command": format!("{command:?}"),
        "CreatedAt": summary.created.map(|time| units::created_at(&time.to_string())).unwrap_or_default(),
        "RunningFor": summary.created.map(|time| units::ago(&time.to_string(), Timestamp::now())).unwrap_or_default(),
        "Status": summary.status_text,
        "State": summary.status.as_str(),
        "Ports": "",
        "Names": summary.name,
        "Size": size,
        "Labels": labels,
        "LocalVolumes": summary.mounts.iter().filter(|mount| mount.kind == "volume").count().to_string(),
        "Mounts": mounts.join(","),
        "Networks": summary.networks.join(","),
        "Driver": engine.driver(),
    })
}

pub fn remove(context: &Context, args: &container::Rm) -> anyhow::Result<()> {
    let engines = context.write()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes };
    let mut failures = Failures::default();
    for name in &args.containers {
        let removed = engines.of_container(name).and_then(|engine| {
            let containers = engine.containers();
            Ok(containers.resolve(name).and_then(|id| containers.remove(&id, options))?)
        });
        match removed {
            Ok(()) => print(&format!("{name}\n"))?,
            // With force, what is not there is as it should be.
            Err(error) if args.force && error.kind() == ErrorKind::NotFound => eprintln!("Error: {error}"),
            Err(error) => failures.add(error),
        }
    }
    failures.end()
}

pub fn commit(context: &Context, args: &container::Commit) -> anyhow::Result<()> {
    let reference = args.reference.as_deref().map(Reference::parse).transpose()?.map(Reference::with_default_tag);
    if reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        bail!("cannot commit to digest reference");
    }
    let engines = context.write()?;
    let engine = engines.of_container(&args.container)?;
    let container = engine.containers().get(&args.container)?;
    let request = CommitRequest {
        author: args.author.clone(),
        comment: args.message.clone(),
        changes: args.change.clone(),
        created: source_date_epoch()?,
        name: reference,
        meanwhile: if args.pause { Meanwhile::Paused } else { Meanwhile::Running },
    };
    let id = engine.containers().commit(engine.images(), &container, &request)?;
    print(&format!("{id}\n"))
}

/// The time that reproducible builds are said to be made at.
fn source_date_epoch() -> anyhow::Result<Option<Timestamp>> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    match text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => Ok(Some(time)),
        None => bail!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970"),
    }
}

pub fn diff(context: &Context, args: &container::Diff) -> anyhow::Result<()> {
    let engines = context.read()?;
    let engine = engines.of_container(&args.container)?;
    let container = engine.containers().get(&args.container)?;
    let mut out = Vec::new();
    for change in engine.containers().changes(&container)? {
        use std::os::unix::ffi::OsStrExt;
        write!(out, "{} ", change.kind.letter())?;
        out.write_all(change.path.as_os_str().as_bytes())?;
        out.push(b'\n');
    }
    crate::context::print_bytes(&out)
}

pub fn export(context: &Context, args: &container::Export) -> anyhow::Result<()> {
    // Mounting the container's root is no change that a reader could see, but it needs the right to.
    let engines = context.write()?;
    let engine = engines.of_container(&args.container)?;
    let container = engine.containers().get(&args.container)?;
    match &args.output {
        Some(path) => strata_engine::save::into_file(
            path,
            |file| Ok(engine.containers().export(&container, io::BufWriter::with_capacity(1 << 20, file))?),
            |file| Ok(engine.containers().export(&container, io::BufWriter::with_capacity(1 << 20, file))?),
        )?,
        None if io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => engine.containers().export(&container, io::BufWriter::with_capacity(1 << 20, io::stdout().lock()))?,
    }
    Ok(())
}

pub fn prune(context: &Context, args: &container::Prune) -> anyhow::Result<()> {
    let filters = Filters::parse(&args.filters.filter, CONTAINER_FILTERS)?;
    if !confirm("This will remove all stopped containers.", args.force)? {
        return Ok(());
    }
    let pruned = context.write()?.for_new()?.prune_containers(&filters)?;
    if !pruned.items.is_empty() {
        print(&format!("Deleted Containers:\n{}\n\n", pruned.items.join("\n")))?;
    }
    print(&format!("Total reclaimed space: {}\n", units::size(pruned.reclaimed)))
}
