//! A root with images of one small layer each.
#![allow(dead_code)]

use std::path::Path;

use strata_engine::{Options, Purpose, Root};
use strata_image::import;
use strata_spec::{ImageId, Reference};

pub fn options(root: &Path) -> Options {
    Options { data_root: root.join("root"), exec_root: Some(root.join("exec")), driver: None }
}

pub fn open(root: &Path) -> Root {
    Root::open(&options(root), Purpose::Write).expect("open the root")
}

/// A tar of one file, named and filled with `name`.
pub fn tar(name: &str) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", name.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    tar.extend(name.bytes());
    tar.resize(512 * 2, 0);
    tar.resize(512 * 4, 0);
    tar
}

pub fn image(root: &Root, content: &str, names: &[&str]) -> ImageId {
    let id = root.main().images().import(tar(content).as_slice(), import::Options::default()).expect("import");
    for name in names {
        let name = Reference::parse(name).expect("a reference").with_default_tag();
        root.main().images().tag(id, &name).expect("tag");
    }
    id
}
