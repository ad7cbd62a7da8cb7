//! Ten `strata` processes at once on one root: nothing is lost, nothing is left over.

mod common;

use std::time::{Duration, Instant};

use common::{Chance, Root, root_with_busybox, tars};

const WORKERS: usize = 10;
const ROUNDS: u64 = 3;
/// What each worker does in a round.
const STEPS: usize = 12;
/// No round begins after this.
const ENOUGH: Duration = Duration::from_secs(45);

/// Layers of image `n`, the lower ones shared with the others.
fn layers(n: usize) -> Vec<Vec<u8>> {
    let shared = (0..1 + n % 4).map(|at| tars::layer(at, 3000));
    shared.chain([tars::layer(100 + n, 3000)]).collect()
}

/// One of the ten. The names that begin with its number are its own; layers and the store are everybody's.
struct Worker<'a> {
    root: &'a Root,
    number: usize,
    chance: Chance,
    /// Images that it was told are there: name, and which of [`layers`].
    images: Vec<(String, usize)>,
    /// Images that it committed.
    commits: Vec<(String, String)>,
    /// Containers that it was told are there.
    containers: Vec<String>,
    count: usize,
}

impl Worker<'_> {
    fn fresh(&mut self, what: &str) -> String {
        self.count += 1;
        format!("w{}-{what}:{}", self.number, self.count)
    }

    fn pick(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.chance.below(count as u64) as usize)
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0 | 1 => self.load(),
            2 => self.remove(),
            3 => self.tag(),
            4 => self.run_and_forget(),
            5 => self.run(),
            6 => self.commit(),
            7 => self.remove_container(),
            8 => {
                self.root.ok(&["image", "prune", "-f"]);
            }
            9 => {
                self.root.ok(&["create", "--label", "prunable", "bb", "true"]);
                self.root.ok(&["container", "prune", "-f", "--filter", "label=prunable"]);
            }
            10 => self.import(),
            _ => self.look(),
        }
    }

    fn load(&mut self) {
        // The same image under two names may come from two workers at once.
        let n = self.chance.below(8) as usize;
        let name = self.fresh("load");
        let config = tars::config(&layers(n), &format!("image {n}"));
        let mut files = tars::archive_files(&[(&name, &layers(n))]);
        // Under one ID, whoever loads it.
        let file = format!("{}.json", tars::hex(&tars::config(&layers(n), &name)));
        for (path, item) in &mut files {
            if *path == file {
                (*path, *item) = (format!("{}.json", tars::hex(&config)), config.clone().into());
            } else if path == "manifest.json" {
                let common::tars::Item::File(bytes) = item else { continue };
                *bytes =
                    String::from_utf8_lossy(bytes).replace(&file, &format!("{}.json", tars::hex(&config))).into_bytes();
            }
        }
        let done = self.root.load(&tars::tar(&files));
        assert_eq!((done.code, done.out), (0, format!("Loaded image: {name}\n")), "{}", done.err);
        self.images.push((name, n));
    }

    fn import(&mut self) {
        let name = self.fresh("import");
        let id = self.root.import(&name, &tars::layer(self.count % 3, 3000));
        self.commits.push((name, id));
    }

    fn tag(&mut self) {
        let Some(at) = self.pick(self.images.len()) else { return };
        let (from, n) = self.images[at].clone();
        let name = self.fresh("tag");
        self.root.ok(&["tag", &from, &name]);
        self.images.push((name, n));
    }

    fn remove(&mut self) {
        let Some(at) = self.pick(self.images.len()) else { return };
        let (name, _) = self.images.swap_remove(at);
        self.root.ok(&["rmi", &name]);
    }

    fn run_and_forget(&mut self) {
        assert_eq!(self.root.ok(&["run", "--rm", "bb", "echo", "hello"]), "hello");
    }

    fn run(&mut self) {
        let name = self.fresh("box").replace(':', "-");
        self.root.ok(&["run", "--name", &name, "bb", "sh", "-c", &format!("echo {name} > /name")]);
        self.containers.push(name);
    }

    fn commit(&mut self) {
        let Some(at) = self.pick(self.containers.len()) else { return };
        let (container, name) = (self.containers[at].clone(), self.fresh("commit"));
        let id = self.root.ok(&["commit", &container, &name]);
        self.commits.push((name, id));
    }

    fn remove_container(&mut self) {
        let Some(at) = self.pick(self.containers.len()) else { return };
        let name = self.containers.swap_remove(at);
        self.root.ok(&["rm", &name]);
    }

    fn look(&mut self) {
        self.root.ok(&["images"]);
        self.root.ok(&["ps", "-a"]);
        self.root.ok(&["system", "df"]);
        if let Some((name, n)) = self.images.first().cloned() {
            assert_eq!(self.root.inspect(&name)["Id"], tars::image_id(&layers(n), &format!("image {n}")));
        }
    }

    /// Fails if anything it was told is there is not, whole.
    fn assert_kept(&self) {
        for (name, n) in &self.images {
            assert_eq!(self.root.inspect(name)["Id"], tars::image_id(&layers(*n), &format!("image {n}")), "{name}");
            self.root.save(&[name]);
        }
        for (name, id) in &self.commits {
            assert_eq!(self.root.inspect(name)["Id"], id.as_str(), "{name}");
            self.root.save(&[name]);
        }
        for name in &self.containers {
            let out = self.root.ok(&["diff", name]);
            assert_eq!(out, "A /name", "{name}");
        }
    }
}

