//! One data root, used in turns by `strata` and by a real dockerd: each lists, runs, changes and removes what the other wrote,
//! and both say the same of it.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use common::{Root, root, root_on, tars};
use serde_json::{Value, json};
use strata_testkit::Dockerd;

/// All that `images` and `ps` show that does not depend on the time of asking.
const IMAGES: &str = "{{.Repository}}|{{.Tag}}|{{.ID}}|{{.CreatedAt}}|{{.Size}}";
const PS: &str = "{{.ID}}|{{.Image}}|{{.Command}}|{{.CreatedAt}}|{{.Ports}}|{{.State}}|{{.Names}}|{{.Labels}}|{{.LocalVolumes}}|{{.Mounts}}|{{.Networks}}|{{.Size}}";
const HISTORY: &str = "{{.ID}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}";

/// What one of the two says of a root.
#[derive(Default)]
struct View {
    images: Vec<String>,
    containers: Vec<String>,
    /// By image ID.
    histories: BTreeMap<String, String>,
    /// By container ID, sorted: Docker's order is the filesystem's.
    diffs: BTreeMap<String, Vec<String>>,
    /// By ID, as one document.
    inspected: BTreeMap<String, Value>,
}

impl View {
    /// Asks by `ask`, which runs a command and returns its output.
    fn take(ask: &dyn Fn(&[&str]) -> String) -> Self {
        let lines = |args: &[&str]| -> Vec<String> { ask(args).lines().map(str::to_owned).collect() };
        let sorted = |args: &[&str]| {
            let mut lines = lines(args);
            lines.sort();
            lines
        };
        let mut view = Self {
            images: sorted(&["images", "-a", "--no-trunc", "--format", IMAGES]),
            containers: lines(&["ps", "-a", "--no-trunc", "--size", "--format", PS]),
            ..Self::default()
        };
        let inspect = |args: &[&str]| serde_json::from_str::<Value>(&ask(args)).expect("JSON")[0].take();
        for id in sorted(&["images", "-aq", "--no-trunc"]) {
            let history = ask(&["history", "--no-trunc", "--human=false", "--format", HISTORY, &id]);
            view.histories.insert(id.clone(), history);
            let document = inspect(&["inspect", "--type", "image", &id]);
            view.inspected.insert(id, document);
        }
        for id in lines(&["ps", "-aq", "--no-trunc"]) {
            view.diffs.insert(id.clone(), sorted(&["diff", &id]));
            let document = inspect(&["inspect", "--type", "container", "--size", &id]);
            view.inspected.insert(id, document);
        }
        view
    }

    fn of_strata(root: &Root) -> Self {
        Self::take(&|args| root.ok(args))
    }

    fn of_docker(dockerd: &Dockerd) -> Self {
        Self::take(&|args| dockerd.docker(args))
    }

    #[track_caller]
    fn assert_same(&self, docker: &Self, when: &str) {
        let mut differ = Vec::new();
        compare(&mut "images".into(), &json!(self.images), &json!(docker.images), &mut differ);
        compare(&mut "ps".into(), &json!(self.containers), &json!(docker.containers), &mut differ);
        compare(&mut "history".into(), &json!(self.histories), &json!(docker.histories), &mut differ);
        compare(&mut "diff".into(), &json!(self.diffs), &json!(docker.diffs), &mut differ);
        for (id, ours) in &self.inspected {
            compare(&mut "inspect".into(), ours, docker.inspected.get(id).unwrap_or(&Value::Null), &mut differ);
        }
        assert!(differ.is_empty(), "{when}, ours and Docker's:\n{}", differ.join("\n"));
    }
}

