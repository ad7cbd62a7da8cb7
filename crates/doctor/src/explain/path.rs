//! A path under the data root: what it is, and whose.
//!
//! This is the map of a whole root; the modules that own a part say more about it.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use strata_graphdriver::names::{self, aufs, overlay, overlay2};
use strata_layer::build_cache::{CacheRecord, is_snapshot};
use strata_spec::{CacheId, ChainId, ContainerId, ImageId};
use strata_tree::marks::{Mark, overlay::is_whiteout};

use super::facts::{FileFacts, folder_of, is_link, link_owner};
use crate::{
    Stores,
    survey::{ContainerName, ContainerUse, ImageName, Survey},
    text::{Rows, one_line, problems, uses},
    value::Problem,
};

/// A path under the data root.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathExplanation {
    /// Relative to the data root; links in `l/` followed.
    pub path: String,
    /// What it is, in a sentence.
    pub what: String,
    pub owner: Owner,
    /// Absent if there is nothing at the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileFacts>,
    /// The same file as a container sees it, if nothing above hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// Images that have it.
    pub images: Vec<ImageName>,
    /// Containers that have it or stand on it.
    pub containers: Vec<ContainerName>,
    pub problems: Vec<Problem>,
}

/// To whom a path belongs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Owner {
    Layer {
        chain_id: ChainId,
        cache_id: Option<CacheId>,
    },
    Container(ContainerName),
    Image(ImageName),
    /// A part of the root as a whole.
    Root,
    /// Strata's own bookkeeping.
    Strata,
    /// A record of BuildKit's cache.
    BuildCache(CacheRecord),
    /// Docker's, and not read here.
    Docker,
    /// Nobody's.
    Orphan,
}

/// What is found out step by step.
struct Draft<'a> {
    stores: &'a Stores<'a>,
    survey: &'a Survey,
    path: PathBuf,
    what: String,
    owner: Owner,
    inside: Option<String>,
    chain: Option<ChainId>,
    problems: Vec<Problem>,
}

/// Explains `path`, relative to the root.
pub(super) fn explain(stores: &Stores<'_>, survey: &Survey, path: &Path) -> PathExplanation {
    let mut draft = Draft {
        stores,
        survey,
        path: path.to_owned(),
        what: String::new(),
        owner: Owner::Root,
        inside: None,
        chain: None,
        problems: Vec::new(),
    };
    draft.find();
    draft.finish()
}

