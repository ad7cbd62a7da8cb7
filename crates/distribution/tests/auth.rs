//! Who is asking: passwords, tokens, certificates; and who is asked: mirrors.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use common::{root, settings, tars};
use serde_json::json;
use strata_distribution::{Client, Settings};
use strata_testkit::{
    registry::{DockerRegistry, Image, Memory, error, free_port},
    require,
    server::{Reply, Request, Server, form},
};

/// `htpasswd -B`: the password is `s:e cret`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuO0selx13qnQfshjlIncUbNMv9bQcnrG\n";
/// `me:s:e cret` in base64.
const BASIC: &str = "bWU6czplIGNyZXQ=";

fn client(config: &Path) -> Client {
    Client::new(Settings { docker_config: config.to_owned(), ..settings() }).unwrap()
}

#[test]
fn passwords_open_a_registry_that_has_them() {
    let configuration = |scratch: &strata_testkit::Scratch| {
        std::fs::write(scratch.join("htpasswd"), HTPASSWD).unwrap();
        format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", scratch.join("htpasswd").display())
    };
    let (Some(registry), Some(root)) = (DockerRegistry::start_with(configuration, ""), root()) else { return };
    let memory = Arc::new(Memory::default());
    memory.put("1", &Image::new(&tars(60, &[1000, 2000])));
    let source = Server::start(move |request| memory.reply(request));
    let (from, to) = (format!("{}/a:1", source.host()), format!("{}/a:1", registry.host()));
    let config = root.join("docker/config.json");
    root.pull(&client(&config), &from).unwrap();
    root.tag(&from, &to);

    let error = root.push(&client(&config), &to).unwrap_err().to_string();
    assert!(error.contains("no basic auth credentials") && error.contains("strata login"), "{error}");
    for wrong in ["s:e", "", "s:e cret "] {
        let error = client(&config).login(Some(&registry.host()), "me", wrong).unwrap_err().to_string();
        assert!(error.contains("incorrect username or password") && !error.contains("s:e"), "{error}");
    }
    assert!(!config.exists(), "nothing is kept of a login that failed");

    client(&config).login(Some(&registry.host()), "me", "s:e cret").unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(kept["auths"][registry.host()]["auth"], BASIC);
    let pushed = root.push(&client(&config), &to).unwrap();
    assert_eq!(root.pull(&client(&config), &to).unwrap().digest, pushed.digest);
    assert_eq!(
        client(&config).search(&format!("{}/a", registry.host()), 5).unwrap()[0].name,
        format!("{}/a", registry.host())
    );

    assert!(client(&config).logout(Some(&registry.host())).unwrap());
    assert!(!client(&config).logout(Some(&registry.host())).unwrap());
    let error = root.pull(&client(&config), &to).unwrap_err().to_string();
    assert!(error.contains("pull access denied") && error.contains("no basic auth credentials"), "{error}");
}

/// A registry that wants tokens, and the server that gives them.
struct Tokens {
    server: Server,
    /// What was asked for, and how: `scope|who`.
    asked: Arc<Mutex<Vec<String>>>,
    memory: Arc<Memory>,
}

