//! The images that a user wants to see, as `images` selects them.
//!
//! Source: moby 28, `daemon/images/images.go`; docker/cli `cli/command/formatter/image.go`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use strata_image::{Damage, Summary, tags::Names};
use strata_spec::{ImageId, Reference};

use crate::{DriverStores, Error, Root, filter::Filters, pattern::Pattern};

/// Filters that a list of images knows.
const FILTERS: &[&str] = &["dangling", "label", "label!", "before", "since", "reference", "until"];

/// Which images are listed.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    pub filters: Filters,
    /// Untagged images that others were built from, too.
    pub all: bool,
    /// A row for each digest.
    pub digests: bool,
}

/// A name of an image, or an image without one.
#[derive(Clone, Debug)]
pub struct ImageRow {
    pub image: Arc<Summary>,
    pub driver: &'static str,
    /// As Docker shows it: `debian`, `localhost:5000/app`.
    pub repository: Option<String>,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

/// What a list of images shows.
#[derive(Debug, Default)]
pub struct ImageList {
    /// The newest image first.
    pub rows: Vec<ImageRow>,
    /// Images that cannot be used.
    pub damaged: Vec<Damage>,
    /// Drivers whose images cannot be listed.
    pub failures: Vec<Error>,
}

/// An image with its names.
pub(crate) struct Named {
    pub image: Summary,
    pub references: Vec<Reference>,
    /// Other images were built from it.
    pub is_parent: bool,
}

impl Named {
    /// Whether only other images' histories need it: Docker counts it as an image only where all are asked for.
    pub fn is_intermediate(&self) -> bool {
        self.references.is_empty() && self.is_parent
    }

    fn has_tag(&self) -> bool {
        self.references.iter().any(|reference| reference.tag().is_some())
    }

    fn created(&self) -> Option<Timestamp> {
        self.image.created.as_deref()?.parse().ok()
    }
}

impl DriverStores {
    /// All images with their names, and those that are damaged.
    pub(crate) fn named_images(&self) -> Result<(Vec<Named>, Vec<Damage>), Error> {
        self.name_images(&self.images().tags().read()?)
    }

    /// The same, by names that were read before.
    pub(crate) fn name_images(&self, names: &Names) -> Result<(Vec<Named>, Vec<Damage>), Error> {
        let listing = self.images().images()?;
        let mut names = names.by_image();
        let parents: HashSet<ImageId> = listing.images.iter().filter_map(|image| image.parent).collect();
        let named = |image: Summary| Named {
            references: names.remove(&image.id).unwrap_or_default(),
            is_parent: parents.contains(&image.id),
            image,
        };
        Ok((listing.images.into_iter().map(named).collect(), listing.damaged))
    }
}

impl Root {
    /// Lists the names of the images that `query` selects. `Invalid` in Docker's words for a filter that there is not.
    ///
    /// Where several drivers are in use, one that fails hides no other.
    pub fn list_images(&self, query: &ImageQuery) -> Result<ImageList, Error> {
        let selection = Selection::new(self, query)?;
        let mut list = ImageList::default();
        let mut chosen = Vec::new();
        for stores in self.stores() {
            match stores.named_images() {
                Ok((images, damaged)) => {
                    list.damaged.extend(damaged);
                    chosen.extend(images.into_iter().filter_map(|named| selection.choose(named, stores.driver())));
                }
                Err(error) if self.has_several_drivers() => {
                    list.failures.push(Error::Unread { driver: stores.driver(), why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        chosen.sort_by_cached_key(|(named, _)| std::cmp::Reverse((named.created(), named.image.id)));
        list.rows = chosen.into_iter().flat_map(|(named, driver)| rows(named, driver, query.digests)).collect();
        Ok(list)
    }
}

/// A query, its names resolved.
struct Selection {
    filters: Filters,
    patterns: Vec<Pattern>,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    all: bool,
}

impl Selection {
    fn new(root: &Root, query: &ImageQuery) -> Result<Self, Error> {
        let filters = &query.filters;
        filters.only(FILTERS)?;
        let created = |key: &str| -> Result<Vec<Timestamp>, Error> {
            let mut times = Vec::new();
            for name in filters.get(key) {
                let image = root.image_to_read(name)?;
                times.extend(image.stores.images().get(image.id)?.document().created_at());
            }
            Ok(times)
        };
        let until = filters.get("until").map(|text| crate::filter::moment(text, Timestamp::now()));
        let mut before = until.collect::<Result<Vec<_>, _>>()?;
        before.extend(created("before")?);
        Ok(Self {
            patterns: filters.get("reference").map(Pattern::parse).collect::<Result<_, _>>()?,
            dangling: filters.flag("dangling")?,
            before: before.into_iter().min(),
            since: created("since")?.into_iter().max(),
            all: query.all,
            filters: filters.clone(),
        })
    }

    /// The image, with the names of it that are to be shown.
    fn choose(&self, mut named: Named, driver: &'static str) -> Option<(Named, &'static str)> {
        let created = named.created();
        let is_shown = self.before.is_none_or(|before| created.is_some_and(|time| time < before))
            && self.since.is_none_or(|since| created.is_some_and(|time| time > since))
            && self.filters.labels(|name| named.image.labels.get(name).map(String::as_str))
            && match self.dangling {
                Some(true) => !named.has_tag() && !named.is_parent,
                Some(false) => !named.references.is_empty(),
                None => true,
            };
        if !is_shown {
            return None;
        }
        if self.patterns.is_empty() {
            return (self.all || !named.is_intermediate()).then_some((named, driver));
        }
        named.references.retain(|reference| {
            let (name, full) = (reference.familiar_name(), reference.familiar());
            self.patterns.iter().any(|pattern| pattern.matches(&full) || pattern.matches(&name))
        });
        (!named.references.is_empty()).then_some((named, driver))
    }
}

/// A row for each tag; one for each repository that has digests alone; one for an image without names.
fn rows(named: Named, driver: &'static str, digests: bool) -> Vec<ImageRow> {
    let image = Arc::new(named.image);
    let row = |repository: Option<String>, tag: Option<String>, digest: Option<String>| ImageRow {
        image: image.clone(),
        driver,
        repository,
        tag,
        digest,
    };
    let mut repositories: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for reference in &named.references {
        let (tags, found) = repositories.entry(reference.familiar_name()).or_default();
        match reference.digest() {
            Some(digest) => found.push(digest.to_string()),
            None => tags.extend(reference.tag().map(str::to_owned)),
        }
    }
    if repositories.is_empty() {
        return vec![row(None, None, None)];
    }
    let mut rows = Vec::new();
    for (repository, (tags, found)) in repositories {
        // Where digests are not shown, one row stands for all of them.
        let found: Vec<Option<String>> = match found.is_empty() || !digests {
            true => vec![None],
            false => found.into_iter().map(Some).collect(),
        };
        let tags: Vec<Option<String>> = match tags.is_empty() {
            true => vec![None],
            false => tags.into_iter().map(Some).collect(),
        };
        for tag in &tags {
            rows.extend(found.iter().map(|digest| row(Some(repository.clone()), tag.clone(), digest.clone())));
        }
    }
    rows
}
