//! Exit codes, lists, formats, help, completion.

mod common;

use std::{
    io::Read,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Done, root, root_with_busybox, root_with_image, strata, tars, wait};
use strata_testkit::require;

fn run(args: &[&str]) -> Done {
    strata(args).env("STRATA_DATA_ROOT", "/nonexistent/strata").output().expect("strata runs").into()
}

#[test]
fn no_arguments_print_help() {
    let done = run(&[]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains("Usage: strata") && done.out.contains("Examples:"), "{}", done.out);
    for group in ["image", "container", "system"] {
        let done = run(&[group]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{group}");
        assert!(done.out.contains(&format!("Usage: strata {group}")), "{}", done.out);
    }
    assert_eq!(run(&["--version"]).out, format!("strata {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn usage_errors_have_dockers_exit_codes() {
    for (args, code) in [
        (&["--unknown"][..], 125),
        (&["run", "--unknown", "x"], 125),
        (&["ps", "--unknown"], 125),
        (&["load", "--max-entries", "many"], 125),
        (&["unknown"], 1),
        (&["image", "unknown"], 1),
        (&["run"], 1),
        (&["tag", "one"], 1),
        (&["tag", "one", "two", "three"], 1),
        (&["rmi"], 1),
    ] {
        let done = run(args);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{args:?}: {}", done.err);
        assert!(done.err.contains("--help"), "{args:?}: {}", done.err);
    }
}

/// The names under `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        lines.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut found = 0;
    let top = commands(&run(&["--help"]).out);
    assert!(top.len() > 20, "{top:?}");
    let mut all: Vec<Vec<String>> = top.into_iter().map(|name| vec![name]).collect();
    while let Some(path) = all.pop() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let done = run(&args);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}");
        assert!(done.out.contains(&format!("Usage: strata {}", path.join(" "))), "{args:?}: {}", done.out);
        assert!(!done.out.lines().next().unwrap_or_default().trim().is_empty(), "{args:?}");
        let inner = commands(&done.out);
        assert!(!inner.is_empty() || done.out.contains("\nExample"), "{args:?} has no example");
        all.extend(inner.into_iter().map(|name| path.iter().cloned().chain([name]).collect()));
        found += 1;
    }
    assert!(found > 40, "{found}");
}

#[test]
fn completion_scripts_are_accepted_by_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(&["completion", shell]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{shell}");
        for word in ["strata", "commit", "no-trunc"] {
            assert!(done.out.contains(word), "{shell}: {word}");
        }
        let Some(program) = require::program(shell) else { continue };
        let scratch = strata_testkit::scratch();
        std::fs::write(scratch.join("script"), &done.out).expect("write");
        let checked = Command::new(program).arg("-n").arg(scratch.join("script")).output().expect("it starts");
        assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    assert_eq!(run(&["completion", "tcsh"]).code, 125);
}

#[test]
fn man_writes_a_page_for_every_command() {
    let scratch = strata_testkit::scratch();
    let dir = scratch.join("man");
    assert_eq!(run(&["man", &dir.to_string_lossy()]).code, 0);
    let pages = common::names(&dir);
    for page in ["strata.1", "strata-run.1", "strata-image-ls.1", "strata-system-df.1"] {
        assert!(pages.contains(page), "{page} in {pages:?}");
    }
    let text = std::fs::read_to_string(dir.join("strata-run.1")).expect("read");
    assert!(text.contains(".TH") && text.contains("Exit status"), "{text}");
}

#[test]
fn a_commands_exit_status_passes_through() {
    let Some(root) = root_with_busybox() else { return };
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 255] {
        let done = root.run(&["run", "--rm", "bb", "sh", "-c", &format!("echo out; echo err >&2; exit {code}")]);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (code, "out\n", "err\n"));
    }
    root.ok(&["create", "--name", "again", "bb", "sh", "-c", "exit 9"]);
    assert_eq!(root.run(&["start", "-a", "again"]).code, 9);
    assert_eq!(root.ok(&["inspect", "-f", "{{.State.ExitCode}}", "again"]), "9");
    root.ok(&["rm", "again"]);
    root.assert_sound(&"afterwards");
}

