//! `kill -9` at random moments: whoever comes next finds the root whole, all that was reported done in it, and nothing half-made.

mod common;

use std::{
    fs,
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Chance, Root, root_with_busybox, tars};

/// How often each command is killed.
const KILLS: u64 = 50;

/// Runs `strata ARGS…` and kills it after `moment`. Returns whether it had reported success by then.
fn killed(root: &Root, args: &[&str], input: &[u8], moment: Duration) -> bool {
    let mut command = root.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("strata runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || drop(pipe.write_all(input)));
        let begun = Instant::now();
        while begun.elapsed() < moment && child.try_wait().expect("its status").is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        let status = child.wait().expect("its status");
        status.success()
    })
}

/// Moments to kill at, of a command that takes as long as `run` does.
struct Moments {
    chance: Chance,
    whole: Duration,
}

impl Moments {
    fn of(seed: u64, mut run: impl FnMut(u64)) -> Self {
        let mut times: Vec<_> = (0..3)
            .map(|n| {
                let begun = Instant::now();
                run(n);
                begun.elapsed()
            })
            .collect();
        times.sort();
        Self { chance: Chance::new(seed), whole: times[1] }
    }

    /// From the first moment to a little behind the end.
    fn next(&mut self) -> Duration {
        self.whole.mul_f64(self.chance.below(1100) as f64 / 1000.0)
    }
}

/// The next command; all is settled with it.
#[track_caller]
fn settle(root: &Root, when: &str) {
    root.ok(&["tag", "bb", "bb:settled"]);
    root.assert_sound(&when);
}

/// The images without a name that a killed command made: whole, as the check found, and named by nobody.
fn remove_unnamed(root: &Root) {
    for id in root.lines(&["images", "-q", "--filter", "dangling=true"]) {
        root.ok(&["rmi", &id]);
    }
}

fn has_image(root: &Root, name: &str) -> bool {
    !root.ok(&["images", "-q", name]).is_empty()
}

#[test]
fn load_is_killed() {
    let Some(root) = root_with_busybox() else { return };
    let layers = |n: usize| [tars::layer(7, 2000), tars::layer(100 + n, 2000), tars::layer(1000 + n, 20_000)];
    let archive = |n: usize| tars::archive(&[(&format!("k:{n}"), &layers(n)), (&format!("l:{n}"), &layers(n)[..2])]);
    let mut moments = Moments::of(1, |n| {
        assert_eq!(root.load(&archive(900 + n as usize)).code, 0);
    });
    for n in 0..KILLS as usize {
        let done = killed(&root, &["load"], &archive(n), moments.next());
        let when = format!("kill {n} of load");
        settle(&root, &when);
        for (name, layers) in [(format!("k:{n}"), &layers(n)[..]), (format!("l:{n}"), &layers(n)[..2])] {
            let there = has_image(&root, &name);
            assert!(there || !done, "{when}: {name} was reported and is lost");
            if there {
                assert_eq!(root.inspect(&name)["Id"], tars::image_id(layers, &name), "{when}");
                root.save(&[&name]);
                root.ok(&["rmi", &name]);
            }
        }
        remove_unnamed(&root);
        assert!(has_image(&root, "k:900") && has_image(&root, "l:902"), "{when}: earlier images");
    }
    root.assert_sound(&"the end");
}

#[test]
fn commit_is_killed() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&[
        "run",
        "--name",
        "changed",
        "bb",
        "sh",
        "-c",
        "rm /bin/dd; for i in 1 2 3 4 5 6; do echo $i > /tmp/$i; done",
    ]);
    let diff = root.ok(&["diff", "changed"]);
    let mut moments = Moments::of(2, |n| {
        root.ok(&["commit", "changed", &format!("before:{n}")]);
    });
    for n in 0..KILLS {
        let name = format!("k:{n}");
        let done = killed(&root, &["commit", "changed", &name], b"", moments.next());
        let when = format!("kill {n} of commit");
        settle(&root, &when);
        assert_eq!(root.ok(&["diff", "changed"]), diff, "{when}");
        let there = has_image(&root, &name);
        assert!(there || !done, "{when}: it was reported and is lost");
        if there {
            root.save(&[&name]);
            root.ok(&["rmi", &name]);
        }
        remove_unnamed(&root);
        assert!(has_image(&root, "before:0") && has_image(&root, "before:2"), "{when}: earlier images");
    }
    assert_eq!(root.ok(&["run", "--rm", "before:0", "cat", "/tmp/3"]), "3");
    root.ok(&["rm", "changed"]);
    root.assert_sound(&"the end");
}

