//! 100,000 uploads under way: the limit holds exactly, also when all begin at once and after a restart; memory stays bounded; the server answers.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Client, Ours};
use strata_registry::{gc::Run, upload};
use strata_spec::{Algorithm, Digest};
use strata_testkit::scratch;

const MOST: usize = 100_000;
/// Bytes that an upload may cost beside its files.
const EACH: usize = 200;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A directory whose files cost no disk, where there is room for as many.
fn in_memory() -> Option<tempfile::TempDir> {
    let found = rustix::fs::statvfs("/dev/shm").ok()?;
    (found.f_bavail * found.f_frsize > 2 << 30 && found.f_favail > 500_000)
        .then(|| tempfile::tempdir_in("/dev/shm").unwrap())
}

/// Whether one more is refused as the specification says, while all else goes on.
fn is_full(c: &Client) {
    let refused = c.ask("POST", "/v2/r0/blobs/uploads/", &[], b"");
    assert_eq!((refused.status, refused.code().as_str()), (429, "TOOMANYREQUESTS"), "{}", refused.text());
    let error = &refused.json()["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("100000 uploads are open"), "{error}");
    assert_eq!((&error["detail"]["limit"], refused.header("retry-after")), (&MOST.into(), Some("60")));
    assert_eq!(c.get("/v2/").status, 200);
    assert_eq!(c.pull("image", "t"), Ok(()));
}

#[test]
fn a_hundred_thousand_uploads_are_the_most_and_cost_little() {
    let directory = in_memory();
    let scratch = scratch();
    let data = directory.as_ref().map_or(scratch.path(), tempfile::TempDir::path).join("data");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\nstrata: {{limits: {{uploads: {MOST}}}}}\n",
        data.display()
    );
    let ours = Ours::of(&text, scratch);
    let c = ours.client();
    c.put_image("image", "t", "a");
    let uploads = ours.running().service().uploads.clone();
    let before = resident();
    let [begun, refused] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for at in 0..16 {
            let (uploads, begun, refused) = (&uploads, &begun, &refused);
            scope.spawn(move || {
                let name = format!("r{at}").parse().unwrap();
                for _ in 0..MOST / 16 + 10 {
                    let counted = uploads.begin(&name, Algorithm::Sha256, None).map_or(refused, |_| begun);
                    counted.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert_eq!((begun.load(SeqCst), refused.load(SeqCst), uploads.count()), (MOST, 160, MOST));
    let grown = resident().saturating_sub(before);
    assert!(grown < MOST * EACH, "{grown} bytes for {MOST} uploads");
    println!("{} bytes each", grown / MOST);
    is_full(&c);
    // One that ends makes room for one.
    let id = std::fs::read_dir(data.join("docker/registry/v2/repositories/r3/_uploads")).unwrap().next().unwrap();
    let id = id.unwrap().file_name().into_string().unwrap();
    let path = format!("/v2/r3/blobs/uploads/{id}?digest={}", Digest::sha256("x"));
    assert_eq!(c.ask("PUT", &path, &[], b"x").status, 201);
    c.begin("r0");
    is_full(&c);
    drop(uploads);
    let ours = Ours::of(&text, ours.stop());
    let c = ours.client();
    assert_eq!(ours.running().service().uploads.count(), MOST, "those of before count");
    is_full(&c);
    let purged = upload::purge(&ours.running().service().uploads, std::time::Duration::ZERO, Run::ForReal).unwrap();
    assert_eq!((purged.len(), ours.running().service().uploads.count()), (MOST, 0));
    c.begin("r0");
    ours.stop();
}
