//! One root, used in turns by this crate and by a real dockerd 20.10.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::*;
use serde_json::Value;
use strata_container::{CommitRequest, Container, RemoveOptions, Status};
use strata_spec::ImageId;
use strata_testkit::{Dockerd, require};

/// A dockerd of the version whose records ours are.
fn start(bench: &Bench) -> Option<Dockerd> {
    let version = Command::new(require::program("dockerd")?).arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("version 20.10") {
        require::report_skip("dockerd is not of version 20.10");
        return None;
    }
    Dockerd::start(&bench.scratch.join("root"))
}

fn inspect(dockerd: &Dockerd, name: &str) -> Value {
    let text = dockerd.docker(&["inspect", "--type", "container", name]);
    serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
}

/// Sorts what dockerd shows in no order.
fn sorted(mut inspect: Value) -> String {
    if let Some(mounts) = inspect["Mounts"].as_array_mut() {
        mounts.sort_by_key(|mount| mount["Destination"].as_str().unwrap_or_default().to_owned());
    }
    serde_json::to_string_pretty(&inspect).expect("JSON")
}

#[test]
fn dockerd_uses_what_we_wrote() {
    let Some(bench) = running_bench() else { return };
    let store = &bench.stores.containers;
    let bound = bench.scratch.join("bound").display().to_string();
    let flags = ["--label", "a=<b>", "-e", "B=2", "-v", &format!("{bound}:/mnt:ro"), "--tmpfs", "/t", "-w", "/w"];
    bench.run(&[&["create", "--name", "fresh"], &flags[..], &["busybox", "sh", "-c", "pwd; exit 6"]].concat()).good();
    let ran = bench.run(&["run", "--name", "ran", "busybox", "sh", "-c", "echo x >/made; rm /file; exit 3"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let tree = bench.scratch.join("tree");
    bench.stores.import(
        &tree,
        "vol",
        &["VOLUME /data", "CMD [\"cat\",\"/data/sub/seed\"]", "USER bob", "STOPSIGNAL 9"],
    );
    bench.run(&["create", "--name", "vol", "--entrypoint", "/bin/cat", "vol", "/data/sub/seed"]).good();
    assert_eq!(bench.run(&["run", "--name", "bad", "busybox", "nothere"]).code, 127);
    let names = ["bad", "fresh", "ran", "vol"];
    let ours: Vec<String> = names
        .iter()
        .map(|name| store.inspect(&store.get(name).unwrap(), false).unwrap())
        .map(|inspect| sorted(serde_json::to_value(inspect).unwrap()))
        .collect();
    let changes: Vec<String> = store
        .changes(&store.get("ran").unwrap())
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change.kind.letter(), change.path.display()))
        .collect();

    let Some(dockerd) = start(&bench) else { return };
    let listed = dockerd.docker(&["ps", "-a", "--format", "{{.Names}}|{{.Status}}|{{.Image}}|{{.Command}}"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("ran|Exited (3) ") && listed.contains("fresh|Created|busybox|"), "{listed}");
    for (name, ours) in names.iter().zip(&ours) {
        assert_eq!(*ours, sorted(inspect(&dockerd, name)), "{name}");
    }
    let mut theirs: Vec<String> = dockerd.docker(&["diff", "ran"]).lines().map(str::to_owned).collect();
    theirs.sort_by_key(|line| line[2..].to_owned());
    assert_eq!(changes, theirs);
    let started = Outcome::of(dockerd.command(&["start", "-a", "fresh"]).output().unwrap());
    assert_eq!((started.code, started.out.as_str()), (6, "/w\n"), "{started:?}");
    assert_eq!(dockerd.docker(&["start", "-a", "vol"]), "seed");
    let again = Outcome::of(dockerd.command(&["start", "-a", "ran"]).output().unwrap());
    assert_eq!(again.code, 3, "{again:?}");
    dockerd.docker(&["commit", "ran", "theirs"]);
    assert_eq!(dockerd.docker(&["run", "--rm", "--network", "none", "theirs", "cat", "/made"]), "x");
    dockerd.docker(&["cp", "ran:/made", &bench.scratch.join("copied").display().to_string()]);
    dockerd.docker(&["rm", "-v", "bad", "ran", "vol"]);
    drop(dockerd);

    assert_eq!(store.list().unwrap().containers.len(), 1);
    assert_eq!(store.get("fresh").unwrap().record.state.exit_code, 6);
    assert_eq!(bench.names("volumes").iter().filter(|name| name.len() == 64).count(), 0, "volumes went with rm -v");
    let fresh = bench.run(&["start", "fresh"]);
    assert_eq!((fresh.code, fresh.out.as_str()), (6, "/w\n"), "{fresh:?}");
}

/// Our commit of the same container has the same config, history and layer size as Docker's, `theirs`.
fn commits_alike(bench: &Bench, container: &Container, theirs: &str, history: &str) -> ImageId {
    let request = CommitRequest {
        author: "me".into(),
        comment: "why".into(),
        changes: strings(&["ENV C=3 D=$B", "USER bob"]),
        created: None,
        name: None,
        ..CommitRequest::default()
    };
    let id = bench.stores.containers.commit(&bench.stores.images, container, &request).unwrap();
    let (own, their) =
        (bench.stores.images.get(id).unwrap(), bench.stores.images.get(theirs.parse().unwrap()).unwrap());
    assert_eq!(own.document().config, their.document().config);
    assert_eq!(own.document().container_config, their.document().container_config);
    let last = |config: &strata_spec::ImageConfig| {
        let mut last = config.document().history.last().unwrap().clone();
        last.created = None;
        last
    };
    assert_eq!(last(&own), last(&their), "{history}");
    assert_eq!(own.document().author, their.document().author);
    let layers = bench.stores.images.layers();
    let size =
        |config: &strata_spec::ImageConfig| layers.get(strata_spec::chain_id(config.diff_ids()).unwrap()).unwrap().size;
    assert_eq!(size(&own), size(&their));
    id
}

#[test]
fn we_use_what_dockerd_wrote() {
    let Some(bench) = running_bench() else { return };
    let store = &bench.stores.containers;
    let Some(dockerd) = start(&bench) else { return };
    let bound = format!("{}:/mnt", bench.scratch.join("bound").display());
    let run = |args: &[&str]| Outcome::of(dockerd.command(args).output().unwrap());
    let none =
        ["--network", "none", "-v", &bound, "-v", "/anon", "--tmpfs", "/t", "-u", "bob", "-w", "/w", "-e", "B=2"];
    let script = "id -u; pwd; echo $B; echo $HOME; cat /made 2>/dev/null; exit 7";
    assert_eq!(run(&[&["run", "--name", "theirs"], &none[..], &["busybox", "sh", "-c", script]].concat()).code, 7);
    let change = "echo x >/made; rm -r /data; mkdir -p /etc/new/deep; echo y >/etc/new/deep/f; chmod 600 /file; exit 4";
    assert_eq!(run(&["run", "--name", "changed", "--network", "none", "busybox", "sh", "-c", change]).code, 4);
    dockerd.docker(&["create", "--name", "bridged", "--network", "bridge", "busybox"]);
    dockerd.docker(&["create", "--name", "limited", "--network", "none", "--memory", "64m", "busybox"]);
    let inspected: Vec<_> = ["theirs", "changed"].map(|name| (name, sorted(inspect(&dockerd, name)))).into();
    let mut diff: Vec<String> = dockerd.docker(&["diff", "changed"]).lines().map(str::to_owned).collect();
    diff.sort_by_key(|line| line[2..].to_owned());
    let theirs =
        dockerd.docker(&["commit", "-m", "why", "-a", "me", "-c", "ENV C=3 D=$B", "-c", "USER bob", "changed"]);
    let history =
        dockerd.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}|{{.Size}}", &theirs]);
    drop(dockerd);

    for (name, theirs) in inspected {
        let ours = store.inspect(&store.get(name).unwrap(), false).unwrap();
        assert_eq!(sorted(serde_json::to_value(ours).unwrap()), theirs, "{name}");
    }
    let changed = store.get("changed").unwrap();
    let ours: Vec<String> = store
        .changes(&changed)
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change.kind.letter(), change.path.display()))
        .collect();
    assert_eq!(ours, diff);

    let id = commits_alike(&bench, &changed, &theirs, &history);

    let ran = bench.run(&["start", "theirs"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "1000\n/w\n2\n/home/bob\n"), "{ran:?}");
    let state = store.get("theirs").unwrap().record.state;
    assert_eq!((state.status(), state.exit_code), (Status::Exited, 7));
    for (name, why) in [("bridged", "there are `none` and `host`"), ("limited", "resource limits")] {
        let ran = bench.run(&["start", name]);
        assert!(ran.code == 125 && ran.err.contains(why), "{ran:?}");
    }
    for name in ["theirs", "changed", "bridged", "limited"] {
        let id = store.resolve(name).unwrap();
        store.remove(&id, RemoveOptions { force: false, volumes: true }).unwrap();
    }
    for folder in ["containers", "image/overlay2/layerdb/mounts"] {
        assert_eq!(bench.names(folder), [""; 0], "{folder}");
    }
    assert_eq!(bench.names("volumes").iter().filter(|name| name.len() == 64).count(), 0);

    // dockerd misses nothing of what went.
    let Some(dockerd) = start(&bench) else { return };
    assert_eq!(dockerd.docker(&["ps", "-aq"]), "");
    assert_eq!(dockerd.docker(&["run", "--rm", "--network", "none", &id.to_string(), "cat", "/etc/new/deep/f"]), "y");
}