/// Processes that have `token` among their arguments.
fn processes(token: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(token)).collect()
}

/// Control groups of container `id`.
fn control_groups(id: &str) -> Vec<String> {
    let places = std::iter::once("/sys/fs/cgroup".into())
        .chain(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()));
    places
        .map(|place: std::path::PathBuf| place.join("strata").join(id))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect()
}

#[test]
fn run_is_killed() {
    let Some(root) = root_with_busybox() else { return };
    let script = |token: &str| format!(": {token}; echo x > /file; rm /bin/dd; sleep 0.02; echo done");
    let mut moments = Moments::of(3, |_| {
        root.ok(&["run", "--rm", "bb", "sh", "-c", &script("measured")]);
    });
    root.ok(&["run", "--name", "earlier", "bb", "sh", "-c", "echo kept > /kept"]);
    for n in 0..KILLS {
        let (token, name) = (format!("token-{}-{n}", std::process::id()), format!("box{n}"));
        let cidfile = root.scratch.join(format!("id{n}"));
        let cidfile = cidfile.to_str().expect("a path");
        let (script, when) = (script(&token), format!("kill {n} of run"));
        let mut args = vec!["run", "--cidfile", cidfile, "--name", &name];
        args.extend((n % 2 == 1).then_some("--rm"));
        args.extend(["bb", "sh", "-c", &script]);
        let done = killed(&root, &args, b"", moments.next());
        // Its watcher sees that it is gone, ends the container and itself: that takes a moment.
        let begun = Instant::now();
        loop {
            root.ok(&["tag", "bb", "bb:settled"]);
            let left = (processes(&token), root.left_over());
            if left.0.is_empty() && left.1.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{when}: {left:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        root.assert_sound(&when);
        let id = fs::read_to_string(cidfile).unwrap_or_default();
        if !id.is_empty() {
            assert_eq!(control_groups(&id), Vec::<String>::new(), "{when}");
        }
        let state = root.run(&["inspect", "-f", "{{.State.Status}}", &name]);
        assert!(state.code == 0 || !done || n % 2 == 1, "{when}: it was reported and is lost");
        if state.code == 0 {
            assert!(["created", "exited"].contains(&state.out.trim()), "{when}: {}", state.out);
            // What is there can be used.
            root.ok(&["diff", &name]);
            let again = root.run(&["start", "-a", &name]);
            assert_eq!((again.code, again.out.as_str()), (0, "done\n"), "{when}: {}", again.err);
            if n % 2 == 0 {
                root.ok(&["rm", &name]);
            }
        }
    }
    assert_eq!(root.lines(&["ps", "-a", "--format", "{{.Names}}"]), ["earlier"]);
    assert_eq!(root.ok(&["diff", "earlier"]), "A /kept");
    root.ok(&["rm", "earlier"]);
    root.assert_sound(&"the end");
}

#[test]
fn rm_is_killed() {
    let Some(root) = root_with_busybox() else { return };
    let make = |name: &str| {
        root.ok(&[
            "run",
            "--name",
            name,
            "bb",
            "sh",
            "-c",
            "test -e /tmp/f || { for i in 1 2 3 4 5 6 7 8 9; do mkdir /tmp/$i; echo $i > /tmp/$i/f; done; }; echo here",
        ]);
    };
    let mut moments = Moments::of(4, |n| {
        let name = format!("before{n}");
        root.ok(&["create", "--name", &name, "bb", "true"]);
        root.ok(&["rm", &name]);
    });
    // Without the making of it.
    moments.whole /= 2;
    for n in 0..KILLS {
        let (name, when) = (format!("box{n}"), format!("kill {n} of rm"));
        make(&name);
        let done = killed(&root, &["rm", &name], b"", moments.next());
        settle(&root, &when);
        let there = root.run(&["inspect", "-f", "{{.State.Status}}", &name]);
        assert!(there.code != 0 || !done, "{when}: it was reported gone and is there");
        if there.code == 0 {
            assert_eq!(there.out.trim(), "exited", "{when}");
            let commit = root.ok(&["commit", &name]);
            root.ok(&["rmi", &commit]);
            root.ok(&["rm", &name]);
        }
        assert!(root.lines(&["ps", "-aq"]).is_empty(), "{when}");
    }
    root.assert_sound(&"the end");
}