/// Adds what differs, with its path, to `differ`.
fn compare(path: &mut String, ours: &Value, docker: &Value, differ: &mut Vec<String>) {
    if ours == docker {
        return;
    }
    if let (Value::Object(ours), Value::Object(docker)) = (ours, docker) {
        for key in ours.keys().chain(docker.keys().filter(|key| !ours.contains_key(*key))) {
            let length = path.len();
            path.push('.');
            path.push_str(key);
            let missing = Value::String("(missing)".into());
            compare(path, ours.get(key).unwrap_or(&missing), docker.get(key).unwrap_or(&missing), differ);
            path.truncate(length);
        }
        return;
    }
    if let (Value::Array(ours), Value::Array(docker)) = (ours, docker)
        && ours.len() == docker.len()
    {
        for (at, (ours, docker)) in ours.iter().zip(docker).enumerate() {
            compare(&mut format!("{path}[{at}]"), ours, docker, differ);
        }
        return;
    }
    differ.push(format!("{path}:\n  {ours}\n  {docker}"));
}

const CHANGES: [&str; 7] = [
    "ENV A=1 B=\"two words\"",
    "WORKDIR /work",
    "LABEL one=1 two=2",
    "EXPOSE 80/tcp",
    "USER 0:0",
    "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
    "CMD [\"echo default\"]",
];

/// A script that changes files in every way.
const SCRIPT: &str = "echo new > /new; echo more >> /etc/passwd; rm /bin/dd; mkdir -p /a/b; ln -s /etc /a/l; chmod 4755 /bin/busybox; \
                      rm -r /old; mkdir /old; echo x > /old/x; mknod /a/null c 1 3; exit 3";

/// A busybox image with a folder to replace.
fn base() -> Option<Vec<u8>> {
    let mut tar = tars::busybox()?;
    let more = tars::tar(&[("old/", tars::Item::Dir), ("old/gone", "gone".into()), ("old/deep/", tars::Item::Dir)]);
    // Without the end of the first.
    tar.truncate(tar.len() - 1024);
    tar.extend(more);
    Some(tar)
}

/// Fills the root by Strata with all it can make.
fn fill_by_strata(root: &Root, base: &[u8]) {
    let mut import = vec!["import", "--message", "a base"];
    import.extend(CHANGES[..3].iter().flat_map(|change| ["--change", change]));
    import.extend(["-", "base:1"]);
    assert_eq!(root.feed(&import, base).code, 0);
    let done = root.run(&["run", "--name", "changed", "--hostname", "changed", "base:1", "sh", "-c", SCRIPT]);
    assert_eq!(done.code, 3, "{}", done.err);
    let mut commit = vec!["commit", "-a", "An Author <a@example.com>", "-m", "changed & <saved>"];
    commit.extend(CHANGES[3..].iter().flat_map(|change| ["-c", change]));
    commit.extend(["changed", "app:1"]);
    root.ok(&commit);
    root.ok(&["tag", "app:1", "registry.example:5000/team/app:v1.0"]);
    root.ok(&["tag", "app:1", "app:latest"]);
    let archive = tars::archive(&[
        ("loaded:1", &[tars::layer(1, 3000), tars::layer(2, 3000)]),
        ("loaded:2", &[tars::layer(1, 3000)]),
    ]);
    assert_eq!(root.load(&archive).code, 0);
    assert_eq!(root.load(&tars::Layout::new(&[tars::layer(1, 3000), tars::layer(3, 10)], "oci:1").tar()).code, 0);
    fs::create_dir(root.scratch.join("bound")).expect("a folder to bind");
    let bind = format!("{}:/bound:ro", root.scratch.join("bound").display());
    #[rustfmt::skip]
    root.ok(&[
        "create", "--name", "flags", "-i", "-e", "C=3", "-w", "/tmp", "-u", "1000:1000", "-v", &bind, "--tmpfs", "/t:size=1m",
        "--read-only", "--hostname", "host.example", "--domainname", "example", "--label", "x=y", "--stop-signal", "SIGINT",
        "--entrypoint", "/bin/sh", "app:1", "-c", "echo $A $C; pwd; id -u; ls /bound; touch /t/x && echo ok",
    ]);
    root.ok(&["create", "--name", "host", "--network", "host", "base:1", "echo", "from", "the", "host's"]);
    root.ok(&["create", "--name", "terminal", "-t", "-i", "base:1", "sh"]);
    root.ok(&["create", "--name", "plain", "app"]);
}

