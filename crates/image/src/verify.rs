//! Whether what lies on disk is what was written: images, their layers' presence, and their names.

use std::{fs, path::PathBuf};

use strata_spec::{ImageId, chain_ids};

use crate::{Error, Store, layout::id_of, store::check_document};

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Image(ImageId),
    /// A name in `repositories.json`.
    Name(String),
    /// `repositories.json` as a whole.
    Names,
    /// A file or folder that belongs to no image.
    Stray,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub object: Object,
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Store {
    /// Checks every image's config, its metadata, the presence of its layers, and every name. Reads no layer's content.
    pub fn verify(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let entries = self.content_entries().unwrap_or_else(|error| {
            findings.push(self.finding(Object::Stray, self.layout().contents(), error));
            Vec::new()
        });
        for entry in entries {
            match id_of(&entry.name) {
                Some(id) => self.verify_image(id, &mut findings),
                None => findings.push(Finding {
                    object: Object::Stray,
                    path: self.layout().contents().join(String::from_utf8_lossy(&entry.name).as_ref()),
                    reason: "it belongs to no image: a write was interrupted; it can be removed".to_owned(),
                }),
            }
        }
        self.verify_metadata(&mut findings);
        self.verify_names(&mut findings);
        findings
    }

    fn verify_image(&self, id: ImageId, findings: &mut Vec<Finding>) {
        let mut found = |error| {
            let damage = self.damage(id, error);
            findings.push(Finding { object: Object::Image(id), path: damage.path, reason: damage.reason });
        };
        let config = match self.get(id) {
            Ok(config) => config,
            Err(Error::NotFound(_)) => return,
            Err(error) => return found(error),
        };
        if let Err(error) = check_document(&config) {
            found(error);
        }
        for chain in chain_ids(config.diff_ids()) {
            match self.layers().get(chain) {
                Ok(_) => {}
                Err(strata_layer::Error::NotFound(chain)) => found(Error::missing_layer(id, chain)),
                Err(error) => found(error.into()),
            }
        }
        match self.parent(id) {
            Ok(Some(parent)) if !self.contains(parent) => found(Error::damaged(
                &self.layout().parent(id),
                format!("the parent {parent} is not in the store; remove the file: only the link is lost"),
            )),
            Ok(_) => {}
            Err(error) => found(error),
        }
    }

    /// Metadata without an image: harmless, and left by a removal that was interrupted.
    fn verify_metadata(&self, findings: &mut Vec<Finding>) {
        let Ok(entries) = fs::read_dir(self.layout().metadatas()) else { return };
        for entry in entries.flatten() {
            let id = id_of(entry.file_name().as_encoded_bytes());
            if !id.is_some_and(|id| self.contains(id)) {
                findings.push(Finding {
                    object: Object::Stray,
                    path: entry.path(),
                    reason: "it belongs to no image; it can be removed".to_owned(),
                });
            }
        }
    }

    fn verify_names(&self, findings: &mut Vec<Finding>) {
        let path = self.layout().repositories();
        let names = match self.tags().read() {
            Ok(names) => names,
            Err(error) => return findings.push(self.finding(Object::Names, path, error)),
        };
        for (name, id) in names.foreign() {
            findings.push(Finding {
                object: Object::Name(name.clone()),
                path: path.clone(),
                reason: format!("the entry {name:?}: {id:?} is no name of an image"),
            });
        }
        for (name, id) in names.all() {
            if !self.contains(id) {
                findings.push(Finding {
                    object: Object::Name(name.familiar()),
                    path: path.clone(),
                    reason: format!(
                        "it names image {id}, which is not in the store; remove the name, or load the image"
                    ),
                });
            }
        }
    }

    fn finding(&self, object: Object, path: PathBuf, error: Error) -> Finding {
        match error {
            Error::Damaged { path, reason } => Finding { object, path, reason },
            other => Finding { object, path, reason: other.to_string() },
        }
    }
}
