//! The distribution specification, a case a sentence, on ours and on CNCF distribution 2.8.
//!
//! Source: OCI distribution-spec 1.1, end-1 to end-14, and of the draft after it end-4c and end-7b. Ours passes all. What the other does not
//! is a list here: a case that changes there, either way, fails.
#![allow(clippy::unwrap_used)]

mod blobs;
#[path = "../common/mod.rs"]
mod common;
mod lists;
mod manifests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Client, Ours};
use strata_testkit::registry::DockerRegistry;

/// One sentence of the specification, tried in a repository of its own.
type Case = (&'static str, fn(&Client, &str));

/// The cases in which distribution 2.8 departs from the specification of today.
const KNOWN: &[&str] = &[
    "end-2: a range outside a blob is 416",
    "end-4b: POST with a digest takes the whole blob: 201",
    "end-4b: POST with another digest is refused",
    "end-4c: an algorithm that is not known is 400",
    "end-5: a chunk out of order is 416, and the upload stands",
    "end-5: a first chunk that does not begin at 0 is 416",
    "end-5: after a chunk that was refused, GET tells where to go on",
    "end-6: a last chunk out of order is 416, and the upload stands",
    "end-11: a blob is mounted from wherever it is",
    "end-13: an upload that is not there is 404",
    "end-7b: PUT by digest sets all tags that it names, and says which",
    "end-7b: a tag outside the grammar is 400, too many are 414, and nothing is stored",
    "end-7: a manifest that names a blob that is not there is refused, by its digest",
    "end-7: a blob of another repository does not do",
    "end-7: a layer that is had elsewhere need not be here",
    "end-7: what is no manifest is 400",
    "end-7: a manifest with a subject answers with OCI-Subject, whether that is there or not",
    "end-7: an index may be sparse",
    "end-7: a manifest of more than 4 MiB is 413",
    "end-9: DELETE of a tag: 202, and the manifest stays",
    "end-8a: tags are listed in the order of their names",
    "end-8b: n bounds a page, last begins the next, Link leads to it",
    "end-8b: n of 0 is an empty list",
    "end-8a: a repository without tags has an empty list",
    "end-12a: referrers of a manifest are an index of their descriptors",
    "end-12b: referrers are filtered by artifactType, and the answer says so",
    "end-12b: a filter that fits none leaves an empty index",
    "end-12a: a referrer that was pushed before its subject is listed",
    "end-12a: an index may be a referrer",
    "end-12a: referrers that are too many for one answer come in pages",
    "end-12a: what has no referrers, or is not there, has an empty index: 200",
    "end-12a: referrers of what is no digest are 400",
    "end-12a: a referrer that was deleted is no longer listed",
    "names: outside the grammar they are 400 with NAME_INVALID",
    "tags: 128 characters are taken; outside the grammar they are 400",
    "digests: manifests may have sha512",
    "catalog: repositories are listed in the order of their names, page by page",
];

fn cases() -> impl Iterator<Item = &'static Case> {
    blobs::CASES.iter().chain(manifests::CASES).chain(lists::CASES)
}

/// Runs all cases; returns the names of those that fail, with why.
fn run(client: &Client) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (at, (name, case)) in cases().enumerate() {
        let repo = format!("conformance/case{at}");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(client, &repo))) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failed.push((*name, text.unwrap_or_default()));
        }
    }
    failed
}

#[test]
fn ours_does_all_that_the_specification_says() {
    let ours = Ours::start();
    let failed = run(&ours.client());
    assert!(failed.is_empty(), "{failed:#?}");
    ours.stop();
}

#[test]
fn distribution_fails_where_it_is_known_to() {
    let Some(registry) = DockerRegistry::start() else { return };
    let failed = run(&Client::new(&registry.host()));
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, KNOWN, "{failed:#?}");
}
