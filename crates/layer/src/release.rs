//! A layer that nobody needs goes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    io::Read,
    path::PathBuf,
};

use strata_durable::{Context, remove_dir};
use strata_spec::{CacheId, ChainId};
use strata_sys::{OFlags, tree::Dir};

use crate::{
    Error, Note, Store,
    lease::{Alive, Registered},
    mounts::{end, folders_of_damaged},
};

impl Store {
    /// Removes `top` and then each layer below it, as long as no other layer, no container's mount, no live lease and not `needed` holds it.
    /// Returns the removed ones, topmost first; none if `top` is held or not there.
    ///
    /// Holds the store's lock while it decides, so that nobody takes hold of a layer meanwhile; the files are deleted after. A layer's
    /// record goes before its files: after a crash it is there whole, or the journal says which folder is to be removed.
    pub fn release(&self, top: ChainId, needed: &dyn Fn(ChainId) -> bool) -> Result<Vec<ChainId>, Error> {
        self.release_but(&[], top, needed)
    }

    /// As [`Store::release`], where what the journal's entry `settled` holds counts for nothing.
    pub(crate) fn release_but(
        &self,
        settled: &[serde_json::Value],
        top: ChainId,
        needed: &dyn Fn(ChainId) -> bool,
    ) -> Result<Vec<ChainId>, Error> {
        let (intent, layers) = {
            let _lock = self.lock()?;
            let layers = self.releasable(settled, top, needed)?;
            if layers.is_empty() {
                return Ok(Vec::new());
            }
            let intent = self.journal.begin(&Note::Release { driver: self.driver_name(), layers: layers.clone() })?;
            for layer in &layers {
                remove_dir(&self.layout.layer(layer.chain_id), &self.layout.tmp())?;
            }
            (intent, layers)
        };
        let folders: Vec<_> = layers.iter().filter_map(|layer| layer.cache_id.clone()).collect();
        self.remove_folders(&folders)?;
        end(intent);
        for layer in &layers {
            tracing::info!(chain = %layer.chain_id, "layer removed");
        }
        Ok(layers.into_iter().map(|layer| layer.chain_id).collect())
    }

    /// What can go, from `top` down. The lock is held.
    fn releasable(
        &self,
        settled: &[serde_json::Value],
        top: ChainId,
        needed: &dyn Fn(ChainId) -> bool,
    ) -> Result<Vec<Registered>, Error> {
        let mut layers = Vec::new();
        let mut next = Some(top).filter(|id| self.layout.layer(*id).exists() && !needed(*id));
        if next.is_none() {
            return Ok(layers);
        }
        let (held, standing) = self.held(settled)?;
        let mut children = self.children()?;
        if let Some(gap) = children.keys().chain(&standing).find(|id| !self.layout.layer(**id).exists()) {
            tracing::warn!(missing = %gap, "layers stay: the record of a missing layer no longer tells which it stood on");
            return Ok(layers);
        }
        while let Some(id) = next {
            let cache_id = self.layout.read_cache_id(id).ok();
            let in_use = held.layers.contains(&id)
                || cache_id.as_ref().is_some_and(|folder| held.folders.contains(folder))
                || children.get(&id).is_some_and(|count| *count > 0);
            if in_use || needed(id) {
                break;
            }
            // A record that no longer tells its folder or its parent can go too; `verify` finds what then stays.
            let parent = self.layout.read_parent(id).unwrap_or_default();
            layers.push(Registered { chain_id: id, cache_id });
            if let Some(count) = parent.and_then(|parent| children.get_mut(&parent)) {
                *count -= 1;
            }
            next = parent.filter(|id| self.layout.layer(*id).exists());
        }
        Ok(layers)
    }

    /// The layers that other layers or containers name as the one below them, and that have no record: what they stood on is not known,
    /// so no layer can be shown to be unused.
    pub fn gaps(&self) -> Result<Vec<ChainId>, Error> {
        let (_, standing) = self.held(&[])?;
        let children = self.children()?;
        let named: BTreeSet<ChainId> = children.into_keys().chain(standing).collect();
        Ok(named.into_iter().filter(|id| !self.layout.layer(*id).exists()).collect())
    }

    /// What live operations, containers and the build cache hold; and the layers that containers stand on directly.
    fn held(&self, settled: &[serde_json::Value]) -> Result<(Alive, HashSet<ChainId>), Error> {
        let mut held = self.alive(settled)?;
        let mut standing = HashSet::new();
        let cache = self.build_cache();
        if let Some(damage) = cache.damage.first() {
            let (path, reason) = (damage.path.clone(), damage.reason.clone());
            tracing::warn!(path = %path.display(), reason, "layers stay: the build cache may hold them");
            held.layers.extend(self.list()?);
        }
        held.layers.extend(cache.layers);
        held.folders.extend(cache.folders.into_keys());
        for container in self.list_mounts()? {
            match self.layout.read_mount(&container) {
                Ok(mount) => standing.extend(mount.parent),
                Err(Error::MountNotFound(_)) => {}
                Err(Error::Damaged { path, reason }) => {
                    tracing::warn!(%container, path = %path.display(), reason, "a damaged record: asking its folders instead");
                    for folder in folders_of_damaged(&self.layout.mount(&container)) {
                        self.hold_below(folder, &mut held)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        held.layers.extend(&standing);
        Ok((held, standing))
    }

    /// Holds every folder that `folder` stands on, as far as the driver's own files tell.
    fn hold_below(&self, folder: CacheId, held: &mut Alive) -> Result<(), Error> {
        let mut next = Some(folder);
        while let Some(id) = next {
            next = match self.driver.parent(&id) {
                Err(strata_graphdriver::Error::NotFound(..) | strata_graphdriver::Error::Damaged { .. }) => None,
                result => result?,
            };
            held.folders.extend(next.clone());
        }
        Ok(())
    }

    /// How many layers stand directly on each. Reads one small file of every layer, and makes little of it: this is what removing an
    /// image costs in a store of thousands.
    fn children(&self) -> Result<HashMap<ChainId, usize>, Error> {
        let path = self.layout.layers();
        let layers = Dir::open(&path).context("open", &path)?;
        let mut children = HashMap::new();
        let mut text = [0; 128];
        let mut name = PathBuf::new();
        for entry in layers.entries().context("list", &path)? {
            name.as_mut_os_string().clear();
            name.push(&entry.name);
            name.push("parent");
            // Base layers have none; a record that cannot be read names nothing that could be kept for it.
            let Ok(mut file) = layers.open_beneath(&name, OFlags::RDONLY, 0).map(File::from) else { continue };
            let Ok(len) = file.read(&mut text) else { continue };
            if let Some(parent) = std::str::from_utf8(&text[..len]).ok().and_then(|text| text.trim_end().parse().ok()) {
                *children.entry(parent).or_default() += 1;
            }
        }
        Ok(children)
    }
}
