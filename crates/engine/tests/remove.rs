//! `rmi`: what goes, what stays, and in which words it is refused. The words and the order are those of moby 20.10.

mod common;

use common::{image, open, tar};
use strata_container::Request;
use strata_engine::remove::{RemoveOptions, Removed};
use strata_image::import;
use strata_testkit::{require, scratch};

const FORCE: RemoveOptions = RemoveOptions { force: true, keep_parents: false };

fn untagged(name: &str) -> Removed {
    Removed::Untagged(name.to_owned())
}

#[test]
fn a_name_goes_and_the_last_one_takes_the_image_and_its_layers_with_it() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    let id = image(&root, "a", &["one:1", "two"]);
    assert_eq!(root.remove_image("one:1", RemoveOptions::default()).unwrap(), [untagged("one:1")]);
    let removed = root.remove_image("two", RemoveOptions::default()).unwrap();
    assert_eq!(removed[..2], [untagged("two:latest"), Removed::Deleted(id.to_string())]);
    assert_eq!(removed.len(), 3, "its layer too: {removed:?}");
    assert!(root.main().layers().list().unwrap().is_empty());
    assert!(root.main().layers().driver().list().unwrap().is_empty());
}

#[test]
fn an_id_takes_all_names_of_one_repository_and_not_those_of_several() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    let several = image(&root, "a", &["one:1", "two:1"]);
    let refused = root.remove_image(&several.hex(), RemoveOptions::default()).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            several.short()
        )
    );
    let removed = root.remove_image(&several.short(), FORCE).unwrap();
    assert_eq!(removed[..2], [untagged("one:1"), untagged("two:1")]);
    let single = image(&root, "b", &["three:1"]);
    assert_eq!(root.remove_image(&single.hex(), RemoveOptions::default()).unwrap()[0], untagged("three:1"));
}

#[test]
fn a_container_holds_its_image() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    let id = image(&root, "a", &["one"]);
    let request = Request { image: "one".into(), cmd: vec!["true".into()], ..Request::default() };
    let container = root.create_container(&request).unwrap().container;
    let by_name = root.remove_image("one", RemoveOptions::default()).unwrap_err().to_string();
    assert_eq!(
        by_name,
        format!(
            "conflict: unable to remove repository reference \"one\" (must force) - container {} is using its referenced image {}",
            container.id.short(),
            id.short()
        )
    );
    let by_id = root.remove_image(&id.hex(), RemoveOptions::default()).unwrap_err().to_string();
    assert_eq!(
        by_id,
        format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
            id.short(),
            container.id.short()
        )
    );
    // Forced, the image goes; its layer stays for as long as the container stands on it.
    root.remove_image("one", FORCE).unwrap();
    assert_eq!(root.main().layers().list().unwrap().len(), 1);
}

#[test]
fn layers_that_another_image_has_stay() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    image(&root, "shared", &["one"]);
    // The same layer under another config.
    let options = import::Options { message: Some("again".into()), ..Default::default() };
    let other = root.main().images().import(tar("shared").as_slice(), options).unwrap();
    let removed = root.remove_image("one", RemoveOptions::default()).unwrap();
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!(root.main().layers().list().unwrap().len(), 1);
    assert_eq!(root.remove_image(&other.hex(), RemoveOptions::default()).unwrap().len(), 2);
    assert!(root.main().layers().list().unwrap().is_empty());
}

#[test]
fn prune_takes_what_has_no_name_and_no_user() {
    let Some(()) = require::overlay() else { return };
    let dir = scratch();
    let root = open(dir.path());
    let named = image(&root, "a", &["named"]);
    let dangling = image(&root, "b", &[]);
    let pruned = root.prune_images(false, &Default::default()).unwrap();
    assert_eq!(pruned.items[0], Removed::Deleted(dangling.to_string()));
    assert_eq!(pruned.reclaimed, 1);
    assert!(root.main().images().contains(named));
    root.prune_images(true, &Default::default()).unwrap();
    assert!(root.main().images().list().unwrap().is_empty());
}
