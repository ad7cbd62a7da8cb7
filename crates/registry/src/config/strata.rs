//! The section `strata`, whose keys are our own: garbage collection, limits, quotas, policies.

use std::time::Duration;

use super::{
    Collecting,
    section::{Mistakes, Section},
};
use crate::{
    auth::{Action, policy::Policy},
    gc::Untagged,
    http::rate::Rate,
    quota::Quota,
    upload::Limits,
};

/// When garbage is collected, and the grace time.
pub(super) fn collecting(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> (Collecting, Duration) {
    let mut gc = ours.section("gc", mistakes);
    let interval = gc.duration("interval", mistakes).unwrap_or_default();
    let grace = gc.duration("grace", mistakes).unwrap_or(crate::gc::DEFAULT_GRACE);
    let untagged = if gc.flag("deleteuntagged", false, mistakes) { Untagged::Remove } else { Untagged::Keep };
    gc.end(mistakes);
    (Collecting { interval, untagged }, grace)
}

/// Limits on uploads, the size of a manifest in bytes, the number of connections, and the rate of requests.
pub(super) fn limits(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> (Limits, u64, usize, Option<Rate>) {
    let mut section = ours.section("limits", mistakes);
    let manifest = section.bytes("manifest", mistakes).unwrap_or(crate::manifest::DEFAULT_SIZE_LIMIT);
    if !(1024..=64 << 20).contains(&manifest) {
        mistakes.add(&section.place("manifest"), "must be from 1KiB to 64MiB");
    }
    let number = |text: &str| {
        text.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?} is not a number above 0"))
    };
    let default = Limits::default();
    let limits = Limits {
        blob_size: section.bytes("blob", mistakes).unwrap_or(default.blob_size),
        count: section.parsed("uploads", mistakes, number).unwrap_or(default.count),
    };
    let connections = section.parsed("connections", mistakes, number).unwrap_or(4096);
    let many = |text: &str| {
        text.parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && *n > 0.0)
            .ok_or_else(|| format!("{text:?} is not a number above 0"))
    };
    let rate = section.parsed("rate", mistakes, many);
    let burst = section.parsed("burst", mistakes, many);
    let rate = rate.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second).max(1.0) });
    section.end(mistakes);
    (limits, manifest, connections, rate)
}

/// Quotas by prefix.
pub(super) fn quotas(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Quota> {
    let mut quotas: Vec<Quota> = Vec::new();
    for mut section in ours.sections("quotas", mistakes) {
        let prefix = section.text("prefix", mistakes).unwrap_or_default();
        let prefix = prefix.trim_end_matches('/').to_owned();
        if !prefix.is_empty() && prefix.parse::<crate::name::RepoName>().is_err() {
            mistakes.add(&section.place("prefix"), format!("{prefix:?} is not a repository's name"));
        }
        if quotas.iter().any(|other| other.prefix == prefix) {
            mistakes.add(&section.place("prefix"), format!("{prefix:?} has a quota already"));
        }
        match section.bytes("bytes", mistakes) {
            Some(bytes) => quotas.push(Quota { prefix, bytes }),
            None => mistakes.add(&section.place("bytes"), "says how much there may be, such as 10GB"),
        }
        section.end(mistakes);
    }
    quotas
}

/// Who may do what.
pub(super) fn policies(ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<Policy> {
    let mut policies = Vec::new();
    for mut section in ours.sections("policies", mistakes) {
        let users = section.texts("users", mistakes);
        let repositories = section.texts("repositories", mistakes);
        let mut actions = Vec::new();
        for word in section.texts("actions", mistakes) {
            match Action::ALL.iter().find(|action| action.word() == word) {
                Some(action) => actions.push(*action),
                None => mistakes.add(&section.place("actions"), format!("{word:?} is none of pull, push, delete")),
            }
        }
        for (key, is_empty) in
            [("users", users.is_empty()), ("repositories", repositories.is_empty()), ("actions", actions.is_empty())]
        {
            if is_empty {
                mistakes.add(&section.place(key), "names none");
            }
        }
        policies.push(Policy { users, repositories, actions });
        section.end(mistakes);
    }
    policies
}