impl Tokens {
    /// The first token of a scope is good for `uses` requests, the next for any number (for none if `uses` is 0): requests under way at
    /// once share a token. Who may not write without a password may read.
    fn start(uses: usize) -> Self {
        let (memory, asked): (Arc<Memory>, Arc<Mutex<Vec<String>>>) = (Arc::default(), Arc::default());
        let (behind, heard, given) = (memory.clone(), asked.clone(), AtomicUsize::new(0));
        let valid: Mutex<BTreeMap<String, (usize, Vec<String>)>> = Mutex::default();
        let server = Server::start(move |request| {
            if request.path() == "/token" {
                return token(request, &heard, |scopes| {
                    let token = format!("t{}", given.fetch_add(1, SeqCst));
                    let mut valid = valid.lock().unwrap();
                    let is_first = !valid.values().any(|(_, known)| *known == scopes);
                    let uses = if is_first || uses == 0 { uses } else { usize::MAX };
                    valid.insert(token.clone(), (uses, scopes));
                    token
                });
            }
            let host = request.header("host").unwrap_or_default();
            let realm = format!(r#"Bearer realm="http://{host}/token",service="tests""#);
            let scope = match request.path() {
                "/v2/" => None,
                path => {
                    let end = path.find("/blobs/").or(path.find("/manifests/")).unwrap_or(path.len());
                    let action = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
                    Some(format!("repository:{}:{action}", &path[4..end]))
                }
            };
            let mut valid = valid.lock().unwrap();
            let token = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
            let good = token.and_then(|token| valid.get_mut(token)).is_some_and(|(left, scopes)| {
                let covers =
                    |have: &String, want: &String| have == want || *have == want.replace(":pull", ":pull,push");
                let allowed = scope.as_ref().is_none_or(|want| scopes.iter().any(|have| covers(have, want)));
                let fresh = *left > 0;
                *left = left.saturating_sub(1);
                allowed && fresh
            });
            drop(valid);
            match good {
                true => behind.reply(request),
                false => {
                    let scope = scope.map(|scope| format!(r#",scope="{scope}""#)).unwrap_or_default();
                    error(401, "UNAUTHORIZED").header("WWW-Authenticate", realm + &scope)
                }
            }
        });
        Self { server, asked, memory }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Answers for the token server.
fn token(request: &Request, heard: &Mutex<Vec<String>>, give: impl FnOnce(Vec<String>) -> String) -> Reply {
    let (scopes, who) = if request.method == "POST" {
        let fields: BTreeMap<_, _> = form(&String::from_utf8_lossy(&request.body)).into_iter().collect();
        assert_eq!(fields["grant_type"], "refresh_token");
        (fields["scope"].split(' ').map(str::to_owned).collect(), format!("refresh {}", fields["refresh_token"]))
    } else {
        assert_eq!(request.query("service"), ["tests"]);
        (request.query("scope"), request.header("authorization").unwrap_or("nobody").to_owned())
    };
    heard.lock().unwrap().push(format!("{}|{who}", scopes.join(" ")));
    let known = who == format!("Basic {BASIC}") || who == "refresh keep-me";
    let writes = scopes.iter().any(|scope| scope.contains("push"));
    if !known && (writes || who != "nobody") {
        return Reply::new(401).body(r#"{"details":"incorrect"}"#);
    }
    let refresh = (!request.query("offline_token").is_empty()).then_some("keep-me");
    Reply::new(200).body(json!({"access_token": give(scopes), "expires_in": 60, "refresh_token": refresh}).to_string())
}

#[test]
fn a_token_for_the_repository_is_asked_for_once_and_again_when_it_is_over() {
    let Some(root) = root() else { return };
    let nobody = client(Path::new("/nonexistent/config.json"));
    let image = Image::new(&tars(61, &[1000, 2000, 3000, 4000, 5000]));
    for (uses, tokens) in [(1000, 1), (1, 2), (2, 2), (4, 2)] {
        let registry = Tokens::start(uses);
        registry.memory.put("1", &image);
        let root = common::root().unwrap();
        root.pull(&nobody, &format!("{}/team/app:1", registry.server.host())).unwrap();
        let asked = registry.asked();
        assert!(asked.iter().all(|asked| asked == "repository:team/app:pull|nobody"), "{asked:?}");
        assert!(asked.len() >= tokens && asked.len() <= 7, "{asked:?}");
    }
    // One that is never good ends.
    let registry = Tokens::start(0);
    registry.memory.put("1", &image);
    let error = root.pull(&nobody, &format!("{}/a:1", registry.server.host())).unwrap_err().to_string();
    assert!(error.contains("pull access denied for"), "{error}");
    assert!(registry.asked().len() <= 2);
}

#[test]
fn a_push_asks_for_what_it_needs() {
    let Some(root) = root() else { return };
    let registry = Tokens::start(3);
    registry.memory.put("1", &Image::new(&tars(62, &[20 << 20, 1000])));
    let host = registry.server.host();
    let (from, to) = (format!("{host}/from:1"), format!("{host}/to:2"));
    let config = root.join("config.json");
    root.pull(&client(&config), &from).unwrap();
    root.tag(&from, &to);
    let error = root.push(&client(&config), &to).unwrap_err().to_string();
    assert!(error.contains("denied") && error.contains("strata login"), "{error}");
    registry.asked();
    std::fs::write(&config, json!({"auths": {&host: {"auth": BASIC}}}).to_string()).unwrap();
    root.push(&client(&config), &to).unwrap();
    let asked = registry.asked();
    // A request of the push that was refused may come in late.
    assert!(asked.contains(&format!("repository:to:pull,push|Basic {BASIC}")), "{asked:?}");
    assert!(registry.memory.manifest("2").is_some());
    // Compressed anew and in chunks, with a token that ends in the middle.
    registry.memory.lose_uploads();
    let Some(other) = common::root() else { return };
    other.pull(&client(&config), &to).unwrap();
    std::fs::remove_dir_all(other.join("image/overlay2/distribution")).unwrap();
    std::fs::remove_dir_all(other.join("strata/cache")).unwrap();
    let again = format!("{host}/again:3");
    other.tag(&to, &again);
    other.push(&client(&config), &again).unwrap();
    assert!(registry.memory.manifest("3").is_some());
}

#[test]
fn a_login_keeps_the_token_that_it_was_given_for_the_password() {
    let Some(root) = root() else { return };
    let registry = Tokens::start(1000);
    let host = registry.server.host();
    let config = root.join("config.json");
    let error = client(&config).login(Some(&host), "me", "wrong").unwrap_err().to_string();
    assert!(error.contains("incorrect username or password"), "{error}");
    client(&config).login(Some(&host), "me", "s:e cret").unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!(kept["auths"][&host], json!({"auth": "bWU6", "identitytoken": "keep-me"}), "and not the password");
    registry.memory.put("1", &Image::new(&tars(63, &[10])));
    registry.asked();
    root.pull(&client(&config), &format!("{host}/a:1")).unwrap();
    assert_eq!(registry.asked(), ["repository:a:pull|refresh keep-me"]);
}

#[test]
fn a_password_is_not_sent_in_the_clear_where_the_registry_points() {
    let Some(root) = root() else { return };
    let thief = Server::start(|_| Reply::new(200).body(r#"{"token":"t"}"#));
    let realms = ["ftp://127.0.0.1/".to_owned(), "http://thief.test/token".to_owned(), "".to_owned()];
    for realm in realms {
        let shown = realm.clone();
        let server = Server::start(move |_| {
            error(401, "UNAUTHORIZED").header("WWW-Authenticate", format!(r#"Bearer realm="{shown}",service="x""#))
        });
        let config = root.join("config.json");
        std::fs::write(&config, json!({"auths": {server.host(): {"auth": BASIC}}}).to_string()).unwrap();
        // 127.1 is 127.0.0.1 to the network, and no loopback address by its name: HTTPS is wanted, and there is none.
        let secure = server.host().replace("127.0.0.1", "127.1");
        assert!(root.pull(&client(&config), &format!("{secure}/a:1")).is_err());
        assert_eq!(server.seen().len(), 0, "nothing is asked in the clear");
        if !realm.contains("thief") {
            let error = root.pull(&client(&config), &format!("{}/a:1", server.host())).unwrap_err().to_string();
            assert!(error.contains("pull access denied"), "{error}");
        }
    }
    assert_eq!(thief.seen().len(), 0);
}

/// Runs openssl; `None` where there is none.
fn openssl(dir: &Path, args: &str) -> Option<()> {
    let mut command = Command::new(require::program("openssl")?);
    let output = command.current_dir(dir).args(args.split(' ')).output().expect("openssl runs");
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// A CA, a certificate for 127.0.0.1, and one for a client.
fn certificates(dir: &Path) -> Option<()> {
    std::fs::create_dir_all(dir).unwrap();
    let extensions =
        "[s]\nsubjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n[c]\nextendedKeyUsage=clientAuth\n";
    std::fs::write(dir.join("ext"), extensions).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=test-ca -days 30"))?;
    for (name, section) in [("server", "s"), ("client", "c")] {
        openssl(dir, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
        let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext";
        openssl(dir, &format!("x509 -req -in {name}.csr -out {name}.cert {sign} -extensions {section}"))?;
    }
    Some(())
}

#[test]
fn certificates_of_certs_d_count() {
    let Some(root) = root() else { return };
    let keys = root.join("keys");
    let Some(()) = certificates(&keys) else { return };
    let dir = keys.display();
    let tls = format!("  tls: {{certificate: {dir}/server.cert, key: {dir}/server.key, clientcas: [{dir}/ca.crt]}}");
    let Some(registry) = DockerRegistry::start_with(|_| String::new(), &tls) else { return };
    // By this name it is no loopback address, whose certificates need not be good.
    let host = registry.host().replace("127.0.0.1", "127.1");
    let certs = root.join("certs.d");
    let own = certs.join(&host);
    std::fs::create_dir_all(&own).unwrap();
    let with = |insecure: &[&str]| {
        let insecure = insecure.iter().map(|&host| host.to_owned()).collect();
        Client::new(Settings { certs: certs.clone(), insecure, ..settings() }).unwrap()
    };
    let memory = Arc::new(Memory::default());
    memory.put("1", &Image::new(&tars(64, &[1000])));
    let source = Server::start(move |request| memory.reply(request));
    let (from, name) = (format!("{}/a:1", source.host()), format!("{host}/a:1"));
    root.pull(&with(&[]), &from).unwrap();
    root.tag(&from, &name);
    let refused = |client: &Client, says: &str| {
        let error = root.push(client, &name).unwrap_err().to_string();
        assert!(error.to_lowercase().contains(says), "{error}");
    };
    refused(&with(&[]), "unknownissuer");
    std::fs::copy(keys.join("ca.crt"), own.join("ca.crt")).unwrap();
    // The CA is known; the registry wants a certificate of us.
    assert!(root.push(&with(&[]), &name).is_err());
    std::fs::copy(keys.join("client.cert"), own.join("me.cert")).unwrap();
    refused(&with(&[]), "needs its key");
    std::fs::copy(keys.join("client.key"), own.join("me.key")).unwrap();
    let pushed = root.push(&with(&[]), &name).unwrap();
    assert_eq!(root.pull(&with(&[]), &name).unwrap().digest, pushed.digest);
    // An insecure one may show any certificate, and is shown ours.
    std::fs::remove_file(own.join("ca.crt")).unwrap();
    refused(&with(&[]), "unknownissuer");
    root.pull(&with(&[&host]), &name).unwrap();
    std::fs::write(own.join("ca.crt"), "nonsense").unwrap();
    assert!(root.push(&with(&[]), &name).is_err());
}

#[test]
fn mirrors_are_asked_in_their_order_and_take_over_from_each_other() {
    let Some(root) = root() else { return };
    let image = Image::new(&tars(65, &[500_000, 1000]));
    let memory = Arc::new(Memory::default());
    memory.put("latest", &image);
    let empty = Server::start(|request| match request.path() {
        "/v2/" => Reply::new(200),
        _ => error(404, "MANIFEST_UNKNOWN"),
    });
    // It has the manifest, and breaks off in the middle of each layer.
    let behind = memory.clone();
    let broken = Server::start(move |request| {
        let reply = behind.reply(&Request { target: request.target.replace("/cache", ""), ..request.clone() });
        let is_layer = request.path().contains("/blobs/") && reply.body.len() > 1000;
        Reply { cut: is_layer.then_some(1000), ..reply }
    });
    let good = Server::start(move |request| memory.reply(request));
    let mirrors = vec![
        format!("http://127.0.0.1:{}", free_port()),
        format!("http://{}", empty.host()),
        format!("http://{}/cache", broken.host()),
        format!("http://{}/", good.host()),
    ];
    let client = Client::new(Settings { mirrors, ..settings() }).unwrap();
    let pulled = root.pull(&client, "debian").unwrap();
    assert_eq!(pulled.id.to_string(), image.id());
    assert_eq!(root.images.resolve("debian:latest").unwrap(), pulled.id, "it has Docker's name, not the mirror's");
    assert_eq!(empty.count("GET", "/v2/library/debian/manifests/latest"), 1);
    assert_eq!(broken.count("GET", "/cache/v2/library/debian/manifests/latest"), 1);
    assert_eq!(good.count("GET", "/manifests/"), 0);
    assert!(good.count("GET", "/blobs/") >= 1);
}

#[test]
fn a_token_server_may_leave_one_of_its_two_fields_empty() {
    for answer in [
        json!({"token": "", "access_token": "good"}),
        json!({"token": null, "access_token": "good"}),
        json!({"token": "good", "access_token": ""}),
        json!({"access_token": "good"}),
    ] {
        let Some(root) = root() else { return };
        let memory = Arc::new(Memory::default());
        memory.put("1", &Image::new(&tars(64, &[1000])));
        let text = answer.to_string();
        let server = Server::start(move |request| match request.path() {
            "/token" => Reply::new(200).body(text.clone()),
            _ if request.header("authorization") == Some("Bearer good") => memory.reply(request),
            _ => {
                let host = request.header("host").unwrap_or_default();
                error(401, "UNAUTHORIZED").header("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
            }
        });
        let pulled = root.pull(&client(&root.join("config.json")), &format!("{}/x:1", server.host()));
        assert!(pulled.is_ok(), "{answer}: {pulled:?}");
    }
}
