//! A container becomes an image: what it changed is one more layer.
//!
//! Source: moby `daemon/commit.go`, `daemon/images/image_commit.go`, `image/image.go` (`NewChildImage`), version 20.10.

use jiff::Timestamp;
use strata_archive::Limits;
use strata_layer::{Lease, RwLayer};
use strata_spec::{
    ContainerId, DiffId, ErrorKind, ImageConfig, ImageId, Platform, Reference, chain_id,
    config::{Document, History, RootFs, RunConfig},
    time,
};

use crate::{Container, Error, Store, change, plan, settle::Note};

/// What `commit` is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitRequest {
    pub author: String,
    pub comment: String,
    /// As `--change` takes them.
    pub changes: Vec<String>,
    /// The image's age; without it, now. The same container at the same time gives the same image.
    pub created: Option<Timestamp>,
    /// What the image is to be called.
    pub name: Option<Reference>,
    /// What a running container does meanwhile.
    pub meanwhile: Meanwhile,
}

/// What a running container does while it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meanwhile {
    /// It stands still, so that the image is of one moment.
    #[default]
    Paused,
    /// It goes on: what it writes meanwhile is in the image, or not, or in part.
    Running,
}

/// The DiffID of a layer in which nothing changed: of a tar of two zero blocks.
const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

impl Store {
    /// Makes an image of `container` and returns its ID. The init layer is not part of it.
    ///
    /// The appearance of the image's config is the commit point: after a crash there is the whole image, or none, and the journal
    /// says which layer must go.
    pub fn commit(
        &self,
        images: &strata_image::Store,
        container: &Container,
        request: &CommitRequest,
    ) -> Result<ImageId, Error> {
        let _used = self.use_lock(&container.id)?;
        let mut config = container.record.config.clone();
        change::apply(&mut config, &request.changes)?;
        plan::merge(&mut config, &container.record.config);

        let (layer, layers) = self.layer(container)?;
        let (parent_id, parent) = parent_of(images, container, &layer)?;
        let mut lease = layers.lease()?;
        let new_layer = match request.meanwhile {
            Meanwhile::Paused if container.record.state.running => {
                self.paused(&container.id, || changed(layers, &mut lease, &layer))?
            }
            _ => changed(layers, &mut lease, &layer)?,
        };
        let document = document(container, &parent, config, new_layer, request);
        let id = images.create_named(&ImageConfig::from_document(document), parent_id, request.name.as_ref())?;
        lease.done()?;
        tracing::info!(container = %container.id, image = %id, "container committed");
        Ok(id)
    }

    /// Does `work` while the container stands still. If this process is killed meanwhile, the next that opens the root lets it go on.
    fn paused<T>(&self, id: &ContainerId, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let intent = self.journal.begin(&Note::Pause { container: id.clone() })?;
        let done = match strata_runtime::freezer::freeze(id.as_str()) {
            Ok(()) => work(),
            // Ended meanwhile: what ended stands still.
            Err(error) if error.kind() == ErrorKind::NotFound => work(),
            Err(error) => Err(error.into()),
        };
        strata_runtime::freezer::thaw(id.as_str())?;
        intent.done()?;
        done
    }
}

/// Registers what the container changed; `None` if that is nothing.
fn changed(layers: &strata_layer::Store, lease: &mut Lease<'_>, layer: &RwLayer) -> Result<Option<DiffId>, Error> {
    if let Some(parent) = layer.parent {
        lease.hold(parent)?;
    }
    // The diff of the read-write layer is unpacked as a new layer in one pass.
    let unpacked = layers.unpack_from(layer.parent, &Limits::default(), |out| layer.diff(layers, out))?;
    let diff_id = unpacked.diff_id;
    if diff_id.to_string() == EMPTY {
        return Ok(None);
    }
    layers.register(lease, layer.parent, vec![unpacked])?;
    Ok(Some(diff_id))
}

/// The image that the container is of. Its layers must be those that the container stands on.
fn parent_of(
    images: &strata_image::Store,
    container: &Container,
    layer: &RwLayer,
) -> Result<(Option<ImageId>, Document), Error> {
    let Some(id) = container.record.image_id() else { return Ok((None, Document::default())) };
    let config = images.get(id)?;
    if chain_id(config.diff_ids()) != layer.parent {
        return Err(Error::conflict(format!(
            "container {} does not stand on the layers of its image {id}: its records contradict each other",
            container.id
        )));
    }
    Ok((Some(id), config.document().clone()))
}

/// The config of the new image.
fn document(
    container: &Container,
    parent: &Document,
    config: RunConfig,
    new_layer: Option<DiffId>,
    request: &CommitRequest,
) -> Document {
    let created = time::format(request.created.unwrap_or_else(Timestamp::now));
    let mut history = parent.history.clone();
    history.push(History {
        created: Some(created.clone()),
        author: request.author.clone(),
        created_by: container.record.config.cmd.clone().unwrap_or_default().join(" "),
        comment: request.comment.clone(),
        empty_layer: new_layer.is_none(),
        ..History::default()
    });
    let architecture = match parent.architecture.as_str() {
        "" => Platform::host().architecture,
        known => known.to_owned(),
    };
    Document {
        architecture,
        author: request.author.clone(),
        config: Some(config),
        container: container.id.as_str().to_owned(),
        container_config: Some(container.record.config.clone()),
        created: Some(created),
        history,
        os: "linux".to_owned(),
        os_features: parent.os_features.clone(),
        os_version: parent.os_version.clone(),
        rootfs: RootFs::layers(parent.rootfs.diff_ids.iter().copied().chain(new_layer).collect()),
        variant: parent.variant.clone(),
        ..Document::default()
    }
}