#[test]
fn what_cannot_be_run_is_125_126_or_127() {
    let Some(root) = root_with_busybox() else { return };
    for (args, code, says) in [
        (&["run", "--rm", "--pull=never", "missing"][..], 125, "No such image: missing:latest"),
        (&["run", "--rm", "--network", "bridge", "bb"], 125, "bridge"),
        (&["run", "--rm", "-v", "nowhere", "bb"], 125, "nowhere"),
        (&["run", "--rm", "-w", "relative", "bb", "true"], 125, "relative"),
        (&["run", "--rm", "-u", "nobody-here", "bb", "true"], 125, "nobody-here"),
        (&["run", "--rm", "bb", "/etc/passwd"], 126, "permission denied"),
        (&["run", "--rm", "bb", "/etc"], 126, "/etc"),
        (&["run", "--rm", "bb", "/bin/missing"], 127, "/bin/missing"),
        (&["run", "--rm", "bb", "missing"], 127, "missing"),
        (&["run", "--rm", "bb"], 125, "No command specified"),
    ] {
        let done = root.run(args);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{args:?}: {}", done.err);
        assert!(done.err.to_lowercase().contains(&says.to_lowercase()), "{args:?}: {}", done.err);
    }
    assert!(root.lines(&["ps", "-aq"]).is_empty());
    root.assert_sound(&"afterwards");
}

#[test]
fn signals_and_input_pass_through() {
    let Some(root) = root_with_busybox() else { return };
    let done = root.feed(&["run", "--rm", "-i", "bb", "cat"], b"some\ninput");
    assert_eq!((done.code, done.out.as_str()), (0, "some\ninput"));
    // Without -i there is none.
    let done = root.feed(&["run", "--rm", "bb", "cat"], b"some\ninput");
    assert_eq!((done.code, done.out.as_str()), (0, ""));
    let script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        root.command(&["run", "--rm", "bb", "sh", "-c", script]).stdout(Stdio::piped()).spawn().expect("strata runs");
    let mut out = child.stdout.take().expect("a pipe");
    let mut ready = [0; 6];
    out.read_exact(&mut ready).expect("it says that it is ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("read");
    assert_eq!((wait(&mut child, Duration::from_secs(20)).code(), rest.as_str()), (Some(7), "told\n"));
    root.assert_sound(&"afterwards");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&["create", "--name", "box", "bb", "true"]);
    for args in [
        &["images"][..],
        &["ps", "-a"],
        &["history", "bb"],
        &["inspect", "bb"],
        &["diff", "box"],
        &["info"],
        &["version"],
        &["--help"],
        &["completion", "bash"],
        &["fsck"],
        &["explain", "bb"],
        &["system", "df"],
        &["save", "bb"],
        &["export", "box"],
        &["cp", "box:/bin", "-"],
    ] {
        let mut command = root.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strata runs");
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("read");
        let status = wait(&mut child, Duration::from_secs(20));
        assert!(!err.contains("panicked") && status.code() != Some(101), "{args:?}: {err}");
        let streams = ["save", "export", "cp"].contains(&args[0]);
        assert!(err.is_empty() || streams, "{args:?}: {err}");
    }
    root.assert_sound(&"afterwards");
}

/// Two images of known IDs and sizes.
fn root_with_two() -> Option<common::Root> {
    let root = root()?;
    let (one, two) = (tars::layer(1, 1000), tars::layer(2, 2000));
    assert_eq!(
        root.load(&tars::archive(&[("one:1", std::slice::from_ref(&one)), ("team/two:2", &[one.clone(), two])])).code,
        0
    );
    root.ok(&["tag", "one:1", "one:latest"]);
    Some(root)
}

