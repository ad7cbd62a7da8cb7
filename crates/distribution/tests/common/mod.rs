//! Data roots with their stores, clients of their own, and images to move about.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use strata_archive::Limits;
use strata_distribution::{
    Client, Error, Settings, Stores, mappings::Mappings, pull::Options, pull::Pulled, push, push::Pushed,
};
use strata_durable::Journal;
use strata_graphdriver::Access;
use strata_spec::{
    Cancel, Reference,
    progress::{self, Event, Progress},
};
use strata_testkit::{Scratch, registry::Image, require, scratch};

/// A data root.
pub struct Root {
    path: PathBuf,
    /// `None` where it lies elsewhere.
    scratch: Option<Arc<Scratch>>,
    pub images: strata_image::Store,
}

/// An empty data root; skips where overlay2 cannot work.
pub fn root() -> Option<Root> {
    require::root()?;
    require::overlay()?;
    let scratch = Arc::new(scratch());
    Some(Root { images: open(scratch.path()), path: scratch.path().to_owned(), scratch: Some(scratch) })
}

/// A data root in a folder that is there.
pub fn root_at(path: &Path) -> Option<Root> {
    require::root()?;
    require::overlay()?;
    Some(Root { images: open(path), path: path.to_owned(), scratch: None })
}

/// The same root with stores of their own, as another process has them.
pub fn reopened(root: &Root) -> Root {
    Root { images: open(root.path()), path: root.path.clone(), scratch: root.scratch.clone() }
}

fn open(path: &Path) -> strata_image::Store {
    let strata = path.join("strata");
    let locks = strata.join("locks");
    let journal = Journal::open(&strata.join("journal")).unwrap();
    let driver = strata_graphdriver::open("overlay2", path, Access::ReadWrite).unwrap();
    let config = strata_layer::Config { root: path, driver, journal, locks: &locks };
    let layers = Arc::new(strata_layer::Store::open(config).unwrap());
    let config = strata_image::Config {
        root: path,
        driver_name: "overlay2",
        layers,
        locks: &locks,
        cache: &strata.join("cache"),
    };
    strata_image::Store::open(config).unwrap()
}

impl Root {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn stores(&self) -> Stores<'_> {
        Stores {
            images: &self.images,
            mappings: Mappings::new(self.path(), "overlay2"),
            content: strata_content::Store::new(&self.join("strata/content")),
        }
    }

    pub fn pull(&self, client: &Client, name: &str) -> Result<Pulled, Error> {
        self.pull_for(client, name, None)
    }

    pub fn pull_for(&self, client: &Client, name: &str, platform: Option<&str>) -> Result<Pulled, Error> {
        self.pull_telling(client, name, platform, &progress::Silent)
    }

    pub fn pull_telling(
        &self,
        client: &Client,
        name: &str,
        platform: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Pulled, Error> {
        let reference = Reference::parse(name).unwrap().with_default_tag();
        let platform = platform.map(|platform| platform.parse().unwrap());
        client.pull(
            &self.stores(),
            &reference,
            &Options { platform, all_platforms: false, limits: Limits::default(), progress, cancel: &Cancel::new() },
        )
    }

    /// Pulls until `cancel` is cancelled.
    pub fn pull_until(
        &self,
        client: &Client,
        name: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, Error> {
        let reference = Reference::parse(name).unwrap().with_default_tag();
        let options = Options { platform: None, all_platforms: false, limits: Limits::default(), progress, cancel };
        client.pull(&self.stores(), &reference, &options)
    }

    pub fn pull_all(&self, client: &Client, name: &str) -> Result<Pulled, Error> {
        let reference = Reference::parse(name).unwrap().with_default_tag();
        let progress = &progress::Silent;
        let options = Options {
            platform: None,
            all_platforms: true,
            limits: Limits::default(),
            progress,
            cancel: &Cancel::new(),
        };
        client.pull(&self.stores(), &reference, &options)
    }

    pub fn push_all(&self, client: &Client, name: &str) -> Result<Pushed, Error> {
        let options = push::Options { progress: &progress::Silent, cancel: &Cancel::new() };
        client.push_platforms(&self.stores(), &Reference::parse(name).unwrap().with_default_tag(), &options)
    }

    pub fn push(&self, client: &Client, name: &str) -> Result<Pushed, Error> {
        self.push_telling(client, name, &progress::Silent)
    }

    pub fn push_telling(&self, client: &Client, name: &str, progress: &dyn Progress) -> Result<Pushed, Error> {
        client.push(
            &self.stores(),
            &Reference::parse(name).unwrap().with_default_tag(),
            &push::Options { progress, cancel: &Cancel::new() },
        )
    }

    /// Gives the image of a name one more.
    pub fn tag(&self, from: &str, to: &str) {
        let id = self.images.resolve(from).unwrap();
        self.images.tag(id, &Reference::parse(to).unwrap().with_default_tag()).unwrap();
    }

    /// The tar of layer `at` of the image `name`, as it is rebuilt from the root.
    pub fn layer(&self, name: &str, at: usize) -> Vec<u8> {
        let config = self.images.get(self.images.resolve(name).unwrap()).unwrap();
        let chain = strata_spec::chain_ids(config.diff_ids()).nth(at).unwrap();
        let mut tar = Vec::new();
        self.images.layers().write_tar(chain, &mut tar).unwrap();
        tar
    }

    /// Names of the partial blobs.
    pub fn partials(&self) -> Vec<String> {
        names(&self.join("strata/content/ingest"))
    }

    /// Fails unless there are so many layers and images, and no leftovers.
    #[track_caller]
    pub fn assert_holds(&self, images: usize, layers: usize) {
        assert_eq!(self.images.list().unwrap().len(), images, "images");
        assert_eq!(self.images.layers().list().unwrap().len(), layers, "layers");
        let mut folders = names(&self.join("overlay2"));
        folders.retain(|name| name != "l" && name != "backingFsBlockDev");
        assert_eq!(folders.len(), layers, "folders of layers");
        for empty in ["image/overlay2/layerdb/tmp", "strata/journal"] {
            assert_eq!(names(&self.join(empty)), Vec::<String>::new(), "{empty}");
        }
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Settings that no file and no variable of this machine touches.
pub fn settings() -> Settings {
    Settings {
        mirrors: Vec::new(),
        insecure: Vec::new(),
        insecure_all: false,
        certs: "/nonexistent/certs.d".into(),
        docker_config: "/nonexistent/config.json".into(),
    }
}

pub fn client() -> Client {
    Client::new(settings()).unwrap()
}

/// Two or three layers that differ from those of other `seed`s.
pub fn tars(seed: u64, sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().enumerate().map(|(at, bytes)| Image::layer(seed * 1000 + at as u64, *bytes)).collect()
}

/// Remembers what happens.
#[derive(Default)]
pub struct Heard(Mutex<Vec<(String, String)>>);

impl Heard {
    /// How many layers came to the state with these words.
    pub fn count(&self, status: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, heard)| heard.starts_with(status)).count()
    }

    pub fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Heard {
    fn report(&self, event: Event<'_>) {
        if let Event::Item { id, status } = event {
            self.0.lock().unwrap().push((id.to_owned(), status.to_string()));
        }
    }
}
