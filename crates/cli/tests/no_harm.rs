//! Nothing that a damaged or foreign record could own is removed, and each way out that is printed heals the damage it is printed for.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Root, root_at, root_with_busybox, tars};
use serde_json::Value;
use strata_testkit::{Dockerd, require, scratch};

fn layerdb(root: &Root) -> PathBuf {
    root.join("image/overlay2/layerdb")
}

/// The layers' records, in no order.
fn records(root: &Root) -> Vec<String> {
    common::names(&layerdb(root).join("sha256")).into_iter().collect()
}

/// The record whose `parent` is `of`, by hexadecimal digits; of the base layer with `None`.
fn above(root: &Root, of: Option<&str>) -> String {
    let parent = |id: &String| fs::read_to_string(layerdb(root).join("sha256").join(id).join("parent")).ok();
    let wanted = of.map(|id| format!("sha256:{id}"));
    records(root).into_iter().find(|id| parent(id) == wanted).expect("a layer")
}

fn findings(root: &Root) -> Vec<Value> {
    let done = root.run(&["fsck", "--format", "json"]);
    let report: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}{}", done.out, done.err));
    report["findings"].as_array().expect("findings").clone()
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap_or_default()
}

/// Runs the command that the only error's way out ends with, and checks that the root is sound then.
fn heal(root: &Root, what: &str) {
    let found = findings(root);
    let errors: Vec<_> = found.iter().filter(|finding| text(finding, "severity") == "error").collect();
    let [error] = errors.as_slice() else { panic!("{what}: one damage, one error: {found:#?}") };
    let (_, command) = text(error, "remedy").split_once(": ").unwrap_or_else(|| panic!("{what}: {error:#?}"));
    let status = Command::new("sh").arg("-c").arg(command).status().expect("sh runs");
    assert!(status.success(), "{what}: {command}");
    let left = findings(root);
    assert!(left.is_empty(), "{what}: after {command}: {left:#?}");
}

/// An image of three layers, `app:1`, one of its base layer alone without a name, and the container `box` of the first.
fn made() -> Option<Root> {
    let root = root_with_busybox()?;
    for n in [1, 2] {
        let from = if n == 1 { "bb" } else { "app:1" };
        let change = format!("echo {n} > /made{n}");
        root.ok(&["run", "--name", "step", from, "sh", "-c", &change]);
        root.ok(&["commit", "step", "app:1"]);
        root.ok(&["rm", "step"]);
    }
    root.ok(&["create", "--name", "box", "app:1", "cat", "/made1", "/made2"]);
    Some(root)
}

#[test]
fn a_lost_layer_record_lets_nothing_be_pruned() {
    let (Some(root), Some(busybox)) = (made(), tars::busybox()) else { return };
    assert_eq!(root.load(&tars::archive(&[("same:1", &[busybox])])).code, 0);
    let base = above(&root, None);
    let middle = above(&root, Some(&base));
    let aside = root.scratch.join("record");
    fs::rename(layerdb(&root).join("sha256").join(&middle), &aside).expect("lose a record");
    let folders = root.folders();
    for args in [&["image", "prune", "-f"][..], &["image", "prune", "-a", "-f"]] {
        let done = root.run(args);
        assert_eq!(done.code, 1, "{args:?}: {}", done.out);
        assert!(done.err.contains(&format!("sha256:{middle}")) && done.err.contains("fsck"), "{args:?}: {}", done.err);
    }
    assert_eq!(root.ok(&["rmi", "-f", "bb"]), "Untagged: bb:latest", "it has a child, though that is damaged");
    root.ok(&["rmi", "same:1"]);
    assert!(records(&root).contains(&base), "the base layer is needed");
    assert_eq!(root.folders(), folders);
    fs::rename(&aside, layerdb(&root).join("sha256").join(&middle)).expect("heal");
    assert_eq!(root.ok(&["start", "-a", "box"]), "1\n2");
    root.assert_sound(&"after the record came back");
}

