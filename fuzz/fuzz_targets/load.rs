//! Archives of any documents, from a file and from a stream: refused, or loaded whole.
//!
//! The input is a list of files, see [`strata_fuzz::parts`]. A name `@` is `blobs/sha256/<hex>` of the content, `NAME@` has the digest in its
//! middle; in a content, `{0}` to `{9}` is the digest of an earlier file, in hexadecimal. `+` before the name wraps the content as a layer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_archive::tar::{Header, Kind, Writer};
use strata_fuzz::{Root, parts, replace};
use strata_image::load::{Input, Options};
use strata_spec::Digest;

fuzz_target!(|data: &[u8]| {
    let mut archive = Writer::new(Vec::new());
    let mut digests: Vec<String> = Vec::new();
    for (name, content) in parts(data) {
        let (name, layer) = name.strip_prefix('+').map_or((name, false), |name| (name, true));
        let mut content = content.to_vec();
        for (n, digest) in digests.iter().enumerate().take(10) {
            content = replace(&content, format!("{{{n}}}").as_bytes(), digest.as_bytes());
        }
        if layer {
            content = tar(&[("f".to_owned(), content)]);
        }
        let digest = Digest::sha256(&content).hex();
        let name = if name == "@" { "blobs/sha256/@" } else { name };
        let name = name.replace('@', &digest);
        digests.push(digest);
        add(&mut archive, name, &content);
    }
    let archive = archive.finish().expect("to memory");
    Root::with(|root| {
        let options = Options::default();
        let streamed = root.images.load(Input::Stream(Box::new(&archive[..])), &options);
        let filed = root.images.load(Input::File(root.file(&archive)), &options);
        assert_eq!(streamed.is_ok(), filed.is_ok(), "{streamed:?} by stream, {filed:?} by file");
        let findings = root.images.verify();
        assert!(findings.is_empty(), "{findings:?}");
    });
});

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    files.iter().for_each(|(name, content)| add(&mut writer, name.clone(), content));
    writer.finish().expect("to memory")
}

fn add(writer: &mut Writer<Vec<u8>>, name: String, content: &[u8]) {
    let header = Header { mode: 0o644, size: content.len() as u64, ..Header::new(Kind::Regular, name) };
    // A name that no header can hold is left out.
    if writer.header(&header).is_ok() {
        writer.content(content).expect("as long as its header says");
    }
}
