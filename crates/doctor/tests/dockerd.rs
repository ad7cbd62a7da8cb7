//! A root that a real dockerd 20.10 wrote, and what Docker itself says of it.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::Opened;
use strata_doctor::{Depth, Explanation, check, explain::State};
use strata_testkit::{Scratch, require, scratch};

/// A dockerd at work on `<scratch>/root`; stopped when dropped.
struct Dockerd {
    child: Child,
    docker: PathBuf,
    socket: String,
}

impl Dockerd {
    fn start(scratch: &Scratch) -> Option<Self> {
        require::root()?;
        let (dockerd, docker) = (require::program("dockerd")?, require::program("docker")?);
        let at = |name: &str| scratch.join(name).display().to_string();
        let socket = format!("unix://{}", at("sock"));
        let child = Command::new(dockerd)
            .args(["--data-root", &at("root"), "--exec-root", &at("exec"), "-p", &at("pid"), "-H", &socket])
            .args(["--iptables=false", "--bridge=none", "-s", "overlay2"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(scratch.join("log")).expect("create the log"))
            .spawn()
            .expect("start dockerd");
        let running = Self { child, docker, socket };
        let start = Instant::now();
        while !running.command(&["info"]).output().expect("run docker").status.success() {
            if start.elapsed() > Duration::from_secs(60) {
                require::report_skip("dockerd does not start here");
                return None;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(running)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        command.arg("-H").arg(&self.socket).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("run docker");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "docker {args:?}: {out}{err}");
        out.trim().to_owned()
    }

    fn graph(&self, object: &str, key: &str) -> String {
        self.run(&["inspect", "-f", &format!("{{{{.GraphDriver.Data.{key}}}}}"), object])
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
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
    dockerd.run(&["import", &tar, "base:1"]);
    let script = "/bin/busybox rm /etc/motd; /bin/busybox echo 2 > /second";
    dockerd.run(&["run", "--name", "step", "--network", "none", "base:1", "/bin/busybox", "sh", "-c", script]);
    dockerd.run(&["commit", "step", "made:1"]);
    dockerd.run(&["rm", "step"]);
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
    let Some(dockerd) = Dockerd::start(&scratch) else { return };
    make_image(&dockerd, &scratch, &busybox);
    let sleep = ["run", "-d", "--name", "box", "--network", "none", "made:1", "/bin/busybox", "sleep", "600"];
    let id = dockerd.run(&sleep);
    dockerd.run(&["create", "--name", "idle", "--network", "none", "made:1", "/bin/busybox", "true"]);

    let root = Opened::at(&scratch.join("root"));
    let Explanation::Image(image) = root.explain("made:1") else { panic!("not an image") };
    assert_eq!(image.problems, []);
    let layers = dockerd.run(&["inspect", "-f", "{{range .RootFS.Layers}}{{.}} {{end}}", "made:1"]);
    let diffs: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.value.unwrap().to_string()).collect();
    assert_eq!(diffs.join(" "), layers.trim());
    assert_eq!(image.id.value.unwrap().to_string(), dockerd.run(&["inspect", "-f", "{{.Id}}", "made:1"]));
    assert_eq!(image.size.to_string(), dockerd.run(&["inspect", "-f", "{{.Size}}", "made:1"]));
    let top = image.layers.last().unwrap().facts.folder.clone().unwrap();
    assert_eq!(root.path.join(top).display().to_string(), dockerd.graph("made:1", "UpperDir"));

    for name in ["box", "idle"] {
        let Explanation::Container(container) = root.explain(name) else { panic!("not a container") };
        assert_eq!(container.problems, [], "{name}");
        let mount = container.mount.unwrap();
        assert_eq!(mount.mounted, name == "box");
        assert_eq!(resolved(&mount.base, &mount.lowerdir), dockerd.graph(name, "LowerDir"), "{name}");
        for (found, key) in [(&mount.upperdir, "UpperDir"), (&mount.workdir, "WorkDir")] {
            assert_eq!(Path::new(&mount.base).join(found).display().to_string(), dockerd.graph(name, key), "{name}");
        }
    }
    let Explanation::File(file) = root.explain("box:/etc/motd") else { panic!("not a file") };
    assert_eq!(file.provided_by, None);
    assert_eq!((file.layers[2].state, file.layers[3].state), (State::Whiteout, State::Hidden));
    let merged = format!("{}/second", dockerd.graph("box", "MergedDir"));
    let Explanation::Path(path) = root.explain(&merged) else { panic!("not a path") };
    assert_eq!((path.inside.as_deref(), path.containers[0].id.as_str()), (Some("/second"), id.as_str()));

    let live = check(&root.stores(), Depth::Contents);
    assert_eq!(live.findings, [], "beside a live dockerd: {live}");
    dockerd.run(&["rm", "-f", "box"]);
    drop(dockerd);
    let after = check(&root.stores(), Depth::Contents);
    assert_eq!(after.findings, [], "after dockerd: {after}");
    // Every path that dockerd wrote is known.
    for entry in fs::read_dir(&root.path).unwrap().flatten() {
        let Explanation::Path(path) = root.explain(entry.path().to_str().unwrap()) else { panic!("not a path") };
        assert_ne!(path.owner, strata_doctor::explain::Owner::Orphan, "{}", path.path);
    }
}
