//! A tar becomes a layer: unpacked first, registered when all that it stands on is known.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufWriter, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use strata_archive::{
    Limits,
    apply::{Inlet, Options, apply_from},
};
use strata_durable::{Context, NewDir, create_dir_all, trace::content};
use strata_graphdriver::{Access, GraphDriver, Parent};
use strata_spec::{CacheId, ChainId, DiffId};

use crate::{
    Error, Layer, Lease, Note, Place, Store,
    flush::{Counted, Due},
    layout::{chain, damaged},
    lease::Registered,
    mounts::random_id,
};

/// A layer's files and tar-split, unpacked and not registered. Dropped, it is removed.
pub struct Unpacked {
    pub diff_id: DiffId,
    /// Bytes of the files, as Docker counts a layer's size.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    cache_id: CacheId,
    /// What it was created over, where the driver wanted that to be known.
    created_over: Option<Option<ChainId>>,
    driver: Arc<dyn GraphDriver>,
    /// Its folder of layerdb, with the tar-split in it; taken when it is committed.
    record: Option<NewDir>,
    place: Option<Place>,
}

impl Unpacked {
    /// Checks that the layer is the one that its image names.
    pub fn expect(self, expected: DiffId) -> Result<Self, Error> {
        match self.diff_id == expected {
            true => Ok(self),
            false => Err(Error::DiffMismatch { expected: Box::new(expected), found: Box::new(self.diff_id) }),
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Err(error) = self.driver.remove(&self.cache_id) {
            tracing::warn!(cache = %self.cache_id, %error, "an unpacked layer stays until the store is settled");
            place.leave();
        }
    }
}

impl Store {
    /// Unpacks the plain tar `input` into a new driver folder. May run for many layers at once where the driver is independent;
    /// `parent`, which the caller holds, is needed where it is not. An intent in the journal removes the folder after a crash.
    pub fn unpack<R: Read>(&self, input: R, parent: Option<ChainId>, limits: &Limits) -> Result<Unpacked, Error> {
        self.unpack_at(self.place(parent)?, input, limits)
    }

    /// As [`Store::unpack`], into a folder that was [noted](Store::places) before.
    pub fn unpack_at<R: Read>(&self, place: Place, input: R, limits: &Limits) -> Result<Unpacked, Error> {
        self.unpack_through(place, limits, |inlet, due| Ok(inlet.take(Counted::new(input, due))?))
    }

    /// As [`Store::unpack`], for a tar that `write` writes.
    pub fn unpack_from(
        &self,
        parent: Option<ChainId>,
        limits: &Limits,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
    ) -> Result<Unpacked, Error> {
        self.unpack_through(self.place(parent)?, limits, |inlet, due| write(&mut Counted::new(inlet, due)))
    }

