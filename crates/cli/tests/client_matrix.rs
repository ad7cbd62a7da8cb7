//! Every client with every server: pull and push, by tag and digest, one platform and all, and the digests stay.
//!
//! | | servers: ours, docker-registry |
//! | --- | --- |
//! | strata, skopeo, ctr | a manifest and an index go through the client as they are |
//! | docker | a manifest as Docker writes it goes as it is; of an index the image of this platform |
//! | podman | the image stays, its layers may be compressed anew; of an index the image of this platform |

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Root, root};
use serde_json::{Value, json};
use strata_spec::Platform;
use strata_testkit::{
    Dockerd, Scratch,
    registry::{DockerRegistry, Image, LIST, MANIFEST, Peer, digest, gzip},
    require, scratch,
};

/// A program that pulls and pushes.
trait Client: Sync {
    fn name(&self) -> &'static str;
    /// Pulls `from`, by tag or digest; returns the image's ID.
    fn pull(&self, from: &str) -> String;
    /// Pushes what was pulled as `from`.
    fn push(&self, from: &str, to: &str);
    /// Pulls an index and pushes it with all that it names; `false` where the client cannot.
    fn all(&self, _from: &str, _to: &str) -> bool {
        false
    }
    /// Whether what it pushes has the digest that it pulled.
    fn keeps(&self) -> bool {
        true
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

struct Ours(Root);

impl Ours {
    fn strata(&self, args: &[&str]) -> String {
        let mut command = self.0.command(args);
        command
            .env("DOCKER_CONFIG", self.0.scratch.join("docker"))
            .env("STRATA_CERTS_DIR", self.0.scratch.join("certs.d"));
        run(&mut command)
    }
}

impl Client for Ours {
    fn name(&self) -> &'static str {
        "strata"
    }
    fn pull(&self, from: &str) -> String {
        self.strata(&["pull", "-q", from]);
        self.strata(&["inspect", "--format", "{{.Id}}", from])
    }
    fn push(&self, from: &str, to: &str) {
        self.strata(&["tag", from, to]);
        self.strata(&["push", "-q", to]);
    }
    fn all(&self, from: &str, to: &str) -> bool {
        self.strata(&["pull", "-q", "--all-platforms", from]);
        self.strata(&["tag", from, to]);
        self.strata(&["push", "-q", "--all-platforms", to]);
        true
    }
}

/// dockerd, and where its data lies.
struct Docker(Dockerd, #[expect(dead_code, reason = "it is removed after dockerd has ended")] Scratch);

impl Client for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }
    fn pull(&self, from: &str) -> String {
        self.0.docker(&["pull", "-q", from]);
        self.0.docker(&["inspect", "--format", "{{.Id}}", from]).trim().to_owned()
    }
    fn push(&self, from: &str, to: &str) {
        self.0.docker(&["tag", from, to]);
        self.0.docker(&["push", to]);
    }
}

struct Skopeo(PathBuf, Scratch);

impl Skopeo {
    fn copy(&self, more: &[&str], from: &str, to: &str) {
        let usual = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
        run(Command::new(&self.0).args(usual).args(more).args([from, to]));
    }
    /// Where what was pulled lies.
    fn folder(&self, name: &str) -> PathBuf {
        self.1.join(digest(name.as_bytes()).replace(':', "-"))
    }
    fn stored(&self, name: &str) -> String {
        format!("dir:{}", self.folder(name).display())
    }
}

impl Client for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo"
    }
    fn pull(&self, from: &str) -> String {
        self.copy(&[], &format!("docker://{from}"), &self.stored(from));
        let manifest = fs::read(self.folder(from).join("manifest.json")).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        manifest["config"]["digest"].as_str().expect("a config").to_owned()
    }
    fn push(&self, from: &str, to: &str) {
        self.copy(&["--preserve-digests"], &self.stored(from), &format!("docker://{to}"));
    }
    fn all(&self, from: &str, to: &str) -> bool {
        let all = ["--all", "--preserve-digests"];
        self.copy(&all, &format!("docker://{from}"), &self.stored(from));
        self.copy(&all, &self.stored(from), &format!("docker://{to}"));
        true
    }
}

