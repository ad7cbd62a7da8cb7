//! A registry, or what lies between, does what it should not: cut off, wrong, slow, lying. The pull completes or says why, and keeps nothing half.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use common::{Root, client, root, tars};
use serde_json::json;
use strata_spec::{
    Cancel, ErrorKind,
    progress::{Event, Progress, Status},
};
use strata_testkit::{
    registry::{Image, Memory, digest, error},
    server::{Reply, Request, Server},
};

/// A root, an image in a registry, and a server around it.
struct Case {
    root: Root,
    image: Image,
    server: Server,
    memory: Arc<Memory>,
}

impl Case {
    /// `spoil` may change an answer for layer 0, given how many there were before.
    fn new(
        seed: u64,
        sizes: &[usize],
        spoil: impl Fn(usize, &Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Option<Self> {
        let root = root()?;
        let image = Image::new(&tars(seed, sizes));
        let memory = Arc::new(Memory::default());
        memory.put("1", &image);
        let (layer, count, answers) = (digest(&image.layers[0].1), AtomicUsize::new(0), memory.clone());
        let server = Server::start(move |request| {
            let reply = answers.reply(request);
            match request.method == "GET" && request.path().ends_with(&layer) {
                true => spoil(count.fetch_add(1, SeqCst), request, reply),
                false => reply,
            }
        });
        Some(Self { root, image, server, memory })
    }

    fn name(&self) -> String {
        format!("{}/x:1", self.server.host())
    }

    fn asked(&self) -> usize {
        self.server.count("GET", &digest(&self.image.layers[0].1))
    }

    #[track_caller]
    fn completes(&self) {
        let pulled = self.root.pull(&client(), &self.name()).unwrap();
        assert_eq!(pulled.id.to_string(), self.image.id());
        self.root.assert_holds(1, self.image.layers.len());
        assert_eq!(self.root.partials(), Vec::<String>::new());
    }

    #[track_caller]
    fn fails(&self, says: &str) {
        let error = self.root.pull(&client(), &self.name()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        self.root.assert_holds(0, 0);
    }
}

#[test]
fn a_connection_that_is_cut_every_64_kib_is_gone_on_with() {
    const CUT: usize = 64 << 10;
    let Some(case) = Case::new(30, &[1_500_000, 10], |_, _, reply| Reply { cut: Some(CUT), ..reply }) else { return };
    case.completes();
    let size = case.image.layers[0].1.len();
    // Nothing is fetched twice but what was under way when the connection broke.
    let begins: Vec<usize> = case.server.seen().iter().filter_map(begin_of).collect();
    assert!(begins.windows(2).all(|pair| pair[0] < pair[1]), "{begins:?}");
    assert!(case.asked() >= size / CUT && case.asked() <= size / CUT * 2 + 2, "{}", case.asked());
}

fn begin_of(request: &Request) -> Option<usize> {
    request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

#[test]
fn a_blob_that_is_cut_off_without_ranges_begins_again() {
    let spoil = |n, _: &Request, reply: Reply| match n {
        0 => Reply { cut: Some(300_000), ..reply },
        // Ranges are ignored: the whole blob, each time.
        _ => Reply { status: 200, headers: Vec::new(), ..reply },
    };
    let Some(root) = root() else { return };
    let image = Image::new(&tars(31, &[600_000]));
    let memory = Arc::new(Memory::default());
    memory.put("1", &image);
    let (layer, count) = (image.layers[0].1.clone(), AtomicUsize::new(0));
    let server = Server::start(move |request| match request.path().ends_with(&digest(&layer)) {
        true => spoil(count.fetch_add(1, SeqCst), request, Reply::new(200).body(layer.clone())),
        false => memory.reply(request),
    });
    assert_eq!(root.pull(&client(), &format!("{}/x:1", server.host())).unwrap().id.to_string(), image.id());
    assert_eq!(server.count("GET", &digest(&image.layers[0].1)), 2);
}

#[test]
fn lies_about_ranges_are_seen() {
    for lie in ["bytes 0-99999/400000", "bytes 5-4/3", "nonsense", ""] {
        let spoil = move |n, request: &Request, reply: Reply| match n {
            0 => Reply { cut: Some(200_000), ..reply },
            _ if begin_of(request).is_some() => Reply { headers: vec![("Content-Range".into(), lie.into())], ..reply },
            _ => reply,
        };
        let Some(case) = Case::new(32, &[500_000], spoil) else { return };
        case.completes();
    }
    // One that has nothing more to give, in its opinion.
    let spoil = move |n, request: &Request, reply: Reply| match n {
        0 => Reply { cut: Some(200_000), ..reply },
        _ if begin_of(request).is_some() => Reply::new(416),
        _ => reply,
    };
    let Some(case) = Case::new(33, &[500_000], spoil) else { return };
    case.completes();
}

#[test]
fn a_range_of_other_bytes_is_found_out_and_the_blob_fetched_anew() {
    let spoil = |n, _: &Request, reply: Reply| match n {
        0 => Reply { cut: Some(200_000), ..reply },
        1 => Reply { body: vec![7; reply.body.len()], ..reply },
        _ => reply,
    };
    let Some(case) = Case::new(34, &[500_000], spoil) else { return };
    // It is not clear which part was wrong, and nothing of it is kept: the next try completes.
    let error = case.root.pull(&client(), &case.name()).unwrap_err().to_string();
    assert!(error.contains("has the digest") || error.contains("gzip"), "{error}");
    case.root.assert_holds(0, 0);
    case.completes();
}

#[test]
fn wrong_bytes_are_refused() {
    for at in [0usize, 100_000, usize::MAX] {
        let spoil = move |_, _: &Request, mut reply: Reply| {
            let at = at.min(reply.body.len() - 1);
            reply.body[at] ^= 1;
            reply
        };
        let Some(case) = Case::new(35, &[200_000, 10], spoil) else { return };
        case.fails("");
        let wrong = digest(&case.image.layers[0].1).replace(':', "-");
        assert!(!case.root.partials().contains(&wrong), "nobody shall go on with wrong bytes");
    }
}

#[test]
fn a_blob_of_another_digest_is_refused_even_if_it_is_a_good_layer() {
    let other = Image::new(&tars(99, &[200_000]));
    let spoil = move |_, _: &Request, reply: Reply| Reply { body: other.layers[0].1.clone(), ..reply };
    let Some(case) = Case::new(36, &[200_000], spoil) else { return };
    case.fails("");
}

#[test]
fn wrong_lengths_are_refused() {
    let Some(longer) = Case::new(37, &[100_000], |_, _, mut reply| {
        reply.body.extend([0; 100]);
        reply
    }) else {
        return;
    };
    longer.fails("bytes, its manifest says");
    let Some(shorter) = Case::new(38, &[100_000], |_, _, mut reply| {
        reply.body.truncate(5000);
        reply
    }) else {
        return;
    };
    shorter.fails("bytes, its manifest says");
    // One that promises too much and then stops.
    let Some(liar) = Case::new(39, &[100_000], |_, _, reply| Reply { claimed: Some(u64::MAX / 2), ..reply }) else {
        return;
    };
    liar.fails("bytes, its manifest says");
}

#[test]
fn a_slow_registry_is_waited_for() {
    let slow = |_, _: &Request, reply| Reply { slow: Some((4096, Duration::from_millis(20))), ..reply };
    let Some(case) = Case::new(40, &[100_000], slow) else { return };
    case.completes();
    assert_eq!(case.asked(), 1);
}

#[test]
fn busy_registries_are_asked_again_when_they_say() {
    for status in [429, 503] {
        let spoil = move |n, _: &Request, reply| match n {
            0 => error(status, "TOOMANYREQUESTS").header("Retry-After", "1"),
            1 => Reply::new(500),
            _ => reply,
        };
        let Some(case) = Case::new(41, &[1000], spoil) else { return };
        let begun = Instant::now();
        case.completes();
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(case.asked(), 3);
    }
}

#[test]
fn a_registry_that_stays_broken_is_given_up() {
    let Some(case) = Case::new(42, &[1000, 500_000], |_, _, _| error(500, "UNKNOWN")) else { return };
    case.fails("answers 500: unknown");
    assert!(case.asked() > 2 && case.asked() <= 40, "{}", case.asked());
    let Some(case) = Case::new(43, &[1000], |_, _, _| error(404, "BLOB_UNKNOWN")) else { return };
    case.fails("blob unknown");
    assert!(case.asked() <= 2, "there is no use in asking again: {}", case.asked());
}

#[test]
fn redirects_are_followed_without_credentials() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(44, &[50_000, 10]));
    let memory = Arc::new(Memory::default());
    memory.put("1", &image);
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let (behind, heard) = (memory.clone(), shown.clone());
    let storage = Server::start(move |request| {
        heard.lock().unwrap().extend(request.header("authorization").map(str::to_owned));
        behind.reply(&Request { target: request.path().replace("/storage", "/v2/x/blobs"), ..request.clone() })
    });
    let to = storage.host();
    let server = Server::start(move |request| {
        if request.header("authorization") != Some("Basic dTpw") {
            return error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.path().split_once("/blobs/") {
            Some((_, digest)) => {
                Reply::new(307).header("Location", format!("http://{to}/storage/{digest}?signature=s"))
            }
            None => memory.reply(request),
        }
    });
    let config = root.join("config.json");
    std::fs::write(&config, json!({"auths": {server.host(): {"auth": "dTpw"}}}).to_string()).unwrap();
    let settings = strata_distribution::Settings { docker_config: config, ..common::settings() };
    let client = strata_distribution::Client::new(settings).unwrap();
    assert_eq!(root.pull(&client, &format!("{}/x:1", server.host())).unwrap().id.to_string(), image.id());
    assert_eq!(storage.seen().len(), 3, "config and two layers");
    assert_eq!(*shown.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn a_foreign_layer_is_fetched_from_where_its_manifest_says() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(52, &[50_000, 10]));
    let elsewhere = image.layers[0].1.clone();
    let other = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(200).body(elsewhere.clone()),
        Some(_) => Reply::new(500),
    });
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    manifest["layers"][0]["urls"] = json!(["ftp://nowhere/x", format!("http://{}/layer", other.host())]);
    let memory = Memory::default();
    memory.put_blob(&image.config);
    memory.put_blob(&image.layers[1].1);
    memory.put_manifest("1", &image.media_type, manifest.to_string().as_bytes());
    let server = Server::start(move |request| memory.reply(request));
    let pulled = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap();
    assert_eq!((pulled.id.to_string(), other.seen().len()), (image.id(), 1));
}

#[test]
fn redirects_in_circles_end() {
    let circle = |_, request: &Request, _| Reply::new(302).header("Location", request.target.clone());
    let Some(case) = Case::new(45, &[10], circle) else { return };
    case.fails("leads in circles");
    let Some(case) = Case::new(46, &[10], |_, _, _| Reply::new(302)) else { return };
    case.fails("no place to go on");
    let Some(case) = Case::new(47, &[10], |_, _, _| Reply::new(302).header("Location", "file:///etc/passwd")) else {
        return;
    };
    case.fails("no place to go on");
}

#[test]
fn a_pull_that_broke_off_goes_on_where_it_stopped() {
    let cut = Arc::new(AtomicUsize::new(400_000));
    let limit = cut.clone();
    let spoil = move |_, request: &Request, reply: Reply| {
        let begin = begin_of(request).unwrap_or(0);
        match limit.load(SeqCst).checked_sub(begin) {
            Some(left) if left > 0 => Reply { cut: Some(left), ..reply },
            _ if limit.load(SeqCst) == 0 => reply,
            _ => Reply::new(404),
        }
    };
    let Some(case) = Case::new(48, &[1_000_000, 10], spoil) else { return };
    let error = case.root.pull(&client(), &case.name()).unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    let kept = case.root.partials();
    assert!(!kept.is_empty(), "what came is kept");
    case.server.forget();
    cut.store(0, SeqCst);
    case.completes();
    let begins: Vec<_> = case.server.seen().iter().filter_map(begin_of).collect();
    assert_eq!(begins, [400_000], "only the rest is asked for");
}

#[test]
fn damage_in_what_an_earlier_pull_left_costs_one_more_fetch() {
    let blob = Image::new(&tars(49, &[300_000])).layers.remove(0).1;
    let damages = [(vec![9; 1000], 2), (vec![9; blob.len()], 1), (vec![9; blob.len() + 5], 1), (blob.clone(), 0)];
    for (damage, fetches) in damages {
        let Some(case) = Case::new(49, &[300_000], |_, _, reply| reply) else { return };
        let partial = case.root.join("strata/content/ingest");
        std::fs::create_dir_all(&partial).unwrap();
        std::fs::write(partial.join(digest(&blob).replace(':', "-")), &damage).unwrap();
        case.completes();
        assert_eq!(case.asked(), fetches, "{} bytes", damage.len());
    }
}

#[test]
fn what_was_left_of_a_layer_that_is_there_goes() {
    let Some(case) = Case::new(53, &[1000, 10], |_, _, reply| reply) else { return };
    case.completes();
    for (_, blob) in &case.image.layers {
        std::fs::write(case.root.join("strata/content/ingest").join(digest(blob).replace(':', "-")), &blob[..5])
            .unwrap();
    }
    case.completes();
    assert_eq!(case.asked(), 1);
}

#[test]
fn a_push_survives_what_happens_on_its_way() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(50, &[20 << 20]));
    let source = Arc::new(Memory::default());
    source.put("1", &image);
    let from = Server::start(move |request| source.reply(request));
    let local = format!("{}/x:1", from.host());
    root.pull(&client(), &local).unwrap();
    drop(from);
    // The registry that it came from is gone: it is compressed anew.
    type Spoil = fn(usize, &Request, &Memory) -> Option<Reply>;
    let spoils: [(&str, Spoil); 8] = [
        ("none", |_, _, _| None),
        ("half of it is taken", |n, request, memory| {
            (n == 0).then(|| {
                memory.reply(request);
                memory.cut_uploads(5 << 20);
                Reply::new(502)
            })
        }),
        ("it takes half and says so", |n, request, memory| {
            (n == 0).then(|| {
                memory.reply(request);
                memory.cut_uploads(5 << 20);
                Reply::new(202).header("Location", request.target.clone()).header("Range", "0-5242879")
            })
        }),
        ("all is taken, and the answer lost", |n, request, memory| {
            (n == 0).then(|| {
                memory.reply(request);
                Reply::new(503)
            })
        }),
        ("it is refused for a while", |n, _, _| (n < 2).then(|| error(429, "TOOMANYREQUESTS"))),
        ("all is forgotten before the end", |n, request, memory| {
            (n == 1).then(|| {
                memory.lose_uploads();
                memory.reply(request)
            })
        }),
        ("all is forgotten in the middle", |n, request, memory| {
            (n == 0).then(|| {
                memory.reply(request);
                memory.lose_uploads();
                Reply::new(500)
            })
        }),
        ("the last answer is lost", |_, request, memory| {
            (request.method == "PUT").then(|| {
                memory.reply(request);
                Reply::new(502)
            })
        }),
    ];
    for (what, spoil) in spoils {
        let memory = Arc::new(Memory::default());
        let (behind, count) = (memory.clone(), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            let of_chunks =
                request.path().contains("/blobs/uploads/") && matches!(request.method.as_str(), "PATCH" | "PUT");
            let spoilt = of_chunks.then(|| spoil(count.fetch_add(1, SeqCst), request, &behind)).flatten();
            spoilt.unwrap_or_else(|| behind.reply(request))
        });
        let name = format!("{}/x:1", server.host());
        root.tag(&image.id(), &name);
        let pushed = root.push(&client(), &name).unwrap_or_else(|error| panic!("{what}: {error}"));
        let bytes = memory.manifest("1").unwrap_or_else(|| panic!("{what}: no manifest"));
        assert_eq!(digest(&bytes), pushed.digest.to_string(), "{what}");
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let blob =
            memory.blob(manifest["layers"][0]["digest"].as_str().unwrap()).unwrap_or_else(|| panic!("{what}: no blob"));
        assert_eq!(manifest["layers"][0]["size"], blob.len(), "{what}");
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(blob.as_slice()), &mut tar).unwrap();
        assert!(tar == root.layer(&name, 0), "{what}");
    }
}