#[test]
fn an_image_stays_while_a_container_with_a_damaged_record_may_be_made_of_it() {
    let Some(root) = made() else { return };
    let id = root.ok(&["ps", "-aq", "--no-trunc"]);
    let record = root.join(format!("containers/{id}/config.v2.json"));
    let whole = fs::read(&record).expect("a record");
    fs::write(&record, &whole[..whole.len() / 2]).expect("cut it");
    let said = root.refused(1, &["rmi", "app:1"]);
    assert!(said.contains(&id[..12]), "{said}");
    root.ok(&["image", "prune", "-a", "-f"]);
    fs::write(&record, whole).expect("heal");
    assert_eq!(root.ok(&["start", "-a", "box"]), "1\n2");
}

#[test]
fn a_lost_lower_file_is_one_finding_and_nothing_runs_on_the_short_chain() {
    let Some(root) = made() else { return };
    let base = above(&root, None);
    let middle = above(&root, Some(&base));
    let top = above(&root, Some(&middle));
    for id in [&middle, &top] {
        let folder = fs::read_to_string(layerdb(&root).join("sha256").join(id).join("cache-id")).expect("a cache ID");
        fs::remove_file(root.join("overlay2").join(folder).join("lower")).expect("lose it");
        if *id == top {
            let done = root.run(&["run", "--rm", "app:1", "ls", "/"]);
            assert_eq!((done.code, done.out.as_str()), (125, ""), "{}", done.err);
            assert!(done.err.contains("lower"), "{}", done.err);
        }
        heal(&root, "lower");
        assert_eq!(root.ok(&["run", "--rm", "app:1", "cat", "/made1", "/made2"]), "1\n2");
    }
    // Both at once: each is written from the records, not from the other.
    for id in [&middle, &top] {
        let folder = fs::read_to_string(layerdb(&root).join("sha256").join(id).join("cache-id")).expect("a cache ID");
        fs::remove_file(root.join("overlay2").join(folder).join("lower")).expect("lose it");
    }
    for finding in findings(&root) {
        let (_, command) = text(&finding, "remedy").split_once(": ").expect("a command");
        assert!(Command::new("sh").arg("-c").arg(command).status().expect("sh runs").success());
    }
    root.assert_sound(&"after both were written");
    assert_eq!(root.ok(&["start", "-a", "box"]), "1\n2");
}

#[test]
fn a_lost_mount_record_is_written_again_and_its_files_are_there() {
    let Some(root) = made() else { return };
    root.ok(&["run", "--name", "changed", "app:1", "sh", "-c", "echo mine > /mine"]);
    root.ok(&["rm", "box"]);
    let id = root.ok(&["ps", "-aq", "--no-trunc"]);
    fs::remove_dir_all(layerdb(&root).join("mounts").join(&id)).expect("lose it");
    let found = findings(&root);
    assert!(found.iter().all(|f| !text(f, "remedy").contains("then remove it")), "{found:#?}");
    let error = found.iter().find(|f| text(f, "severity") == "error").expect("an error");
    let (_, command) = text(error, "remedy").split_once(": ").expect("a command");
    assert!(Command::new("sh").arg("-c").arg(command).status().expect("sh runs").success());
    root.assert_sound(&"after the record was written");
    let out = root.scratch.join("mine").display().to_string();
    root.ok(&["cp", "changed:/mine", &out]);
    assert_eq!(fs::read_to_string(out).expect("copied"), "mine\n");
}

#[test]
fn damaged_names_stop_nothing_but_names() {
    let Some(root) = made() else { return };
    let id = root.ok(&["images", "-q", "--no-trunc", "app:1"]);
    for bytes in [&b""[..], b"{\"Repositories\":", b"\xff\xff"] {
        fs::write(root.join("image/overlay2/repositories.json"), bytes).expect("damage it");
        assert_eq!(root.ok(&["start", "-a", "box"]), "1\n2");
        root.ok(&["diff", "box"]);
        root.ok(&["inspect", "box"]);
        for (args, shown) in [(&["ps", "-a"][..], "box"), (&["system", "df"], "Images")] {
            let done = root.run(args);
            assert!(
                done.out.contains(shown) && done.err.contains("repositories.json"),
                "{args:?}: {}{}",
                done.out,
                done.err
            );
        }
        assert_eq!(root.ok(&["run", "--rm", &id, "cat", "/made1"]), "1");
        let done = root.run(&["image", "prune", "-a", "-f"]);
        assert_eq!(done.code, 1, "{}", done.out);
    }
    assert_eq!(records(&root).len(), 3, "nothing went");
}

