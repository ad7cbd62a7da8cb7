//! After a crash at any write of `rmi`, the image is there whole or gone with its layer, and the next opener leaves nothing of it.

mod common;

use common::{image, open};
use strata_engine::remove::RemoveOptions;
use strata_layer::Depth;
use strata_testkit::{crash, require, scratch};

#[test]
fn removing_an_image_survives_a_crash_at_any_write() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let before = open(dir.path());
    let kept = image(&before, "kept", &["kept"]);
    let gone = image(&before, "gone", &["gone"]);
    let run = crash::record(dir.path(), || {
        before.remove_image("gone", RemoveOptions::default()).unwrap();
        crash::mark(dir.path(), "removed");
    });
    let mut disks = 0;
    for disk in run.images() {
        let after = open(disk.root());
        assert!(after.main().images().contains(kept), "after {disk}: another image is lost");
        let there = after.main().images().contains(gone);
        assert!(!there || !disk.is_after("removed"), "after {disk}: what was reported removed is back");
        let images = 1 + usize::from(there);
        assert_eq!(after.main().layers().list().unwrap().len(), images, "after {disk}: layers");
        assert_eq!(after.main().layers().driver().list().unwrap().len(), images, "after {disk}: folders");
        assert_eq!(after.main().layers().verify(Depth::Contents), [], "after {disk}");
        assert!(after.main().images().verify().is_empty(), "after {disk}: {:?}", after.main().images().verify());
        disks += 1;
    }
    assert!(disks > 10, "only {disks} disks of {} writes", run.len());
}
