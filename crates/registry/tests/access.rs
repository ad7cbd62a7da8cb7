//! Who may do what, how much, how often; what is told to others.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use common::{Client, OCI_MANIFEST, Ours};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use strata_spec::Digest;
use strata_testkit::{Scratch, require, server};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn users(scratch: &Scratch) -> String {
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash(format!("{user}-secret"), 4).unwrap());
    let path = scratch.join("htpasswd");
    std::fs::write(&path, ["ann", "bob"].map(line).concat()).unwrap();
    path.display().to_string()
}

const POLICIES: &str = "policies:
  - {users: [ann], repositories: ['**'], actions: [pull, push, delete]}
  - {users: ['@known'], repositories: ['team/*'], actions: [pull, push]}
  - {users: ['@anybody'], repositories: ['public/**'], actions: [pull]}
";

#[test]
fn names_passwords_and_policies() {
    let ours = Ours::start_with(|scratch| {
        format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\nstrata:\n  {}",
            users(scratch),
            POLICIES.replace('\n', "\n  ")
        )
    });
    let c = ours.client();
    let ann = c.with("Authorization", &basic("ann", "ann-secret"));
    let bob = c.with("Authorization", &basic("bob", "bob-secret"));
    ann.put_image("public/app", "t", "a");
    ann.put_image("private/app", "t", "b");
    bob.put_image("team/app", "t", "c");
    for (who, client, repo, status) in [
        ("nobody", &c, "public/app", 200),
        ("nobody", &c, "private/app", 401),
        ("nobody", &c, "team/app", 401),
        ("bob", &bob, "public/app", 200),
        ("bob", &bob, "private/app", 403),
        ("ann", &ann, "private/app", 200),
    ] {
        assert_eq!(client.manifest(repo, "t").status, status, "{who} {repo}");
    }
    let refused = c.manifest("private/app", "t");
    assert_eq!(refused.code(), "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").unwrap().starts_with("Basic realm=\"here\""));
    assert_eq!(c.ask("POST", "/v2/public/app/blobs/uploads/", &[], b"").status, 401);
    assert_eq!(bob.ask("DELETE", "/v2/team/app/manifests/t", &[], b"").status, 403);
    for wrong in [basic("ann", "bob-secret"), basic("eve", "x"), "Basic !".into(), "Bearer x".into(), basic("ann", "")]
    {
        assert_eq!(c.with("Authorization", &wrong).get("/v2/").status, 401, "{wrong}");
    }
    // A blob that somebody may not read cannot be had by mounting it.
    let secret = ann.put_blob("private/app", b"of ann alone");
    for from in ["&from=private/app", ""] {
        let reply = bob.ask("POST", &format!("/v2/team/app/blobs/uploads/?mount={secret}{from}"), &[], b"");
        assert_eq!(reply.status, 202, "{from:?}");
    }
    assert_eq!(bob.get(&format!("/v2/team/app/blobs/{secret}")).status, 404);
    let names = |client: &Client| client.get("/v2/_catalog").json()["repositories"].clone();
    assert_eq!(names(&bob), json!(["public/app", "team/app"]));
    assert_eq!(names(&ann), json!(["private/app", "public/app", "team/app"]));
    ours.stop();
}

struct Outside {
    key: EncodingKey,
    jwks: Value,
}

fn outside(id: &str) -> Outside {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig"}]});
    Outside { key: EncodingKey::from_ec_der(pkcs8.as_ref()), jwks }
}

impl Outside {
    fn token(&self, id: &str, change: impl FnOnce(&mut Value)) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": "issuer", "sub": "ann", "aud": "service", "exp": now + 300, "nbf": now - 5, "iat": now,
            "access": [{"type": "repository", "name": "r", "actions": ["pull", "push"]}]});
        change(&mut claims);
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

