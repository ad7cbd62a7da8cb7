//! A stand-in for Google Cloud Storage: the calls that a registry makes, answered as Google's documents say, and refused where a request
//! departs from them.
//!
//! Its tokens come from an identity federation of its own; each is good for [`LIFE`]. Lists come in pages of [`PAGE`] entries.
//!
//! Source: Cloud Storage, "JSON API: Objects", "Batch requests", "XML API multipart uploads", "V4 signing process"; Security Token Service,
//! "Method: token".

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use strata_spec::{Digest, time::now_rfc3339};
use strata_testkit::server::{Reply, Request, Server, form};

const LIFE: Duration = Duration::from_secs(3600);
const PAGE: usize = 3;
/// Bytes of each part of an upload but its last.
const PART_MIN: usize = 5 << 20;

#[derive(Default)]
struct Stored {
    /// Bytes, and when they came.
    objects: BTreeMap<String, (Vec<u8>, String)>,
    uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
    /// Token and when it was given.
    tokens: Vec<(String, Instant)>,
    mistakes: Vec<String>,
}

/// The service, with a bucket `bucket`.
pub struct Gcs {
    server: Server,
    stored: Arc<Mutex<Stored>>,
}

impl Gcs {
    pub fn start() -> Self {
        let stored = Arc::new(Mutex::new(Stored::default()));
        let shared = stored.clone();
        let server = Server::start(move |request| shared.lock().unwrap().answer(request));
        Self { server, stored }
    }

    pub fn host(&self) -> String {
        self.server.host()
    }

    /// What was asked against the documents.
    pub fn mistakes(&self) -> Vec<String> {
        self.stored.lock().unwrap().mistakes.clone()
    }

    /// How many tokens were given.
    pub fn tokens(&self) -> usize {
        self.stored.lock().unwrap().tokens.len()
    }

    /// How many uploads in parts are neither ended nor given up.
    pub fn open_uploads(&self) -> usize {
        self.stored.lock().unwrap().uploads.len()
    }
}

fn decoded(text: &str) -> String {
    form(text).pop().map(|(text, _)| text).unwrap_or_default()
}

impl Stored {
    fn refuse(&mut self, status: u16, request: &Request, why: &str) -> Reply {
        self.mistakes.push(format!("{} {}: {why}", request.method, request.target));
        Reply::new(status).body(json!({"error": {"code": status, "message": why}}).to_string())
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path().to_owned();
        match (request.method.as_str(), path.as_str()) {
            ("GET", "/subject") => return Reply::new(200).body("who I am"),
            ("POST", "/sts") => return self.token(request),
            _ => {}
        }
        let token = request.header("authorization").and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        let is_known = self.tokens.iter().any(|(known, given)| known == token && given.elapsed() < LIFE);
        if !is_known {
            return self.refuse(401, request, "the token is not one of those that are good now");
        }
        match (request.method.as_str(), path.strip_prefix("/storage/v1/b/bucket/o")) {
            ("GET", Some("")) => return self.list(request),
            (method, Some(name)) => return self.object(method, &decoded(name.trim_start_matches('/')), request),
            _ => {}
        }
        match (request.method.as_str(), path.as_str()) {
            ("POST", "/upload/storage/v1/b/bucket/o") => self.insert(request),
            ("POST", "/batch/storage/v1") => self.batch(request),
            (_, path) if path.starts_with("/bucket/") => self.parts(&decoded(&path["/bucket/".len()..]), request),
            _ => self.refuse(404, request, "there is no such call"),
        }
    }

