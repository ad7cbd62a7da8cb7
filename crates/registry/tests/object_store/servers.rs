//! Object stores that run here: moto (S3, and OSS, which speaks it), Azurite (Azure).

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use strata_testkit::{Scratch, registry::free_port, require, scratch, server};

use crate::common::Client;

/// A server that ends with its test.
pub struct Server {
    child: Child,
    pub port: u16,
    directories: Vec<Scratch>,
}

impl Server {
    /// Runs `program` with the arguments for a port and a directory, and waits until it listens.
    pub fn start(
        program: &Path,
        port: u16,
        scratch: Scratch,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(variables.iter().copied())
            .current_dir(scratch.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = Self { child: command.spawn().ok()?, port, directories: vec![scratch] };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(120) || server.child.try_wait().unwrap().is_some() {
                require::report_skip(&format!("{} does not come up", program.display()));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    /// Removes `directory` after the server's end.
    pub fn keep(&mut self, directory: Scratch) {
        self.directories.push(directory);
    }

    pub fn client(&self) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rest of a configuration, for a registry whose `storage` section is given.
pub fn config(storage: &str, redirects: bool) -> String {
    format!(
        "version: 0.1\nstorage:\n  {storage}\n  delete: {{enabled: true}}\n  redirect: {{disable: {}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
        !redirects
    )
}

/// moto, with a bucket `bucket`.
pub fn moto() -> Option<Server> {
    let program = require::program("moto_server")?;
    let port = free_port();
    let server = Server::start(&program, port, scratch(), &["-H", "127.0.0.1", "-p", &port.to_string()], &[])?;
    let made = server.client().ask("PUT", "/bucket", &[], b"");
    assert_eq!(made.status, 200, "{}", made.text());
    Some(server)
}

/// Has `store` answer a request that came to another port.
pub fn pass_on(store: &Client, request: &server::Request) -> server::Reply {
    let skipped = ["host", "connection", "content-length", "transfer-encoding", "expect"];
    let headers = request.headers.iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
    let headers: Vec<(&str, &str)> = headers.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = store.ask(&request.method, &request.target, &headers, &request.body);
    let mut reply = server::Reply::new(answer.status).body(answer.body);
    let length = answer.headers.iter().find(|(name, _)| name == "content-length" && request.method == "HEAD");
    reply.claimed = length.and_then(|(_, value)| value.parse().ok());
    let kept = answer.headers.into_iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
    reply.headers.extend(kept);
    reply
}

/// The account that Azurite is given, and its key.
pub const ACCOUNT: &str = "tests";
pub const KEY: &str = "YSBrZXkgdGhhdCBvbmx5IHRoZXNlIHRlc3RzIGtub3c=";

/// Azurite, with a container `container`.
pub fn azurite() -> Option<Server> {
    let program = require::program("azurite-blob")?;
    let port = free_port();
    let args = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        &port.to_string(),
        "--skipApiVersionCheck",
        "--silent",
        "--disableTelemetry",
    ];
    let server = Server::start(&program, port, scratch(), &args, &[("AZURITE_ACCOUNTS", &format!("{ACCOUNT}:{KEY}"))])?;
    let path = format!("/{ACCOUNT}/container");
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = [("x-ms-date", now.as_str()), ("x-ms-version", "2021-08-06")];
    let canonical = headers.map(|(name, value)| format!("{name}:{value}\n")).concat();
    let text = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{canonical}/{ACCOUNT}{path}\nrestype:container");
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).unwrap()), text.as_bytes());
    let signed = format!("SharedKey {ACCOUNT}:{}", STANDARD.encode(signed));
    let headers = [headers[0], headers[1], ("authorization", signed.as_str())];
    let made = server.client().ask("PUT", &format!("{path}?restype=container"), &headers, b"");
    assert_eq!(made.status, 201, "{}", made.text());
    Some(server)
}
