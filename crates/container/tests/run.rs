//! Containers run, by the test's program, which is this crate and little else.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::*;
use strata_container::{CommitRequest, Note, RemoveOptions, Status};

/// Waits until `true`.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn output_exit_code_and_record() {
    let Some(bench) = running_bench() else { return };
    let ran = bench.run(&["run", "--name", "one", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (3, "out\n", "err\n"));
    let one = bench.stores.containers.get("one").unwrap();
    let state = &one.record.state;
    assert_eq!((state.status(), state.exit_code, state.pid), (Status::Exited, 3, 0));
    assert!(state.started() <= state.finished() && one.record.has_been_started_before);
    assert!(one.record.hosts_path.ends_with("/hosts"));

    // Started again it goes on where it was.
    let started = bench.run(&["start", "one"]);
    assert_eq!((started.code, started.out.as_str()), (3, "out\n"));
    bench.run(&["rm", "one"]).good();
    bench.assert_bare();
}

#[test]
fn what_the_process_sees() {
    let Some(bench) = running_bench() else { return };
    let bound = bench.scratch.join("bound/made");
    let bind = format!("{}:/mnt", bound.display());
    let read_only = format!("{}:/ro:ro", bench.scratch.join("tree").display());
    let see = |flags: &[&str], script: &str| {
        let args = [&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat();
        bench.run(&args).good()
    };
    let env = see(&["-e", "B=2", "-e", "A"], "echo B=$B A=${A-none} HOME=$HOME PATH=$PATH");
    assert_eq!(env, "B=2 A=none HOME=/root PATH=/bin");
    assert_eq!(see(&["-u", "bob"], "id -u; id -g; echo $HOME"), "1000\n1001\n/home/bob");
    assert_eq!(see(&["-w", "/new/dir"], "pwd"), "/new/dir");
    assert_eq!(see(&["--hostname", "box"], "hostname; cat /etc/hostname"), "box\nbox");
    assert_eq!(see(&["-v", &bind], "echo x >/mnt/f; cat /mnt/f"), "x");
    assert_eq!(fs::read(bound.join("f")).unwrap(), b"x\n", "a missing source is made");
    assert_eq!(
        see(&["-v", &read_only], "cat /ro/file; touch /ro/x 2>/dev/null || echo refused"),
        "of the image\nrefused"
    );
    assert_eq!(see(&["--tmpfs", "/t:size=64k"], "grep ' /t ' /proc/mounts | grep -c size=64k"), "1");
    assert_eq!(
        see(&["--read-only", "--tmpfs", "/t"], "touch /x 2>/dev/null || echo no; touch /t/x && echo yes"),
        "no\nyes"
    );
    assert!(see(&[], "cat /etc/hosts").starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
    assert_eq!(see(&["--network", "host"], "ls /sys/class/net | wc -l"), {
        fs::read_dir("/sys/class/net").unwrap().count().to_string()
    });
    assert_eq!(see(&[], "ls /sys/class/net"), "lo");
    assert_eq!(see(&["--entrypoint", "/bin/echo"], "hi"), "sh -c hi");
    bench.assert_bare();
}

#[test]
fn commands_that_cannot_be_run_have_dockers_exit_codes() {
    let Some(bench) = running_bench() else { return };
    for (command, code, text) in
        [("nothere", 127, "executable file not found in $PATH"), ("/etc/passwd", 126, "permission denied")]
    {
        let ran = bench.run(&["run", "--name", "bad", "busybox", command]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(text), "{ran:?}");
        let state = bench.stores.containers.get("bad").unwrap().record.state;
        assert_eq!((state.status(), state.exit_code), (Status::Created, code.into()));
        assert!(state.error.contains(text), "{}", state.error);
        bench.run(&["rm", "bad"]).good();
        assert_eq!(bench.run(&["run", "--rm", "busybox", command]).code, code);
    }
    let ran = bench.run(&["run", "--rm", "-u", "nobody-such", "busybox", "true"]);
    assert_eq!(ran.code, 125);
    assert!(ran.err.contains("unable to find user nobody-such: no matching entries in passwd file"), "{ran:?}");
    bench.assert_bare();
}

#[test]
fn a_running_container_is_not_removed_but_by_force() {
    let Some(bench) = running_bench() else { return };
    let mut running = bench.command(&["run", "--name", "one", "busybox", "sleep", "100"]).spawn().unwrap();
    let store = &bench.stores.containers;
    wait_for("the start", || store.get("one").is_ok_and(|c| c.record.state.running));
    let one = store.get("one").unwrap();
    assert_eq!(one.record.state.status(), Status::Running);
    let error = store.remove(&one.id, RemoveOptions::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "You cannot remove a running container {}. Stop the container before attempting removal or force remove",
            one.id
        )
    );
    let again = bench.run(&["start", "one"]);
    assert_eq!((again.code, again.err.contains("is already running")), (125, true), "{again:?}");
    // What it changes is seen and can be copied while it runs.
    store.copy_in(&bench.scratch.join("tree/file"), &one, "/copied".as_ref(), Default::default()).unwrap();
    assert!(store.changes(&one).unwrap().iter().any(|change| change.path.ends_with("copied")));
    store.remove(&one.id, RemoveOptions { force: true, volumes: true }).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(137));
    bench.assert_bare();
}

