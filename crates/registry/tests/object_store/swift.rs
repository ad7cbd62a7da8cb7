//! OpenStack Swift itself: its four servers on one directory, with tokens of its own that live for seconds.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use strata_testkit::{registry::free_port, require, scratch};

use crate::{common::Client, servers::Server};

/// Swift's servers wait half a second for each other and then shun one another for a minute, and leave what they could not list to a
/// daemon that is not here: on a busy machine of one node that is no storage at all.
const PATIENCE: &str =
    "conn_timeout = 30\nnode_timeout = 60\ncontainer_update_timeout = 60\nerror_suppression_limit = 1000\n";

/// Seconds after which a token is refused.
const TOKEN_LIFE: u32 = 4;

/// Swift's servers, the proxy last; and what caches its tokens.
pub struct Swift {
    pub port: u16,
    _servers: Vec<Server>,
}

impl Swift {
    pub fn client(&self) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.port))
    }

    /// A token, and the path of the account.
    pub fn login(&self) -> (String, String) {
        let c = self.client().with("X-Auth-User", "test:tester").with("X-Auth-Key", "testing");
        let reply = c.get("/auth/v1.0");
        assert_eq!(reply.status, 200, "{}", reply.text());
        (reply.header("x-auth-token").unwrap().to_owned(), "/v1/AUTH_test".to_owned())
    }

    /// Names in the container `container`.
    pub fn objects(&self) -> Vec<String> {
        let (token, account) = self.login();
        let listed = self.client().with("X-Auth-Token", &token).get(&format!("{account}/container?limit=10000"));
        listed.text().lines().map(str::to_owned).collect()
    }
}

fn ring(builder: &PathBuf, directory: &str, port: u16) -> Option<()> {
    let program = require::program("swift-ring-builder")?;
    let device = format!("r1z1-127.0.0.1:{port}/{directory}");
    for args in [&["create", "4", "1", "0"][..], &["add", &device, "1"], &["rebalance"]] {
        let ran = Command::new(&program).arg(builder).args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stdout));
    }
    Some(())
}

const PROXY: &str = "
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk tempurl tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:slo]
use = egg:swift#slo
[filter:cache]
use = egg:swift#memcache
";

/// Starts Swift with a container `container`, whose key for temporary URLs is `key`.
pub fn start() -> Option<Swift> {
    require::root()?;
    let programs: Option<Vec<PathBuf>> = ["account", "container", "object", "proxy"]
        .iter()
        .map(|name| require::program(&format!("swift-{name}-server")))
        .collect();
    let (programs, memcached) = (programs?, require::program("memcached")?);
    let mut servers = Vec::new();
    let cache = free_port();
    let args = ["-u", "root", "-l", "127.0.0.1", "-p", &cache.to_string(), "-m", "16"];
    servers.push(Server::start(&memcached, cache, scratch(), &args, &[])?);
    let directory = scratch();
    std::fs::create_dir_all(directory.join("disk/d1")).unwrap();
    let hashing = "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n";
    std::fs::write(directory.join("swift.conf"), hashing).unwrap();
    let at = directory.path().display();
    let ports: Vec<u16> = programs.iter().map(|_| free_port()).collect();
    for (name, port) in ["account", "container", "object"].iter().zip(&ports) {
        ring(&directory.join(format!("{name}.builder")), "d1", *port)?;
    }
    for ((name, port), program) in ["account", "container", "object", "proxy"].iter().zip(&ports).zip(&programs) {
        let mut text = format!(
            "[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nuser = root\nswift_dir = {at}\ndevices = {at}/disk\nmount_check = false\nworkers = 0\n{PATIENCE}"
        );
        if *name == "proxy" {
            let tempauth = "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n";
            write!(text, "{PROXY}memcache_servers = 127.0.0.1:{cache}\n{tempauth}token_life = {TOKEN_LIFE}\n").unwrap();
        } else {
            write!(text, "[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n")
                .unwrap();
        }
        let file = directory.join(format!("{name}.conf"));
        std::fs::write(&file, text).unwrap();
        servers.push(Server::start(program, *port, scratch(), &[&file.display().to_string()], &[])?);
    }
    servers.last_mut()?.keep(directory);
    let swift = Swift { port: ports[3], _servers: servers };
    let (token, account) = swift.login();
    let c = swift.client().with("X-Auth-Token", &token).with("X-Container-Meta-Temp-URL-Key", "key");
    assert_eq!(c.ask("PUT", &format!("{account}/container"), &[], b"").status, 201);
    Some(swift)
}
