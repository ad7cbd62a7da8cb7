//! The containers that a user wants to see, as `ps` selects them.
//!
//! Source: moby 28, `daemon/list.go`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use regex::Regex;
use strata_container::{
    Container, Damage,
    ps::{Size, Summary},
};
use strata_image::tags::Names;
use strata_spec::{ContainerId, ImageId, Reference};

use crate::{Error, Root, filter::Filters};

/// Filters that a list of containers knows.
const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: &[&str] = &["paused", "restarting", "removing", "running", "dead", "created", "exited"];
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// Which containers are listed.
#[derive(Clone, Debug, Default)]
pub struct ContainerQuery {
    pub filters: Filters,
    /// Those that do not run, too.
    pub all: bool,
    /// The last created ones, whatever their state; 0 is no limit.
    pub last: usize,
    /// Adds up what each takes, which walks what it wrote.
    pub sizes: bool,
}

/// What a list of containers shows.
#[derive(Debug, Default)]
pub struct ContainerList {
    /// The newest first.
    pub rows: Vec<Summary>,
    /// Containers whose records cannot be read.
    pub damaged: Vec<Damage>,
    /// Drivers whose image names cannot be read: containers of their images are shown by ID.
    pub failures: Vec<Error>,
}

impl Root {
    /// Lists the containers that `query` selects. `Invalid` in Docker's words for a filter that there is not.
    pub fn list_containers(&self, query: &ContainerQuery) -> Result<ContainerList, Error> {
        let selection = Selection::new(self, query)?;
        let listing = self.containers().list()?;
        let mut list = ContainerList { damaged: listing.damaged, ..ContainerList::default() };
        let mut names: HashMap<&str, Names> = HashMap::new();
        for stores in self.stores() {
            match stores.images().tags().read() {
                Ok(read) => drop(names.insert(stores.driver(), read)),
                Err(error) => list.failures.push(Error::Unread { driver: stores.driver(), why: error.to_string() }),
            }
        }
        let now = Timestamp::now();
        for container in listing.containers.iter().filter(|container| selection.takes(container)) {
            if query.last > 0 && list.rows.len() == query.last {
                break;
            }
            let names = names.get(container.record.driver.as_str());
            let image_named = |name: &str| names?.get(&Reference::parse(name).ok()?);
            let mut row = self.containers().summary(container, now, &image_named);
            // Where its layers cannot be reached, its size is unknown.
            row.size = query.sizes.then(|| self.containers().size(container).ok()).flatten();
            list.rows.push(row);
        }
        Ok(list)
    }

    /// What the container wrote, and that with its image.
    pub fn container_size(&self, container: &Container) -> Result<Size, Error> {
        Ok(self.containers().size(container)?)
    }
}

/// A query, its names resolved.
struct Selection<'a> {
    filters: &'a Filters,
    /// The images that `ancestor` names, and those built from them.
    ancestors: HashSet<ImageId>,
    before: Option<(Timestamp, ContainerId)>,
    since: Option<(Timestamp, ContainerId)>,
    exited: Vec<i64>,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    expose: HashSet<String>,
    publish: HashSet<String>,
    running_only: bool,
}

impl<'a> Selection<'a> {
    fn new(root: &Root, query: &'a ContainerQuery) -> Result<Self, Error> {
        let filters = &query.filters;
        filters.only(FILTERS)?;
        filters.one_of("status", STATES)?;
        filters.one_of("health", HEALTH)?;
        filters.flag("is-task")?;
        let created = |key: &str| -> Result<Option<(Timestamp, ContainerId)>, Error> {
            let Some(name) = filters.get(key).last() else { return Ok(None) };
            let container = root.container(name)?;
            Ok(container.record.created_at().map(|time| (time, container.id)))
        };
        let exited = filters.get("exited").map(|code| code.parse().map_err(|_| Filters::invalid("exited", code)));
        let regexes = |key: &str| filters.get(key).filter_map(|text| Regex::new(text).ok()).collect();
        let shows_states = filters.has("status");
        Ok(Self {
            ancestors: ancestors(root, filters)?,
            before: created("before")?,
            since: created("since")?,
            exited: exited.collect::<Result<_, _>>()?,
            names: regexes("name"),
            ids: regexes("id"),
            expose: ports(filters, "expose")?,
            publish: ports(filters, "publish")?,
            running_only: !query.all && query.last == 0 && !shows_states,
            filters,
        })
    }