#[test]
fn images_are_listed() {
    let Some(root) = root_with_two() else { return };
    let (one, two) = (tars::layer(1, 1000), tars::layer(2, 2000));
    let id_one = tars::image_id(std::slice::from_ref(&one), "one:1");
    let id_two = tars::image_id(&[one, two], "team/two:2");
    let short = |id: &str| id[7..19].to_owned();
    let lines = root.lines(&["images"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&lines[0]), ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(lines.len(), 4);
    let mut names: Vec<_> = lines[1..].iter().map(|line| words(line)[..3].join(" ")).collect();
    names.sort();
    let expected = [
        format!("one 1 {}", short(&id_one)),
        format!("one latest {}", short(&id_one)),
        format!("team/two 2 {}", short(&id_two)),
    ];
    assert_eq!(names, expected);
    let sorted = |args: &[&str]| {
        let mut lines = root.lines(args);
        lines.sort();
        lines
    };
    // A line for each tag.
    let mut ids = vec![id_one.clone(), id_one.clone(), id_two.clone()];
    ids.sort();
    assert_eq!(sorted(&["images", "-q", "--no-trunc"]), ids);
    assert_eq!(sorted(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), ["one:1", "one:latest", "team/two:2"]);
    assert_eq!(
        root.lines(&["images", "--format", "table {{.Tag}}\t{{.Repository}}", "team/two"]),
        ["TAG       REPOSITORY", "2         team/two"]
    );
    assert_eq!(sorted(&["images", "--format", "{{.Tag}}", "one"]), ["1", "latest"]);
    assert_eq!(sorted(&["images", "--format", "{{.Tag}}", "one:lat*"]), ["latest"]);
    assert_eq!(
        sorted(&["images", "-q", "--no-trunc", "--filter", "label=name=team/two:2"]),
        std::slice::from_ref(&id_two)
    );
    assert_eq!(sorted(&["images", "-q", "--filter", "dangling=true"]), Vec::<String>::new());
    assert_eq!(sorted(&["images", "--filter", "reference=team/*", "--format", "{{.Tag}}"]), ["2"]);
    let json: serde_json::Value =
        serde_json::from_str(&root.ok(&["images", "--format", "json", "team/two"])).expect("JSON");
    assert_eq!([&json["Repository"], &json["ID"]], ["team/two", short(&id_two).as_str()]);
    for (args, says) in [
        (&["images", "--filter", "color=red"][..], "color"),
        (&["images", "--format", "{{.Nope}}"], "Nope"),
        (&["images", "--format", "{{.ID"], "unclosed action"),
    ] {
        let err = root.refused(1, args);
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn history_is_listed() {
    let Some(root) = root_with_two() else { return };
    let lines = root.lines(&["history", "team/two:2"]);
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    );
    assert!(lines[2].starts_with("<missing>"), "{}", lines[2]);
    let id = root.ok(&["inspect", "-f", "{{.Id}}", "team/two:2"]);
    assert_eq!(root.lines(&["history", "-q", "--no-trunc", "team/two:2"]), [id.as_str(), "<missing>"]);
    assert_eq!(
        root.lines(&["history", "--human=false", "--format", "{{.CreatedAt}} {{.CreatedBy}}", "one"]),
        ["2024-05-01T12:00:00Z step"]
    );
    let err = root.refused(1, &["history", "missing"]);
    assert!(err.contains("No such image: missing:latest"), "{err}");
}

#[test]
fn containers_are_listed() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&["create", "--name", "made", "--label", "a=1", "bb", "sleep", "1000000000000000000000"]);
    root.run(&["run", "--name", "ended", "--label", "a=2", "bb", "sh", "-c", "exit 3"]);
    assert_eq!(root.lines(&["ps"]).len(), 1);
    let lines = root.lines(&["ps", "-a"]);
    let head: Vec<_> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(head, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(lines[1].contains("Exited (3)") && lines[1].ends_with("ended"), "{}", lines[1]);
    assert!(lines[2].contains("\"sleep 1000000000000…\"") && lines[2].ends_with("made"), "{}", lines[2]);
    let names = |args: &[&str]| root.lines(&[&["ps", "--format", "{{.Names}}"], args].concat());
    assert_eq!(names(&["-a"]), ["ended", "made"]);
    assert_eq!(names(&["-n", "1"]), ["ended"]);
    assert_eq!(names(&["-l"]), ["ended"]);
    assert_eq!(names(&["--filter", "status=created"]), ["made"]);
    assert_eq!(names(&["-a", "--filter", "exited=3"]), ["ended"]);
    assert_eq!(names(&["-a", "--filter", "label=a=1"]), ["made"]);
    assert_eq!(names(&["-a", "--filter", "name=^en"]), ["ended"]);
    assert_eq!(names(&["-a", "--filter", "ancestor=bb"]), ["ended", "made"]);
    assert_eq!(names(&["-a", "--filter", "since=made"]), ["ended"]);
    assert_eq!(names(&["-a", "--filter", "before=ended"]), ["made"]);
    let id = root.ok(&["inspect", "-f", "{{.Id}}", "made"]);
    assert_eq!(root.lines(&["ps", "-aq", "--no-trunc", "--filter", "name=made"]), [id.as_str()]);
    assert_eq!(root.lines(&["ps", "-aq", "--filter", &format!("id={}", &id[..5])]), [&id[..12]]);
    root.ok(&["rm", "made", &root.ok(&["ps", "-aq", "--filter", "name=ended"])]);
    let err = root.refused(1, &["rm", "made"]);
    assert_eq!(err, "Error: No such container: made");
    root.assert_sound(&"afterwards");
}

#[test]
fn every_word_after_the_image_is_the_containers() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&["create", "--name", "made", "bb", "sh"]);
    root.ok(&[
        "commit",
        "-c",
        "ENTRYPOINT [\"/bin/busybox\",\"echo\",\"words:\"]",
        "-m",
        "- its message",
        "made",
        "says",
    ]);
    assert_eq!(root.inspect("says")["Comment"], "- its message");
    for words in [
        &["--help"][..],
        &["-h"],
        &["-e", "X=1"],
        &["--name", "x", "--rm"],
        &["--", "x"],
        &["--data-root", "/"],
        &["-it"],
    ] {
        let line = [&["run", "--rm=true", "-i=false", "says"], words].concat();
        assert_eq!(root.ok(&line), format!("words: {}", words.join(" ")));
    }
    root.ok(&["create", "--name", "later", "-l", "a=b", "says", "--rm", "--help"]);
    let later = root.inspect("later");
    assert_eq!((&later["Args"][2], &later["Args"][3]), (&"--rm".into(), &"--help".into()));
    assert_eq!(later["Config"]["Labels"]["a"], "b");
    assert_eq!(later["HostConfig"]["AutoRemove"], false);
    let error = root.refused(125, &["run", "--rm=perhaps", "says"]);
    assert!(error.starts_with("invalid argument \"perhaps\" for \"--rm\" flag"), "{error}");
}

