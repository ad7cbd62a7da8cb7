//! `images`, `history`, `tag`, `rmi`, `image prune`.

use jiff::Timestamp;
use serde_json::{Value, json};
use strata_engine::{
    Filters, ImageQuery, ImageRow,
    prune::Pruned,
    remove::{RemoveOptions, Removed},
};
use strata_spec::Reference;

use super::Failures;
use crate::{
    args::image,
    context::{Context, confirm, print},
    format::{list::List, units},
};

const LIST: List<'static> = List {
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
        ("Driver", "DRIVER"),
    ],
    default: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
};

const WITH_DIGESTS: List<'static> =
    List { default: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", ..LIST };

pub fn list(context: &Context, args: &image::Images) -> anyhow::Result<()> {
    let root = context.read()?;
    let mut filters = Filters::parse(&args.filters.filter)?;
    if let Some(pattern) = &args.reference {
        filters.add("reference", pattern);
    }
    let shows_digests = args.digests || args.listing.format.as_deref().is_some_and(|format| format.contains(".Digest"));
    let list = root.list_images(&ImageQuery { filters, all: args.all, digests: shows_digests })?;
    let (format, quiet) = (args.listing.format.as_deref(), args.listing.quiet);
    let whole = args.listing.no_trunc;
    let rows: Vec<Value> = match quiet && format.is_none() {
        // Nothing else is shown, and with thousands of images the rest takes most of the time.
        true => list.rows.iter().map(|row| json!({ "ID": id(row, whole) })).collect(),
        false => list.rows.iter().map(|row| shown(row, whole)).collect(),
    };
    let form = if args.digests { WITH_DIGESTS } else { LIST };
    print(&form.render_of(&rows, format, quiet, root.has_several_drivers())?)?;
    for damage in &list.damaged {
        eprintln!("Damaged image {}: {}: {}", damage.id.short(), damage.path.display(), damage.reason);
    }
    Failures::of(list.failures).end()
}

fn id(row: &ImageRow, whole: bool) -> String {
    if whole { row.image.id.to_string() } else { row.image.id.short() }
}

/// What the columns of `images` show of an image's name.
fn shown(row: &ImageRow, whole: bool) -> Value {
    let created = row.image.created.as_deref().unwrap_or_default();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "<none>".to_owned());
    json!({
        "ID": id(row, whole),
        "Repository": or_none(&row.repository),
        "Tag": or_none(&row.tag),
        "Digest": or_none(&row.digest),
        "CreatedSince": units::ago(created, Timestamp::now()),
        "CreatedAt": units::created_at(created),
        "Size": units::size3(row.image.size),
        "VirtualSize": units::size3(row.image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
        "Driver": row.driver,
    })
}

const HISTORY: List<'static> = List {
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    default: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};

const HISTORY_EXACT: List<'static> =
    List { default: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", ..HISTORY };

pub fn history(context: &Context, args: &image::History) -> anyhow::Result<()> {
    let root = context.read()?;
    let image = root.image_to_read(&args.image)?;
    let whole = args.listing.no_trunc;
    let rows: Vec<Value> = image
        .stores
        .images()
        .history(image.id)?
        .iter()
        .map(|entry| {
            let id = match entry.id {
                Some(id) if whole => id.to_string(),
                Some(id) => id.short(),
                None => "<missing>".to_owned(),
            };
            let created = entry.created.as_deref().unwrap_or_default();
            let created_by = entry.created_by.replace('\t', " ");
            json!({
                "ID": id,
                "CreatedSince": units::ago(created, Timestamp::now()),
                "CreatedAt": units::created_at_exactly(created),
                "CreatedBy": if whole { created_by } else { ellipsis(&created_by, 45) },
                "Size": if args.human { units::size3(entry.size) } else { entry.size.to_string() },
                "Comment": entry.comment,
            })
        })
        .collect();
    let form = if args.human { HISTORY } else { HISTORY_EXACT };
    print(&form.render(&rows, args.listing.format.as_deref(), args.listing.quiet)?)
}

/// Cuts `text` to `limit` characters, the last an ellipsis, as Docker does.
pub fn ellipsis(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}

pub fn tag(context: &Context, args: &image::Tag) -> anyhow::Result<()> {
    let root = context.write()?;
    let image = root.image(&args.source)?;
    let target = Reference::parse(&args.target)?.with_default_tag();
    image.stores.images().tag(image.id, &target)?;
    Ok(())
}

pub fn remove(context: &Context, args: &image::Rmi) -> anyhow::Result<()> {
    let root = context.write()?;
    let options = RemoveOptions { force: args.force, keep_parents: args.no_prune };
    let mut failures = Failures::default();
    for name in &args.images {
        match root.remove_image(name, options) {
            Ok(removed) => print(&lines(&removed))?,
            // With force, what is not there is as it should be.
            Err(error) if args.force && error.kind() == strata_spec::ErrorKind::NotFound => eprintln!("Error: {error}"),
            Err(error) => failures.add(error.into()),
        }
    }
    failures.end()
}

fn lines(removed: &[Removed]) -> String {
    let line = |item: &Removed| match item {
        Removed::Untagged(name) => format!("Untagged: {name}\n"),
        Removed::Deleted(id) => format!("Deleted: {id}\n"),
    };
    removed.iter().map(line).collect()
}

pub fn prune(context: &Context, args: &image::Prune) -> anyhow::Result<()> {
    let filters = Filters::parse(&args.filters.filter)?;
    let warning = match args.all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    if !confirm(warning, args.force)? {
        return Ok(());
    }
    let pruned = context.write()?.prune_images(args.all, &filters)?;
    print(&pruned_text(&pruned))?;
    print(&format!("Total reclaimed space: {}\n", units::size(pruned.reclaimed)))
}

/// `Deleted Images:` and what went, as `image prune` and `system prune` print it; nothing if nothing went.
pub fn pruned_text(pruned: &Pruned<Removed>) -> String {
    if pruned.items.is_empty() {
        return String::new();
    }
    let line = |item: &Removed| match item {
        Removed::Untagged(name) => format!("untagged: {name}\n"),
        Removed::Deleted(id) => format!("deleted: {id}\n"),
    };
    format!("Deleted Images:\n{}\n", pruned.items.iter().map(line).collect::<String>())
}
