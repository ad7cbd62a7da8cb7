//! The section `validation`, with `strata.images`: what a pushed manifest may name.

use super::section::{Mistakes, Section};
use crate::store::{Images, Indexes, UrlPolicy};

/// The section's meaning.
pub(super) struct Validation {
    pub indexes: Indexes,
    pub images: Images,
    pub urls: UrlPolicy,
}

pub(super) fn validation(root: &mut Section<'_>, ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Validation {
    let mut validation = root.section("validation", mistakes);
    let is_off = validation.flag("disabled", false, mistakes);
    // distribution 2 had `enabled: true` mean that no URL is allowed unless a list says so.
    let is_on = validation.flag("enabled", false, mistakes);
    let mut manifests = validation.section("manifests", mistakes);
    let urls = urls(manifests.section("urls", mistakes), is_on, mistakes);
    let indexes = indexes(manifests.section("indexes", mistakes), mistakes);
    manifests.end(mistakes);
    validation.end(mistakes);
    let mut images = ours.section("images", mistakes);
    let blobs = images.parsed("blobs", mistakes, |text| match text {
        "all" => Ok(Images::MustBeWhole),
        "none" => Ok(Images::MayBeSparse),
        other => Err(format!("{other:?} is neither all nor none")),
    });
    images.end(mistakes);
    let images = blobs.unwrap_or(Images::MustBeWhole);
    if is_off {
        return Validation { indexes: Indexes::MayBeSparse, images, urls: UrlPolicy::default() };
    }
    Validation { indexes, images, urls }
}

fn urls(mut section: Section<'_>, is_on: bool, mistakes: &mut Mistakes) -> UrlPolicy {
    let is_there = section.is_there();
    let (allow, deny) = (section.texts("allow", mistakes), section.texts("deny", mistakes));
    let policy = if is_there || is_on { UrlPolicy::new(&allow, &deny) } else { Ok(UrlPolicy::default()) };
    let policy = policy.map_err(|problem| mistakes.add(&section.place("allow"), problem)).unwrap_or_default();
    section.end(mistakes);
    policy
}

fn indexes(mut section: Section<'_>, mistakes: &mut Mistakes) -> Indexes {
    let mut list = Vec::new();
    for mut one in section.sections("platformlist", mistakes) {
        let (os, architecture) = (one.text("os", mistakes), one.text("architecture", mistakes));
        match os.zip(architecture) {
            Some(platform) => list.push(platform),
            None => mistakes.add(&one.place("os"), "a platform needs os and architecture"),
        }
        one.end(mistakes);
    }
    let rule = section.parsed("platforms", mistakes, |text| match text.to_lowercase().as_str() {
        "all" => Ok(Indexes::MustBeWhole),
        "none" => Ok(Indexes::MayBeSparse),
        "list" if list.is_empty() => Err("list needs a platformlist".into()),
        "list" => Ok(Indexes::MustHave(list.clone())),
        other => Err(format!("{other:?} is none of all, none and list")),
    });
    if !list.is_empty() && matches!(rule, Some(Indexes::MustBeWhole | Indexes::MayBeSparse) | None) {
        mistakes.add(&section.place("platformlist"), "has a meaning with platforms: list alone");
    }
    section.end(mistakes);
    rule.unwrap_or(Indexes::MayBeSparse)
}