/// Fills the root by dockerd with all that corresponds.
fn fill_by_docker(dockerd: &Dockerd, root: &Root, base: &[u8]) {
    let file = root.file("base.tar", base);
    let mut import = vec!["import", "--message", "a base"];
    import.extend(CHANGES[..3].iter().flat_map(|change| ["--change", change]));
    import.extend([file.as_str(), "base:1"]);
    dockerd.docker(&import);
    let ran = dockerd.output(&[
        "run",
        "--network=none",
        "--name",
        "changed",
        "--hostname",
        "changed",
        "base:1",
        "sh",
        "-c",
        SCRIPT,
    ]);
    assert_eq!(ran.status.code(), Some(3), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut commit = vec!["commit", "-a", "An Author <a@example.com>", "-m", "changed & <saved>"];
    commit.extend(CHANGES[3..].iter().flat_map(|change| ["-c", change]));
    commit.extend(["changed", "app:1"]);
    dockerd.docker(&commit);
    dockerd.docker(&["tag", "app:1", "registry.example:5000/team/app:v1.0"]);
    dockerd.docker(&["tag", "app:1", "app:latest"]);
    let context = root.scratch.join("context");
    fs::create_dir(&context).expect("a build context");
    fs::write(context.join("added"), "added").expect("write");
    fs::write(
        context.join("Dockerfile"),
        "FROM base:1\nARG WHAT=thing\nRUN echo $WHAT > /built && rm /bin/dd\nCOPY added /added\nENV BUILT=\"yes & <no>\"\nVOLUME /data\n\
         HEALTHCHECK --interval=5m CMD true\nONBUILD RUN true\nSHELL [\"/bin/sh\", \"-c\"]\nSTOPSIGNAL SIGUSR1\nCMD cat /built\n",
    )
    .expect("write");
    dockerd.docker(&["build", "--network=none", "-q", "-t", "built:1", &context.to_string_lossy()]);
    fs::create_dir(root.scratch.join("bound")).expect("a folder to bind");
    let bind = format!("{}:/bound:ro", root.scratch.join("bound").display());
    #[rustfmt::skip]
    dockerd.docker(&[
        "create", "--network=none", "--name", "flags", "-i", "-e", "C=3", "-w", "/tmp", "-u", "1000:1000", "-v", &bind, "--tmpfs", "/t:size=1m",
        "--read-only", "--hostname", "host.example", "--domainname", "example", "--label", "x=y", "--stop-signal", "SIGINT",
        "--entrypoint", "/bin/sh", "app:1", "-c", "echo $A $C; pwd; id -u; ls /bound; touch /t/x && echo ok",
    ]);
    dockerd.docker(&["create", "--network=host", "--name", "host", "base:1", "echo", "from", "the", "host's"]);
    dockerd.docker(&["create", "--network=none", "--name", "terminal", "-t", "-i", "base:1", "sh"]);
    dockerd.docker(&["create", "--network=none", "--name", "plain", "app"]);
}

/// Nothing but what the layout itself is.
fn assert_empty(root: &Root, when: &str) {
    let driver = root.driver();
    for place in [
        "containers",
        "image/DRIVER/imagedb/content/sha256",
        "image/DRIVER/imagedb/metadata/sha256",
        "image/DRIVER/layerdb/sha256",
        "image/DRIVER/layerdb/mounts",
        "image/DRIVER/layerdb/tmp",
        "DRIVER/l",
    ] {
        let place = &place.replace("DRIVER", driver);
        assert!(common::names(&root.join(place)).is_empty(), "{when}: {place}: {:?}", common::names(&root.join(place)));
    }
    let folders = root.folders();
    assert!(folders.is_empty(), "{when}: {folders:?}");
}

#[test]
fn dockerd_takes_over_what_strata_wrote() {
    docker_takes_over(root());
}

#[test]
fn dockerd_takes_over_vfs() {
    docker_takes_over(root_on("vfs"));
}

#[test]
fn dockerd_takes_over_overlay() {
    docker_takes_over(root_on("overlay"));
}

#[test]
fn dockerd_takes_over_fuse_overlayfs() {
    docker_takes_over(root_on("fuse-overlayfs"));
}

#[test]
fn dockerd_takes_over_btrfs() {
    docker_takes_over(root_on("btrfs"));
}

#[test]
fn strata_takes_over_what_dockerd_wrote() {
    strata_takes_over(root());
}

#[test]
fn strata_takes_over_vfs() {
    strata_takes_over(root_on("vfs"));
}

#[test]
fn strata_takes_over_overlay() {
    strata_takes_over(root_on("overlay"));
}

#[test]
fn strata_takes_over_fuse_overlayfs() {
    strata_takes_over(root_on("fuse-overlayfs"));
}

#[test]
fn strata_takes_over_btrfs() {
    strata_takes_over(root_on("btrfs"));
}

fn docker_takes_over(root: Option<Root>) {
    let (Some(root), Some(base)) = (root, base()) else { return };
    fill_by_strata(&root, &base);
    root.assert_sound(&"filled");
    let ours = View::of_strata(&root);

    let Some(dockerd) = Dockerd::start_with(root.path(), root.driver()) else { return };
    ours.assert_same(&View::of_docker(&dockerd), "written by strata");
    // It runs our images, and starts our containers.
    let run = |args: &[&str]| dockerd.docker(&[&["run", "--rm", "--network=none"], args].concat());
    assert_eq!(run(&["app:1", "cat /new; ls /old; tail -n 1 /etc/passwd; echo $A $B"]), "new\nx\nmore\n1 two words");
    assert_eq!(run(&["app"]), "default");
    // It starts our containers, each as it was made.
    let start = |name: &str| dockerd.docker(&["start", "-a", name]);
    let flags = dockerd.output(&["start", "-a", "flags"]);
    assert_eq!(
        String::from_utf8_lossy(&flags.stdout),
        "1 3\n/tmp\n1000\nok\n",
        "{}",
        String::from_utf8_lossy(&flags.stderr)
    );
    assert_eq!(start("host"), "from the host's");
    assert_eq!(start("plain"), "default");
    // It changes, commits, saves.
    assert_eq!(dockerd.output(&["start", "-a", "changed"]).status.code(), Some(3));
    let committed = dockerd.docker(&["commit", "changed", "by-docker:1"]);
    dockerd.docker(&["tag", "loaded:1", "by-docker:2"]);
    let saved = root.scratch.join("saved.tar");
    dockerd.docker(&["save", "-o", &saved.to_string_lossy(), "app:1", "loaded:1", "oci:1", "by-docker:1"]);
    let theirs = View::of_docker(&dockerd);
    drop(dockerd);

    // Our turn again: nothing is damaged, and what it saved is what we have.
    root.assert_sound(&"after dockerd's turn");
    View::of_strata(&root).assert_same(&theirs, "after dockerd's turn");
    assert_eq!(root.inspect("by-docker:1")["Id"], committed.as_str());
    let Some(other) = common::root() else { return };
    other.ok(&["load", "-i", &saved.to_string_lossy()]);
    for name in ["app:1", "loaded:1", "oci:1", "by-docker:1"] {
        assert_eq!(other.inspect(name)["Id"], root.inspect(name)["Id"], "{name}");
    }
    assert_eq!(root.ok(&["run", "--rm", "--entrypoint", "cat", "by-docker:1", "/new"]), "new");
    root.ok(&["rm", "host"]);
    root.ok(&["rmi", "loaded:2"]);
    root.assert_sound(&"after our second turn");

    // And it removes everything.
    let dockerd = Dockerd::start_with(root.path(), root.driver()).expect("dockerd starts again");
    View::of_strata(&root).assert_same(&View::of_docker(&dockerd), "dockerd's second turn");
    dockerd.docker(&["rm", "changed", "flags", "terminal", "plain"]);
    let images = dockerd.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    dockerd.docker(&[&["rmi"], &images.lines().collect::<Vec<_>>()[..]].concat());
    assert_eq!(dockerd.docker(&["images", "-aq"]), "");
    drop(dockerd);
    assert_empty(&root, "removed by dockerd");
    root.assert_sound(&"removed by dockerd");
}

fn strata_takes_over(root: Option<Root>) {
    let (Some(root), Some(base)) = (root, base()) else { return };
    let Some(dockerd) = Dockerd::start_with(root.path(), root.driver()) else { return };
    fill_by_docker(&dockerd, &root, &base);
    let theirs = View::of_docker(&dockerd);
    drop(dockerd);

    root.assert_sound(&"written by dockerd");
    View::of_strata(&root).assert_same(&theirs, "written by dockerd");
    // We run its images, and start its containers.
    let run = |args: &[&str]| root.ok(&[&["run", "--rm"], args].concat());
    assert_eq!(run(&["app:1", "cat /new; ls /old; tail -n 1 /etc/passwd; echo $A $B"]), "new\nx\nmore\n1 two words");
    assert_eq!(run(&["app"]), "default");
    let flags = root.run(&["start", "-a", "flags"]);
    assert_eq!(flags.out, "1 3\n/tmp\n1000\nok\n", "{}", flags.err);
    assert_eq!(root.ok(&["start", "-a", "host"]), "from the host's");
    assert_eq!(root.ok(&["start", "-a", "plain"]), "default");
    assert_eq!(root.run(&["start", "-a", "changed"]).code, 3);
    // We change, commit, save.
    let committed = root.ok(&["commit", "changed", "by-strata:1"]);
    root.ok(&["tag", "built:1", "by-strata:2"]);
    let saved = root.file("saved.tar", &root.save(&["app:1", "built:1", "by-strata:1"]));
    root.assert_sound(&"after our turn");
    let ours = View::of_strata(&root);

    // Its turn again.
    let dockerd = Dockerd::start_with(root.path(), root.driver()).expect("dockerd starts again");
    ours.assert_same(&View::of_docker(&dockerd), "dockerd's second turn");
    assert_eq!(dockerd.docker(&["inspect", "-f", "{{.Id}}", "by-strata:1"]), committed);
    assert_eq!(dockerd.docker(&["run", "--rm", "--network=none", "by-strata:1", "cat", "/new"]), "new");
    dockerd.docker(&["rm", "host"]);
    dockerd.docker(&["rmi", "by-strata:2", "app:latest"]);
    // It takes our archive for what it has.
    let images = || {
        let ids = dockerd.docker(&["images", "-aq", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = images();
    dockerd.docker(&["load", "-i", &saved]);
    assert_eq!(images(), before);
    drop(dockerd);

    // And we remove everything.
    root.assert_sound(&"after dockerd's second turn");
    root.ok(&["rm", "changed", "flags", "terminal", "plain"]);
    let images = root.lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for image in &images {
        root.ok(&["rmi", image]);
    }
    assert_eq!(root.ok(&["images", "-aq"]), "");
    assert_empty(&root, "removed by strata");
    root.assert_sound(&"removed by strata");
    let dockerd = Dockerd::start_with(root.path(), root.driver()).expect("dockerd starts a last time");
    assert_eq!(dockerd.docker(&["images", "-aq"]) + &dockerd.docker(&["ps", "-aq"]), "");
}

#[test]
fn beside_a_live_dockerd_strata_reads_and_does_not_write() {
    let (Some(root), Some(base)) = (root(), base()) else { return };
    let Some(dockerd) = Dockerd::start_with(root.path(), root.driver()) else { return };
    dockerd.docker(&["import", &root.file("base.tar", &base), "base:1"]);
    dockerd.docker(&["create", "--network=none", "--name", "box", "base:1", "true"]);
    dockerd.docker(&["run", "-d", "--network=none", "--name", "runs", "base:1", "sh", "-c", "echo x > /x; sleep 1000"]);
    let archive = root.file("archive.tar", &tars::archive(&[("loaded:1", &[tars::layer(1, 100)])]));
    let before = root.listing();
    for args in [
        &["images"][..],
        &["ps", "-a"],
        &["history", "base:1"],
        &["inspect", "base:1", "box", "runs"],
        &["diff", "runs"],
        &["info"],
        &["system", "df"],
        &["explain", "base:1", "runs"],
        &["save", "-o", "/dev/null", "base:1"],
        &["fsck", "--contents"],
    ] {
        root.ok(args);
    }
    assert_eq!(root.lines(&["ps", "--format", "{{.Names}} {{.State}}"]), ["runs running"]);
    assert_eq!(root.ok(&["diff", "runs"]), "A /x");
    assert!(root.ok(&["info"]).contains(&format!("PID {}", dockerd.pid())));
    let pid = format!("(dockerd, PID {})", dockerd.pid());
    for (args, code) in [
        (&["run", "base:1", "true"][..], 125),
        (&["start", "box"], 1),
        (&["create", "base:1", "true"], 1),
        (&["rm", "box"], 1),
        (&["rm", "-f", "runs"], 1),
        (&["commit", "box"], 1),
        (&["load", "-i", &archive], 1),
        (&["import", &archive], 1),
        (&["tag", "base:1", "base:2"], 1),
        (&["rmi", "base:1"], 1),
        (&["image", "prune", "-f"], 1),
        (&["container", "prune", "-f"], 1),
        (&["system", "prune", "-f"], 1),
    ] {
        let err = root.refused(code, args);
        assert!(err.contains(&pid) && err.contains("it can be read, not changed"), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    }
    assert_eq!(root.listing(), before);
    dockerd.docker(&["rm", "-f", "runs"]);
    drop(dockerd);
    root.ok(&["rm", "box"]);
    root.assert_sound(&"after dockerd");
}

/// Writes `mib` MiB in a container's root and flushes them; the limit says whether that goes.
fn filling(mib: u32) -> String {
    format!("dd if=/dev/zero of=/big bs=1M count={mib} 2>/dev/null && sync && echo written")
}

#[test]
fn a_containers_size_is_limited_on_btrfs_whoever_made_it() {
    let (Some(root), Some(base)) = (root_on("btrfs"), base()) else { return };
    root.import("base:1", &base);
    let limit = ["--storage-opt", "size=40m"];
    root.ok(&["create", limit[0], limit[1], "--name", "ours", "base:1", "sh", "-c", &filling(100)]);
    root.ok(&["create", limit[0], limit[1], "--name", "small", "base:1", "sh", "-c", &filling(4)]);
    let started = |name: &str| root.run(&["start", "-a", name]);
    assert_eq!(started("small").out.trim(), "written");
    let full = started("ours");
    assert!(full.code != 0 && full.out.is_empty(), "{full:?}");
    let inspected = root.ok(&["inspect", "-f", "{{json .HostConfig.StorageOpt}}", "ours"]);
    assert_eq!(inspected, r#"{"size":"40m"}"#);
    root.assert_sound(&"limited");

    let Some(dockerd) = Dockerd::start_with(root.path(), "btrfs") else { return };
    dockerd.docker(&["rm", "small"]);
    let ran = dockerd.output(&["start", "-a", "ours"]);
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    let name = ["create", "--network=none", limit[0], limit[1], "--name", "theirs", "base:1", "sh", "-c"];
    dockerd.docker(&[&name[..], &[&filling(100)]].concat());
    drop(dockerd);
    let full = started("theirs");
    assert!(full.code != 0 && full.out.is_empty(), "{full:?}");
    root.ok(&["rm", "ours", "theirs"]);
    let left = common::names(&root.join("btrfs/quotas"));
    assert!(left.is_empty(), "{left:?}");
    root.assert_sound(&"removed");
}