#[test]
fn a_registry_that_takes_nothing_is_told_apart() {
    let Some(case) = Case::new(51, &[10_000], |_, _, reply| reply) else { return };
    case.completes();
    for (status, code, says) in [
        (403, "DENIED", "denied: denied; `strata login`"),
        (413, "SIZE_INVALID", "answers 413: size invalid"),
        (507, "X", "507"),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "GET" => Reply::new(200).body("{}"),
            "HEAD" => Reply::new(404),
            _ => error(status, code),
        });
        let name = format!("{}/x:1", server.host());
        case.root.tag(&case.name(), &name);
        let error = case.root.push(&client(), &name).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(case.memory.manifest("1").is_some());
}

#[test]
fn a_pull_that_is_cancelled_says_so_and_goes_on_later() {
    /// Cancels when the first bytes have come.
    struct Impatient(Cancel);

    impl Progress for Impatient {
        fn report(&self, event: Event<'_>) {
            if let Event::Item { status: Status::Downloading { done: 200_000.., .. }, .. } = event {
                self.0.cancel();
            }
        }
    }

    let slow = |_, request: &Request, reply: Reply| match begin_of(request) {
        None => Reply { slow: Some((64 << 10, Duration::from_millis(20))), ..reply },
        Some(_) => reply,
    };
    let Some(case) = Case::new(57, &[3_000_000, 10], slow) else { return };
    let cancel = Cancel::new();
    let error = case.root.pull_until(&client(), &case.name(), &Impatient(cancel.clone()), &cancel).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Cancelled, "cancelled"));
    case.root.assert_holds(0, 0);
    assert!(case.root.partials().contains(&digest(&case.image.layers[0].1).replace(':', "-")));
    case.completes();
    assert!(case.server.seen().iter().any(|request| begin_of(request).is_some()), "the second goes on");
}

