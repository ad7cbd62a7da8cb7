//! Tags of a repository.

use strata_spec::Digest;

use super::{Page, Store, list::page_of};
use crate::{
    error::{Code, Error},
    layout,
    name::{RepoName, Tag},
    storage::Reach,
};

impl Store {
    /// Returns a page of the tags of a repository in the order of their bytes, and whether there are more.
    ///
    /// Fails with `NAME_UNKNOWN` if there is no such repository.
    pub fn tags(&self, name: &RepoName, page: &Page) -> Result<(Vec<String>, bool), Error> {
        let names = self.storage.list(&layout::tags(name))?;
        if names.is_empty() && !self.exists(name)? {
            let message = format!("the repository {name} is not known");
            return Err(Error::new(Code::NameUnknown, message).with_detail(serde_json::json!({"name": name.as_str()})));
        }
        page_of(names, page, |text| text.parse().map_or(Ok(false), |tag| self.is_listed(name, &tag)))
    }

    /// Whether a tag names a manifest of the repository. An interrupted push leaves a tag without a link; other servers have removed
    /// manifests and left their tags.
    ///
    /// On an object store a link is enough, because each look is a request.
    fn is_listed(&self, name: &RepoName, tag: &Tag) -> Result<bool, Error> {
        let current = layout::tag_current(name, tag);
        if self.storage.reach() == Reach::Remote {
            return Ok(self.storage.stat(&current)?.is_some());
        }
        match self.link(&current) {
            Ok(Some(digest)) => Ok(self.storage.stat(&layout::revision_link(name, digest))?.is_some()),
            Ok(None) => Ok(false),
            // Damage stays in sight.
            Err(_) => Ok(true),
        }
    }

    /// Returns the tags that point to `digest`.
    pub fn tags_of(&self, name: &RepoName, digest: Digest) -> Result<Vec<Tag>, Error> {
        let mut found = Vec::new();
        for text in self.storage.list(&layout::tags(name))? {
            let Ok(tag) = text.parse::<Tag>() else { continue };
            if self.link(&layout::tag_current(name, &tag))? == Some(digest) {
                found.push(tag);
            }
        }
        Ok(found)
    }
}
