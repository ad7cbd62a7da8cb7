//! What each layer of an image came from, as `docker history` tells it.
//!
//! Source: moby 20.10, `daemon/images/image_history.go`.

use strata_spec::{ImageId, Reference, chain_ids};

use crate::{Error, Store, store::check_document};

/// One line of `history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The image that ended with this step; `None` where no image of this store does (`<missing>`).
    pub id: Option<ImageId>,
    /// RFC 3339, as it stands in the config.
    pub created: Option<String>,
    pub created_by: String,
    /// Bytes that this step added.
    pub size: u64,
    pub comment: String,
    /// The image's tags, familiar (`debian:12`), in Docker's order; digests are left out.
    pub tags: Vec<String>,
}

impl Store {
    /// The steps that made `id`, newest first.
    pub fn history(&self, id: ImageId) -> Result<Vec<Entry>, Error> {
        let config = self.get(id)?;
        check_document(&config)?;
        let mut chains = chain_ids(config.diff_ids());
        let mut entries = Vec::with_capacity(config.document().history.len());
        for step in &config.document().history {
            let size = match step.empty_layer {
                true => 0,
                false => match chains.next() {
                    Some(chain) => self.layers().get(chain)?.size,
                    None => unreachable!("check_document counted them"),
                },
            };
            entries.push(Entry {
                id: None,
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                size,
                comment: step.comment.clone(),
                tags: Vec::new(),
            });
        }
        entries.reverse();
        self.name_steps(&mut entries, id)?;
        Ok(entries)
    }

    /// The first step is the image itself, the next its parent, for as long as there is one.
    fn name_steps(&self, entries: &mut [Entry], id: ImageId) -> Result<(), Error> {
        let names = self.tags().read()?;
        let mut next = Some(id);
        for entry in entries {
            let Some(id) = next.filter(|id| self.contains(*id)) else { break };
            entry.id = Some(id);
            entry.tags = names.of(id).iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
            next = self.parent(id)?;
        }
        Ok(())
    }
}
