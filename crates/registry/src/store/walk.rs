//! Traversal of all repositories in the order of their names.

use crate::{
    error::Error,
    layout,
    name::{RepoName, is_component},
    storage::Storage,
};

/// Whether a traversal continues after a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next repository.
    GoOn,
    /// It ends.
    Stop,
}

/// Which directories count as repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Directories to which a blob or a manifest was pushed.
    Repositories,
    /// Also directories that only have an upload.
    AllDirectories,
}

/// Maximum depth of names: 255 characters are at most 128 components.
const DEPTH_MAX: usize = 128;

/// Whether a directory with these entries is a repository.
pub(super) fn is_repository(entries: &[String]) -> bool {
    entries.iter().any(|entry| entry == "_layers" || entry == "_manifests")
}

/// Calls `each` with every repository: see [`walk`].
pub fn repositories(
    storage: &dyn Storage,
    last: Option<&str>,
    each: &mut dyn FnMut(RepoName) -> Result<Next, Error>,
) -> Result<(), Error> {
    walk(storage, Which::Repositories, last, each)
}

/// Calls `each` with every repository after the name `last`, in the order of the bytes of their names.
///
/// `a` comes before `a-b`, which comes before `a/c`: a directory and its contents have different positions.
pub fn walk(
    storage: &dyn Storage,
    which: Which,
    last: Option<&str>,
    each: &mut dyn FnMut(RepoName) -> Result<Next, Error>,
) -> Result<(), Error> {
    Walk { storage, which, last, each }.descend("", 0).map(drop)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    which: Which,
    last: Option<&'a str>,
    each: &'a mut dyn FnMut(RepoName) -> Result<Next, Error>,
}

impl Walk<'_> {
    fn descend(&mut self, prefix: &str, depth: usize) -> Result<Next, Error> {
        if depth > DEPTH_MAX {
            return Ok(Next::GoOn);
        }
        let last = self.last;
        // Each directory appears twice: as a name, and with a slash for its contents.
        let directory = format!("{}/{prefix}", layout::REPOSITORIES);
        let children = self.storage.list(directory.trim_end_matches('/'))?;
        let mut steps: Vec<String> = children
            .iter()
            .filter(|name| is_component(name))
            .flat_map(|name| [format!("{prefix}{name}"), format!("{prefix}{name}/")])
            .collect();
        steps.sort_unstable();
        for step in steps {
            let next = if step.ends_with('/') {
                // All its contents come before `last`, unless `last` is inside or before it.
                let is_past = last.is_some_and(|last| last > step.as_str() && !last.starts_with(&step));
                if is_past { Next::GoOn } else { self.descend(&step, depth + 1)? }
            } else if last.is_none_or(|last| step.as_str() > last) && self.counts(&step)? {
                match step.parse() {
                    Ok(name) => (self.each)(name)?,
                    Err(_) => Next::GoOn,
                }
            } else {
                Next::GoOn
            };
            if next == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::GoOn)
    }

    fn counts(&self, name: &str) -> Result<bool, Error> {
        let entries = self.storage.list(&format!("{}/{name}", layout::REPOSITORIES))?;
        let has_uploads = self.which == Which::AllDirectories && entries.iter().any(|entry| entry == "_uploads");
        Ok(has_uploads || is_repository(&entries))
    }
}
