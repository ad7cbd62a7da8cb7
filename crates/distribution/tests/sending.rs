//! Blobs on their way to a registry: passed on from another, cut off, spoilt, in chunks.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{Root, client, root, tars};
use strata_testkit::{
    registry::{Image, Memory, digest},
    server::{Reply, Request, Server},
};

/// An image that was pulled from one registry, and is to go to another.
struct Case {
    root: Root,
    image: Image,
    source: Server,
    memory: Arc<Memory>,
    target: Server,
    /// What the target wants of a chunk at least; 0 for nothing.
    least: Arc<AtomicUsize>,
}

impl Case {
    /// From when it was pulled, `spoil` may change what the source answers for layer 0; how many there were before is counted. So may `refuse` what the
    /// target answers for parts of blobs.
    fn new(
        seed: u64,
        bytes: usize,
        spoil: impl Fn(usize, Reply) -> Reply + Send + Sync + 'static,
        refuse: impl Fn(usize, &Request, &Memory) -> Option<Reply> + Send + Sync + 'static,
    ) -> Option<Self> {
        let root = root()?;
        let image = Image::new(&tars(seed, &[bytes, 10]));
        let from = Memory::default();
        from.put("1", &image);
        let (layer, count) = (digest(&image.layers[0].1), AtomicUsize::new(0));
        let source = Server::start(move |request| {
            let reply = from.reply(request);
            match request.method == "GET" && request.path().ends_with(&layer) {
                // The first is the pull's.
                true => match count.fetch_add(1, SeqCst) {
                    0 => reply,
                    n => spoil(n - 1, reply),
                },
                false => reply,
            }
        });
        let memory = Arc::new(Memory::default());
        let (behind, count) = (memory.clone(), AtomicUsize::new(0));
        let least: Arc<AtomicUsize> = Arc::default();
        let wants = least.clone();
        let target = Server::start(move |request| {
            let wants = wants.load(SeqCst);
            if request.method == "POST" && wants > 0 {
                return behind.reply(request).header("OCI-Chunk-Min-Length", wants.to_string());
            }
            let of_parts = request.path().contains("/blobs/uploads/")
                && matches!(request.method.as_str(), "PATCH" | "PUT")
                && request.body.len() > 1 << 20;
            let refused = of_parts.then(|| refuse(count.fetch_add(1, SeqCst), request, &behind)).flatten();
            refused.unwrap_or_else(|| behind.reply(request))
        });
        let name = format!("{}/x:1", source.host());
        root.pull(&client(), &name).unwrap();
        root.tag(&name, &format!("{}/x:1", target.host()));
        source.forget();
        Some(Self { root, image, source, memory, target, least })
    }

    /// Pushes it; returns whether it is the manifest that it was pulled with.
    #[track_caller]
    fn push(&self) -> bool {
        let pushed = self.root.push(&client(), &format!("{}/x:1", self.target.host())).unwrap();
        assert_eq!(digest(&self.memory.manifest("1").unwrap()), pushed.digest.to_string());
        assert_eq!(pushed.kept, pushed.digest.to_string() == self.image.digest());
        assert_eq!(self.root.partials(), Vec::<String>::new());
        pushed.kept
    }

    /// Requests that brought a part of layer 0: method, and first and last byte where they are said.
    fn parts(&self) -> Vec<(String, Option<String>)> {
        let big = |request: &Request| request.body.len() > 60 << 10 && request.path().contains("/blobs/uploads/");
        let part = |request: Request| (request.method.clone(), request.header("content-range").map(str::to_owned));
        self.target.seen().into_iter().filter(big).map(part).collect()
    }

    fn begins(&self) -> Vec<Option<String>> {
        let layer = digest(&self.image.layers[0].1);
        let seen = self.source.seen().into_iter().filter(|request| request.path().ends_with(&layer));
        seen.map(|request| request.header("range").map(str::to_owned)).collect()
    }
}

#[test]
fn a_blob_goes_from_registry_to_registry_in_one_request_of_each() {
    let Some(case) = Case::new(90, 5 << 20, |_, reply| reply, |_, _, _| None) else { return };
    assert!(case.push());
    assert_eq!(case.begins(), [None]);
    assert_eq!(case.parts(), [("PUT".to_owned(), None)]);
    let big = case.target.seen().into_iter().find(|request| request.body.len() > 60 << 10).unwrap();
    assert_eq!(big.query("digest"), [digest(&case.image.layers[0].1)]);
    assert_eq!(big.header("content-length"), Some(case.image.layers[0].1.len().to_string().as_str()));
}

