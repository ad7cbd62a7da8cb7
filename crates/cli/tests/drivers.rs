//! Images and containers under several storage drivers, side by side in one root.

mod common;

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Root, names, root, root_on_btrfs, tars};
use serde_json::Value;
use strata_testkit::{Dockerd, require};

/// The drivers that work here, best first.
fn drivers(root: &Root) -> Vec<String> {
    let text = root.ok(&["info", "--format", "json"]);
    let info: Value = serde_json::from_str(&text).expect("JSON");
    let works = |driver: &&Value| driver["Works"] == true;
    let all = info["StorageDrivers"].as_array().expect("a list");
    all.iter().filter(works).map(|driver| driver["Name"].as_str().expect("text").to_owned()).collect()
}

fn on<'a>(driver: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    ["--storage-driver", driver].iter().chain(args).copied().collect()
}

#[track_caller]
fn import(root: &Root, driver: &str, name: &str, tar: &[u8]) {
    let done = root.feed(&on(driver, &["import", "-c", "CMD [\"true\"]", "-", name]), tar);
    assert_eq!(done.code, 0, "{driver}: {}", done.err);
}

/// A root with an image and a container of its own under each of these drivers, and one image under all of them.
fn furnished(wanted: &[&str]) -> Option<(Root, Vec<String>)> {
    furnish(root()?, wanted)
}

fn furnish(root: Root, wanted: &[&str]) -> Option<(Root, Vec<String>)> {
    let busybox = tars::busybox()?;
    let mut drivers = drivers(&root);
    drivers.retain(|driver| wanted.contains(&driver.as_str()));
    for driver in wanted.iter().filter(|wanted| !drivers.iter().any(|driver| driver == *wanted)) {
        require::report_skip(&format!("{driver} does not work here"));
    }
    import(&root, &drivers[0], "shared:1", &busybox);
    let shared = root.save(&["shared:1"]);
    for driver in &drivers {
        import(&root, driver, &format!("of-{driver}:1"), &busybox);
        root.ok(&on(driver, &["create", "--name", &format!("box-{driver}"), &format!("of-{driver}:1"), "true"]));
        if *driver != drivers[0] {
            assert_eq!(root.feed(&on(driver, &["load"]), &shared).code, 0, "{driver}");
        }
    }
    Some((root, drivers))
}

const ALL: &[&str] = &["overlay2", "overlay", "aufs", "fuse-overlayfs", "vfs"];

/// Lines of `list`, each with its driver first, of each driver asked for on its own.
fn one_by_one(root: &Root, drivers: &[String], list: &[&str]) -> BTreeSet<String> {
    let of = |driver: &String| {
        let lines = root.lines(&on(driver, list));
        lines.into_iter().map(|line| format!("{driver} {line}")).collect::<Vec<_>>()
    };
    drivers.iter().flat_map(of).collect()
}

fn table(text: &str) -> Vec<Vec<String>> {
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    text.lines().map(cells).collect()
}

#[test]
fn what_lies_under_several_drivers_is_shown_together() {
    let Some((root, drivers)) = furnished(ALL) else { return };
    is_shown_together(&root, &drivers);
}

#[test]
fn what_lies_under_btrfs_is_shown_beside_the_others() {
    let Some(root) = root_on_btrfs(1 << 30) else { return };
    let Some((root, drivers)) = furnish(root, &["btrfs", "overlay2", "vfs"]) else { return };
    assert_eq!(drivers, ["overlay2", "btrfs", "vfs"]);
    is_shown_together(&root, &drivers);
}