    fn takes(&self, container: &Container) -> bool {
        let (filters, record) = (self.filters, &container.record);
        let state = &record.state;
        let created = (record.created_at().unwrap_or_default(), &container.id);
        let health = state.health.as_ref().map_or("none", |health| health.status.as_str());
        let labels = record.config.labels.as_ref();
        (!self.running_only || state.running)
            && self.before.as_ref().is_none_or(|(time, id)| created < (*time, id))
            && self.since.as_ref().is_none_or(|(time, id)| created > (*time, id))
            && matches(filters, "id", &self.ids, container.id.as_str())
            // With and without the slash before a name, as Docker matches.
            && (matches(filters, "name", &self.names, container.name())
                || matches(filters, "name", &self.names, &format!("/{}", container.name())))
            && filters.any("status", |status| status == state.status().as_str())
            && filters.any("health", |wanted| wanted == if health.is_empty() { "none" } else { health })
            && (self.exited.is_empty()
                || !state.running && state.started().is_some() && self.exited.contains(&state.exit_code))
            && (!filters.has("ancestor") || record.image_id().is_some_and(|id| self.ancestors.contains(&id)))
            // Tasks are Swarm's: none of these containers is one.
            && !filters.has_value("is-task", "true")
            && filters.labels(|name| labels?.get(name).map(String::as_str))
            && filters.any("volume", |wanted| {
                record.mount_points.iter().any(|(destination, mount)| {
                    let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
                    wanted == destination || wanted == name
                })
            })
            && filters.any("network", |wanted| {
                let mut networks = record.network_settings.networks.iter();
                networks.any(|(name, end)| name == wanted || end.network_id.starts_with(wanted) && !wanted.is_empty())
            })
            && self.takes_ports(container)
    }

    fn takes_ports(&self, container: &Container) -> bool {
        let exposed = || container.record.config.exposed_ports.keys();
        let published = || container.host.port_bindings.as_object().into_iter().flat_map(|bindings| bindings.keys());
        (!self.filters.has("expose") || exposed().any(|port| self.expose.contains(port)))
            && (!self.filters.has("publish") || published().any(|port| self.publish.contains(port)))
    }
}

/// Whether `text` is one of the values of `key` or matches one as a regular expression.
fn matches(filters: &Filters, key: &str, regexes: &[Regex], text: &str) -> bool {
    filters.any(key, |wanted| wanted == text) || regexes.iter().any(|regex| regex.is_match(text))
}

/// The images that `ancestor` names, with all that were built from them. An image that is not there has no containers.
fn ancestors(root: &Root, filters: &Filters) -> Result<HashSet<ImageId>, Error> {
    let mut found = HashSet::new();
    for stores in root.stores().iter().filter(|_| filters.has("ancestor")) {
        let mut left: Vec<ImageId> =
            filters.get("ancestor").filter_map(|name| stores.images().resolve(name).ok()).collect();
        while let Some(id) = left.pop() {
            if found.insert(id) {
                left.extend(stores.images().children(id)?);
            }
        }
    }
    Ok(found)
}

/// The ports that `key` asks for, `80/tcp` each. `<port>` and `<from>-<to>`, with a protocol behind a slash or not.
fn ports(filters: &Filters, key: &str) -> Result<HashSet<String>, Error> {
    let mut ports = HashSet::new();
    for text in filters.get(key) {
        if text.contains(':') {
            return Err(Error::Invalid(format!("filter for '{key}' should not contain ':': {text}")));
        }
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let port = |text: &str| text.parse::<u16>().ok();
        match (port(from), port(to)) {
            (Some(from), Some(to)) if from <= to => {
                let protocol = protocol.to_lowercase();
                ports.extend((from..=to).map(|port| format!("{port}/{protocol}")));
            }
            _ => {
                let why = format!("error while looking up for {key} {text}: invalid port or range");
                return Err(Error::Invalid(why));
            }
        }
    }
    Ok(ports)
}
