//! `ps`, `rm`, `commit`, `diff`, `export`, `container prune`.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
};

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use strata_container::{CommitRequest, Container, Meanwhile, RemoveOptions, ps::Summary};
use strata_engine::{Root, filter::Filters, prune::CONTAINER_FILTERS};
use strata_image::tags::Names;
use strata_spec::{ErrorKind, ImageId, Reference};

use super::{Failures, images::ellipsis};
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
    let root = context.read()?;
    let filters = Filters::parse(&args.filters.filter, FILTERS)?;
    let now = Timestamp::now();
    let selection = Selection::new(&root, &filters, args)?;
    let listing = root.containers().list()?;
    let mut failures = Failures::default();
    let mut names: HashMap<&str, Names> = HashMap::new();
    for stores in root.stores() {
        match stores.images().tags().read() {
            Ok(read) => drop(names.insert(stores.driver(), read)),
            Err(error) => failures.add(format!("image names of the storage driver {}: {error}", stores.driver())),
        }
    }
    let mut rows = Vec::new();
    for container in &listing.containers {
        let names = names.get(container.record.driver.as_str());
        let image_named = |name: &str| names?.get(&Reference::parse(name).ok()?);
        let summary = root.containers().summary(container, now, &image_named);
        if selection.takes(&summary) {
            rows.push(row(&root, container, &summary, args));
        }
    }
    rows.truncate(selection.limit);
    let form = if args.size { WITH_SIZE } else { LIST };
    let (format, quiet) = (args.listing.format.as_deref(), args.listing.quiet);
    print(&form.render_of(&rows, format, quiet, root.has_several_drivers())?)?;
    for damage in &listing.damaged {
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
    fn new(root: &Root, filters: &'a Filters, args: &container::Ps) -> anyhow::Result<Self> {
        let created = |key: &str| -> anyhow::Result<Option<Timestamp>> {
            let Some(name) = filters.get(key).next() else { return Ok(None) };
            Ok(root.container(name)?.record.created_at())
        };
        let last = if args.latest { Some(1) } else { args.last };
        let shows_state = filters.has("status") || filters.has("exited");
        Ok(Self {
            ancestors: filters
                .get("ancestor")
                .flat_map(|name| root.stores().iter().filter_map(|stores| stores.images().resolve(name).ok()))
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

fn row(root: &Root, container: &Container, summary: &Summary, args: &container::Ps) -> Value {
    let whole = args.listing.no_trunc;
    let mounts: Vec<_> = summary
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() })
        .map(|name| if whole { name } else { ellipsis(&name, 15) })
        .collect();
    let wants_size = args.size || args.listing.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let size = match wants_size.then(|| root.containers().size(container)) {
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
        "Label": summary.labels,
        "LocalVolumes": summary.mounts.iter().filter(|mount| mount.kind == "volume").count().to_string(),
        "Mounts": mounts.join(","),
        "Networks": summary.networks.join(","),
        "Driver": summary.driver,
    })
}

pub fn remove(context: &Context, args: &container::Rm) -> anyhow::Result<()> {
    let root = context.write()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes };
    let mut failures = Failures::default();
    for name in &args.containers {
        let containers = root.containers();
        match containers.resolve(name).and_then(|id| containers.remove(&id, options)) {
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
    let root = context.write()?;
    let container = root.container(&args.container)?;
    let request = CommitRequest {
        author: args.author.clone(),
        comment: args.message.clone(),
        changes: args.change.clone(),
        created: source_date_epoch()?,
        name: reference,
        meanwhile: if args.pause { Meanwhile::Paused } else { Meanwhile::Running },
    };
    let id = root.commit(&container, &request)?;
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
    let root = context.read()?;
    let container = root.container(&args.container)?;
    let mut out = Vec::new();
    for change in root.containers().changes(&container)? {
        use std::os::unix::ffi::OsStrExt;
        write!(out, "{} ", change.kind.letter())?;
        out.write_all(change.path.as_os_str().as_bytes())?;
        out.push(b'\n');
    }
    crate::context::print_bytes(&out)
}

pub fn export(context: &Context, args: &container::Export) -> anyhow::Result<()> {
    // Mounting the container's root is no change that a reader could see, but it needs the right to.
    let root = context.write()?;
    let container = root.container(&args.container)?;
    match &args.output {
        Some(path) => strata_engine::save::into_file(
            path,
            |file| Ok(root.containers().export(&container, io::BufWriter::with_capacity(1 << 20, file))?),
            |file| Ok(root.containers().export(&container, io::BufWriter::with_capacity(1 << 20, file))?),
        )?,
        None if io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => root.containers().export(&container, io::BufWriter::with_capacity(1 << 20, io::stdout().lock()))?,
    }
    Ok(())
}

pub fn prune(context: &Context, args: &container::Prune) -> anyhow::Result<()> {
    let filters = Filters::parse(&args.filters.filter, CONTAINER_FILTERS)?;
    if !confirm("This will remove all stopped containers.", args.force)? {
        return Ok(());
    }
    let pruned = context.write()?.prune_containers(&filters)?;
    if !pruned.items.is_empty() {
        print(&format!("Deleted Containers:\n{}\n\n", pruned.items.join("\n")))?;
    }
    print(&format!("Total reclaimed space: {}\n", units::size(pruned.reclaimed)))
}