    fn token(&mut self, request: &Request) -> Reply {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let asked: Value =
            serde_json::from_str(&body).unwrap_or_else(|_| json!(form(&body).into_iter().collect::<BTreeMap<_, _>>()));
        let one = |key: &str| {
            let camel: String = key
                .split('_')
                .enumerate()
                .map(|(at, word)| if at == 0 { word.to_owned() } else { word[..1].to_uppercase() + &word[1..] })
                .collect();
            asked[key].as_str().or(asked[&camel].as_str()).unwrap_or_default().to_owned()
        };
        if one("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange"
            || one("subject_token") != "who I am"
            || one("audience") != "//here"
        {
            return self.refuse(400, request, &format!("this is no exchange of a token: {body}"));
        }
        let token = format!("token{}", self.tokens.len());
        self.tokens.push((token.clone(), Instant::now()));
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let answer = json!({"access_token": token, "issued_token_type": kind, "token_type": "Bearer", "expires_in": LIFE.as_secs()});
        Reply::new(200).header("content-type", "application/json").body(answer.to_string())
    }

    fn resource(&self, name: &str) -> Value {
        let (bytes, updated) = &self.objects[name];
        json!({"kind": "storage#object", "bucket": "bucket", "name": name, "size": bytes.len().to_string(), "updated": updated,
            "etag": "e", "generation": "1"})
    }

    fn list(&self, request: &Request) -> Reply {
        let one = |key: &str| request.query(key).pop().unwrap_or_default();
        let (prefix, delimiter, after) = (one("prefix"), one("delimiter"), one("pageToken"));
        let (mut items, mut prefixes, mut last) = (Vec::new(), Vec::<String>::new(), None);
        for name in self.objects.keys().filter(|name| name.starts_with(&prefix)) {
            let rest = &name[prefix.len()..];
            let directory = rest.find('/').filter(|_| delimiter == "/").map(|at| name[..=prefix.len() + at].to_owned());
            let key = directory.clone().unwrap_or_else(|| name.clone());
            if key <= after || prefixes.last() == Some(&key) {
                continue;
            }
            if items.len() + prefixes.len() == PAGE {
                let answer =
                    json!({"kind": "storage#objects", "items": items, "prefixes": prefixes, "nextPageToken": last});
                return Reply::new(200).body(answer.to_string());
            }
            last = Some(key.clone());
            match directory {
                Some(directory) => prefixes.push(directory),
                None => items.push(self.resource(name)),
            }
        }
        Reply::new(200).body(json!({"kind": "storage#objects", "items": items, "prefixes": prefixes}).to_string())
    }

    fn object(&mut self, method: &str, name: &str, request: &Request) -> Reply {
        let Some((bytes, _)) = self.objects.get(name) else { return Reply::new(404).body(r#"{"error":{"code":404}}"#) };
        let range =
            request.header("range").and_then(|text| text.strip_prefix("bytes=")).and_then(|text| text.split_once('-'));
        match (method, request.query("alt").first().map(String::as_str), range) {
            ("GET", Some("media"), None) => Reply::new(200).body(bytes.clone()),
            ("GET", Some("media"), Some((first, last))) => {
                let first: usize = first.parse().unwrap();
                let last = last.parse().unwrap_or(usize::MAX).min(bytes.len() - 1);
                let said = format!("bytes {first}-{last}/{}", bytes.len());
                Reply::new(206).header("content-range", said).body(&bytes[first..=last])
            }
            ("GET", None, None) => Reply::new(200).body(self.resource(name).to_string()),
            ("DELETE", None, None) => {
                self.objects.remove(name);
                Reply::new(204)
            }
            _ => self.refuse(405, request, "an object has no such call"),
        }
    }

    fn insert(&mut self, request: &Request) -> Reply {
        let name = request.query("name").pop().unwrap_or_default();
        if request.query("uploadType") != ["media"] || name.is_empty() || request.header("content-length").is_none() {
            return self.refuse(400, request, "an upload needs its type, a name and a length");
        }
        self.objects.insert(name.clone(), (request.body.clone(), now_rfc3339()));
        Reply::new(200).body(self.resource(&name).to_string())
    }

    fn batch(&mut self, request: &Request) -> Reply {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let mut answer = String::new();
        for (at, line) in text.lines().filter(|line| line.starts_with("DELETE ")).enumerate() {
            let target = line.split(' ').nth(1).unwrap_or_default();
            let Some((_, name)) = target.split_once("/storage/v1/b/bucket/o/") else {
                return self.refuse(400, request, "a batch of something else");
            };
            let status = if self.objects.remove(&decoded(name)).is_some() { "204 No Content" } else { "404 Not Found" };
            let head = format!("--b\r\nContent-Type: application/http\r\nContent-ID: <response-{at}>\r\n\r\n");
            write!(answer, "{head}HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n\r\n").unwrap();
        }
        Reply::new(200).header("content-type", "multipart/mixed; boundary=b").body(format!("{answer}--b--\r\n"))
    }

    /// Uploads in parts.
    fn parts(&mut self, name: &str, request: &Request) -> Reply {
        let id = request.query("uploadId").pop().unwrap_or_default();
        if request.method == "POST" && !request.query("uploads").is_empty() {
            let id = format!("upload{}", self.uploads.len());
            self.uploads.insert(id.clone(), (name.to_owned(), BTreeMap::new()));
            let answer =
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            return Reply::new(200).body(answer);
        }
        let Some((of, parts)) = self.uploads.get_mut(&id).filter(|(of, _)| of == name) else {
            return self.refuse(404, request, "there is no such upload");
        };
        match request.method.as_str() {
            "PUT" => {
                let number = request.query("partNumber").pop().and_then(|text| text.parse().ok()).unwrap_or(0);
                if !(1..=10_000).contains(&number) {
                    return self.refuse(400, request, "a part's number is from 1 to 10000");
                }
                parts.insert(number, request.body.clone());
                Reply::new(200).header("etag", format!("\"{}\"", Digest::sha256(&request.body).hex()))
            }
            "POST" => {
                let text = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
                let expected: String = parts
                    .iter()
                    .map(|(number, bytes)| {
                        format!(
                            "<Part><PartNumber>{number}</PartNumber><ETag>\"{}\"</ETag></Part>",
                            Digest::sha256(bytes).hex()
                        )
                    })
                    .collect();
                let is_small = parts.values().rev().skip(1).any(|bytes| bytes.len() < PART_MIN);
                if text != format!("<CompleteMultipartUpload>{expected}</CompleteMultipartUpload>") || is_small {
                    return self.refuse(400, request, &format!("these are not the parts that came: {text}"));
                }
                let whole = std::mem::take(parts).into_values().flatten().collect();
                self.objects.insert(of.clone(), (whole, now_rfc3339()));
                self.uploads.remove(&id);
                Reply::new(200).header("etag", "\"e\"").body("<CompleteMultipartUploadResult/>")
            }
            "DELETE" => {
                self.uploads.remove(&id);
                Reply::new(204)
            }
            _ => self.refuse(405, request, "an upload has no such call"),
        }
    }
}

/// The key of a service account: its private half as Google gives it, its public half to check signatures with.
pub struct Key<'a> {
    pub pem: String,
    openssl: &'a Path,
    directory: &'a Path,
}

impl<'a> Key<'a> {
    pub fn make(openssl: &'a Path, directory: &'a Path) -> Self {
        let mut key = Self { pem: String::new(), openssl, directory };
        key.run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]);
        key.run(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        key.pem = std::fs::read_to_string(directory.join("key.pem")).unwrap();
        key
    }

    fn run(&self, args: &[&str]) {
        let ran = Command::new(self.openssl).args(args).current_dir(self.directory).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Checks that a URL for `method` is signed with this key, as `email`, for `host`.
    pub fn check(&self, method: &str, url: &str, host: &str, email: &str) {
        let rest = url.strip_prefix(&format!("http://{host}")).unwrap_or_else(|| panic!("{url}"));
        let (path, query) = rest.split_once('?').unwrap();
        let (signed, signature) = query.split_once("&X-Goog-Signature=").unwrap();
        let value = |key: &str| form(signed).into_iter().find(|(known, _)| known == key).unwrap().1;
        let (date, credential) = (value("X-Goog-Date"), value("X-Goog-Credential"));
        let scope = credential.strip_prefix(&format!("{email}/")).unwrap();
        assert!(scope.starts_with(&date[..8]) && scope.ends_with("/storage/goog4_request"), "{scope}");
        assert_eq!(
            (value("X-Goog-Algorithm").as_str(), value("X-Goog-SignedHeaders").as_str()),
            ("GOOG4-RSA-SHA256", "host")
        );
        let mut pairs: Vec<&str> = signed.split('&').collect();
        pairs.sort_unstable();
        let canonical = format!("{method}\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", pairs.join("&"));
        let text = format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{}", Digest::sha256(canonical).hex());
        std::fs::write(self.directory.join("text"), text).unwrap();
        std::fs::write(self.directory.join("signature"), hex::decode(signature.to_lowercase()).unwrap()).unwrap();
        self.run(&["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "text"]);
    }
}