/// A BuildKit build by the real daemon; `None` where its client cannot.
fn build(dockerd: &Dockerd, context: &Path) -> Option<String> {
    let context = context.display().to_string();
    let given = dockerd.command(&["build", "--network", "none", "-t", "built:1", &context]);
    // A client that needs a plugin for it is passed over.
    let clients = [given.get_program().to_owned(), "/usr/bin/docker".into()];
    for client in clients {
        let output = Command::new(client).args(given.get_args()).env("DOCKER_BUILDKIT", "1").output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("buildx") && !output.status.success() {
            continue;
        }
        assert!(output.status.success(), "{said}");
        return Some(said);
    }
    require::report_skip("no docker client here builds with BuildKit by itself");
    None
}

#[test]
fn the_build_cache_is_nobodys_orphan_and_builds_on() {
    let (Some(()), Some(busybox)) = (require::overlay(), tars::busybox()) else { return };
    let place = scratch();
    let Some(dockerd) = Dockerd::start(&place.join("root")) else { return };
    let context = place.join("context");
    fs::create_dir(&context).expect("create");
    let base = place.join("base.tar");
    fs::write(&base, busybox).expect("write");
    dockerd.docker(&["import", &base.display().to_string(), "base:1"]);
    let file =
        "FROM base:1\nCOPY Dockerfile /d\nRUN [\"/bin/busybox\",\"sh\",\"-c\",\"/bin/busybox echo hi > /made\"]\n";
    fs::write(context.join("Dockerfile"), file).expect("write");
    let Some(_) = build(&dockerd, &context) else { return };
    let root = root_at(&place.join("root")).expect("it was made");
    assert_eq!(findings(&root), Vec::<Value>::new(), "beside a live dockerd");
    drop(dockerd);
    assert_eq!(findings(&root), Vec::<Value>::new());
    let snapshots: Vec<_> = root.folders().into_iter().filter(|name| name.len() == 25).collect();
    assert!(snapshots.len() > 2, "{snapshots:?}");
    let explained: Vec<_> = snapshots.iter().map(|name| root.ok(&["explain", &format!("overlay2/{name}")])).collect();
    // Those that became layers are theirs.
    for said in &explained {
        assert!(said.contains("build cache record") || said.contains("owner   layer"), "{said}");
    }
    assert!(explained.iter().any(|said| said.contains("local source for context")), "{explained:#?}");
    // The image goes, and the layers that the cache stands on stay.
    root.ok(&["rmi", "built:1"]);
    root.ok(&["image", "prune", "-f"]);
    let dockerd = Dockerd::start(&place.join("root")).expect("it came up before");
    let said = build(&dockerd, &context).expect("it built before");
    assert!(said.contains("CACHED"), "{said}");
    let made = dockerd.docker(&["run", "--rm", "--network", "none", "built:1", "/bin/busybox", "cat", "/made"]);
    assert_eq!(made, "hi");
    drop(dockerd);
    assert_eq!(findings(&root), Vec::<Value>::new());
    // Damaged records of the cache: nothing of it is taken for an orphan, and the way out works.
    let database = root.join("buildkit/snapshots.db");
    fs::write(&database, [0xff; 5000]).expect("damage it");
    let found = findings(&root);
    assert!(
        found.iter().all(|f| text(f, "severity") == "error" || text(f, "remedy").starts_with("leave it")),
        "{found:#?}"
    );
    let error = found.iter().find(|f| text(f, "severity") == "error").expect("an error");
    assert_eq!(text(error, "path"), "buildkit/snapshots.db");
    let (_, command) = text(error, "remedy").rsplit_once(": ").expect("a command");
    assert!(Command::new("sh").arg("-c").arg(command).status().expect("sh runs").success());
    let dockerd = Dockerd::start(&place.join("root")).expect("it came up before");
    build(&dockerd, &context).expect("it built before");
    drop(dockerd);
    let left = findings(&root);
    assert!(left.iter().all(|f| !text(f, "path").starts_with("buildkit")), "{left:#?}");
}