impl Draft<'_> {
    fn finish(self) -> PathExplanation {
        let mut images = self.chain.map(|chain| self.survey.images_with(chain)).unwrap_or_default();
        let mut containers = self.chain.map(|chain| self.survey.containers_on(self.stores, chain)).unwrap_or_default();
        match &self.owner {
            Owner::Image(image) => {
                images = vec![image.clone()];
                let made_of = |c: &&ContainerUse| c.record.as_ref().is_ok_and(|r| r.image_id() == Some(image.id));
                containers = self.survey.containers.iter().filter(made_of).map(|c| c.name.clone()).collect();
            }
            Owner::Container(container) => containers = vec![container.clone()],
            _ => {}
        }
        let file = FileFacts::of_path(&self.stores.root.join(&self.path));
        PathExplanation {
            path: self.path.display().to_string(),
            what: self.what,
            owner: self.owner,
            file,
            inside: self.inside,
            images,
            containers,
            problems: self.problems,
        }
    }

    fn is(&mut self, owner: Owner, what: impl Into<String>) {
        self.owner = owner;
        self.what = what.into();
    }

    fn find(&mut self) {
        let path = self.path.clone();
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap_or_default()).collect();
        let driver = self.stores.layers.driver().name();
        match parts.as_slice() {
            [] => self.is(Owner::Root, "the data root"),
            ["image"] => self.is(Owner::Root, "the images of each storage driver, and what is known of their layers"),
            ["image", name, rest @ ..] if *name == driver => self.image(rest),
            ["image", name, ..] => self.is(
                Owner::Root,
                format!(
                    "of the storage driver {name}, another than the one asked for, or one that cannot be opened here"
                ),
            ),
            [first, rest @ ..] if *first == driver => self.driver(rest),
            ["containers"] => self.is(Owner::Root, "what is known of each container, but for its layers"),
            ["containers", id, rest @ ..] => self.container(id, rest),
            ["volumes", rest @ ..] => self.volume(rest),
            ["strata", rest @ ..] => self.own(rest),
            [name, ..] => self.other(name),
        }
    }

    fn image(&mut self, rest: &[&str]) {
        match rest {
            [] => self.is(Owner::Root, "the images of this storage driver, and what is known of their layers"),
            ["repositories.json"] => self.is(Owner::Root, "what images are called: each name with an image ID"),
            ["imagedb", "content", "sha256", id] => {
                self.image_file(id, "the config of an image; the image's ID is the file's sha256")
            }
            ["imagedb", "metadata", "sha256", id] => self.image_file(id, "what is known of an image beside its config"),
            ["imagedb", "metadata", "sha256", id, "parent"] => {
                self.image_file(id, "the ID of the image that an image was built or committed from");
            }
            ["imagedb", "metadata", "sha256", id, "lastUpdated"] => {
                self.image_file(id, "when an image was last tagged")
            }
            ["imagedb", ..] => self.is(Owner::Root, "the images: their configs, and what is known beside"),
            ["layerdb"] => self.is(Owner::Root, "what is known of each layer"),
            ["layerdb", "sha256"] => self.is(Owner::Root, "a folder for each read-only layer, by its ChainID"),
            ["layerdb", "sha256", id, rest @ ..] => self.layer_record(id, rest),
            ["layerdb", "mounts"] => self.is(Owner::Root, "for each container, which folders are its layers"),
            ["layerdb", "mounts", id, rest @ ..] => self.mount_record(id, rest),
            ["layerdb", "tmp", ..] => self.is(Owner::Root, "records of layers that are being made or removed"),
            ["distribution", ..] => {
                self.is(Owner::Docker, "which layers came from which registry, by digest: a cache of pulls and pushes");
            }
            _ => self.is(Owner::Orphan, "nothing that Docker or Strata is known to write"),
        }
    }

    fn image_file(&mut self, hex: &str, what: &str) {
        let Ok(id) = format!("sha256:{hex}").parse::<ImageId>() else {
            return self.is(Owner::Orphan, "a file left by an interrupted write: its name is no image ID");
        };
        match self.survey.image(id) {
            Some(image) => self.is(Owner::Image(image.name.clone()), what),
            None if self.stores.images.contains(id) => {
                let names = self.survey.names.of(id).iter().map(|name| name.familiar()).collect();
                self.is(Owner::Image(ImageName { id, names }), format!("{what}; it is damaged"));
                let file = self.stores.show(&self.stores.images.layout().content(id));
                self.problems.extend(self.survey.problems.iter().filter(|problem| problem.path == file).cloned());
            }
            None => self.is(Owner::Orphan, "left of an image that is not in the store"),
        }
    }

    fn layer_record(&mut self, hex: &str, rest: &[&str]) {
        let Ok(chain_id) = format!("sha256:{hex}").parse::<ChainId>() else {
            let what = match hex.ends_with("-removing") {
                true => "a layer that Docker was removing when it stopped",
                false => "nothing of a layer: its name is no ChainID",
            };
            return self.is(Owner::Orphan, what);
        };
        let what = match rest {
            [] => "what is known of a layer",
            ["diff"] => "a layer's DiffID: the sha256 of its tar",
            ["parent"] => "the ChainID of the layer below",
            ["cache-id"] => "the name of a layer's folder under the storage driver",
            ["size"] => "bytes of a layer's files, in decimal",
            ["tar-split.json.gz"] => "what rebuilds a layer's tar byte for byte from its files",
            _ => "nothing that Docker or Strata is known to write",
        };
        let facts = super::facts::LayerFacts::of(self.stores, chain_id);
        self.problems = facts.problems();
        self.chain = Some(chain_id);
        self.is(Owner::Layer { chain_id, cache_id: facts.cache_id.value }, what);
    }

    fn mount_record(&mut self, id: &str, rest: &[&str]) {
        let what = match rest {
            [] => "which folders are a container's layers",
            ["mount-id"] => "the folder of a container's read-write layer",
            ["init-id"] => "the folder of a container's init layer",
            ["parent"] => "the ChainID of the topmost layer that a container stands on",
            _ => "nothing that Docker or Strata is known to write",
        };
        self.of_container(id, what);
    }

    /// Something of the container `id`, if there is one.
    fn of_container(&mut self, id: &str, what: &str) {
        let container = id.parse::<ContainerId>().ok().and_then(|id| self.survey.container(&id));
        match container {
            Some(container) => {
                self.problems.extend(container.record.as_ref().err().cloned());
                self.is(Owner::Container(container.name.clone()), what);
            }
            None => self.is(Owner::Orphan, format!("{what}; but there is no such container")),
        }
    }

    fn driver(&mut self, rest: &[&str]) {
        let driver = self.stores.layers.driver().name();
        // Below a folder of its own each layer's folder holds its files themselves.
        let own = match driver {
            "vfs" => names::vfs::DIR,
            "btrfs" => names::btrfs::SUBVOLUMES,
            "aufs" => aufs::DIFF,
            _ => "",
        };
        match rest {
            [first] if *first == own => self.is(Owner::Root, "the layers' files: a folder each"),
            [first, id, inner @ ..] if *first == own => match id.parse::<CacheId>() {
                Ok(id) => {
                    let inner: Vec<&str> = std::iter::once(overlay2::DIFF).chain(inner.iter().copied()).collect();
                    self.folder(&id, &inner);
                }
                Err(_) => self.is(Owner::Orphan, "nothing that Docker or Strata is known to write"),
            },
            [aufs::LAYERS] if driver == "aufs" => self.is(Owner::Root, "the branches below each layer, topmost first"),
            [aufs::MNT] if driver == "aufs" => self.is(Owner::Root, "the mount points"),
            [place @ (aufs::LAYERS | aufs::MNT), id, inner @ ..] if driver == "aufs" => match id.parse::<CacheId>() {
                Ok(id) => {
                    let place = if *place == aufs::MNT { overlay2::MERGED } else { overlay2::LOWER };
                    let inner: Vec<&str> = std::iter::once(place).chain(inner.iter().copied()).collect();
                    self.folder(&id, &inner);
                }
                Err(_) => self.is(Owner::Orphan, "nothing that Docker or Strata is known to write"),
            },
            [names::btrfs::QUOTAS, ..] if driver == "btrfs" => {
                self.is(Owner::Root, "bytes that containers' roots may take")
            }
            [id, inner @ ..] if driver == "overlay" && id.parse::<CacheId>().is_ok() => {
                let mut inner = inner.to_vec();
                match inner.first_mut() {
                    Some(first) if [overlay::ROOT, overlay::UPPER].contains(first) => *first = overlay2::DIFF,
                    Some(first) if *first == overlay::LOWER_ID => *first = overlay2::LOWER,
                    _ => {}
                }
                id.parse::<CacheId>().iter().for_each(|id| self.folder(id, &inner));
            }
            [] => self.is(Owner::Root, "the layers' files: a folder each"),
            [overlay2::LINKS] => {
                self.is(Owner::Root, "short names of the layers' folders, to keep mount options within a page")
            }
            [overlay2::LINKS, link, inner @ ..] if is_link(link) => self.link(link, inner),
            [id, inner @ ..] => match id.parse::<CacheId>() {
                Ok(id) => self.folder(&id, inner),
                Err(_) if *id == "backingFsBlockDev" => {
                    self.is(Owner::Docker, "a device node that Docker makes to set quotas on the filesystem");
                }
                Err(_) => self.is(Owner::Orphan, "nothing that Docker or Strata is known to write"),
            },
        }
    }

    fn link(&mut self, link: &str, inner: &[&str]) {
        let path = self.stores.layers.driver().home().join(overlay2::LINKS).join(link);
        match link_owner(&path) {
            Ok(id) if inner.is_empty() => {
                self.folder(&id, &[overlay2::DIFF]);
                self.inside = None;
                self.what = format!("the short name of the folder {id}");
                if !folder_of(self.stores, &id).is_dir() {
                    self.problems.push(Problem {
                        path: self.stores.show(&path),
                        reason: "leads to a folder that is gone".into(),
                    });
                }
            }
            Ok(id) => {
                let home = self.stores.layers.driver().home();
                let inside: PathBuf = self.path.iter().skip(3).collect();
                self.path = home
                    .strip_prefix(self.stores.root)
                    .unwrap_or(home)
                    .join(id.as_str())
                    .join(overlay2::DIFF)
                    .join(inside);
                let inner: Vec<&str> = std::iter::once(overlay2::DIFF).chain(inner.iter().copied()).collect();
                self.folder(&id, &inner);
            }
            Err(reason) => {
                self.is(Owner::Orphan, "a short name of a layer's folder");
                self.problems.push(Problem { path: self.stores.show(&path), reason });
            }
        }
    }

    /// Something in the folder of a layer.
    fn folder(&mut self, id: &CacheId, inner: &[&str]) {
        let whose = self.owner_of_folder(id);
        let what = match inner {
            [] => "the folder",
            [overlay2::LINK] => "the name in l/",
            [overlay2::LOWER] => "the names of the layers below",
            [overlay2::COMMITTED] => "the mark that other layers stand on the folder",
            [overlay2::WORK, ..] => "the kernel's own working space",
            [overlay2::DIFF] => "the files",
            [overlay2::DIFF, ..] => "a file",
            [overlay2::MERGED] => "the mount point, there while mounted,",
            [overlay2::MERGED, ..] => "a file, seen through the mount,",
            _ => "nothing that Docker or Strata is known to write, in the folder",
        };
        self.what = format!("{what} of {whose}");
        if matches!(inner, [overlay2::DIFF | overlay2::MERGED, _, ..]) {
            // By the path itself: names need not be UTF-8.
            let home = self.stores.layers.driver().home();
            let skip = home.strip_prefix(self.stores.root).map_or(1, |home| home.components().count()) + 2;
            let inside = Path::new("/").join(self.path.iter().skip(skip).collect::<PathBuf>());
            self.inside = Some(super::facts::lossy(inside.as_os_str()));
            let stat = strata_sys::tree::Stat::of_path(self.stores.root.join(&self.path));
            if stat.is_ok_and(|stat| is_whiteout(&stat)) {
                self.what = format!("a whiteout, which deletes {} of the layers below, in {whose}", inside.display());
            }
            if self.stores.layers.driver().folder(id).is_ok_and(|folder| folder.marks.are_names()) {
                self.mark_of_aufs(&inside, &whose);
            }
        }
    }

    /// Names are marks there.
    fn mark_of_aufs(&mut self, inside: &Path, whose: &str) {
        let (Some(name), Some(above)) = (inside.file_name(), inside.parent()) else { return };
        let (seen, what) = match Mark::of(name.as_bytes()) {
            Mark::Whiteout(name) => {
                let deleted = above.join(OsStr::from_bytes(name));
                let what = format!("a whiteout, which deletes {} of the layers below", deleted.display());
                (Some(deleted), what)
            }
            Mark::Opaque => {
                let what = format!("an opaque mark, which hides what the layers below have in {}", above.display());
                (Some(above.to_owned()), what)
            }
            Mark::Meta => (None, "AUFS's own bookkeeping".to_owned()),
            Mark::Invalid | Mark::Plain => return,
        };
        self.inside = seen.map(|path| super::facts::lossy(path.as_os_str()));
        self.what = format!("{what}, in {whose}");
    }

    /// Finds to whom a folder belongs, and says it in words.
    fn owner_of_folder(&mut self, id: &CacheId) -> String {
        if let Some(container) = self.survey.owner_of_folder(id) {
            self.owner = Owner::Container(container.name.clone());
            let role = if id.is_init() { "init" } else { "read-write" };
            return format!("the {role} layer of container {}", container.name.short());
        }
        if let Some(chain_id) = self.layer_of_folder(id) {
            self.owner = Owner::Layer { chain_id, cache_id: Some(id.clone()) };
            self.chain = Some(chain_id);
            return format!("layer {}", chain_id.short());
        }
        let cache = self.stores.layers.build_cache();
        if let Some(record) = cache.folders.get(id) {
            self.owner = Owner::BuildCache(record.clone());
            return match &record.description {
                Some(description) => format!("the build cache's record {} ({})", record.id, one_line(description, 100)),
                None => format!("the build cache's record {}", record.id),
            };
        }
        if is_snapshot(id.as_str()) && folder_of(self.stores, id).is_dir() {
            self.owner = Owner::Docker;
            return match cache.damage.first() {
                Some(damage) => format!(
                    "a folder that may be the build cache's: {}: {}",
                    self.stores.show(&damage.path),
                    damage.reason
                ),
                None => "a folder named as the build cache names its own, and which no record there names".to_owned(),
            };
        }
        self.owner = Owner::Orphan;
        match folder_of(self.stores, id).is_dir() {
            true => "an orphan: no layer and no container names this folder".to_owned(),
            false => "a folder that is not there, and that no layer and no container names".to_owned(),
        }
    }

    /// The layer whose record names a folder.
    fn layer_of_folder(&self, id: &CacheId) -> Option<ChainId> {
        let layers = self.stores.layers.list().ok()?;
        let names = |chain: &ChainId| {
            let path = self.stores.layers.layout().layer(*chain).join("cache-id");
            crate::value::read_small(&path).is_ok_and(|text| text.trim_end() == id.as_str())
        };
        layers.into_iter().find(names)
    }

    fn container(&mut self, id: &str, rest: &[&str]) {
        let log = format!("{id}-json.log");
        let what = match rest {
            [] => "what is known of a container, but for its layers",
            ["config.v2.json"] => "a container's record: what it is and how it fares",
            ["hostconfig.json"] => "what a container may use of its host",
            ["hostname"] => "bound over /etc/hostname of a container while it runs",
            ["hosts"] => "bound over /etc/hosts of a container while it runs",
            ["resolv.conf"] => "bound over /etc/resolv.conf of a container while it runs",
            ["resolv.conf.hash"] => "the digest of resolv.conf as it was written: another one is the user's own",
            ["checkpoints", ..] => "saved states of a container",
            ["mounts", ..] => "where Docker mounts what only this container needs: /dev/shm, secrets",
            [file] if file.starts_with(&log) => "what a container wrote to its output",
            _ => "nothing that Docker or Strata is known to write",
        };
        self.of_container(id, what);
        self.inside = match rest {
            [name @ ("hostname" | "hosts" | "resolv.conf")] => Some(format!("/etc/{name}")),
            _ => None,
        };
    }

    fn volume(&mut self, rest: &[&str]) {
        let [name, ..] = rest else {
            return self.is(Owner::Docker, "the volumes: a folder each, and a database of them");
        };
        let uses = |container: &&ContainerUse| {
            container.record.as_ref().is_ok_and(|record| record.mount_points.values().any(|mount| mount.name == *name))
        };
        match self.survey.containers.iter().find(uses) {
            Some(container) => self.is(Owner::Container(container.name.clone()), format!("of the volume {name}")),
            None => self.is(Owner::Docker, format!("of the volume {name}, which no container uses")),
        }
    }

    fn own(&mut self, rest: &[&str]) {
        let what = match rest {
            [] => "Strata's own bookkeeping; may be deleted while no Strata runs",
            ["version"] => "the format of what is in strata/",
            ["journal", ..] => "what running operations intend, and what interrupted ones left to be settled",
            ["locks", ..] => "locks between processes: empty files",
            ["tmp", ..] => "folders being made or deleted",
            ["cache", ..] => "what can be computed again",
            ["damaged", ..] => "what stood in the way of a new layer and was set aside; may be deleted",
            ["mnt", id, ..] => {
                let whose = id.parse::<CacheId>().map(|id| self.owner_of_folder(&id));
                let whose = whose.unwrap_or_else(|_| "nothing".to_owned());
                self.owner = Owner::Strata;
                self.what = format!("a read-only view of {whose}, there while it is used");
                return;
            }
            ["mnt"] => "read-only views of layers, while they are used",
            _ => "of Strata's own bookkeeping",
        };
        self.is(Owner::Strata, what);
    }

    fn other(&mut self, name: &str) {
        let what = match name {
            "network" => "Docker's networks: a database",
            "buildkit" => "the cache of BuildKit, Docker's builder",
            "builder" => "of Docker's classic builder",
            "containerd" => "of the containerd that Docker runs",
            "plugins" => "Docker's plugins",
            "runtimes" => "Docker's runtimes: wrapper scripts",
            "swarm" => "the state of Docker's cluster mode",
            "tmp" => "Docker's temporary files",
            "trust" => "keys and signatures of Docker's content trust",
            "engine-id" => "the ID of this Docker engine",
            _ => return self.is(Owner::Orphan, "nothing that Docker or Strata is known to write"),
        };
        self.is(Owner::Docker, what);
    }
}

