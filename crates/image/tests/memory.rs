//! Loading and saving take a bounded memory, whatever the image. Alone in its program, whose peak is measured.

mod common;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
};

use common::*;
use strata_archive::tar::{Header, Kind, Writer};
use strata_image::{
    load::{Input, Options},
    save::Output,
};
use strata_spec::{DiffId, Hasher, progress::Silent};

const MIB: u64 = 1 << 20;
/// Bytes of the big file of each layer.
const BIG: u64 = 32 * MIB;

/// Peak of this process's memory in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// A layer of one big file and many small ones, and its DiffID.
fn big_layer(n: u64) -> (File, u64, DiffId) {
    let mut writer = Writer::new(tempfile::tempfile().expect("a file"));
    let block: Vec<u8> = (0..MIB).map(|at| (at * (n + 7) / 5) as u8).collect();
    let header = Header { mode: 0o644, size: BIG, ..Header::new(Kind::Regular, format!("big-{n}")) };
    writer.header(&header).expect("header");
    (0..BIG / MIB).for_each(|_| writer.content(&block).expect("content"));
    for small in 0..300 {
        let header = Header { mode: 0o644, size: 100, ..Header::new(Kind::Regular, format!("small-{n}/{small}")) };
        writer.header(&header).expect("header");
        writer.content(&block[..100]).expect("content");
    }
    let mut file = writer.finish().expect("finish");
    let size = file.stream_position().expect("position");
    file.rewind().expect("rewind");
    let mut hasher = Hasher::sha256();
    io::copy(&mut file, &mut hasher).expect("hash");
    (file, size, DiffId::new(hasher.finish()))
}

fn archive() -> File {
    let layers: Vec<_> = (0..3).map(big_layer).collect();
    let diffs: Vec<_> = layers.iter().map(|(_, _, diff)| diff.to_string()).collect();
    let config =
        serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let paths: Vec<_> = (0..3).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["big:1"], "Layers": paths}]);
    let mut writer = Writer::new(tempfile::tempfile().expect("a file"));
    for (path, (mut file, size, _)) in paths.iter().zip(layers) {
        file.rewind().expect("rewind");
        writer.header(&Header { mode: 0o644, size, ..Header::new(Kind::Regular, path.as_str()) }).expect("header");
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).expect("read") {
                0 => break,
                read => writer.content(&buffer[..read]).expect("content"),
            }
        }
    }
    for (name, json) in [("config.json", config), ("manifest.json", manifest)] {
        let text = json.to_string();
        writer.header(&Header { size: text.len() as u64, ..Header::new(Kind::Regular, name) }).expect("header");
        writer.content(text.as_bytes()).expect("content");
    }
    writer.finish().expect("finish")
}

#[test]
fn loading_and_saving_take_64_mib_at_most() {
    let Some(first) = root() else { return };
    let archive = archive();
    let before = peak();
    assert!(before < 32 * MIB, "the test itself takes {} MiB", before / MIB);
    first.store.load(Input::File(archive.try_clone().expect("clone")), &Options::default()).expect("load");
    println!("load from a file: {} MiB", peak() / MIB);
    let selection = first.store.select(&["big:1"]).expect("select");
    let saved = File::create(first.scratch.join("saved.tar")).expect("a file");
    first.store.save(&selection, Output::File(&saved), &Silent).expect("save to a file");
    println!("save to a file: {} MiB", peak() / MIB);

    let Some(second) = root() else { return };
    let (reader, mut writer) = io::pipe().expect("a pipe");
    std::thread::scope(|scope| {
        let first = &first;
        scope.spawn(move || {
            first.store.save(&selection, Output::Stream(&mut writer), &Silent).expect("save to a pipe");
            writer.flush().expect("flush");
        });
        second.store.load(Input::Stream(Box::new(reader)), &Options::default()).expect("load from a pipe");
    });
    println!("both by a pipe: {} MiB", peak() / MIB);
    assert_eq!(second.id_of("big:1"), first.id_of("big:1"));
    assert!(peak() < 64 * MIB, "it took {} MiB", peak() / MIB);
}