#[test]
fn filters_are_refused_in_dockers_words_and_with_its_exit_codes() {
    let Some(root) = root_with_image() else { return };
    for list in ["ps", "images"] {
        let says = root.refused(125, &[list, "--filter", "label"]);
        assert!(says.contains("bad format of filter (expected name=value)"), "{says}");
        let says = root.refused(1, &[list, "--filter", "color=red"]);
        assert_eq!(says.trim_end(), "strata: invalid filter 'color'");
    }
    assert!(root.refused(1, &["images", "a["]).contains("syntax error in pattern"));
    assert!(
        root.refused(1, &["image", "prune", "-f", "--filter", "dangling=x"]).contains("invalid filter 'dangling=[x]'")
    );
    let says = root.refused(1, &["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert!(says.contains("The \"until\" filter is not supported with \"--volumes\""), "{says}");
}

#[test]
fn the_last_created_containers_are_listed_and_unused_volumes_pruned() {
    let Some(root) = root_with_image() else { return };
    let image = root.ok(&["images", "-q"]);
    for name in ["one", "two", "three"] {
        root.ok(&["create", "--name", name, "-v", "/data", &image, "true"]);
    }
    let names = |args: &[&str]| root.lines(&[args, &["--format", "{{.Names}}"]].concat());
    assert_eq!(names(&["ps", "-l"]), ["three"]);
    assert_eq!(names(&["ps", "-n", "2"]), ["three", "two"]);
    assert_eq!(names(&["ps", "-n", "-1"]), [""; 0]);
    let id = root.ok(&["inspect", "-f", "{{.Id}}", "one"]);
    // Removed without its volume, which nothing uses then.
    root.ok(&["rm", &id]);
    let verbose = root.ok(&["system", "df", "-v"]);
    for column in ["LOCAL VOLUMES", "NAMES", "VOLUME NAME", "UNIQUE SIZE", "CACHE TYPE"] {
        assert!(verbose.contains(column), "{verbose}");
    }
    assert!(verbose.contains("Build cache usage: 0B"), "{verbose}");
    let pruned = root.ok(&["system", "prune", "-f", "--volumes"]);
    // Its stopped containers go first, and what they alone had goes with them.
    assert!(pruned.contains("Deleted Containers:\n") && pruned.contains("Deleted Volumes:\n"), "{pruned}");
    assert!(volumes(&root).is_empty());
}

/// What lies in the root's `volumes`.
fn volumes(root: &common::Root) -> Vec<String> {
    common::names(&root.join("volumes")).into_iter().filter(|name| name.len() == 64).collect()
}

#[test]
fn the_last_container_of_a_removed_image_takes_its_layers_along() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&["create", "--name", "one", "bb", "true"]);
    root.ok(&["create", "--name", "two", "bb", "true"]);
    assert_eq!(root.ok(&["ps", "-aq", "--filter", "name=/one"]), root.ok(&["ps", "-aq", "--filter", "name=^one$"]));
    assert_eq!(root.lines(&["ps", "-aq", "--filter", "name=^/one$"]).len(), 1);
    root.ok(&["rmi", "-f", "bb"]);
    root.ok(&["rm", "one"]);
    assert_eq!(layers(&root), 1, "the other container stands on the layer");
    root.ok(&["container", "prune", "-f"]);
    assert_eq!(layers(&root), 0);
    root.assert_sound(&"all is gone");
}

/// How many layers there are.
fn layers(root: &common::Root) -> usize {
    common::names(&root.join("image/overlay2/layerdb/sha256")).len()
}