#[test]
fn a_commit_holds_a_running_container_still() {
    let Some(bench) = running_bench() else { return };
    let bound = bench.scratch.join("seen");
    fs::create_dir(&bound).unwrap();
    let bind = format!("{}:/seen", bound.display());
    let count = "n=0; while :; do n=$((n+1)); echo $n >/seen/n; echo $n >/n; done";
    let args = ["run", "--name", "one", "-v", &bind, "busybox", "sh", "-c", count];
    let mut running = bench.command(&args).spawn().unwrap();
    let seen = || fs::read_to_string(bound.join("n")).unwrap_or_default();
    let goes_on = || {
        let before = seen();
        wait_for("progress", || seen() != before);
    };
    goes_on();
    let store = &bench.stores.containers;
    let one = store.get("one").unwrap();

    let image = store.commit(&bench.stores.images, &one, &CommitRequest::default()).unwrap();
    assert_eq!(bench.stores.images.get(image).unwrap().diff_ids().len(), 2);
    goes_on();

    // A commit that was killed: who opens the root next lets the container go on.
    let journal = strata_durable::Journal::open(&bench.root().join("strata/journal")).unwrap();
    let intent = journal.begin(&Note::Pause { container: one.id.clone() }).unwrap();
    strata_runtime::freezer::freeze(one.id.as_str()).unwrap();
    let still = seen();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(seen(), still, "it stands still");
    drop(intent);
    bench.stores.settle();
    goes_on();

    bench.run(&["rm", "-f", "one"]).good();
    running.wait().unwrap();
    // One that has ended has nothing to hold.
    strata_runtime::freezer::thaw(one.id.as_str()).unwrap();
}

#[test]
fn a_container_whose_strata_was_killed_is_settled() {
    let Some(bench) = running_bench() else { return };
    for flags in [&["run", "--name", "one"][..], &["run", "--rm", "--name", "two"]] {
        let args = [flags, &["busybox", "sh", "-c", "echo x >/made; sync; sleep 100"]].concat();
        let mut running = bench.command(&args).spawn().unwrap();
        let name = flags[flags.len() - 1];
        wait_for("the start", || bench.stores.containers.get(name).is_ok_and(|c| c.record.state.running));
        running.kill().unwrap();
        running.wait().unwrap();
        if name == "one" {
            wait_for("the settling", || !bench.stores.containers.get("one").unwrap().record.state.running);
            let one = bench.stores.containers.get("one").unwrap();
            assert_eq!((one.record.state.status(), one.record.state.exit_code), (Status::Exited, 137));
        } else {
            // The watcher may still be at work; then the next settling finds the note again.
            wait_for("the removal", || {
                bench.stores.settle();
                bench.stores.containers.get("two").is_err()
            });
        }
    }
    bench.stores.settle();
    bench.run(&["rm", "one"]).good();
    bench.assert_bare();
}

#[test]
fn an_external_runtime_runs_it_too() {
    let Some(bench) = running_bench() else { return };
    let Some(_) = strata_testkit::require::program("runc") else { return };
    let ran = bench.run(&["run", "--name", "one", "--runtime", "runc", "busybox", "sh", "-c", "echo $HOME; exit 5"]);
    assert_eq!((ran.code, ran.out.as_str()), (5, "/root\n"), "{ran:?}");
    bench.run(&["rm", "one"]).good();
    bench.assert_bare();
}

#[test]
fn many_at_once_lose_nothing_and_leave_nothing() {
    let Some(bench) = running_bench() else { return };
    std::thread::scope(|scope| {
        for n in 0..6 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..2 {
                    let word = format!("{n}.{round}");
                    assert_eq!(bench.run(&["run", "--rm", "busybox", "echo", &word]).good(), word);
                }
            });
        }
    });
    bench.assert_bare();
}
