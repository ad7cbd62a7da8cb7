//! Pages of long lists, and the catalog.

use super::{Store, walk};
use crate::{error::Error, layout, name::RepoName};

/// The requested part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Entries after this one, which need not exist.
    pub last: Option<String>,
    /// Maximum number of entries; `None` for all.
    pub count: Option<usize>,
}

/// Returns a page of the sorted `names` that `is_shown`, and whether there are more.
pub(super) fn page_of(
    names: Vec<String>,
    page: &Page,
    mut is_shown: impl FnMut(&str) -> Result<bool, Error>,
) -> Result<(Vec<String>, bool), Error> {
    let mut shown = Vec::new();
    for name in names {
        if page.last.as_ref().is_some_and(|last| name <= *last) || !is_shown(&name)? {
            continue;
        }
        if page.count == Some(shown.len()) {
            return Ok((shown, true));
        }
        shown.push(name);
    }
    Ok((shown, false))
}

impl Store {
    /// Returns a page of the names of repositories in the order of their bytes, and whether there are more.
    pub fn catalog(
        &self,
        page: &Page,
        may_see: &mut dyn FnMut(&RepoName) -> bool,
    ) -> Result<(Vec<String>, bool), Error> {
        let (mut names, mut more) = (Vec::new(), false);
        walk::repositories(&*self.storage, page.last.as_deref(), &mut |name| {
            if !may_see(&name) {
                return Ok(walk::Next::GoOn);
            }
            if page.count == Some(names.len()) {
                more = true;
                return Ok(walk::Next::Stop);
            }
            names.push(name.as_str().to_owned());
            Ok(walk::Next::GoOn)
        })?;
        Ok((names, more))
    }

    /// Whether a blob or a manifest was pushed to the repository.
    pub fn exists(&self, name: &RepoName) -> Result<bool, Error> {
        let directories = self.storage.list(&format!("{}/{name}", layout::REPOSITORIES))?;
        Ok(walk::is_repository(&directories))
    }
}