#[test]
fn tokens_of_an_issuer() {
    let (good, other) = (outside("k1"), outside("k1"));
    let ours = Ours::start_with(|scratch| {
        std::fs::write(scratch.join("jwks.json"), good.jwks.to_string()).unwrap();
        format!(
            "auth: {{token: {{realm: 'http://127.0.0.1/token', service: service, issuer: issuer, jwks: {}}}}}",
            scratch.join("jwks.json").display()
        )
    });
    let c = ours.client();
    let bearer = |token: &str| c.with("Authorization", &format!("Bearer {token}"));
    let asked = c.ask("POST", "/v2/r/blobs/uploads/", &[], b"");
    assert_eq!(
        (asked.status, asked.header("www-authenticate")),
        (401, Some("Bearer realm=\"http://127.0.0.1/token\",service=\"service\",scope=\"repository:r:pull,push\""))
    );
    let token = good.token("k1", |_| {});
    bearer(&token).put_image("r", "t", "a");
    let elsewhere = bearer(&token).manifest("other", "t");
    assert_eq!(elsewhere.status, 401);
    assert!(elsewhere.header("www-authenticate").unwrap().contains("insufficient_scope"));
    assert_eq!(
        bearer(&token).ask("DELETE", "/v2/r/manifests/t", &[], b"").status,
        401,
        "deleting is not among its actions"
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let none =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#), token.split('.').nth(1).unwrap());
    let secret = good.jwks.to_string();
    let mut shared = Header::new(Algorithm::HS256);
    shared.kid = Some("k1".into());
    let claims = json!({"iss": "issuer", "aud": "service", "exp": now + 300});
    let shared = jsonwebtoken::encode(&shared, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    let mut forged: Vec<String> = token.split('.').map(str::to_owned).collect();
    forged[1] = URL_SAFE_NO_PAD.encode(json!({"iss": "issuer", "aud": "service", "exp": now + 300}).to_string());
    for (what, token) in [
        ("expired", good.token("k1", |claims| claims["exp"] = json!(now - 3600))),
        ("not yet valid", good.token("k1", |claims| claims["nbf"] = json!(now + 3600))),
        ("of another audience", good.token("k1", |claims| claims["aud"] = json!("other"))),
        ("of another issuer", good.token("k1", |claims| claims["iss"] = json!("other"))),
        ("without an end", good.token("k1", |claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("without an audience", good.token("k1", |claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("of another key with the same name", other.token("k1", |_| {})),
        ("of an unknown key", other.token("k2", |_| {})),
        ("of the algorithm none", none),
        ("of a shared secret", shared),
        ("with other claims under the signature", forged.join(".")),
        ("no token at all", "x.y.z".into()),
        ("of 100 KiB", "x".repeat(100 << 10)),
    ] {
        let reply = bearer(&token).manifest("r", "t");
        assert_eq!(reply.status, 401, "{what}");
    }
    let reply = bearer(&good.token("k1", |claims| claims["exp"] = json!(now + 20))).manifest("r", "t");
    assert_eq!(reply.status, 200);
    let said = warnings(&reply);
    assert!(said.len() == 1 && said[0].starts_with("your token ends in "), "{said:?}");
    assert_eq!(warnings(&bearer(&token).manifest("r", "t")), Vec::<String>::new(), "this one has minutes");
    // Keys are read again; a bad file leaves them.
    let path = ours.scratch.join("jwks.json");
    std::fs::write(&path, other.jwks.to_string()).unwrap();
    ours.running().reload();
    assert_eq!(bearer(&token).manifest("r", "t").status, 401);
    std::fs::write(&path, "no JSON").unwrap();
    ours.running().reload();
    assert_eq!(bearer(&other.token("k1", |_| {})).manifest("r", "t").status, 200);
    ours.stop();
}

/// Runs `openssl` in a directory; its files are named there.
fn openssl(program: &std::path::Path, dir: &std::path::Path, args: &str) {
    let done = std::process::Command::new(program).current_dir(dir).args(args.split(' ')).output().unwrap();
    assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_token_may_carry_the_certificate_of_its_key_if_a_root_vouches_for_it() {
    let Some(program) = require::program("openssl") else { return };
    let ours = Ours::start_with(|scratch| {
        let run = |args: &str| openssl(&program, &scratch.join("."), args);
        std::fs::write(scratch.join("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
        std::fs::write(scratch.join("leaf.ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=codeSigning\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for root in ["root", "other"] {
            run(&format!("req -x509 {key} -days 2 -subj /CN=root -keyout {root}.key -out {root}.pem"));
        }
        // root <- between <- leaf; other <- stranger, with the same names.
        for (name, issuer, ext) in
            [("between", "root", "ca"), ("leaf", "between", "leaf"), ("stranger", "other", "leaf")]
        {
            run(&format!("req -new {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            run(&format!(
                "x509 -req -days 2 -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -extfile {ext}.ext -out {name}.pem"
            ));
        }
        let bundle = scratch.join("root.pem");
        format!(
            "auth: {{token: {{realm: 'http://tokens.example/', service: service, issuer: issuer, rootcertbundle: {}}}}}",
            bundle.display()
        )
    });
    let token = |signer: &str, chain: &[&str]| {
        let read = |name: &str| std::fs::read_to_string(ours.scratch.join(name)).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "issuer", "sub": "ann", "aud": "service", "exp": now + 300,
            "access": [{"type": "repository", "name": "r", "actions": ["pull", "push"]}]});
        let mut header = Header::new(Algorithm::ES256);
        let base64 = |name: &&str| {
            let pem = read(&format!("{name}.pem"));
            pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()
        };
        header.x5c = (!chain.is_empty()).then(|| chain.iter().map(base64).collect());
        let key = EncodingKey::from_ec_pem(read(&format!("{signer}.key")).as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    for (signer, chain, status) in [
        ("leaf", &["leaf", "between"][..], 202),
        ("root", &["root"], 202),
        ("root", &[], 202),
        // A certificate of an authority signs certificates, and no tokens, unless the bundle names it.
        ("between", &["between"], 401),
        ("leaf", &["leaf"], 401),
        ("leaf", &[], 401),
        ("stranger", &["stranger"], 401),
        ("stranger", &["stranger", "other"], 401),
        ("stranger", &["leaf", "between"], 401),
        ("stranger", &["root"], 401),
    ] {
        let c = ours.client().with("Authorization", &format!("Bearer {}", token(signer, chain)));
        assert_eq!(c.ask("POST", "/v2/r/blobs/uploads/", &[], b"").status, status, "{signer} with {chain:?}");
    }
    ours.stop();
}

#[test]
fn the_challenge_of_a_mount_names_both_repositories() {
    let key = outside("k1");
    let ours = Ours::start_with(|scratch| {
        let path = scratch.join("jwks.json");
        std::fs::write(&path, key.jwks.to_string()).unwrap();
        format!(
            "auth: {{token: {{autoredirect: true, autoredirectpath: /auth, service: service, issuer: issuer, jwks: {}}}}}",
            path.display()
        )
    });
    let digest = Digest::sha256("x");
    let challenge = |path: &str| {
        let reply = ours.client().ask("POST", path, &[], b"");
        assert_eq!(reply.status, 401);
        reply.header("www-authenticate").unwrap().to_owned()
    };
    let both = challenge(&format!("/v2/t/a/blobs/uploads/?mount={digest}&from=x/y"));
    assert!(both.contains("scope=\"repository:t/a:pull,push repository:x/y:pull\""), "{both}");
    assert!(both.contains(&format!("realm=\"http://{}/auth\"", ours.address)), "{both}");
    for one in ["/v2/t/a/blobs/uploads/", "/v2/t/a/blobs/uploads/?from=x/y", "/v2/t/a/blobs/uploads/?mount=x&from=UP"] {
        assert!(challenge(one).contains("scope=\"repository:t/a:pull,push\""), "{one}");
    }
    // Without the right to the source the blob is uploaded.
    let c = ours.client().with("Authorization", &format!("Bearer {}", key.token("k1", |_| {})));
    assert_eq!(c.ask("POST", &format!("/v2/r/blobs/uploads/?mount={digest}&from=x/y"), &[], b"").status, 202);
    ours.stop();
}

#[test]
fn tokens_of_our_own() {
    let ours = Ours::start_with(|scratch| {
        format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\nstrata:\n  token: {{service: ours}}\n  {}",
            users(scratch),
            POLICIES.replace('\n', "\n  ")
        )
    });
    let c = ours.client();
    let token = |client: &Client, scope: &str| {
        let reply = client.get(&format!("/token?service=ours&scope={scope}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        c.with("Authorization", &format!("Bearer {}", reply.json()["token"].as_str().unwrap()))
    };
    let challenge = c.manifest("team/app", "t").header("www-authenticate").unwrap().to_owned();
    assert!(challenge.contains(&format!("realm=\"http://{}/token\"", c.host)), "{challenge}");
    let ann = c.with("Authorization", &basic("ann", "ann-secret"));
    let bob = c.with("Authorization", &basic("bob", "bob-secret"));
    token(&ann, "repository:private/app:pull,push").put_image("private/app", "t", "a");
    token(&ann, "repository:public/app:pull,push").put_image("public/app", "t", "a");
    assert_eq!(token(&bob, "repository:private/app:pull,push").manifest("private/app", "t").status, 401);
    assert_eq!(token(&c, "repository:public/app:pull,push").manifest("public/app", "t").status, 200);
    assert_eq!(
        token(&c, "repository:public/app:pull,push").ask("POST", "/v2/public/app/blobs/uploads/", &[], b"").status,
        401
    );
    assert_eq!(
        token(&ann, "repository:other:pull").manifest("private/app", "t").status,
        401,
        "it gives what was asked for alone"
    );
    assert_eq!(c.with("Authorization", &basic("ann", "wrong")).get("/token?service=ours").status, 401);
    assert_eq!(c.get("/token?service=other").status, 400);
    ours.stop();
}

#[test]
fn quotas_are_exact_and_say_their_numbers() {
    let ours = Ours::start_with(|_| "strata: {quotas: [{prefix: team, bytes: 1000}]}".into());
    let c = ours.client();
    c.put_blob("team/a", &[1; 600]);
    let twice = format!("/v2/team/b/blobs/uploads/?mount={}&from=team/a", Digest::sha256([1; 600]));
    assert_eq!(c.ask("POST", &twice, &[], b"").status, 201, "it is counted once");
    let place = c.begin("team/a");
    let reply = c.ask("PATCH", &place, &[], &[2; 401]);
    assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"));
    assert!(reply.text().contains("1000") && reply.text().contains("600"), "{}", reply.text());
    assert_eq!(c.ask("PATCH", &place, &[], &[2; 400]).status, 202);
    let full = c.ask("POST", "/v2/team/c/blobs/uploads/", &[], b"");
    assert_eq!((full.status, full.code().as_str()), (403, "DENIED"), "refused when it begins");
    c.put_blob("elsewhere", &[2; 5000]);
    assert_eq!(c.ask("DELETE", &place, &[], b"").status, 204);
    c.put_blob("team/c", &[3; 400]);
    let digest = Digest::sha256([1; 600]);
    for repo in ["team/a", "team/b"] {
        assert_eq!(c.ask("DELETE", &format!("/v2/{repo}/blobs/{digest}"), &[], b"").status, 202);
    }
    c.put_blob("team/d", &[4; 600]);
    // A server that begins anew counts what is there.
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\nstrata: {{quotas: [{{prefix: team, bytes: 1000}}]}}\n",
        ours.scratch.join("data").display()
    );
    let again = Ours::of(&text, ours.stop());
    let used = again.running().service().store.quotas().report();
    assert_eq!(used, [("team".to_owned(), 1000, 0, 1000)]);
    assert_eq!(again.client().ask("POST", "/v2/team/e/blobs/uploads/", &[], b"").status, 403);
    again.stop();
}

/// The texts of the warnings of an answer, whose form is checked.
fn warnings(reply: &common::Reply) -> Vec<String> {
    let values = reply.headers.iter().filter(|(name, _)| name == "warning").map(|(_, value)| value);
    let text =
        |value: &String| value.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"')).map(str::to_owned);
    values.map(|value| text(value).unwrap_or_else(|| panic!("{value}"))).collect()
}

#[test]
fn limits_that_are_nearly_reached_are_warned_of() {
    let ours = Ours::start_with(|_| "strata: {quotas: [{prefix: team, bytes: 10000}], limits: {uploads: 10}}".into());
    let c = ours.client();
    let push = |repo: &str, len: usize| {
        let bytes = vec![u8::try_from(len % 251).unwrap(); len];
        c.try_put_blob(repo, &bytes, Digest::sha256(&bytes)).unwrap()
    };
    assert_eq!(warnings(&push("team/a", 8999)), Vec::<String>::new());
    assert_eq!(warnings(&push("team/b", 2)), ["the quota of team is 90 % used: 9001 of 10000 bytes"]);
    assert_eq!(warnings(&push("other", 9000)), Vec::<String>::new(), "of another quota, or none");
    let begun = c.ask("POST", "/v2/team/a/blobs/uploads/", &[], b"");
    assert_eq!((begun.status, warnings(&begun).len()), (202, 1));
    assert_eq!(warnings(&c.get(&format!("/v2/team/a/blobs/{}", Digest::sha256([0; 2])))), Vec::<String>::new());
    for _ in 1..8 {
        c.begin("other");
    }
    let ninth = c.ask("POST", "/v2/other/blobs/uploads/", &[], b"");
    assert_eq!(warnings(&ninth), ["9 uploads are open; the limit of this registry is 10"]);
    ours.stop();
}

#[test]
fn an_index_of_which_something_is_missing_is_warned_of() {
    let ours = Ours::start();
    let c = ours.client();
    let image = c.put_image("r", "t", "a");
    let whole = c.put_manifest("r", "whole", common::OCI_INDEX, common::index(&[&image]).as_bytes());
    assert_eq!((whole.status, warnings(&whole)), (201, Vec::new()));
    let sparse = common::index(&[&image, b"absent", b"absent too"]);
    let sparse = c.put_manifest("r", "sparse", common::OCI_INDEX, sparse.as_bytes());
    let absent = Digest::sha256("absent");
    let text = format!("2 objects that the manifest names are not in the repository, such as {absent}");
    assert_eq!((sparse.status, warnings(&sparse)), (201, vec![text]));
    ours.stop();
}

#[test]
fn rates_are_limited() {
    let ours = Ours::start_with(|_| "strata: {limits: {rate: 1, burst: 5}}".into());
    let c = ours.client();
    let begun = Instant::now();
    // One more is admitted for each second that it takes, so that in the end one is refused.
    let mut admitted = 0;
    let refused = loop {
        let reply = c.get("/v2/");
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
        admitted += 1;
        assert!(admitted <= 6 + begun.elapsed().as_secs(), "{admitted} in {:?}", begun.elapsed());
    };
    assert!(admitted >= 5, "{admitted}");
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("TOOMANYREQUESTS", Some("1")));
    ours.stop();
}

#[test]
fn numbers_and_health() {
    let ours = Ours::start_with(|_| "http: {addr: '127.0.0.1:0', debug: {addr: '127.0.0.1:0'}}".into());
    let c = ours.client();
    c.put_blob("r", b"bytes");
    assert_eq!(c.get("/healthz").status, 200);
    assert_eq!(c.get("/metrics").status, 404, "they have an address of their own");
    let debug = Client::new(&ours.running().debug_address().unwrap().to_string());
    assert_eq!((debug.get("/debug/health").status, debug.get("/v2/").status), (200, 404));
    let text = debug.get("/metrics").text();
    for line in [
        "strata_registry_requests_total{route=\"upload\",method=\"PUT\",status=\"201\"} 1",
        "strata_registry_received_bytes_total 5",
        "strata_registry_uploads_open 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    ours.stop();
}

#[test]
fn others_are_told_what_happened_until_they_listen() {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (events, failures) = (told.clone(), Arc::new(Mutex::new(3)));
    let hook = server::Server::start(move |request| {
        let mut failures = failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return server::Reply::new(500);
        }
        let document: Value = serde_json::from_slice(&request.body).unwrap();
        events.lock().unwrap().extend(document["events"].as_array().cloned().unwrap());
        server::Reply::new(200)
    });
    let ours = Ours::start_with(|_| {
        format!(
            "notifications: {{endpoints: [{{name: hook, url: 'http://{}/hook', backoff: 50ms, ignore: {{mediatypes: [application/octet-stream]}}}}]}}",
            hook.host()
        )
    });
    let c = ours.client();
    let manifest = c.put_image("r", "t", "a");
    assert_eq!(c.manifest("r", "t").status, 200);
    assert_eq!(c.ask("DELETE", "/v2/r/manifests/t", &[], b"").status, 202);
    let begun = Instant::now();
    while told.lock().unwrap().len() < 3 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = told.lock().unwrap().clone();
    let actions: Vec<&str> = told.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["push", "pull", "delete"], "in order, each once, layers not among them");
    let push = &told[0];
    assert_eq!(push["target"]["digest"], json!(Digest::sha256(&manifest)));
    assert_eq!(push["target"]["mediaType"], OCI_MANIFEST);
    assert_eq!((&push["target"]["repository"], &push["target"]["tag"]), (&json!("r"), &json!("t")));
    assert_eq!(push["request"]["method"], "PUT");
    ours.stop();
}

#[test]
fn events_list_what_a_manifest_names_where_the_configuration_says_so() {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let events = told.clone();
    let hook = server::Server::start(move |request| {
        let document: Value = serde_json::from_slice(&request.body).unwrap();
        events.lock().unwrap().extend(document["events"].as_array().cloned().unwrap());
        server::Reply::new(200)
    });
    let ours = Ours::start_with(|_| {
        format!(
            "notifications: {{events: {{includereferences: true}}, endpoints: [{{name: hook, url: 'http://{}/', ignore: {{mediatypes: \
             [application/octet-stream]}}}}]}}",
            hook.host()
        )
    });
    let c = ours.client();
    let image: Value = serde_json::from_slice(&c.put_image("r", "t", "a")).unwrap();
    assert_eq!(c.manifest("r", "t").status, 200);
    let begun = Instant::now();
    while told.lock().unwrap().len() < 2 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    for event in told {
        assert_eq!(event["target"]["references"], json!([image["config"], image["layers"][0]]), "{}", event["action"]);
    }
    ours.stop();
}

#[test]
fn certificates_are_read_again() {
    let Some(openssl) = require::program("openssl") else { return };
    let make = |scratch: &Scratch| {
        let made = std::process::Command::new(&openssl)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(scratch.join("key.pem"))
            .arg("-out")
            .arg(scratch.join("cert.pem"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read(scratch.join("cert.pem")).unwrap()
    };
    let mut first = Vec::new();
    let ours = Ours::start_with(|scratch| {
        first = make(scratch);
        let (certificate, key) = (scratch.join("cert.pem"), scratch.join("key.pem"));
        format!(
            "http: {{addr: '127.0.0.1:0', tls: {{certificate: {}, key: {}, minimumtls: tls1.2}}}}",
            certificate.display(),
            key.display()
        )
    });
    let url = format!("https://{}/v2/", ours.address);
    let blob_url = |digest: &Digest| format!("https://{}/v2/r/blobs/{digest}", ours.address);
    let ask = |root: &[u8], url: &str| {
        let root = reqwest::Certificate::from_pem(root).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
        let url = url.to_owned();
        ours.runtime.block_on(async move {
            let reply = client.get(url).send().await.ok()?;
            Some((reply.status().as_u16(), reply.bytes().await.ok()?.to_vec()))
        })
    };
    assert_eq!(ask(&first, &url).map(|(status, _)| status), Some(200));
    // A blob under TLS comes through buffers, whole.
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let name = "r".parse().unwrap();
    let service = ours.running().service().clone();
    let (uploads, digest) = (service.uploads.clone(), Digest::sha256(&bytes));
    let body = bytes.clone();
    ours.runtime.block_on(async {
        let id = uploads.begin(&name, strata_spec::Algorithm::Sha256, None).unwrap();
        let mut session = uploads.enter(&name, &id).await.unwrap();
        session.write(&[body.into()]).unwrap();
        session.commit(digest).unwrap();
    });
    assert_eq!(ask(&first, &blob_url(&digest)), Some((200, bytes)));
    let second = make(&ours.scratch);
    ours.running().reload();
    assert_eq!(ask(&second, &url).map(|(status, _)| status), Some(200));
    assert_eq!(ask(&first, &url), None, "the old certificate is gone");
    std::fs::write(ours.scratch.join("cert.pem"), "damaged").unwrap();
    ours.running().reload();
    assert_eq!(ask(&second, &url).map(|(status, _)| status), Some(200), "a bad one changes nothing");
    ours.stop();
}
