//! The endpoints of blobs and uploads: end-2, end-4 to end-6, end-10, end-11, end-13, end-14.

use std::collections::HashSet;

use crate::Case;
use crate::common::{Client, Reply, with_param};
use strata_spec::{Algorithm, Digest};

pub const CASES: &[Case] = &[
    ("end-2: a blob that is there is had with 200, whole", |c, r| {
        let digest = c.put_blob(r, b"some bytes");
        let reply = c.get(&format!("/v2/{r}/blobs/{digest}"));
        assert_eq!((reply.status, &reply.body[..]), (200, &b"some bytes"[..]));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }),
    ("end-2: a blob that is not there is 404", |c, r| {
        c.put_blob(r, b"x");
        let reply = c.get(&format!("/v2/{r}/blobs/{}", Digest::sha256("absent")));
        assert_eq!((reply.status, reply.code().as_str()), (404, "BLOB_UNKNOWN"));
    }),
    ("end-2: HEAD tells a blob's size and sends nothing", |c, r| {
        let digest = c.put_blob(r, b"some bytes");
        let reply = c.ask("HEAD", &format!("/v2/{r}/blobs/{digest}"), &[], b"");
        assert_eq!((reply.status, reply.header("content-length"), reply.body.len()), (200, Some("10"), 0));
    }),
    ("end-2: HEAD of a blob tells its digest", |c, r| {
        let digest = c.put_blob(r, b"some bytes");
        let reply = c.ask("HEAD", &format!("/v2/{r}/blobs/{digest}"), &[], b"");
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }),
    ("end-2: HEAD of a blob that is not there is 404", |c, r| {
        assert_eq!(c.ask("HEAD", &format!("/v2/{r}/blobs/{}", Digest::sha256("absent")), &[], b"").status, 404);
    }),
    ("end-2: a range of a blob is 206", |c, r| {
        let digest = c.put_blob(r, b"0123456789");
        let reply = c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=2-5")], b"");
        assert_eq!((reply.status, &reply.body[..]), (206, &b"2345"[..]));
        assert_eq!(reply.header("content-range"), Some("bytes 2-5/10"));
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=7-")], b"").body, b"789");
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=-3")], b"").body, b"789");
    }),
    ("end-2: a range outside a blob is 416", |c, r| {
        let digest = c.put_blob(r, b"0123456789");
        assert_eq!(c.ask("GET", &format!("/v2/{r}/blobs/{digest}"), &[("Range", "bytes=10-")], b"").status, 416);
    }),
    ("end-2: a blob is not in a repository to which it was not pushed", |c, r| {
        let digest = c.put_blob(r, b"here alone");
        c.put_blob(&format!("{r}/other"), b"something");
        assert_eq!(c.get(&format!("/v2/{r}/other/blobs/{digest}")).status, 404);
    }),
    ("end-4a: POST begins an upload: 202 and its place", |c, r| {
        let reply = c.ask("POST", &format!("/v2/{r}/blobs/uploads/"), &[], b"");
        assert_eq!(reply.status, 202);
        assert!(reply.location().starts_with(&format!("/v2/{r}/blobs/uploads/")), "{}", reply.location());
    }),
    ("end-4a: each upload has a place of its own", |c, r| {
        let places: HashSet<String> = (0..10).map(|_| c.begin(r)).collect();
        assert_eq!(places.len(), 10);
    }),
    ("end-4b: POST with a digest takes the whole blob: 201", |c, r| {
        let digest = Digest::sha256("all at once");
        let reply = post(c, r, &format!("digest={digest}"), b"all at once");
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert!(reply.location().ends_with(&format!("/v2/{r}/blobs/{digest}")));
        assert_eq!(c.get(&reply.location()).body, b"all at once");
    }),
    ("end-4b: POST with another digest is refused", |c, r| {
        let reply = post(c, r, &format!("digest={}", Digest::sha256("x")), b"not x");
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    }),
    ("end-4c: POST may name the algorithm of the digest to come", |c, r| {
        let reply = post(c, r, "digest-algorithm=sha512", b"");
        assert_eq!(reply.status, 202);
        let place =
            c.ask("PATCH", &reply.location(), &[("Content-Type", "application/octet-stream")], b"long").location();
        let digest = Digest::of(Algorithm::Sha512, b"longer");
        assert_eq!(c.ask("PUT", &with_param(&place, &format!("digest={digest}")), &[], b"er").status, 201);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).body, b"longer");
        // Nor does it bind.
        let reply = post(c, r, "digest-algorithm=sha512", b"");
        let path = with_param(&reply.location(), &format!("digest={}", Digest::sha256("short")));
        assert_eq!(c.ask("PUT", &path, &[], b"short").status, 201);
    }),
    ("end-4c: an algorithm that is not known is 400", |c, r| {
        assert_eq!(post(c, r, "digest-algorithm=md5", b"").status, 400);
    }),
    ("end-5: PATCH streams bytes: 202 with the place and the range", |c, r| {
        let reply = c.ask("PATCH", &c.begin(r), &[("Content-Type", "application/octet-stream")], b"12345");
        assert_eq!((reply.status, reply.header("range")), (202, Some("0-4")));
        assert!(!reply.location().is_empty());
    }),
    ("end-5: chunks in order, the last with PUT, are the blob", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        assert_eq!((first.status, first.header("range")), (202, Some("0-4")));
        let second = chunk(c, &first.location(), 5, b"56789");
        assert_eq!((second.status, second.header("range")), (202, Some("0-9")));
        let digest = Digest::sha256("0123456789ab");
        let path = with_param(&second.location(), &format!("digest={digest}"));
        let reply =
            c.ask("PUT", &path, &[("Content-Range", "10-11"), ("Content-Type", "application/octet-stream")], b"ab");
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).body, b"0123456789ab");
    }),
    ("end-5: a chunk out of order is 416, and the upload stands", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        assert_eq!(chunk(c, &first.location(), 6, b"6789").status, 416);
        assert_eq!(chunk(c, &first.location(), 0, b"01234").status, 416);
        assert_eq!(c.get(&first.location()).header("range"), Some("0-4"));
        assert_eq!(chunk(c, &first.location(), 5, b"56789").status, 202);
    }),
    ("end-5: a first chunk that does not begin at 0 is 416", |c, r| {
        assert_eq!(chunk(c, &c.begin(r), 3, b"345").status, 416);
    }),
    ("end-5: after a chunk that was refused, GET tells where to go on", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        chunk(c, &first.location(), 9, b"9");
        let state = c.get(&first.location());
        assert_eq!((state.status, state.header("range")), (204, Some("0-4")));
        let path = with_param(&state.location(), &format!("digest={}", Digest::sha256("0123456")));
        assert_eq!(c.ask("PUT", &path, &[("Content-Range", "5-6")], b"56").status, 201);
    }),
    ("end-6: PUT with a digest ends an upload: 201 and the blob's place", |c, r| {
        let digest = Digest::sha256("whole");
        let path = with_param(&c.begin(r), &format!("digest={digest}"));
        let reply = c.ask("PUT", &path, &[("Content-Type", "application/octet-stream")], b"whole");
        assert_eq!(reply.status, 201);
        assert_eq!(c.get(&reply.location()).body, b"whole");
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }),
    ("end-6: PUT without a digest is 400", |c, r| {
        assert_eq!(c.ask("PUT", &c.begin(r), &[], b"whole").status, 400);
    }),
    ("end-6: a last chunk out of order is 416, and the upload stands", |c, r| {
        let first = chunk(c, &c.begin(r), 0, b"01234");
        let path = with_param(&first.location(), &format!("digest={}", Digest::sha256("0123456")));
        assert_eq!(c.ask("PUT", &path, &[("Content-Range", "6-7")], b"56").status, 416);
        assert_eq!(c.ask("PUT", &path, &[("Content-Range", "5-6")], b"56").status, 201);
    }),
    ("end-6: PUT with another digest is 400, and nothing is stored", |c, r| {
        let wrong = Digest::sha256("other");
        let reply = c.ask("PUT", &with_param(&c.begin(r), &format!("digest={wrong}")), &[], b"whole");
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{wrong}")).status, 404);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{}", Digest::sha256("whole"))).status, 404);
    }),
    ("end-6: an upload ends once", |c, r| {
        let path = with_param(&c.begin(r), &format!("digest={}", Digest::sha256("once")));
        assert_eq!(c.ask("PUT", &path, &[], b"once").status, 201);
        let again = c.ask("PUT", &path, &[], b"once");
        assert_eq!((again.status, again.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }),
    ("end-6: a blob may be empty", |c, r| {
        let digest = c.put_blob(r, b"");
        let reply = c.get(&format!("/v2/{r}/blobs/{digest}"));
        assert_eq!((reply.status, reply.body.len()), (200, 0));
    }),
    ("end-6: a blob that is there may be pushed again", |c, r| {
        assert_eq!(c.put_blob(r, b"twice"), c.put_blob(r, b"twice"));
    }),
    ("end-10: DELETE of a blob: 202, and it is gone", |c, r| {
        let digest = c.put_blob(r, b"to be deleted");
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/blobs/{digest}"), &[], b"").status, 202);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).status, 404);
        assert_eq!(c.ask("DELETE", &format!("/v2/{r}/blobs/{digest}"), &[], b"").status, 404);
    }),
    ("end-11: a blob is mounted from another repository: 201 and its place", |c, r| {
        let (from, digest) = (format!("{r}/from"), c.put_blob(&format!("{r}/from"), b"to be mounted"));
        let reply = post(c, r, &format!("mount={digest}&from={from}"), b"");
        assert_eq!((reply.status, reply.location()), (201, format!("/v2/{r}/blobs/{digest}")));
        assert_eq!(c.get(&reply.location()).body, b"to be mounted");
    }),
    ("end-11: a blob that is not there to be mounted is uploaded: 202", |c, r| {
        let absent = Digest::sha256("absent");
        let reply = post(c, r, &format!("mount={absent}&from={r}/from"), b"");
        assert_eq!(reply.status, 202);
        let path = with_param(&reply.location(), &format!("digest={absent}"));
        assert_eq!(c.ask("PUT", &path, &[], b"absent").status, 201);
    }),
    ("end-11: a blob is mounted from wherever it is", |c, r| {
        let digest = c.put_blob(&format!("{r}/from"), format!("anonymous {r}").as_bytes());
        assert_eq!(post(c, r, &format!("mount={digest}"), b"").status, 201);
        assert_eq!(c.get(&format!("/v2/{r}/blobs/{digest}")).status, 200);
    }),
    ("end-13: GET of an upload tells how far it is: 204", |c, r| {
        let place = chunk(c, &c.begin(r), 0, b"01234").location();
        let reply = c.get(&place);
        assert_eq!((reply.status, reply.header("range")), (204, Some("0-4")));
        assert!(!reply.location().is_empty());
    }),
    ("end-13: an upload that is not there is 404", |c, r| {
        let reply = c.get(&format!("/v2/{r}/blobs/uploads/00000000-0000-4000-8000-000000000000"));
        assert_eq!((reply.status, reply.code().as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }),
    ("end-14: DELETE cancels an upload: 204, and it is gone", |c, r| {
        let place = c.begin(r);
        assert_eq!(c.ask("DELETE", &place, &[], b"").status, 204);
        assert_eq!(c.get(&place).status, 404);
        assert_eq!(c.ask("PATCH", &place, &[], b"x").status, 404);
    }),
];

fn post(c: &Client, r: &str, query: &str, body: &[u8]) -> Reply {
    c.ask("POST", &format!("/v2/{r}/blobs/uploads/?{query}"), &[("Content-Type", "application/octet-stream")], body)
}

fn chunk(c: &Client, place: &str, at: usize, bytes: &[u8]) -> Reply {
    let range = format!("{at}-{}", at + bytes.len() - 1);
    c.ask("PATCH", place, &[("Content-Range", &range), ("Content-Type", "application/octet-stream")], bytes)
}
