//! `pull` and `push` as users and a dockerd on the same root see them.

mod common;

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Chance, Done, Root, root};
use serde_json::{Value, json};
use strata_testkit::{
    Dockerd,
    registry::{DockerRegistry, Image, Memory, digest, error},
    require,
    server::{Reply, Request, Server},
};

/// How often a pull is killed.
fn kills() -> u64 {
    std::env::var("STRATA_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200)
}

/// `strata ARGS…` on `root` with a `config.json` and certificates of its own, which are not there.
fn command(root: &Root, args: &[&str]) -> Command {
    let mut command = root.command(args);
    command.env("DOCKER_CONFIG", root.scratch.join("docker")).env("STRATA_CERTS_DIR", root.scratch.join("certs.d"));
    command.env_remove("STRATA_REGISTRY_MIRRORS").env_remove("STRATA_INSECURE_REGISTRIES");
    command
}

fn run(root: &Root, args: &[&str]) -> Done {
    command(root, args).output().expect("strata runs").into()
}

#[track_caller]
fn ok(root: &Root, args: &[&str]) -> String {
    let done = run(root, args);
    assert_eq!(done.code, 0, "strata {args:?}: {}{}", done.out, done.err);
    done.out.trim().to_owned()
}

fn image(seed: u64, sizes: &[usize]) -> Image {
    let tars: Vec<_> = sizes.iter().enumerate().map(|(at, size)| Image::layer(seed * 100 + at as u64, *size)).collect();
    Image::new(&tars)
}

/// A server of one image with the tag `1`.
fn serving(image: &Image) -> Server {
    let memory = Memory::default();
    memory.put("1", image);
    Server::start(move |request| memory.reply(request))
}

fn short(layer: &(String, Vec<u8>)) -> String {
    digest(&layer.1)[7..19].to_owned()
}

#[test]
fn what_is_said_is_what_docker_says() {
    let Some(root) = root() else { return };
    let image = image(1, &[20_000, 300]);
    let server = serving(&image);
    let name = format!("{}/team/app:1", server.host());
    let out = ok(&root, &["pull", &name]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "1: Pulling from team/app", "{out}");
    for layer in &image.layers {
        for phase in ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"] {
            assert!(lines.contains(&format!("{}: {phase}", short(layer)).as_str()), "{phase}: {out}");
        }
    }
    let end =
        [format!("Digest: {}", image.digest()), format!("Status: Downloaded newer image for {name}"), name.clone()];
    assert_eq!(lines[lines.len() - 3..], end, "{out}");
    let again = ok(&root, &["pull", &name]);
    assert!(again.contains(&format!("Status: Image is up to date for {name}")), "{again}");
    assert_eq!(ok(&root, &["pull", "--quiet", &name]), name);
    root.assert_sound(&"after pulls");

    let done = run(&root, &["pull", "--quiet", "--verbose", &name]);
    for part in ["resolve", "download", "verify", "inflate", "write", "sync", "total"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    ok(&root, &["rmi", &name]);
    let out = ok(&root, &["pull", "--format", "json", &name]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let told = |status: &str| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!((told("Pulling fs layer"), told("Pull complete")), (2, 2), "{out}");
    let end = lines.last().expect("an end");
    assert_eq!((&end["digest"], &end["reference"]), (&json!(image.digest()), &json!(name)), "{out}");
}

#[test]
fn a_bar_a_layer_is_drawn_on_a_terminal() {
    let Some(root) = root() else { return };
    let (Some(script), image) = (require::program("script"), image(2, &[400_000])) else { return };
    let server = serving(&image);
    let ours = format!("{} pull {}/a:1", common::STRATA, server.host());
    let mut terminal = Command::new(script);
    terminal.args(["-qec", &ours, "/dev/null"]).env("STRATA_DATA_ROOT", root.path()).env("TERM", "xterm");
    terminal.env("DOCKER_CONFIG", root.scratch.join("docker"));
    let done: Done = terminal.stdin(Stdio::null()).output().expect("script runs").into();
    let layer = short(&image.layers[0]);
    assert!(done.code == 0 && done.out.contains(&layer), "{done:?}");
    assert!(done.out.contains("Pull complete") && done.out.contains('\u{1b}'), "{done:?}");
    assert!(done.out.contains(&format!("Digest: {}", image.digest())), "{done:?}");
}

#[test]
fn all_tags_come_and_go() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    for n in 1..=3 {
        registry.put("many", &n.to_string(), &image(10 + n, &[100, 200]));
    }
    let name = format!("{}/many", registry.host());
    ok(&root, &["pull", "-a", "-q", &name]);
    assert_eq!(root.lines(&["images", "-q", &name]).len(), 3);
    for n in 1..=3 {
        ok(&root, &["tag", &format!("{name}:{n}"), &format!("{}/more:{n}", registry.host())]);
    }
    ok(&root, &["push", "-a", "-q", &format!("{}/more", registry.host())]);
    for n in 1..=3 {
        let tag = n.to_string();
        assert_eq!(registry.manifest("more", &tag), registry.manifest("many", &tag));
    }
    let done = run(&root, &["push", &format!("{}/none:1", registry.host())]);
    assert!(done.code != 0 && done.err.contains("does not exist locally"), "{}", done.err);
    let done = run(&root, &["pull", &format!("{name}:none")]);
    assert!(done.code != 0 && done.err.contains("manifest unknown") && done.err.contains("many:none"), "{}", done.err);
}

/// Runs `strata ARGS…` and kills it after `moment`. Returns whether it had succeeded by then.
fn killed(root: &Root, args: &[&str], moment: Duration) -> bool {
    let mut child = command(root, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strata runs");
    let begun = Instant::now();
    while begun.elapsed() < moment && child.try_wait().expect("its status").is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let _ = child.kill();
    child.wait().expect("its status").success()
}

/// Any command that writes settles what was interrupted.
fn settle(root: &Root) {
    root.import("settled", &common::tars::tar::<&str>(&[]));
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_stopped() {
    let Some(root) = root() else { return };
    let memory = Arc::new(Memory::default());
    let answers = memory.clone();
    // As fast as a disk that is not too fast: a kill hits any moment of it.
    let server = Server::start(move |request| {
        let reply = answers.reply(request);
        let slow = (reply.body.len() > 64 << 10).then_some((64 << 10, Duration::from_millis(4)));
        Reply { slow, ..reply }
    });
    let (mut chance, mut whole, mut resumed) = (Chance::new(7), Duration::ZERO, 0);
    for n in 0..=kills() {
        let image = image(1000 + n, &[2_500_000, 1_500_000, 300]);
        memory.put(&n.to_string(), &image);
        let name = format!("{}/k:{n}", server.host());
        let when = format!("kill {n} of pull");
        if n > 0 {
            let done = killed(&root, &["pull", "-q", &name], whole.mul_f64(chance.below(1100) as f64 / 1000.0));
            settle(&root);
            root.assert_sound(&when);
            assert!(!done || !ok(&root, &["images", "-q", &name]).is_empty(), "{when}: it was reported and is lost");
        }
        server.forget();
        let begun = Instant::now();
        ok(&root, &["pull", "-q", &name]);
        whole = if n == 0 { begun.elapsed() } else { whole };
        resumed += server.seen().iter().filter(|request| request.header("range").is_some()).count();
        assert_eq!(root.inspect(&name)["Id"], image.id(), "{when}");
        root.assert_sound(&when);
        assert!(common::names(&root.join("strata/content/ingest")).is_empty(), "{when}: partial blobs stay");
        ok(&root, &["rmi", &name]);
    }
    assert!(resumed > 0, "no kill was in the middle of a blob");
}

#[test]
fn a_push_that_is_killed_is_done_again() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let image = image(3, &[3_000_000, 2_000_000]);
    let source = serving(&image);
    let local = format!("{}/k:1", source.host());
    ok(&root, &["pull", "-q", &local]);
    drop(source);
    let forget = |root: &Root| {
        let _ = std::fs::remove_dir_all(root.join("image/overlay2/distribution"));
        let _ = std::fs::remove_dir_all(root.join("strata/content/pins/manifests"));
    };
    let (mut chance, mut whole) = (Chance::new(8), Duration::ZERO);
    for n in 0..=kills() {
        let name = format!("{}/k{n}:1", registry.host());
        ok(&root, &["tag", &local, &name]);
        forget(&root);
        if n > 0 {
            killed(&root, &["push", "-q", &name], whole.mul_f64(chance.below(1100) as f64 / 1000.0));
            settle(&root);
            root.assert_sound(&format!("kill {n} of push"));
        }
        let begun = Instant::now();
        ok(&root, &["push", "-q", &name]);
        whole = if n == 0 { begun.elapsed() } else { whole };
        let manifest: Value = serde_json::from_slice(&registry.manifest(&format!("k{n}"), "1").1).expect("JSON");
        assert_eq!(manifest["config"]["digest"], image.id());
    }
}

#[test]
fn a_dockerd_goes_on_with_what_was_pulled() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let layers: Vec<_> = (0..3).map(|n| Image::layer(400 + n, 30_000)).collect();
    let (small, big) = (Image::new(&layers[..2]), Image::new(&layers));
    registry.put("team/small", "1", &small);
    registry.put("team/big", "1", &big);
    let name = |rest: &str| format!("{}/{rest}", registry.host());
    ok(&root, &["pull", "-q", &name("team/small:1")]);
    let Some(dockerd) = Dockerd::start(root.path()) else { return };
    assert_eq!(dockerd.docker(&["images", "-q", "--no-trunc", &name("team/small")]), small.id());
    assert!(dockerd.docker(&["images", "--digests", &name("team/small")]).contains(&small.digest()));
    // It knows which blobs the layers are: nothing is fetched again, and nothing sent.
    let said = dockerd.docker(&["pull", &name("team/big:1")]);
    assert_eq!(said.matches("Already exists").count(), 2, "{said}");
    dockerd.docker(&["tag", &name("team/small:1"), &name("team/small:2")]);
    let said = dockerd.docker(&["push", &name("team/small:2")]);
    assert_eq!(said.matches("Layer already exists").count(), 2, "{said}");
    dockerd.docker(&["tag", &name("team/small:1"), &name("other:1")]);
    let said = dockerd.docker(&["push", &name("other:1")]);
    assert_eq!(said.matches("Mounted from team/small").count(), 2, "{said}");
    dockerd.docker(&["pull", &name("other:1")]);
    drop(dockerd);
    root.assert_sound(&"after dockerd");
}

#[test]
fn what_a_dockerd_pulled_and_pushed_is_gone_on_with() {
    let (Some(registry), Some(root)) = (DockerRegistry::start(), root()) else { return };
    let layers: Vec<_> = (0..3).map(|n| Image::layer(500 + n, 30_000)).collect();
    let (small, big) = (Image::new(&layers[..2]), Image::new(&layers));
    registry.put("team/small", "1", &small);
    registry.put("team/big", "1", &big);
    let name = |rest: &str| format!("{}/{rest}", registry.host());
    {
        let Some(dockerd) = Dockerd::start(root.path()) else { return };
        dockerd.docker(&["pull", &name("team/small:1")]);
    }
    let said = ok(&root, &["pull", &name("team/big:1")]);
    assert_eq!((said.matches("Already exists").count(), said.matches("Pull complete").count()), (2, 1), "{said}");
    ok(&root, &["tag", &name("team/small:1"), &name("other:1")]);
    let said = ok(&root, &["push", &name("other:1")]);
    assert_eq!(said.matches("Mounted from team/").count(), 2, "{said}");
    ok(&root, &["tag", &name("team/small:1"), &name("team/small:2")]);
    let said = ok(&root, &["push", &name("team/small:2")]);
    assert_eq!(said.matches("Layer already exists").count(), 2, "{said}");
    // Docker's manifest of it has the same bytes.
    assert_eq!(registry.manifest("other", "1").1, registry.manifest("team/small", "2").1);
    root.assert_sound(&"after all");
}

/// Files below `distribution/`: mode and bytes, by path.
fn mappings(root: &Root) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    let top = root.join("image/overlay2/distribution");
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
            let name = path.strip_prefix(&top).expect("below").display().to_string();
            let mode = metadata.permissions().mode();
            let bytes = if metadata.is_dir() { String::new() } else { std::fs::read_to_string(&path).expect("text") };
            found.insert(name, format!("{mode:o} {bytes}"));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn the_mappings_are_dockers_to_the_byte() {
    let (Some(registry), Some(ours), Some(theirs)) = (DockerRegistry::start(), root(), root()) else { return };
    registry.put("team/app", "1", &image(9, &[1000, 20]));
    let name = format!("{}/team/app:1", registry.host());
    ok(&ours, &["pull", "-q", &name]);
    let Some(dockerd) = Dockerd::start(theirs.path()) else { return };
    dockerd.docker(&["pull", &name]);
    drop(dockerd);
    assert_eq!(mappings(&ours), mappings(&theirs));
    let names = |root: &Root| std::fs::read_to_string(root.join("image/overlay2/repositories.json")).expect("names");
    assert_eq!(names(&ours), names(&theirs));
}

/// The most memory that a process has had, in KiB, looked at while it runs.
fn peak_of(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().expect("strata runs");
    let mut peak = 0;
    while child.try_wait().expect("its status").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(child.wait().expect("its status").success());
    peak
}

#[test]
fn memory_is_bounded_whatever_the_image() {
    let Some(root) = root() else { return };
    let mut sizes = vec![40 << 20, 40 << 20, 30 << 20];
    sizes.extend([2000; 60]);
    let (image, memory) = (image(8, &sizes), Arc::new(Memory::default()));
    memory.put("1", &image);
    let behind = memory.clone();
    let server = Server::start(move |request| behind.reply(request));
    let name = format!("{}/big:1", server.host());
    let peak = peak_of(command(&root, &["pull", "-q", &name]));
    assert!(peak > 1 << 10 && peak < 96 << 10, "pull: {peak} KiB");
    let _ = std::fs::remove_dir_all(root.join("image/overlay2/distribution"));
    let _ = std::fs::remove_dir_all(root.join("strata/content/pins/manifests"));
    let there = Server::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        _ => memory.reply(request),
    });
    let to = format!("{}/big:2", there.host());
    ok(&root, &["tag", &name, &to]);
    let peak = peak_of(command(&root, &["push", "-q", &to]));
    assert!(peak > 1 << 10 && peak < 96 << 10, "push: {peak} KiB");
}