fn is_shown_together(root: &Root, drivers: &[String]) {
    for (command, row) in
        [("images", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"), ("ps", "{{.Names}} {{.Image}} {{.ID}}")]
    {
        let together = root.lines(&[command, "-a", "--format", &format!("{{{{.Driver}}}} {row}")]);
        let alone = one_by_one(root, drivers, &[command, "-a", "--format", row]);
        assert_eq!(together.iter().cloned().collect::<BTreeSet<_>>(), alone);
        assert_eq!(together.len(), alone.len());
        // The default table tells the drivers apart where there are several, and only there.
        let shown = table(&root.ok(&[command, "-a"]));
        assert_eq!(shown[0].last().map(String::as_str), Some("DRIVER"));
        let column: BTreeSet<&String> = shown[1..].iter().filter_map(|row| row.last()).collect();
        assert_eq!(column, drivers.iter().collect());
        assert!(!root.ok(&on(&drivers[0], &[command, "-a"])).contains("DRIVER"));
        let json = root.lines(&[command, "-a", "--format", "json"]);
        let of =
            |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["Driver"].as_str().map(str::to_owned);
        assert_eq!(json.iter().filter_map(of).collect::<BTreeSet<_>>(), drivers.iter().cloned().collect());
    }
    // One image under all drivers is one ID, and a line for each.
    let ids = root.lines(&["images", "-q", "shared"]);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (drivers.len(), 1));

    let rows = table(&root.ok(&["system", "df"]));
    assert_eq!(rows.len(), 1 + 2 * drivers.len() + 2);
    for driver in drivers {
        let alone = table(&root.ok(&on(driver, &["system", "df"])));
        for row in &alone[1..3] {
            let mut row = row.clone();
            row.push(driver.clone());
            assert!(rows.contains(&row), "{row:?} of {rows:?}");
        }
    }
    let verbose = root.ok(&["system", "df", "-v"]);
    for driver in drivers {
        assert_eq!(table(&verbose).iter().filter(|row| row.last() == Some(driver)).count(), 3, "{driver}: {verbose}");
        for name in [format!("of-{driver}:1"), format!("box-{driver}")] {
            assert_eq!(root.inspect(&name)["GraphDriver"]["Name"], driver.as_str(), "{name}");
        }
    }
    let report: Value = serde_json::from_str(&root.ok(&["fsck", "--contents", "--format", "json"])).expect("JSON");
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report:#}");
    assert_eq!(report["drivers"], serde_json::to_value(drivers).expect("JSON"));
    assert_eq!((&report["images"], &report["containers"]), (&(2 * drivers.len()).into(), &drivers.len().into()));
    let info = root.ok(&["info"]);
    for driver in drivers {
        let line = format!(" {driver}: 2 images, 1 containers");
        assert!(info.lines().any(|found| found == line), "{info}");
    }
}

#[test]
fn damage_is_found_under_whichever_driver_it_lies() {
    let Some((root, drivers)) = furnished(&["overlay2", "vfs", "overlay"]) else { return };
    for driver in &drivers {
        let id = root.ok(&on(driver, &["inspect", "-f", "{{.Id}}", &format!("of-{driver}:1")]));
        let config = root.join(format!("image/{driver}/imagedb/content/sha256/{}", id.trim_start_matches("sha256:")));
        let whole = std::fs::read(&config).expect("a config");
        // As another file: `images` believes one that it knows.
        std::fs::write(config.with_extension("new"), "").expect("write");
        std::fs::rename(config.with_extension("new"), &config).expect("rename");
        let found = root.run(&["fsck"]);
        assert!(found.code == 1 && found.out.contains(&format!("image/{driver}/imagedb/content")), "{}", found.out);
        let listed = root.run(&["images"]);
        assert!(listed.code == 0 && listed.err.contains(&format!("image/{driver}/")), "{}", listed.err);
        std::fs::write(&config, whole).expect("write");
    }
    // The record of a container whose driver has nothing here is shown, and fsck reports it.
    let id = root.ok(&["inspect", "-f", "{{.Id}}", "box-vfs"]);
    let record = root.join(format!("containers/{id}/config.v2.json"));
    let text = std::fs::read_to_string(&record).expect("a record").replace("\"Driver\":\"vfs\"", "\"Driver\":\"zfs\"");
    std::fs::write(&record, text).expect("write");
    assert_eq!(root.lines(&["ps", "-a", "--filter", "name=box-vfs", "--format", "{{.Driver}}"]), ["zfs"]);
    assert_eq!(root.inspect("box-vfs")["GraphDriver"]["Name"], "zfs");
    let says = root.run(&["start", "box-vfs"]).err;
    assert!(says.contains("made with the storage driver zfs, which has nothing on this root"), "{says}");
    let found = root.run(&["fsck"]);
    assert!(found.out.contains("made with the storage driver zfs"), "{}{}", found.out, found.err);
}

#[test]
fn names_lead_to_their_driver_and_new_things_want_to_be_told() {
    let Some((root, drivers)) = furnished(ALL) else { return };
    let busybox = tars::busybox().expect("busybox");
    let archive = tars::archive(&[("new:1", &[tars::layer(1, 10)])]);
    let known: Vec<&str> = drivers.iter().map(String::as_str).filter(|driver| *driver != "vfs").collect();
    let refused = |done: common::Done| {
        let says = known.join(", ");
        assert!(done.code != 0 && done.err.contains(&says) && done.err.contains("--storage-driver"), "{}", done.err);
    };
    refused(root.feed(&["load"], &archive));
    refused(root.feed(&["import", "-", "new:2"], &busybox));
    refused(root.run(&["pull", "localhost:1/none:1"]));
    refused(root.run(&["run", "--rm", "localhost:1/none:1"]));
    refused(root.run(&["image", "prune", "-f"]));
    assert!(!root.ok(&["images"]).contains("new"));

    for driver in &drivers {
        let (image, name) = (format!("of-{driver}:1"), format!("box-{driver}"));
        assert_eq!(root.ok(&["run", "--rm", &image, "echo", driver]), *driver);
        root.ok(&["cp", root.file("new", b"content\n").as_str(), &format!("{name}:/new")]);
        assert_eq!(root.ok(&["diff", &name]), "A /new");
        root.ok(&["start", &name]);
        root.ok(&["commit", &name, &format!("more-{driver}:1")]);
        let made = root.inspect(&format!("more-{driver}:1"));
        assert_eq!(made["GraphDriver"]["Name"], driver.as_str());
        assert_eq!(root.ok(&["run", "--rm", &format!("more-{driver}:1"), "cat", "/new"]), "content");
        root.ok(&["tag", &format!("more-{driver}:1"), &format!("again-{driver}:1")]);
        assert!(root.lines(&["history", &format!("again-{driver}:1")]).len() > 2);
        root.ok(&["rmi", &format!("more-{driver}:1"), &format!("again-{driver}:1")]);
    }
    // The very same image may be read under any; changed under one that is named.
    root.save(&["shared:1"]);
    let says = root.refused(1, &["tag", "shared:1", "shared:2"]);
    assert!(
        says.contains("image shared:1 is found under the storage drivers") && says.contains("--storage-driver"),
        "{says}"
    );
    root.ok(&on("vfs", &["tag", "shared:1", "shared:2"]));
    assert_eq!(root.lines(&["images", "--format", "{{.Driver}}", "shared:2"]), ["vfs"]);
    // A name is one container's, under whatever driver.
    let says = root.refused(125, &on("vfs", &["run", "--name", "box-overlay2", "of-vfs:1", "true"]));
    assert!(says.contains("is already in use"), "{says}");
    let boxes: Vec<String> = drivers.iter().map(|driver| format!("box-{driver}")).collect();
    let args: Vec<&str> = ["rm"].into_iter().chain(boxes.iter().map(String::as_str)).collect();
    root.ok(&args);
    assert!(names(&root.join("containers")).is_empty());
    assert!(root.ok(&["fsck", "--contents"]).contains("sound"));
}

#[test]
fn vfs_does_not_decide_beside_another_driver() {
    let Some((root, drivers)) = furnished(&["overlay2", "vfs"]) else { return };
    assert_eq!(drivers, ["overlay2", "vfs"]);
    root.load(&tars::archive(&[("new:1", &[tars::layer(1, 10)])]));
    assert_eq!(root.lines(&["images", "--format", "{{.Driver}}", "new"]), ["overlay2"]);
    // What both have is the chosen driver's, to be changed too; what only vfs has is found there.
    root.ok(&["tag", "shared:1", "shared:2"]);
    assert_eq!(root.lines(&["images", "--format", "{{.Driver}}", "shared:2"]), ["overlay2"]);
    root.ok(&["rmi", "-f", "of-vfs:1"]);
}

#[test]
fn what_a_killed_command_left_is_settled_under_another_driver() {
    let Some((root, _)) = furnished(&["overlay2", "vfs"]) else { return };
    let folders = names(&root.join("vfs/dir"));
    let tar = tars::layer(1, 1 << 20);
    let mut command = root.command(&on("vfs", &["import", "-", "big:1"]));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strata");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&tar[..tar.len() / 2]).expect("write");
    let begun = Instant::now();
    while names(&root.join("vfs/dir")) == folders && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("kill");
    child.wait().expect("its end");
    assert_ne!(names(&root.join("vfs/dir")), folders, "killed before it unpacked");
    // A command that works on overlay2 alone.
    root.ok(&on("overlay2", &["tag", "of-overlay2:1", "other:1"]));
    assert_eq!(names(&root.join("vfs/dir")), folders);
    assert!(names(&root.join("strata/journal")).is_empty());
}

#[test]
fn dockerd_sees_its_driver_and_leaves_the_others() {
    let Some((root, drivers)) = furnished(&["overlay2", "overlay", "vfs"]) else { return };
    for driver in &drivers {
        let Some(dockerd) = Dockerd::start_with(root.path(), driver) else { return };
        let of = |args: &[&str]| -> BTreeSet<String> { dockerd.docker(args).lines().map(str::to_owned).collect() };
        let ours = |args: &[&str]| -> BTreeSet<String> { root.lines(&on(driver, args)).into_iter().collect() };
        for list in [
            ["ps", "-a", "--format", "{{.Names}} {{.Image}}"],
            ["images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"],
        ] {
            assert_eq!(of(&list), ours(&list), "{driver}");
        }
    }
    assert_eq!(root.lines(&["ps", "-aq"]).len(), drivers.len());
    assert!(root.ok(&["fsck", "--contents"]).contains("sound"));
}

#[test]
fn one_drivers_damage_hides_no_other() {
    let Some((root, drivers)) = furnished(&["overlay2", "overlay", "vfs"]) else { return };
    let path = "image/vfs/repositories.json";
    let whole = std::fs::read(root.join(path)).expect("names");
    std::fs::write(root.join(path), "").expect("write");
    let sound: BTreeSet<String> = drivers.iter().filter(|driver| *driver != "vfs").cloned().collect();
    let names_it = |done: &common::Done| {
        let says = done.err.contains(path) && done.err.contains("move the file away");
        assert!(done.code == 1 && says, "{} {}", done.code, done.err);
    };
    // Containers are shown without the images' names.
    for (list, shown) in [(["images", "-a"], sound.clone()), (["ps", "-a"], drivers.iter().cloned().collect())] {
        let done = root.run(&[list[0], list[1], "--format", "{{.Driver}}"]);
        names_it(&done);
        assert!(done.err.contains("the storage driver vfs"), "{}", done.err);
        assert_eq!(done.out.lines().map(str::to_owned).collect::<BTreeSet<_>>(), shown);
        let alone = root.run(&on("vfs", &list));
        assert!(alone.code == 1 && alone.err.contains(path), "{}{}", alone.out, alone.err);
        assert_eq!(alone.out.is_empty(), list[0] == "images", "{}", alone.out);
    }
    for df in [&["system", "df"][..], &["system", "df", "-v"], &["system", "df", "--format", "json"]] {
        let done = root.run(df);
        names_it(&done);
        // Without the names, what lies there is counted all the same.
        assert!(done.out.contains("overlay2") && done.out.contains("vfs"), "{}", done.out);
    }
    let found = root.run(&["fsck"]);
    assert!(found.code == 1 && found.out.contains(path) && found.out.contains("1 errors"), "{}", found.out);
    let info = root.ok(&["info"]);
    assert!(info.contains("\n vfs: 2 images, 1 containers"), "{info}");
    // What is sound is worked with, what is named under the damaged one is not taken for missing.
    assert_eq!(root.ok(&["run", "--rm", "of-overlay:1", "echo", "ran"]), "ran");
    root.ok(&["explain", "of-overlay:1"]);
    root.ok(&["start", "box-vfs"]);
    for command in [&["rmi", "of-vfs:1"][..], &["history", "of-vfs:1"], &["save", "of-vfs:1"], &["inspect", "of-vfs:1"]]
    {
        names_it(&root.run(command));
    }
    std::fs::write(root.join(path), whole).expect("write");

    // A store that cannot be opened at all.
    let content = root.join("image/vfs/imagedb/content");
    std::fs::rename(content.join("sha256"), content.join("aside")).expect("rename");
    std::fs::write(content.join("sha256"), "").expect("write");
    let done = root.run(&["images", "--format", "{{.Driver}}"]);
    assert_eq!(done.out.lines().map(str::to_owned).collect::<BTreeSet<_>>(), sound);
    assert!(done.err.contains("image/vfs/imagedb/content/sha256"), "{}", done.err);
    let found = root.run(&["fsck"]);
    assert!(found.code == 1 && found.out.contains("image/vfs/imagedb/content/sha256"), "{}{}", found.out, found.err);
    assert!(root.run(&["info"]).err.contains("image/vfs/imagedb/content/sha256"));
    assert_eq!(root.ok(&["run", "--rm", "of-overlay:1", "echo", "ran"]), "ran");
    std::fs::remove_file(content.join("sha256")).expect("remove");
    std::fs::rename(content.join("aside"), content.join("sha256")).expect("rename");
    assert!(root.ok(&["fsck", "--contents"]).contains("sound"));
}

#[test]
fn records_of_a_driver_that_cannot_be_opened_are_shown_and_the_others_are_used() {
    let Some(from) = root_on_btrfs(256 << 20) else { return };
    let Some((from, _)) = furnish(from, &["btrfs"]) else { return };
    let Some((root, _)) = furnished(&["overlay2"]) else { return };
    // A root that was copied to another filesystem, into one that is in use; and one of a driver that nobody here has.
    for folder in ["image/btrfs", "btrfs", "containers"] {
        let to = root.join(folder);
        let copied = Command::new("cp").arg("-a").arg("-T").arg(from.join(folder)).arg(&to).status().expect("cp runs");
        assert!(copied.success());
    }
    std::fs::create_dir_all(root.join("image/devicemapper/layerdb/sha256/of-another")).expect("create");
    for list in [["images", "-a"], ["ps", "-a"]] {
        let shown = root.lines(&[list[0], list[1], "--format", "{{.Driver}}"]);
        assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), ["btrfs".to_owned(), "overlay2".to_owned()].into());
    }
    assert_eq!(root.inspect("box-btrfs")["GraphDriver"]["Name"], "btrfs");
    assert_eq!(root.inspect("of-btrfs:1")["GraphDriver"]["Name"], "btrfs");
    let df = root.run(&["system", "df"]).err;
    for says in ["storage driver btrfs cannot be opened", "is not on a btrfs", "storage driver devicemapper cannot be"]
    {
        assert!(df.contains(says), "{says}: {df}");
    }
    let found = root.run(&["fsck", "--format", "json"]);
    let report: Value = serde_json::from_str(&found.out).expect("JSON");
    let of = |driver: &str| {
        let mut all = report["findings"].as_array().expect("a list").iter();
        all.any(|one| one["object"]["kind"] == "driver" && one["object"]["id"] == driver && one["severity"] == "error")
    };
    assert!(found.code == 1 && of("btrfs") && of("devicemapper"), "{report:#}");
    let info = root.run(&["info"]);
    assert!(
        info.code == 0 && info.out.contains("\n btrfs: ") && info.out.contains("\n devicemapper: "),
        "{}",
        info.out
    );
    for command in [
        &["rm", "box-btrfs"][..],
        &["rmi", "of-btrfs:1"],
        &["tag", "of-btrfs:1", "new:1"],
        &["start", "box-btrfs"],
        &["commit", "box-btrfs"],
        &["run", "--rm", "of-btrfs:1", "true"],
        &["save", "of-btrfs:1"],
    ] {
        let done = root.run(command);
        let says = done.err.contains("the storage driver btrfs cannot be opened here");
        assert!(done.code != 0 && says, "{command:?}: {}", done.err);
    }
    assert!(root.ok(&["images", "of-btrfs"]).contains("of-btrfs"), "a refused removal left it whole");
    assert!(root.ok(&["explain", "of-btrfs:1"]).contains("of-btrfs:1"));
    assert_eq!(root.ok(&["run", "--rm", "of-overlay2:1", "echo", "ran"]), "ran");
    root.ok(&["commit", "box-overlay2", "more:1"]);
    // A name is given once for all drivers.
    let says = root.refused(1, &["create", "--name", "box-btrfs", "more:1", "true"]);
    assert!(says.contains("is already in use"), "{says}");
    // New things go nowhere else because btrfs fails.
    let done = root.feed(&["import", "-", "new:1"], &tars::layer(1, 10));
    assert!(done.code == 1 && done.err.contains("--storage-driver"), "{}", done.err);
    root.feed(&on("overlay2", &["import", "-", "new:1"]), &tars::layer(1, 10));
    assert_eq!(root.lines(&["images", "--format", "{{.Driver}}", "new"]), ["overlay2"]);
}