struct Podman(PathBuf, Scratch);

impl Podman {
    fn podman(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.0);
        command.arg("--root").arg(self.1.join("root")).arg("--runroot").arg(self.1.join("run"));
        run(command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]).args(args))
    }
}

impl Client for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }
    fn pull(&self, from: &str) -> String {
        format!("sha256:{}", self.podman(&["pull", "-q", "--tls-verify=false", from]))
    }
    fn push(&self, from: &str, to: &str) {
        self.podman(&["push", "-q", "--tls-verify=false", from, to]);
    }
    fn keeps(&self) -> bool {
        false
    }
}

/// containerd, ended when this drops.
struct Ctr {
    program: PathBuf,
    child: Child,
    scratch: Scratch,
}

impl Ctr {
    fn start() -> Option<Self> {
        let (program, containerd) = (require::program("ctr")?, require::program("containerd")?);
        let scratch = scratch();
        let at = |name: &str| scratch.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n address = {:?}\n",
            at("root"),
            at("state"),
            at("sock")
        );
        fs::write(scratch.join("config.toml"), config).expect("a configuration");
        let log = fs::File::create(scratch.join("log")).expect("a log");
        let mut containerd = Command::new(containerd);
        containerd.arg("-c").arg(scratch.join("config.toml")).stdout(Stdio::null()).stderr(log);
        let mut ctr = Self { program, child: containerd.spawn().expect("containerd starts"), scratch };
        let begun = Instant::now();
        while !ctr.command(&["version"]).output().expect("ctr runs").status.success() {
            if ctr.child.try_wait().expect("its status").is_some() || begun.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(ctr.scratch.join("log")).unwrap_or_default();
                require::report_skip(&format!(
                    "containerd does not come up here: {}",
                    log.lines().last().unwrap_or_default()
                ));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(ctr)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-a").arg(self.scratch.join("sock")).args(args);
        command
    }
}

impl Drop for Ctr {
    fn drop(&mut self) {
        // Asked kindly, it ends without leaving mounts.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Client for Ctr {
    fn name(&self) -> &'static str {
        "ctr"
    }
    fn pull(&self, from: &str) -> String {
        run(&mut self.command(&["images", "pull", "--plain-http", "--snapshotter", "native", from]));
        let listed = run(&mut self.command(&["images", "ls", &format!("name=={from}")]));
        let top = listed.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a digest").to_owned();
        let content = |digest: &str| -> Value {
            serde_json::from_str(&run(&mut self.command(&["content", "get", digest]))).expect("JSON")
        };
        let mut manifest = content(&top);
        let own = Platform::host();
        if let Some(entries) = manifest["manifests"].as_array() {
            let fits = |entry: &&Value| entry["platform"]["architecture"] == own.architecture.as_str();
            let entry = entries.iter().find(fits).expect("this platform's")["digest"].as_str().expect("a digest");
            manifest = content(entry);
        }
        manifest["config"]["digest"].as_str().expect("a config").to_owned()
    }
    fn push(&self, from: &str, to: &str) {
        run(&mut self.command(&["images", "tag", "--force", from, to]));
        run(&mut self.command(&["images", "push", "--plain-http", to]));
    }
    fn all(&self, from: &str, to: &str) -> bool {
        run(&mut self.command(&["images", "pull", "--plain-http", "--snapshotter", "native", "--all-platforms", from]));
        self.push(from, to);
        true
    }
}

/// An image with the manifest that Docker writes for it.
fn image(seed: u64, platform: &str) -> Image {
    let tars = [Image::layer(8000, 100_000), Image::layer(8000 + seed, 50_000)];
    let config = Image::config(&tars, &platform.parse::<Platform>().expect("a platform"));
    let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let one = |kind: &str, bytes: &[u8], indent: &str| {
        let (size, digest) = (bytes.len(), digest(bytes));
        format!(
            "{{\n{indent}   \"mediaType\": \"{kind}\",\n{indent}   \"size\": {size},\n{indent}   \"digest\": \"{digest}\"\n{indent}}}"
        )
    };
    let kind = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let listed: Vec<String> = layers.iter().map(|layer| format!("      {}", one(kind, layer, "      "))).collect();
    let manifest = format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{MANIFEST}\",\n   \"config\": {},\n   \"layers\": [\n{}\n   ]\n}}",
        one("application/vnd.docker.container.image.v1+json", &config, "   "),
        listed.join(",\n")
    );
    let layers = layers.into_iter().map(|layer| (kind.to_owned(), layer)).collect();
    Image { config, layers, manifest: manifest.into_bytes(), media_type: MANIFEST.to_owned() }
}