#[test]
fn logins_live_where_docker_keeps_them() {
    let Some(root) = root() else { return };
    let memory = Memory::default();
    let image = image(6, &[1000]);
    memory.put("1", &image);
    let server = Server::start(move |request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => memory.reply(request),
        _ => error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let (host, name) = (server.host(), format!("{}/a:1", server.host()));
    let login =
        |input: &str| common::feed(command(&root, &["login", "-u", "me", "--password-stdin", &host]), input.as_bytes());
    let done = run(&root, &["pull", &name]);
    assert!(done.code != 0 && done.err.contains("pull access denied"), "{}", done.err);
    let done = login("wrong\n");
    assert!(done.code != 0 && done.err.contains("incorrect username or password"), "{}", done.err);
    assert!(!done.err.contains("wrong"), "{}", done.err);
    let done = login("secret\n");
    assert_eq!((done.code, done.out.as_str()), (0, "Login Succeeded\n"), "{}", done.err);
    let kept = std::fs::read_to_string(root.scratch.join("docker/config.json")).expect("a login");
    assert!(kept.contains("bWU6c2VjcmV0"), "{kept}");
    ok(&root, &["pull", "-q", &name]);
    assert_eq!(ok(&root, &["logout", &host]), format!("Removing login credentials for {host}"));
    assert_eq!(ok(&root, &["logout", &host]), format!("Not logged in to {host}"));

    // The same with a helper, which keeps it in a file of its own.
    let (bin, store) = (root.scratch.join("bin"), root.scratch.join("store"));
    std::fs::create_dir_all(&bin).expect("a folder");
    let helper = bin.join("docker-credential-test");
    let text = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0} ;;\nget) cat > /dev/null; [ -e {0} ] && cat {0} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\nerase) cat > /dev/null; rm -f {0} ;;\nesac\n",
        store.display()
    );
    std::fs::write(&helper, text).expect("a helper");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    std::fs::write(root.scratch.join("docker/config.json"), r#"{"credsStore":"test"}"#).expect("a configuration");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let with = |args: &[&str]| {
        let mut command = command(&root, args);
        command.env("PATH", &path);
        command
    };
    ok(&root, &["rmi", &name]);
    let done: Done = with(&["pull", "-q", &name]).output().expect("strata runs").into();
    assert!(done.code != 0 && done.err.contains("no basic auth credentials"), "{}", done.err);
    let done = common::feed(with(&["login", "-u", "me", "--password-stdin", &host]), b"secret");
    assert_eq!((done.code, done.err.contains("unencrypted")), (0, false), "{}", done.err);
    let kept: Value = serde_json::from_slice(&std::fs::read(&store).expect("it was stored")).expect("JSON");
    assert_eq!(kept, json!({"ServerURL": host, "Username": "me", "Secret": "secret"}));
    let config = std::fs::read_to_string(root.scratch.join("docker/config.json")).expect("a configuration");
    assert!(!config.contains("bWU6"), "{config}");
    let done: Done = with(&["pull", "-q", &name]).output().expect("strata runs").into();
    assert_eq!(done.code, 0, "{}", done.err);
    let done: Done = with(&["logout", &host]).output().expect("strata runs").into();
    assert!(done.code == 0 && !store.exists(), "{}", done.err);
}