    fn unpack_through(
        &self,
        place: Place,
        limits: &Limits,
        write: impl FnOnce(&mut Inlet, Due<'_>) -> Result<(), Error>,
    ) -> Result<Unpacked, Error> {
        let (cache_id, parent) = (place.cache_id.clone(), place.parent);
        let mut record = NewDir::begin(&self.layout.tmp(), 0o700)?;
        let mut split = BufWriter::new(record.create("tar-split.json.gz", 0o644)?);
        let mut unpacked = Unpacked {
            diff_id: DiffId::new(strata_spec::Digest::sha256("")),
            size: 0,
            tar_bytes: 0,
            cache_id: cache_id.clone(),
            created_over: None,
            driver: self.driver.clone(),
            place: Some(place),
            record: None,
        };
        let over = match (self.driver.is_independent(), parent) {
            (true, _) => None,
            (false, parent) => Some(parent),
        };
        let below = over.flatten().map(|id| self.get(id)).transpose()?.map(|layer| layer.cache_id);
        let parent_folder = match (over, &below) {
            (None, _) => Parent::Later,
            (Some(_), None) => Parent::None,
            (Some(_), Some(below)) => Parent::Of(below),
        };
        self.driver.create(&cache_id, parent_folder, Access::ReadOnly)?;
        let folder = self.driver.folder(&cache_id)?;
        content(&folder.path);
        let options = Options { marks: folder.marks, limits: limits.clone() };
        let applied = self.flushing(|due| apply_from(|inlet| write(inlet, due), &folder.path, &mut split, &options))?;
        content(&folder.path);
        split.flush().context("write", record.path().join("tar-split.json.gz"))?;
        drop(split);
        unpacked.created_over = over;
        unpacked.record = Some(record);
        (unpacked.diff_id, unpacked.size, unpacked.tar_bytes) = (applied.diff_id, applied.size, applied.tar_bytes);
        tracing::debug!(cache = %cache_id, diff = %applied.diff_id, size = applied.size, "layer unpacked");
        Ok(unpacked)
    }

    /// Registers unpacked layers over `parent`, from the lowest up: syncs the filesystem once, then commits them to layerdb
    /// bottom-up. A layer that exists by then is not registered twice: the new folder is dropped and the existing layer
    /// returned. A folder of layerdb that is not whole is set aside (in `strata/damaged`) and stands in nobody's way.
    ///
    /// `lease` holds all of them, and what it holds stays until it ends. After a crash each layer is either absent or whole.
    ///
    /// An unpacked layer keeps a few files open: register an image of hundreds of layers in groups.
    pub fn register(
        &self,
        lease: &mut Lease<'_>,
        parent: Option<ChainId>,
        layers: Vec<Unpacked>,
    ) -> Result<Vec<Layer>, Error> {
        self.check_depth(parent, layers.len())?;
        let mut waiting = layers;
        let mut registered = Vec::with_capacity(waiting.len());
        let mut top = parent.map(|id| self.get(id)).transpose()?;
        self.announce(lease, parent, &waiting)?;
        record(parent, &mut waiting)?;
        loop {
            // What another process has registered meanwhile is taken from it.
            while let Some(next) = waiting.first() {
                let id = chain(top.as_ref().map(|layer| layer.chain_id), next.diff_id);
                let Ok(layer) = self.whole(id) else { break };
                waiting.remove(0);
                registered.push(layer.clone());
                top = Some(layer);
            }
            if waiting.is_empty() {
                return Ok(registered);
            }
            self.stack(top.as_ref(), &waiting)?;
            self.sync()?;
            let _lock = self.lock()?;
            let id = chain(top.as_ref().map(|layer| layer.chain_id), waiting[0].diff_id);
            if self.whole(id).is_ok() {
                // It came between: what stands on it must be stacked anew.
                continue;
            }
            top = self.commit_all(top, std::mem::take(&mut waiting), &mut registered)?;
        }
    }

    /// Names layers in layerdb, from the lowest up; returns the topmost. Those before one that fails stay registered.
    fn commit_all(
        &self,
        mut top: Option<Layer>,
        layers: Vec<Unpacked>,
        registered: &mut Vec<Layer>,
    ) -> Result<Option<Layer>, Error> {
        let mut places = Vec::with_capacity(layers.len());
        let mut folders = BTreeSet::new();
        let mut failed = None;
        for unpacked in layers {
            match self.commit(top.as_ref(), unpacked, &mut places) {
                Ok(layer) => {
                    folders.extend(self.layout.layer(layer.chain_id).parent().map(Path::to_owned));
                    registered.push(layer.clone());
                    top = Some(layer);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        folders.iter().try_for_each(|folder| strata_durable::sync_dir(folder))?;
        if let Err(error) = Place::done_all(places) {
            tracing::warn!(%error, "a finished unpacking stays in the journal until the store is settled");
        }
        failed.map_or(Ok(top), Err)
    }

    fn check_depth(&self, parent: Option<ChainId>, new: usize) -> Result<(), Error> {
        let (mut depth, mut next) = (new, parent);
        while let Some(id) = next {
            depth += 1;
            next = self.layout.read_parent(id)?;
        }
        match depth > self.max_layers() {
            true => Err(Error::TooDeep(self.max_layers(), depth)),
            false => Ok(()),
        }
    }

    /// Takes hold of `parent` and of all that will be registered, before anybody can see it.
    fn announce(&self, lease: &mut Lease<'_>, parent: Option<ChainId>, layers: &[Unpacked]) -> Result<(), Error> {
        let chain_ids = layers.iter().scan(parent, |below, unpacked| {
            *below = Some(chain(*below, unpacked.diff_id));
            *below
        });
        let registered = |(chain_id, unpacked): (ChainId, &Unpacked)| Registered {
            chain_id,
            cache_id: Some(unpacked.cache_id.clone()),
        };
        let layers = chain_ids.zip(layers).map(registered).collect();
        let note = Note::Register { driver: self.driver_name(), parent, layers };
        let _lock = self.lock()?;
        if let Some(parent) = parent {
            self.whole(parent)?;
        }
        lease.note(&note)
    }

    /// Puts on disk what was unpacked, its records, and the notes of what will be registered.
    fn sync(&self) -> Result<(), Error> {
        let device = |path: &Path| Ok::<_, Error>(fs::metadata(path).context("look at", path)?.dev());
        self.driver.sync()?;
        // A driver's home may be a filesystem of its own, and so may the records' folder.
        let home = device(self.driver.home())?;
        let (tmp, mut others) = (self.layout.tmp(), Vec::new());
        for path in [&*self.locks, &*tmp] {
            if device(path)? != home {
                others.push(path);
            }
        }
        Ok(strata_durable::sync_filesystems(&others)?)
    }

    /// Tells each folder what it stands on.
    fn stack(&self, top: Option<&Layer>, layers: &[Unpacked]) -> Result<(), Error> {
        let mut below = top.map(|layer| layer.cache_id.clone());
        let mut below_chain = top.map(|layer| layer.chain_id);
        for unpacked in layers {
            match unpacked.created_over {
                None => self.driver.adopt(&unpacked.cache_id, below.as_ref())?,
                Some(over) if over == below_chain => {}
                Some(_) => {
                    let path = self.driver.folder(&unpacked.cache_id)?.path;
                    return Err(damaged(&path, "was unpacked over another layer than it is registered over"));
                }
            }
            below_chain = Some(chain(below_chain, unpacked.diff_id));
            below = Some(unpacked.cache_id.clone());
        }
        Ok(())
    }

    /// Names one layer in layerdb. The lock is held, and the files and the record are on disk. When the name is, `places` end.
    fn commit(&self, parent: Option<&Layer>, mut unpacked: Unpacked, places: &mut Vec<Place>) -> Result<Layer, Error> {
        let parent = parent.map(|layer| layer.chain_id);
        let layer = Layer {
            chain_id: chain(parent, unpacked.diff_id),
            diff_id: unpacked.diff_id,
            parent,
            cache_id: unpacked.cache_id.clone(),
            size: unpacked.size,
        };
        let record = unpacked.record.take().expect("an unpacked layer has its record until it is committed");
        self.driver.commit(&layer.cache_id)?;
        self.set_aside(layer.chain_id)?;
        record.name(&self.layout.layer(layer.chain_id))?;
        places.extend(unpacked.place.take());
        tracing::info!(chain = %layer.chain_id, diff = %layer.diff_id, size = layer.size, "layer registered");
        Ok(layer)
    }

    /// Looks up a layer that can be relied on: its record is whole, and so is what it names, as far as a glance shows. What lies
    /// further below than its parent is not looked at.
    pub(crate) fn whole(&self, id: ChainId) -> Result<Layer, Error> {
        let layer = self.get(id)?;
        self.check_tar_split(id)?;
        let below = match layer.parent.map(|parent| self.get(parent)).transpose() {
            Err(Error::NotFound(parent)) => {
                let path = self.layout.layer(id).join("parent");
                return Err(damaged(&path, format!("the layer {parent} that it names is not in the store")));
            }
            result => result?.map(|parent| parent.cache_id),
        };
        match self.driver.check(&layer.cache_id, below.as_ref()).into_iter().next() {
            Some(fault) => Err(damaged(&fault.path, fault.reason)),
            None => Ok(layer),
        }
    }

    pub(crate) fn check_tar_split(&self, id: ChainId) -> Result<(), Error> {
        let path = self.layout.tar_split(id);
        match fs::metadata(&path) {
            Ok(found) if found.len() > 0 => Ok(()),
            Ok(_) => Err(damaged(&path, "the file is empty, as after a power cut")),
            Err(_) => Err(damaged(&path, "the file is missing")),
        }
    }

    /// Moves a record that is not whole out of the way of the new one. Its driver folder stays: containers may stand on it.
    fn set_aside(&self, id: ChainId) -> Result<(), Error> {
        let from = self.layout.layer(id);
        if !from.exists() {
            return Ok(());
        }
        create_dir_all(&self.aside, 0o700)?;
        let to: PathBuf = self.aside.join(format!("layer-{}-{}", id.hex(), random_id()?));
        strata_durable::rename(&from, &to)?;
        tracing::warn!(chain = %id, to = %to.display(), "damaged layer set aside");
        Ok(())
    }
}

/// Writes the records of layers that will stand on `parent`, from the lowest up; they are put on disk with the rest.
fn record(mut parent: Option<ChainId>, layers: &mut [Unpacked]) -> Result<(), Error> {
    for unpacked in layers {
        let record = unpacked.record.as_mut().expect("an unpacked layer has its record until it is committed");
        record.write("diff", unpacked.diff_id.to_string().as_bytes(), 0o644)?;
        record.write("size", unpacked.size.to_string().as_bytes(), 0o644)?;
        record.write("cache-id", unpacked.cache_id.as_str().as_bytes(), 0o644)?;
        if let Some(parent) = parent {
            record.write("parent", parent.to_string().as_bytes(), 0o644)?;
        }
        // Of hundreds of layers that wait, none keeps files open.
        record.close();
        parent = Some(chain(parent, unpacked.diff_id));
    }
    Ok(())
}
