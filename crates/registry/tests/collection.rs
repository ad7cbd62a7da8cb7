//! Garbage collection while 64 clients push, pull, mount and delete: every push that was answered 201 can be pulled whole.
//!
//! Content is shared by all clients, so that what one deletes another has just been told is there.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use common::{Client, Dice, OCI_INDEX, OCI_MANIFEST, Ours, check, descriptor, manifest};
use serde_json::{Value, json};
use strata_registry::gc::{self, Options, Run, Untagged};
use strata_spec::Digest;

const CLIENTS: usize = 64;
/// How long it goes on, and how long at most until all that is claimed has happened.
const TIME: Duration = Duration::from_secs(8);
const TIME_MAX: Duration = Duration::from_secs(300);

/// Pushes an image of shared layers until it is taken; what the collector took on the way is pushed again.
fn push(c: &Client, repo: &str, tag: &str, dice: &mut Dice) -> Option<Digest> {
    let config = format!("{{\"n\":{}}}", dice.below(20)).into_bytes();
    let layer = format!("layer {}", dice.below(20)).repeat(100).into_bytes();
    let bytes = manifest(&config, &layer, Value::Null);
    for _ in 0..50 {
        for blob in [&config, &layer] {
            let digest = Digest::sha256(blob);
            let known = c.ask("HEAD", &format!("/v2/{repo}/blobs/{digest}"), &[], b"").status == 200;
            let mounted =
                || c.ask("POST", &format!("/v2/{repo}/blobs/uploads/?mount={digest}"), &[], b"").status == 201;
            if known || dice.below(2) == 0 && mounted() {
                continue;
            }
            let reply = c.try_put_blob(repo, blob, digest).unwrap();
            assert_eq!(reply.status, 201, "{}", reply.text());
        }
        let reply = c.put_manifest(repo, tag, OCI_MANIFEST, bytes.as_bytes());
        match reply.status {
            201 => return Some(Digest::sha256(&bytes)),
            404 => assert_eq!(reply.code(), "MANIFEST_BLOB_UNKNOWN", "{}", reply.text()),
            _ => panic!("{} {}", reply.status, reply.text()),
        }
    }
    None
}

/// Pushes an index of its own that names what the tag means, pulls it, and perhaps takes it back by its digest.
fn push_index(c: &Client, repo: &str, tag: &str, dice: &mut Dice) {
    let child = c.manifest(repo, tag).body;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &child)],
        "annotations": {"of": tag}});
    let (name, index) = (format!("{tag}-index"), index.to_string());
    let reply = c.put_manifest(repo, &name, OCI_INDEX, index.as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(c.pull(repo, &name), Ok(()));
    if dice.below(2) == 0 {
        let path = format!("/v2/{repo}/manifests/{}", Digest::sha256(&index));
        assert_eq!(c.ask("DELETE", &path, &[], b"").status, 202);
        assert_eq!(c.manifest(repo, &name).status, 404);
    }
}

fn client(c: &Client, at: usize, is_over: &AtomicBool, pushed: &AtomicUsize) {
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15 ^ ((at as u64 + 1) * 0x1234_5678_9abc));
    // Four clients to a repository; each has tags of its own, so that nobody else deletes them.
    let repo = format!("load/r{}", at / 4);
    let tag = format!("t{at}");
    while !is_over.load(SeqCst) {
        let Some(_) = push(c, &repo, &tag, &mut dice) else { continue };
        assert_eq!(c.pull(&repo, &tag), Ok(()), "right after its 201");
        pushed.fetch_add(1, SeqCst);
        match dice.below(4) {
            0 => assert_eq!(c.ask("DELETE", &format!("/v2/{repo}/manifests/{tag}"), &[], b"").status, 202),
            1 => push_index(c, &repo, &tag, &mut dice),
            _ => {
                std::thread::sleep(Duration::from_millis(dice.below(30)));
                assert_eq!(c.pull(&repo, &tag), Ok(()), "a while after its 201");
            }
        }
    }
}

#[test]
fn every_push_that_was_answered_can_be_pulled_while_garbage_is_collected() {
    let ours = Ours::start();
    let (c, service) = (ours.client(), ours.running().service().clone());
    let [stop, is_over] = [AtomicBool::new(false), AtomicBool::new(false)];
    let [pushed, collected, runs] = [AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)];
    let is_enough = || runs.load(SeqCst) > 5 && pushed.load(SeqCst) > CLIENTS && collected.load(SeqCst) > 0;
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !stop.load(SeqCst) {
                let untagged = if runs.load(SeqCst) % 2 == 0 { Untagged::Remove } else { Untagged::Keep };
                let options = Options { run: Run::ForReal, grace: Duration::ZERO, untagged, uploads: None };
                let report = gc::collect(&service.store, &service.uploads, &options).unwrap();
                assert_eq!(report.damaged, Vec::<String>::new());
                collected.fetch_add(report.blobs.len(), SeqCst);
                runs.fetch_add(1, SeqCst);
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|at| {
                scope.spawn({
                    let (c, pushed, is_over) = (&c, &pushed, &is_over);
                    move || client(c, at, is_over, pushed)
                })
            })
            .collect();
        let begun = Instant::now();
        let is_alive = || !clients.iter().any(std::thread::ScopedJoinHandle::is_finished) && !collector.is_finished();
        while is_alive() && (begun.elapsed() < TIME || !is_enough() && begun.elapsed() < TIME_MAX) {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_over.store(true, SeqCst);
        let failed = clients.into_iter().filter_map(|client| client.join().err()).count();
        stop.store(true, SeqCst);
        collector.join().unwrap();
        assert_eq!(failed, 0, "clients whose push was lost; see above");
    });
    println!("{runs:?} collections of {collected:?} blobs, {pushed:?} pushes");
    assert!(is_enough(), "{runs:?} collections of {collected:?} blobs, {pushed:?} pushes");
    check(&ours.scratch.join("data")).unwrap();
    ours.stop();
}
