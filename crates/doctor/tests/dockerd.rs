//! A root that a real dockerd 20.10 wrote, and what Docker itself says of it.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path, process::Command};

use common::Opened;
use strata_doctor::{Depth, Explanation, check, explain::State};
use strata_testkit::{Dockerd, Scratch, require, scratch};

fn graph(dockerd: &Dockerd, object: &str, key: &str) -> String {
    dockerd.docker(&["inspect", "-f", &format!("{{{{.GraphDriver.Data.{key}}}}}"), object])
}

/// An image of one program and two layers, `made:1`.
fn make_image(dockerd: &Dockerd, scratch: &Scratch, busybox: &Path) {
    let root = scratch.join("busybox");
    fs::create_dir_all(root.join("bin")).expect("create");
    fs::create_dir_all(root.join("etc")).expect("create");
    fs::write(root.join("etc/motd"), "welcome\n").expect("write");
    fs::copy(busybox, root.join("bin/busybox")).expect("copy");
    let tar = scratch.join("busybox.tar").display().to_string();
    let packed = Command::new("tar").arg("-C").arg(&root).args(["-cf", &tar, "."]).status().expect("run tar");
    assert!(packed.success());
    dockerd.docker(&["import", &tar, "base:1"]);
    let script = "/bin/busybox rm /etc/motd; /bin/busybox echo 2 > /second";
    dockerd.docker(&["run", "--name", "step", "--network", "none", "base:1", "/bin/busybox", "sh", "-c", script]);
    dockerd.docker(&["commit", "step", "made:1"]);
    dockerd.docker(&["rm", "step"]);
}

/// Paths with the short names in them resolved, as `docker inspect` shows them.
fn resolved(base: &str, paths: &[String]) -> String {
    let full = paths.iter().map(|path| Path::new(base).join(path).canonicalize().expect("it is there"));
    full.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

#[test]
fn what_is_explained_is_what_docker_says() {
    let Some(()) = require::overlay() else { return };
    let Some(busybox) = require::program("busybox") else { return };
    let scratch = scratch();
    let Some(dockerd) = Dockerd::start(&scratch.join("root")) else { return };
    make_image(&dockerd, &scratch, &busybox);
    let sleep = ["run", "-d", "--name", "box", "--network", "none", "made:1", "/bin/busybox", "sleep", "600"];
    let id = dockerd.docker(&sleep);
    dockerd.docker(&["create", "--name", "idle", "--network", "none", "made:1", "/bin/busybox", "true"]);

    let root = Opened::at(&scratch.join("root"));
    let Explanation::Image(image) = root.explain("made:1") else { panic!("not an image") };
    assert_eq!(image.problems, []);
    let layers = dockerd.docker(&["inspect", "-f", "{{range .RootFS.Layers}}{{.}} {{end}}", "made:1"]);
    let diffs: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.value.unwrap().to_string()).collect();
    assert_eq!(diffs.join(" "), layers.trim());
    assert_eq!(image.id.value.unwrap().to_string(), dockerd.docker(&["inspect", "-f", "{{.Id}}", "made:1"]));
    assert_eq!(image.size.to_string(), dockerd.docker(&["inspect", "-f", "{{.Size}}", "made:1"]));
    let top = image.layers.last().unwrap().facts.folder.clone().unwrap();
    assert_eq!(root.path.join(top).display().to_string(), graph(&dockerd, "made:1", "UpperDir"));

    for name in ["box", "idle"] {
        let Explanation::Container(container) = root.explain(name) else { panic!("not a container") };
        assert_eq!(container.problems, [], "{name}");
        let mount = container.mount.unwrap();
        assert_eq!(mount.mounted, name == "box");
        assert_eq!(resolved(&mount.base, &mount.lowerdir), graph(&dockerd, name, "LowerDir"), "{name}");
        for (found, key) in [(&mount.upperdir, "UpperDir"), (&mount.workdir, "WorkDir")] {
            assert_eq!(Path::new(&mount.base).join(found).display().to_string(), graph(&dockerd, name, key), "{name}");
        }
    }
    let Explanation::File(file) = root.explain("box:/etc/motd") else { panic!("not a file") };
    assert_eq!(file.provided_by, None);
    assert_eq!((file.layers[2].state, file.layers[3].state), (State::Whiteout, State::Hidden));
    let merged = format!("{}/second", graph(&dockerd, "box", "MergedDir"));
    let Explanation::Path(path) = root.explain(&merged) else { panic!("not a path") };
    assert_eq!((path.inside.as_deref(), path.containers[0].id.as_str()), (Some("/second"), id.as_str()));

    let live = check(&root.stores(), Depth::Contents);
    assert_eq!(live.findings, [], "beside a live dockerd: {live}");
    dockerd.docker(&["rm", "-f", "box"]);
    drop(dockerd);
    let after = check(&root.stores(), Depth::Contents);
    assert_eq!(after.findings, [], "after dockerd: {after}");
    // Every path that dockerd wrote is known.
    for entry in fs::read_dir(&root.path).unwrap().flatten() {
        let Explanation::Path(path) = root.explain(entry.path().to_str().unwrap()) else { panic!("not a path") };
        assert_ne!(path.owner, strata_doctor::explain::Owner::Orphan, "{}", path.path);
    }
}
