//! Any bytes as a `config.json` and a `daemon.json`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use strata_distribution::{
    Settings,
    auth::docker_config::{DEFAULT_REGISTRY_KEY, DockerConfig},
    endpoint::{Direction, endpoints},
};

fuzz_target!(|data: &[u8]| {
    let path = Path::new("config.json");
    if let Ok(config) = DockerConfig::parse(path, data)
        && !config.has_helpers()
    {
        for registry in [DEFAULT_REGISTRY_KEY, "r.test:5000"] {
            let _ = config.credentials(registry);
        }
    }
    let mut settings = Settings {
        mirrors: Vec::new(),
        insecure: Vec::new(),
        insecure_all: false,
        certs: "certs.d".into(),
        docker_config: path.into(),
    };
    if settings.add_daemon_json(path, data).is_ok() {
        let _ = settings.is_insecure("10.1.2.3:5000");
        let _ = endpoints("docker.io", Direction::Pull, &settings);
    }
});