#[test]
fn a_manifest_is_known_by_its_bytes_whatever_its_content_type() {
    for kind in ["application/json", "", "application/vnd.oci.image.manifest.v1+json", "text/plain; charset=utf-8"] {
        let Some(root) = root() else { return };
        let image = Image::new(&tars(58, &[1000]));
        let memory = Arc::new(Memory::default());
        memory.put("1", &image);
        let server = Server::start(move |request| {
            let mut reply = memory.reply(request);
            if request.path().contains("/manifests/") {
                reply.headers.retain(|(name, _)| name != "Content-Type");
                if !kind.is_empty() {
                    reply = reply.header("Content-Type", kind);
                }
            }
            reply
        });
        let pulled = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap();
        assert_eq!(pulled.digest.to_string(), image.digest(), "{kind:?}");
    }
}

#[test]
fn a_page_for_people_in_place_of_a_manifest_is_refused() {
    let Some(root) = root() else { return };
    let server = Server::start(|request| match request.path() {
        "/v2/" => Reply::new(200),
        _ => Reply::new(200).header("Content-Type", "text/html").body("<html><title>Forbidden</title></html>"),
    });
    let error = root.pull(&client(), &format!("{}/x:1", server.host())).unwrap_err().to_string();
    assert!(error.contains("the manifest of") && error.contains("not valid JSON"), "{error}");
    root.assert_holds(0, 0);
}
