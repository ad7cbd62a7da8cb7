//! The same registry on an object store: moto's S3, where it is installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{OCI_INDEX, Ours, index, with_param};
use strata_registry::gc::{self, Options, Run, Untagged};
use strata_spec::Digest;
use strata_testkit::{registry::free_port, require, scratch};

struct Moto(Child, u16);

impl Moto {
    fn start() -> Option<Self> {
        let program = require::program("moto_server")?;
        let port = free_port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut moto = Self(child, port);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(60) || moto.0.try_wait().unwrap().is_some() {
                require::report_skip("moto_server does not come up");
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let made = common::Client::new(&format!("127.0.0.1:{port}")).ask("PUT", "/bucket", &[], b"");
        assert_eq!(made.status, 200, "{}", made.text());
        Some(moto)
    }

    fn config(&self) -> String {
        format!(
            "version: 0.1\nstorage:\n  s3: {{bucket: bucket, region: us-east-1, regionendpoint: 'http://127.0.0.1:{}', accesskey: a, secretkey: b, rootdirectory: /here, chunksize: 5MiB}}\n  delete: {{enabled: true}}\n  redirect: {{disable: true}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            self.1
        )
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn images_are_pushed_pulled_and_collected() {
    let Some(moto) = Moto::start() else { return };
    let ours = Ours::of(&moto.config(), scratch());
    let c = ours.client();
    let one = c.put_image("team/app", "one", "a");
    let two = c.put_image("team/app", "two", "b");
    assert_eq!(c.put_manifest("team/app", "all", OCI_INDEX, index(&[&one, &two]).as_bytes()).status, 201);
    let large: Vec<u8> = (0..12_000_000u32).map(|n| (n % 249) as u8).collect();
    let digest = c.put_blob("team/app", &large);
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{digest}")).body, large, "three parts");
    let part = c.ask("GET", &format!("/v2/team/app/blobs/{digest}"), &[("Range", "bytes=6000000-6000009")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &large[6_000_000..6_000_010]));
    let place = c.ask("PATCH", &c.begin("team/app"), &[], b"half of ").location();
    assert_eq!(c.get("/v2/team/app/tags/list").json()["tags"], serde_json::json!(["all", "one", "two"]));
    // Another server goes on where this one was.
    ours.stop();
    let ours = Ours::of(&moto.config(), scratch());
    let c = ours.client();
    assert_eq!(c.pull("team/app", "all"), Ok(()));
    let path = with_param(&place, &format!("digest={}", Digest::sha256("half of it")));
    assert_eq!(c.ask("PUT", &path, &[], b"it").status, 201);
    std::thread::sleep(Duration::from_millis(1100));
    let service = ours.running().service().clone();
    let options = Options { run: Run::ForReal, grace: Duration::ZERO, untagged: Untagged::Keep, uploads: None };
    let report = ours.runtime.block_on(async move {
        tokio::task::spawn_blocking(move || gc::collect(&service.store, &service.uploads, &options).unwrap())
            .await
            .unwrap()
    });
    assert_eq!(report.blobs.len(), 2, "{report:?}");
    assert_eq!(c.get(&format!("/v2/team/app/blobs/{digest}")).status, 404);
    assert_eq!(c.pull("team/app", "all"), Ok(()));
    assert_eq!(c.ask("DELETE", "/v2/team/app/manifests/two", &[], b"").status, 202);
    assert_eq!(c.manifest("team/app", "two").status, 404);
    ours.stop();
}