impl fmt::Display for PathExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Path {}", if self.path.is_empty() { "." } else { &self.path })?;
        writeln!(f, "  {}", self.what)?;
        let mut rows = Rows::default();
        match &self.owner {
            Owner::Layer { chain_id, .. } => rows.add("owner", [&format!("layer {chain_id}")]),
            Owner::Container(container) => {
                rows.add("owner", [&format!("container {}", container.short()), container.id.as_str()])
            }
            Owner::Image(image) => rows.add("owner", [&format!("image {}", image.short()), &image.id.to_string()]),
            Owner::Root => {}
            Owner::Strata => rows.add("owner", ["Strata"]),
            Owner::BuildCache(record) => rows.add("owner", [&format!("build cache record {}", record.id)]),
            Owner::Docker => rows.add("owner", ["Docker"]),
            Owner::Orphan => rows.add("owner", ["nobody"]),
        }
        if let Some(inside) = &self.inside {
            rows.add("inside", [inside]);
        }
        match &self.file {
            Some(file) => {
                let target = file.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
                let text = format!("{} {}, {} bytes, {}{target}", file.kind, file.mode, file.size, file.modified);
                rows.add("there", [&text]);
            }
            None => rows.add("there", ["nothing"]),
        }
        if !self.images.is_empty() {
            rows.add("images", [&uses(&self.images)]);
        }
        if !self.containers.is_empty() {
            let names: Vec<String> = self.containers.iter().map(ContainerName::short).collect();
            rows.add("containers", [&names.join(", ")]);
        }
        write!(f, "{rows}")?;
        problems(f, &self.problems)
    }
}
