//! The server is killed at random moments: nothing half-made is left, what was answered stays, the next try completes.
//!
//! `STRATA_KILLS` says how often; 200 if it does not.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use common::{Client, Dice, OCI_MANIFEST, check, manifest};
use serde_json::Value;
use strata_registry::{Config, Running};
use strata_spec::Digest;
use strata_testkit::{Scratch, scratch};

/// Kills of a server on one directory; then on a fresh one, so that looking through all of it after each kill stays short.
const KILLS_OF_A_DIRECTORY: u64 = 20;

/// Names the configuration that this program serves as a process of its own.
const SERVE: &str = "STRATA_TEST_SERVE";

#[test]
fn serves_when_asked() {
    let Some(config) = std::env::var_os(SERVE).map(std::path::PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = Running::start(Config::parse(&std::fs::read_to_string(&config).unwrap()).unwrap()).await.unwrap();
        std::fs::write(config.with_extension("address"), format!("{}\n", running.address())).unwrap();
        std::future::pending::<()>().await;
    });
}

struct Server(Child, Client);

impl Server {
    fn start(config: &Path) -> Self {
        let place = config.with_extension("address");
        let _ = std::fs::remove_file(&place);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves_when_asked"])
            .env(SERVE, config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        loop {
            match std::fs::read_to_string(&place) {
                Ok(address) if address.ends_with('\n') => return Self(child, Client::new(address.trim())),
                _ => assert!(begun.elapsed() < Duration::from_secs(120), "the server does not come up"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pushes until the server is gone; remembers what was answered.
fn push(c: &Client, repo: &str, seed: u64, answered: &Mutex<Vec<(String, String)>>) -> std::io::Result<()> {
    for at in 0.. {
        let seed = format!("{seed}-{at}");
        let (config, layer) = (format!("{{\"s\":\"{seed}\"}}").into_bytes(), seed.repeat(5000).into_bytes());
        for blob in [&config, &layer] {
            let reply = c.try_put_blob(repo, blob, Digest::sha256(blob))?;
            assert_eq!(reply.status, 201, "{}", reply.text());
        }
        let bytes = manifest(&config, &layer, Value::Null);
        let path = format!("/v2/{repo}/manifests/t{seed}");
        let reply = c.try_ask("PUT", &path, &[("Content-Type", OCI_MANIFEST)], bytes.as_bytes())?;
        // On a machine that is busy with other things the grace time of the blobs may be over; then they are pushed again.
        if reply.status == 404 && reply.code() == "MANIFEST_BLOB_UNKNOWN" {
            continue;
        }
        assert_eq!(reply.status, 201, "{}", reply.text());
        answered.lock().unwrap().push((repo.to_owned(), format!("t{seed}")));
    }
    Ok(())
}

/// A directory with a server's configuration, which collects garbage every so often.
struct Directory {
    _scratch: Scratch,
    root: PathBuf,
    config: PathBuf,
}

impl Directory {
    fn new() -> Self {
        let scratch = scratch();
        let (root, config) = (scratch.join("data"), scratch.join("config.yml"));
        Self { _scratch: scratch, root, config }
    }

    fn collecting(&self, interval: &str) -> &Path {
        let root = self.root.display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\nstrata: {{gc: {{interval: {interval}, grace: 1s}}}}\n",
        );
        std::fs::write(&self.config, text).unwrap();
        &self.config
    }
}

/// Kills servers of one directory while three clients push; returns what was answered, all of which can be pulled.
fn kill_again_and_again(kills: std::ops::Range<u64>, dice: &mut Dice) -> usize {
    let directory = Directory::new();
    let config = directory.collecting("50ms");
    let answered = Mutex::new(Vec::new());
    for kill in kills.clone() {
        let server = Server::start(config);
        let clients: Vec<Client> = (0..3).map(|_| server.1.clone()).collect();
        std::thread::scope(|scope| {
            for (at, client) in clients.iter().enumerate() {
                let answered = &answered;
                scope.spawn(move || push(client, &format!("r{at}"), kill * 10 + at as u64, answered));
            }
            let begun = Instant::now();
            std::thread::sleep(Duration::from_millis(dice.below(150)));
            // The first lives until something was answered, however slow the machine.
            while kill == kills.start
                && answered.lock().unwrap().is_empty()
                && begun.elapsed() < Duration::from_secs(60)
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.kill();
        });
        check(&directory.root).unwrap_or_else(|problem| panic!("after kill {kill}: {problem}"));
    }
    let answered = answered.into_inner().unwrap();
    assert!(!answered.is_empty(), "nothing was pushed");
    next_try_completes(&directory, &answered);
    answered.len()
}

/// The next server settles what the last one was at, and serves all that was answered. It collects nothing, so that nobody adds to what is left.
fn next_try_completes(directory: &Directory, answered: &[(String, String)]) {
    let tmp = common::v2(&directory.root).join("strata/tmp");
    std::fs::create_dir_all(tmp.join("removed-half/directory")).unwrap();
    std::fs::write(tmp.join("removed-half/directory/data"), "half removed").unwrap();
    std::fs::write(tmp.join("file"), "of nobody").unwrap();
    let server = Server::start(directory.collecting("0s"));
    let left: Vec<_> = std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "removals that a killed server had begun are not settled: {left:?}");
    for (repo, tag) in answered {
        assert_eq!(server.1.pull(repo, tag), Ok(()), "{repo}:{tag} was answered");
    }
    server.1.put_image("again", "t", "a");
    assert_eq!(server.1.pull("again", "t"), Ok(()));
}

#[test]
fn a_killed_server_leaves_nothing_half_made() {
    let kills: u64 = std::env::var("STRATA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let mut answered = 0;
    for begin in (0..kills).step_by(KILLS_OF_A_DIRECTORY as usize) {
        answered += kill_again_and_again(begin..kills.min(begin + KILLS_OF_A_DIRECTORY), &mut dice);
    }
    println!("{kills} kills, {answered} pushes answered, all of them pulled");
}