#[test]
fn a_proxy_is_asked_for_what_is_not_on_this_machine() {
    let Some(root) = root() else { return };
    let image = image(7, &[1000]);
    let memory = Memory::default();
    memory.put("1", &image);
    let proxy = Server::start(move |request| match request.target.strip_prefix("http://registry.test") {
        Some(path) => memory.reply(&Request { target: path.to_owned(), ..request.clone() }),
        None => Reply::new(502),
    });
    let address = format!("http://{}", proxy.host());
    let mut command = command(&root, &["pull", "-q", "--insecure", "registry.test/a:1"]);
    for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env(variable, &address);
    }
    let done: Done = command.env_remove("no_proxy").env_remove("NO_PROXY").output().expect("strata runs").into();
    assert_eq!((done.code, done.out.trim()), (0, "registry.test/a:1"), "{}", done.err);
    assert!(proxy.count("GET", "http://registry.test/v2/a/blobs/") == 2);
}

#[test]
fn run_pulls_what_is_missing() {
    let Some(root) = root() else { return };
    let Some(tar) = common::tars::busybox() else { return };
    let server = serving(&Image::new(&[tar]));
    let name = format!("{}/bb:1", server.host());
    let done = run(&root, &["run", "--rm", &name, "echo", "hello"]);
    assert_eq!((done.code, done.out.as_str()), (0, "hello\n"), "{}", done.err);
    assert!(done.err.contains(&format!("Unable to find image '{name}' locally")), "{}", done.err);
    let done = run(&root, &["run", "--rm", "--pull", "never", &format!("{}/none:1", server.host()), "true"]);
    assert!(done.code == 125 && server.count("GET", "/none/") == 0, "{}", done.err);
}
