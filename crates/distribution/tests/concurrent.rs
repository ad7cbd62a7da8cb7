//! What is there is not fetched; what two want is fetched once.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Heard, client, root, tars};
use strata_testkit::{
    registry::{Image, Memory, digest},
    server::{Reply, Server},
};

#[test]
fn layers_that_are_there_are_not_fetched() {
    let Some(root) = root() else { return };
    let layers = tars(20, &[40_000, 50_000, 60_000]);
    let (small, big) = (Image::new(&layers[..2]), Image::new(&layers));
    let memory = Arc::new(Memory::default());
    memory.put("small", &small);
    memory.put("big", &big);
    let server = Server::start(move |request| memory.reply(request));
    let name = |tag| format!("{}/x:{tag}", server.host());
    root.pull(&client(), &name("small")).unwrap();
    server.forget();
    let heard = Heard::default();
    assert_eq!(root.pull_telling(&client(), &name("big"), None, &heard).unwrap().id.to_string(), big.id());
    let asked = |n: usize| server.count("GET", &digest(&big.layers[n].1));
    assert_eq!([asked(0), asked(1), asked(2)], [0, 0, 1]);
    assert_eq!((heard.count("Already exists"), heard.count("Pull complete")), (2, 1), "{:?}", heard.all());
    root.assert_holds(2, 3);
}

#[test]
fn several_pulls_of_one_image_fetch_each_blob_once() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(21, &[300_000, 400_000]));
    let memory = Arc::new(Memory::default());
    memory.put("1", &image);
    let server = Server::start(move |request| Reply {
        slow: request.target.contains("/blobs/").then_some((64 << 10, Duration::from_millis(20))),
        ..memory.reply(request)
    });
    let name = format!("{}/x:1", server.host());
    // Each with stores of its own on the same root, as processes have.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let other = common::reopened(&root);
                assert_eq!(other.pull(&client(), &name).unwrap().id.to_string(), image.id());
            });
        }
    });
    for (_, layer) in &image.layers {
        assert_eq!(server.count("GET", &digest(layer)), 1, "{:?}", server.seen().len());
    }
    root.assert_holds(1, 2);
    assert_eq!(root.partials(), Vec::<String>::new());
}

#[test]
fn the_same_layer_twice_in_an_image_is_fetched_once() {
    let Some(root) = root() else { return };
    let one = tars(22, &[40_000]);
    let image = Image::new(&[one[0].clone(), tars(23, &[10])[0].clone(), one[0].clone()]);
    let memory = Arc::new(Memory::default());
    memory.put("1", &image);
    let server = Server::start(move |request| memory.reply(request));
    let name = format!("{}/x:1", server.host());
    assert_eq!(root.pull(&client(), &name).unwrap().id.to_string(), image.id());
    assert_eq!(server.count("GET", &digest(&image.layers[0].1)), 1);
    root.assert_holds(1, 3);
    assert!(root.layer(&name, 2) == one[0]);
}