#[test]
fn ten_processes_at_once_lose_nothing_and_leave_nothing() {
    let Some(root) = root_with_busybox() else { return };
    let begun = Instant::now();
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|number| Worker {
            root: &root,
            number,
            chance: Chance::new(number as u64 + 1),
            images: Vec::new(),
            commits: Vec::new(),
            containers: Vec::new(),
            count: 0,
        })
        .collect();
    for round in 0..ROUNDS {
        if begun.elapsed() > ENOUGH {
            eprintln!("{round} rounds in {:?}: enough", begun.elapsed());
            break;
        }
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(move || (0..STEPS).for_each(|_| worker.step()));
            }
        });
        root.assert_sound(&format!("round {round}"));
        workers.iter().for_each(Worker::assert_kept);
    }
    // All goes at once too, and takes everything with it.
    std::thread::scope(|scope| {
        for worker in &workers {
            scope.spawn(move || {
                let containers = worker.containers.iter();
                containers.for_each(|name| drop(worker.root.ok(&["rm", name])));
                let names =
                    worker.images.iter().map(|(name, _)| name).chain(worker.commits.iter().map(|(name, _)| name));
                names.for_each(|name| drop(worker.root.ok(&["rmi", name])));
            });
        }
    });
    root.assert_sound(&"all removed");
    root.ok(&["container", "prune", "-f"]);
    root.ok(&["image", "prune", "-f"]);
    assert_eq!(root.lines(&["images", "--format", "{{.Repository}}"]), ["bb"]);
    assert_eq!(common::names(&root.join("image/overlay2/layerdb/sha256")).len(), 1, "layers");
    root.assert_sound(&"the end");
}

#[test]
fn one_name_is_taken_once() {
    let Some(root) = root_with_busybox() else { return };
    let made: usize = std::thread::scope(|scope| {
        let tries: Vec<_> =
            (0..WORKERS).map(|_| scope.spawn(|| root.run(&["create", "--name", "same", "bb", "true"]))).collect();
        let done = tries.into_iter().map(|one| one.join().expect("no panic"));
        done.filter(|done| {
            assert!(done.code == 0 || done.err.contains("is already in use"), "{}", done.err);
            done.code == 0
        })
        .count()
    });
    assert_eq!(made, 1);
    assert_eq!(root.lines(&["ps", "-aq"]).len(), 1);
    root.assert_sound(&"afterwards");
}

#[test]
fn an_image_in_use_is_not_pulled_from_under_it() {
    let Some(root) = root_with_busybox() else { return };
    let (base, deadline) = (tars::busybox().expect("busybox"), Instant::now() + Duration::from_secs(8));
    std::thread::scope(|scope| {
        // One makes and removes the image, others run it whenever it is there.
        scope.spawn(|| {
            while Instant::now() < deadline {
                root.import("gone", &base);
                root.ok(&["rmi", "-f", "gone"]);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let done = root.run(&["run", "--rm", "--pull=never", "gone", "echo", "ran"]);
                    let ran = done.code == 0 && done.out == "ran\n";
                    assert!(ran || (done.code == 125 && done.err.contains("No such image: gone")), "{done:?}");
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < deadline {
                root.ok(&["image", "prune", "-f"]);
            }
        });
    });
    root.ok(&["image", "prune", "-f"]);
    root.assert_sound(&"afterwards");
}
