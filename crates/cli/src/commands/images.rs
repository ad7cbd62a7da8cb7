//! `images`, `history`, `tag`, `rmi`, `image prune`.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use strata_engine::{
    Root,
    filter::Filters,
    prune::{IMAGE_FILTERS, Pruned},
    remove::{RemoveOptions, Removed},
};
use strata_image::Summary;
use strata_spec::{ImageId, Reference};

use super::{Failures, under_each};
use crate::{
    args::image,
    context::{Context, confirm, print},
    format::{list::List, units},
};

/// Filters that `images` knows.
const FILTERS: &[&str] = &["dangling", "label", "label!", "before", "since", "reference"];

pub const LIST: List<'static> = List {
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
    let filters = Filters::parse(&args.filters.filter, FILTERS)?;
    let selection = Selection::new(&root, &filters, args)?;
    let mut failures = Failures::default();
    let found = under_each(&root, &mut failures, |stores| {
        let listing = stores.images().images()?;
        let mut names = stores.images().tags().read()?.by_image();
        Ok((selection.choose(listing.images, &mut names, stores.driver()), listing.damaged))
    })?;
    let (chosen, damaged): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let mut chosen: Vec<Chosen<'_>> = chosen.into_iter().flatten().collect();
    chosen.sort_by_cached_key(|chosen| std::cmp::Reverse((time(&chosen.image), chosen.image.id)));
    let mut rows: Vec<Value> = chosen.iter().flat_map(|chosen| rows_of(chosen, &selection, args)).collect();
    if args.listing.quiet {
        rows.dedup_by(|a, b| a["ID"] == b["ID"]);
    }
    let form = if args.digests { WITH_DIGESTS } else { LIST };
    let (format, quiet) = (args.listing.format.as_deref(), args.listing.quiet);
    print(&form.render_of(&rows, format, quiet, root.has_several_drivers())?)?;
    for damage in damaged.iter().flatten() {
        eprintln!("Damaged image {}: {}: {}", damage.id.short(), damage.path.display(), damage.reason);
    }
    failures.end()
}

/// An image that is to be shown, with its names.
struct Chosen<'a> {
    image: Summary,
    references: Vec<Reference>,
    driver: &'a str,
}

/// Which images a user wants to see.
struct Selection<'a> {
    filters: &'a Filters,
    pattern: Option<String>,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    all: bool,
}

impl<'a> Selection<'a> {
    fn new(root: &Root, filters: &'a Filters, args: &image::Images) -> anyhow::Result<Self> {
        let time_of = |key: &str| -> anyhow::Result<Option<Timestamp>> {
            let Some(name) = filters.get(key).next() else { return Ok(None) };
            let image = root.image_to_read(name)?;
            let config = image.stores.images().get(image.id)?;
            Ok(config.document().created_at())
        };
        Ok(Self {
            before: time_of("before")?,
            since: time_of("since")?,
            dangling: filters.flag("dangling")?,
            pattern: args.reference.clone(),
            all: args.all,
            filters,
        })
    }

    /// The chosen images of one driver.
    fn choose<'d>(
        &self,
        images: Vec<Summary>,
        names: &mut BTreeMap<ImageId, Vec<Reference>>,
        driver: &'d str,
    ) -> Vec<Chosen<'d>> {
        let parents: HashSet<_> = images.iter().filter_map(|image| image.parent).collect();
        let chosen = images.into_iter().filter_map(|image| {
            let references = names.remove(&image.id).unwrap_or_default();
            let takes = self.takes(&image, &references, parents.contains(&image.id));
            takes.then_some(Chosen { image, references, driver })
        });
        chosen.collect()
    }

    fn takes(&self, image: &Summary, references: &[Reference], is_parent: bool) -> bool {
        let intermediate = references.is_empty() && is_parent;
        let dangling = references.is_empty();
        let created = time(image);
        (self.all || !intermediate)
            && self.dangling.is_none_or(|wanted| wanted == dangling && !(wanted && intermediate))
            && self.before.is_none_or(|before| created.is_some_and(|time| time < before))
            && self.since.is_none_or(|since| created.is_some_and(|time| time > since))
            && self.filters.labels(|name| image.labels.get(name).map(String::as_str))
            && ((self.pattern.is_none() && !self.filters.has("reference"))
                || references.iter().any(|r| self.matches(r)))
    }

    fn matches(&self, reference: &Reference) -> bool {
        let by = |pattern: &str| {
            let (name, full) = (reference.familiar_name(), reference.familiar());
            glob(pattern, &full) || glob(pattern, &name)
        };
        self.pattern.as_deref().is_none_or(by) && self.filters.any("reference", by)
    }
}