#[test]
fn what_may_mean_several_things_is_refused() {
    let Some((root, _)) = furnished(&["overlay2", "vfs"]) else { return };
    let busybox = tars::busybox().expect("busybox");
    // The beginning of an ID that each driver has one image of.
    let ids = |driver: &str| root.lines(&on(driver, &["images", "-aq", "--no-trunc"]));
    let first = |id: &String| id.trim_start_matches("sha256:")[..1].to_owned();
    let alone = |ids: &[String], digit: &String| ids.iter().filter(|id| first(id) == *digit).count() == 1;
    let digit = (0..64).find_map(|n| {
        import(&root, ["overlay2", "vfs"][n % 2], &format!("one:{n}"), &busybox);
        let (ours, theirs) = (ids("overlay2"), ids("vfs"));
        let is_such = |digit: &String| alone(&ours, digit) && alone(&theirs, digit);
        let differ = |digit: &String| !ours.iter().any(|id| first(id) == *digit && theirs.contains(id));
        ours.iter().map(first).find(|digit| is_such(digit) && differ(digit))
    });
    let digit = digit.expect("64 images begin with 16 digits");
    for command in [&["image", "inspect", &digit][..], &["rmi", &digit], &["history", &digit], &["save", &digit]] {
        let says = root.run(command).err;
        assert!(says.contains("is found under the storage drivers overlay2, vfs"), "{command:?}: {says}");
    }
    assert_eq!(root.run(&on("vfs", &["history", &digit])).code, 0);

    let says = root.refused(1, &["save", "of-overlay2:1", "of-vfs:1"]);
    assert!(says.contains("of-overlay2:1 under overlay2, of-vfs:1 under vfs"), "{says}");
    let says = root.refused(1, &["save", "of-vfs:1", "none:1"]);
    assert!(says.contains("none:1") && !says.contains("of-vfs"), "{says}");
    // A driver that is asked for is the only one looked at.
    assert!(root.refused(1, &on("overlay2", &["history", "of-vfs:1"])).contains("No such image: of-vfs:1"));
    assert!(root.refused(1, &on("vfs", &["rm", "box-overlay2"])).contains("No such container: box-overlay2"));
    let says = root.refused(1, &on("zfs", &["images"]));
    assert!(says.contains("\"zfs\"") && says.contains("overlay2, btrfs"), "{says}");
    let says = root.refused(1, &on("btrfs", &["images"]));
    assert!(says.contains("is not on a btrfs"), "{says}");
}
