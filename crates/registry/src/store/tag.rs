//! Tags of a repository.

use strata_spec::Digest;

use super::{Page, Store, list::page_of};
use crate::{
    error::{Code, Error},
    layout,
    name::{RepoName, Tag},
};

impl Store {
    /// The tags of a repository in the order of their bytes. Fails with `NAME_UNKNOWN` if there is no such repository.
    pub fn tags(&self, name: &RepoName, page: &Page) -> Result<(Vec<String>, bool), Error> {
        let names = self.storage.list(&layout::tags(name))?;
        if names.is_empty() && !self.exists(name)? {
            let message = format!("the repository {name} is not known");
            return Err(Error::new(Code::NameUnknown, message).with_detail(serde_json::json!({"name": name.as_str()})));
        }
        page_of(names, page, |text| {
            let Ok(tag) = text.parse::<Tag>() else { return Ok(false) };
            // One whose push was cut off before its link has a folder only.
            Ok(self.storage.stat(&layout::tag_current(name, &tag))?.is_some())
        })
    }

    /// The tags that mean `digest` now.
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
