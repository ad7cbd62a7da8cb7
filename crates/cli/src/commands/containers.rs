//! `ps`, `rm`, `commit`, `diff`, `export`, `container prune`.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};
use strata_container::{CommitRequest, Meanwhile, RemoveOptions, ps::Summary};
use strata_engine::{ContainerQuery, Filters};
use strata_spec::{ErrorKind, Reference};

use super::{Failures, images::ellipsis};
use crate::{
    args::container,
    context::{Context, confirm, print},
    format::{list::List, units},
};

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
    // As with Docker, -1 is not given, and no number below 1 is a limit.
    let last = match args.last.filter(|last| *last != -1) {
        Some(last) => usize::try_from(last).unwrap_or(0),
        None => usize::from(args.latest),
    };
    let sizes = args.size || args.listing.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let list = root.list_containers(&ContainerQuery {
        filters: Filters::parse(&args.filters.filter)?,
        all: args.all,
        last,
        sizes,
    })?;
    let rows: Vec<Value> = list.rows.iter().map(|row| shown(row, args.listing.no_trunc, sizes)).collect();
    let form = if args.size { WITH_SIZE } else { LIST };
    let (format, quiet) = (args.listing.format.as_deref(), args.listing.quiet);
    print(&form.render_of(&rows, format, quiet, root.has_several_drivers())?)?;
    for damage in &list.damaged {
        eprintln!("Damaged container {}: {}: {}", damage.id.short(), damage.path.display(), damage.reason);
    }
    Failures::of(list.failures).end()
}

/// What the columns of `ps` show of a container.
fn shown(row: &Summary, whole: bool, sizes: bool) -> Value {
    let mounts: Vec<_> = row
        .mounts
        .iter()
        .map(|mount| if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() })
        .map(|name| if whole { name } else { ellipsis(&name, 15) })
        .collect();
    let size = match row.size {
        Some(size) => format!("{} (virtual {})", units::size3(size.rw), units::size3(size.root)),
        // Asked for, and its driver cannot tell; or not asked for.
        None if sizes => "N/A".to_owned(),
        None => "0B".to_owned(),
    };
    let labels = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    json!({
        "ID": if whole { row.id.as_str() } else { row.id.short() },
        "Image": image(row, whole),
        "Command": command(row, whole),
        "CreatedAt": row.created.map(|time| units::created_at(&time.to_string())).unwrap_or_default(),
        "RunningFor": running_for(row),
        "Status": row.status_text,
        "State": row.status.as_str(),
        "Ports": "",
        "Names": row.name,
        "Size": size,
        "Labels": labels,
        "Label": row.labels,
        "LocalVolumes": local_volumes(row).to_string(),
        "Mounts": mounts.join(","),
        "Networks": row.networks.join(","),
        "Driver": row.driver,
    })
}

/// The container's image; an ID shortened unless `whole`.
pub fn image(row: &Summary, whole: bool) -> String {
    match row.image.strip_prefix("sha256:") {
        Some(hex) if !whole => hex.chars().take(12).collect(),
        _ => row.image.clone(),
    }
}

/// The container's command, in quotes.
pub fn command(row: &Summary, whole: bool) -> String {
    let command = if whole { row.command.clone() } else { ellipsis(&row.command, 20) };
    format!("{command:?}")
}

/// How long ago the container was created.
pub fn running_for(row: &Summary) -> String {
    row.created.map(|time| units::ago(&time.to_string(), Timestamp::now())).unwrap_or_default()
}

pub fn local_volumes(row: &Summary) -> usize {
    row.mounts.iter().filter(|mount| mount.kind == "volume").count()
}

pub fn remove(context: &Context, args: &container::Rm) -> anyhow::Result<()> {
    let root = context.write()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes };
    let mut failures = Failures::default();
    for name in &args.containers {
        match root.remove_container(name, options) {
            Ok(()) => print(&format!("{name}\n"))?,
            // With force, what is not there is as it should be.
            Err(error) if args.force && error.kind() == ErrorKind::NotFound => eprintln!("Error: {error}"),
            Err(error) => failures.add(error.into()),
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
    let filters = Filters::parse(&args.filters.filter)?;
    if !confirm("This will remove all stopped containers.", args.force)? {
        return Ok(());
    }
    let pruned = context.write()?.prune_containers(&filters)?;
    if !pruned.items.is_empty() {
        print(&format!("Deleted Containers:\n{}\n\n", pruned.items.join("\n")))?;
    }
    print(&format!("Total reclaimed space: {}\n", units::size(pruned.reclaimed)))
}