#[test]
fn a_source_that_is_cut_off_is_gone_on_with_behind_the_same_request() {
    let spoil = |n, reply: Reply| if n < 3 { Reply { cut: Some(1_000_000), ..reply } } else { reply };
    let Some(case) = Case::new(91, 5 << 20, spoil, |_, _, _| None) else { return };
    assert!(case.push());
    assert_eq!(case.parts().len(), 1);
    let begins: Vec<u64> = case.begins()[1..]
        .iter()
        .map(|range| range.as_deref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
        .collect();
    // What was under way when the connection broke may be lost, and is asked for again.
    assert!(begins.len() == 3 && begins.windows(2).all(|pair| pair[0] < pair[1]), "{begins:?}");
}

#[test]
fn what_cannot_be_had_any_more_is_compressed_anew() {
    let spoil = |n, reply: Reply| match n {
        0 => Reply { cut: Some(1_000_000), ..reply },
        _ => Reply::new(404),
    };
    let Some(case) = Case::new(92, 3 << 20, spoil, |_, _, _| None) else { return };
    assert!(!case.push());
}

#[test]
fn spoilt_bytes_never_close_an_upload() {
    for at in [0, 1 << 20, usize::MAX] {
        let spoil = move |_, mut reply: Reply| {
            let last = reply.body.len() - 1;
            reply.body[at.min(last)] ^= 1;
            reply
        };
        let Some(case) = Case::new(93, 3 << 20, spoil, |_, _, _| None) else { return };
        assert!(!case.push());
        let layer = digest(&case.image.layers[0].1);
        let closed = |request: &Request| request.method == "PUT" && request.query("digest").contains(&layer);
        assert!(!case.target.seen().iter().any(closed), "byte {at}");
    }
}

#[test]
fn after_a_cut_chunks_are_as_large_as_the_registry_wants() {
    const ARRIVED: usize = 5_000_000;
    for (least, len) in [(0, 8 << 20), (10 << 20, 10 << 20), (1 << 20, 8 << 20)] {
        let refuse = move |n, request: &Request, memory: &Memory| match n {
            // Some of all arrives, and the connection breaks.
            0 => {
                memory.reply(&Request { method: "PATCH".to_owned(), ..request.clone() });
                memory.cut_uploads(ARRIVED);
                Some(Reply::new(502))
            }
            // So does some of the second chunk.
            2 => {
                memory.reply(request);
                memory.cut_uploads(ARRIVED + len + 1_000_000);
                Some(Reply::new(503))
            }
            _ => None,
        };
        let Some(case) = Case::new(94, 36 << 20, |_, reply| reply, refuse) else { return };
        case.least.store(least, SeqCst);
        assert!(case.push());
        let size = case.image.layers[0].1.len();
        let chunk = |begin: usize, end: usize| ("PATCH".to_owned(), Some(format!("{begin}-{}", end.min(size) - 1)));
        let ends: Vec<usize> = (1..).map(|n| ARRIVED + n * len).take_while(|end| end - len < size).collect();
        let mut wanted: Vec<_> = ends.iter().map(|end| chunk(end - len, *end)).collect();
        wanted.insert(0, ("PUT".to_owned(), None));
        wanted.insert(3, chunk(ARRIVED + len + 1_000_000, ARRIVED + 2 * len));
        assert_eq!(case.parts(), wanted, "{least}");
        assert_eq!(case.begins().len(), 2, "the source is asked twice: for all, and for what is left");
    }
}

#[test]
fn a_blob_that_is_too_much_for_one_request_goes_in_chunks() {
    let refuse = |_, request: &Request, _: &Memory| (request.body.len() > 9 << 20).then(|| Reply::new(413));
    let Some(case) = Case::new(95, 20 << 20, |_, reply| reply, refuse) else { return };
    assert!(case.push());
    assert_eq!(case.parts().len(), 4, "{:?}", case.parts());
}

#[test]
fn an_upload_that_is_lost_each_time_is_given_up() {
    let refuse = |_, _: &Request, memory: &Memory| {
        memory.lose_uploads();
        Some(Reply::new(500))
    };
    let Some(case) = Case::new(96, 3 << 20, |_, reply| reply, refuse) else { return };
    let error = case.root.push(&client(), &format!("{}/x:1", case.target.host())).unwrap_err().to_string();
    assert!(error.contains("lost the upload of a layer 3 times"), "{error}");
    assert!(case.memory.manifest("1").is_none());
}