/// What the server has before the clients come.
struct Seed {
    own: Image,
    other: Image,
    index: Vec<u8>,
}

impl Seed {
    fn put(server: &Peer) -> Self {
        let platform = Platform::host().to_string();
        let (own, other) = (image(1, &platform), image(2, "linux/s390x"));
        server.put("from/app", "t", &own);
        server.put("from/all", &own.digest(), &own);
        server.put("from/all", &other.digest(), &other);
        let entries = [other.entry("linux/s390x"), own.entry(&platform)];
        let index = json!({"schemaVersion": 2, "mediaType": LIST, "manifests": entries}).to_string().into_bytes();
        server.put_manifest("from/all", "t", LIST, &index);
        Self { own, other, index }
    }
}

/// One pair.
fn meet(client: &dyn Client, server: &Peer, seed: &Seed) {
    let (host, who) = (&server.0, client.name());
    let (from, to) = (format!("{host}/from/app:t"), format!("{host}/{who}/app:u"));
    assert_eq!(client.pull(&from), seed.own.id(), "{who}: by tag");
    client.push(&from, &to);
    let (_, manifest) = server.manifest(&format!("{who}/app"), "u");
    if client.keeps() {
        assert_eq!(digest(&manifest), seed.own.digest(), "{who}: what it pushed");
    }
    assert_eq!(client.pull(&format!("{host}/{who}/app@{}", digest(&manifest))), seed.own.id(), "{who}: by digest");
    let (from, to) = (format!("{host}/from/all:t"), format!("{host}/{who}/all:u"));
    assert_eq!(client.pull(&from), seed.own.id(), "{who}: this platform's of an index");
    let by_digest = format!("{host}/from/all@{}", digest(&seed.index));
    assert_eq!(client.pull(&by_digest), seed.own.id(), "{who}: of an index by digest");
    if client.all(&from, &to) {
        let name = format!("{who}/all");
        assert_eq!(server.manifest(&name, "u").1, seed.index, "{who}: the index");
        for image in [&seed.own, &seed.other] {
            assert_eq!(server.manifest(&name, &image.digest()).1, image.manifest, "{who}: in the index");
            assert!(image.blobs().all(|blob| server.has_blob(&name, &digest(blob))), "{who}: blobs");
        }
    }
}

fn meet_all(server: &Peer) {
    let seed = Seed::put(server);
    let ours = || root().map(|root| Box::new(Ours(root)) as Box<dyn Client>);
    let docker = || {
        let scratch = scratch();
        let dockerd = Dockerd::start(scratch.path())?;
        Some(Box::new(Docker(dockerd, scratch)) as Box<dyn Client>)
    };
    let skopeo = || Some(Box::new(Skopeo(require::program("skopeo")?, scratch())) as Box<dyn Client>);
    let podman = || {
        require::root()?;
        Some(Box::new(Podman(require::program("podman")?, scratch())) as Box<dyn Client>)
    };
    let ctr = || {
        require::root()?;
        Some(Box::new(Ctr::start()?) as Box<dyn Client>)
    };
    let table: [&(dyn Fn() -> Option<Box<dyn Client>> + Sync); 5] = [&ours, &docker, &skopeo, &podman, &ctr];
    std::thread::scope(|scope| {
        for client in table {
            let seed = &seed;
            scope.spawn(move || {
                if let Some(client) = client() {
                    meet(&*client, server, seed);
                }
            });
        }
    });
}

#[test]
fn every_client_with_our_server() {
    let folder = scratch();
    let server = common::server::serve(Path::new(&folder.join("registry")));
    meet_all(&Peer(server.host.clone()));
}

#[test]
fn every_client_with_docker_registry() {
    let Some(server) = DockerRegistry::start() else { return };
    meet_all(&server);
}