/// Docker's `path.Match`: `*` and `?` stop at slashes, `[…]` is a class.
fn glob(pattern: &str, text: &str) -> bool {
    fn step(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => {
                let reach = text.iter().position(|c| *c == '/').unwrap_or(text.len());
                (0..=reach).any(|skip| step(rest, &text[skip..]))
            }
            Some(('?', rest)) => text.first().is_some_and(|c| *c != '/') && step(rest, &text[1..]),
            Some(('[', rest)) => match rest.iter().position(|c| *c == ']') {
                Some(end) if end > 0 => {
                    text.first().is_some_and(|c| class(&rest[..end], *c)) && step(&rest[end + 1..], &text[1..])
                }
                _ => false,
            },
            Some((c, rest)) => text.first() == Some(c) && step(rest, &text[1..]),
        }
    }
    fn class(set: &[char], c: char) -> bool {
        let (negated, set) = match set.split_first() {
            Some(('^', set)) => (true, set),
            _ => (false, set),
        };
        let found = match set {
            [from, '-', to] => (*from..=*to).contains(&c),
            set => set.contains(&c),
        };
        found != negated
    }
    // A pattern of stars alone would take exponential time; nobody needs more of them than this.
    if pattern.matches('*').count() > 8 {
        return false;
    }
    step(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn time(image: &Summary) -> Option<Timestamp> {
    image.created.as_deref().and_then(|text| text.parse().ok())
}

/// A row for each name; one `<none>` row for an image without.
fn rows_of(chosen: &Chosen<'_>, selection: &Selection<'_>, args: &image::Images) -> Vec<Value> {
    let Chosen { image, references, driver } = chosen;
    let tags: Vec<&Reference> = references.iter().filter(|r| r.tag().is_some() && selection.matches(r)).collect();
    let digest_of = |repository: &str| {
        references.iter().find(|r| r.familiar_name() == repository).and_then(|r| {
            references.iter().find(|other| other.name() == r.name()).and_then(Reference::digest).map(|d| d.to_string())
        })
    };
    let id = if args.listing.no_trunc { image.id.to_string() } else { image.id.short() };
    if args.listing.quiet && args.listing.format.is_none() {
        // Nothing else is shown, and with thousands of images the rest takes most of the time.
        return vec![json!({ "ID": id })];
    }
    let row = |repository: &str, tag: &str| {
        let created = image.created.as_deref().unwrap_or_default();
        let digest = references
            .iter()
            .find(|r| r.digest().is_some() && r.familiar_name() == repository)
            .and_then(Reference::digest)
            .map(|digest| digest.to_string())
            .or_else(|| digest_of(repository));
        json!({
            "ID": id,
            "Repository": repository,
            "Tag": tag,
            "Digest": digest.unwrap_or_else(|| "<none>".to_owned()),
            "CreatedSince": units::ago(created, Timestamp::now()),
            "CreatedAt": units::created_at(created),
            "Size": units::size3(image.size),
            "VirtualSize": units::size3(image.size),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "Containers": "N/A",
            "Driver": driver,
        })
    };
    if tags.is_empty() {
        let digests: Vec<_> =
            references.iter().filter(|r| r.digest().is_some()).map(Reference::familiar_name).collect();
        let repository = digests.first().map_or("<none>", String::as_str);
        return vec![row(repository, "<none>")];
    }
    tags.iter().map(|reference| row(&reference.familiar_name(), reference.tag().unwrap_or("<none>"))).collect()
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
            Err(error) => failures.add(error),
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
    let filters = Filters::parse(&args.filters.filter, IMAGE_FILTERS)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_as_shell_patterns() {
        let cases = [
            ("debian", "debian", true),
            ("deb*", "debian:12", true),
            ("*", "a/b", false),
            ("*/*", "a/b:1", true),
            ("a?c", "abc", true),
            ("a[b-d]c", "acc", true),
            ("a[^b]c", "abc", false),
            ("a[", "a[", false),
            ("*********", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
