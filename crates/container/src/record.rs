//! `config.v2.json`: what a container is and how it fares.
//!
//! Fields stand in the order in which Docker 20.10 writes them, so that a file which is read and written again is the
//! same byte for byte; those of other versions survive in `extra`.
//!
//! Source: moby `container/container.go`, `container/container_unix.go`, `container/state.go`, `volume/mounts/mounts.go`,
//! `daemon/network/settings.go`, version 20.10.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strata_spec::{ContainerId, ImageId, config::RunConfig, gojson as go, time};

use crate::gojson::{go_struct, is_false};

go_struct! {
    /// The document.
    pub struct Record {
        pub stream_config: Value,
        pub state: State,
        #[serde(rename = "ID")]
        pub id: String,
        /// RFC 3339 with nanoseconds.
        pub created: String,
        pub managed: bool,
        /// The program, and below its arguments, as entrypoint and command together make them.
        pub path: String,
        pub args: Vec<String>,
        pub config: RunConfig,
        /// The image's ID; the name by which it was asked for is `config.image`.
        pub image: String,
        pub network_settings: NetworkSettings,
        pub log_path: String,
        /// With a slash before it.
        pub name: String,
        /// The graph driver.
        pub driver: String,
        #[serde(rename = "OS")]
        pub os: String,
        pub mount_label: String,
        pub process_label: String,
        pub restart_count: i64,
        pub has_been_started_before: bool,
        pub has_been_manually_stopped: bool,
        /// By destination.
        pub mount_points: BTreeMap<String, MountPoint>,
        pub secret_references: Value,
        pub config_references: Value,
        pub app_armor_profile: String,
        pub hostname_path: String,
        pub hosts_path: String,
        pub shm_path: String,
        pub resolv_conf_path: String,
        pub seccomp_profile: String,
        pub no_new_privileges: bool,
        pub local_log_cache_meta: Value,
    }
}

go_struct! {
    /// How a container fares.
    pub struct State {
        pub running: bool,
        pub paused: bool,
        pub restarting: bool,
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        pub removal_in_progress: bool,
        pub dead: bool,
        /// Of its first process, as the host sees it; 0 when it does not run.
        pub pid: i64,
        pub exit_code: i64,
        /// Why it could not be started.
        pub error: String,
        /// RFC 3339 with nanoseconds; Go's zero time before the first start.
        pub started_at: String,
        pub finished_at: String,
        pub health: Option<Health>,
    }
}

go_struct! {
    /// What the health check found.
    pub struct Health {
        pub status: String,
        pub failing_streak: i64,
        pub log: Value,
    }
}

go_struct! {
    /// A bind mount, a volume or a tmpfs from `--mount`.
    pub struct MountPoint {
        /// On the host.
        pub source: String,
        /// In the container.
        pub destination: String,
        #[serde(rename = "RW")]
        pub rw: bool,
        /// The volume's.
        pub name: String,
        pub driver: String,
        /// `bind`, `volume` or `tmpfs`.
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
        pub id: String,
        /// What stood behind the second colon of `-v`.
        #[serde(rename = "Relabel", skip_serializing_if = "String::is_empty")]
        pub mode: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        pub spec: MountSpec,
        /// The source must be there: it is not made.
        pub skip_mountpoint_creation: bool,
    }
}

go_struct! {
    /// A mount as it was asked for.
    pub struct MountSpec {
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        #[serde(skip_serializing_if = "is_false")]
        pub read_only: bool,
    }
}

go_struct! {
    /// The networks that a container is in.
    pub struct NetworkSettings {
        pub bridge: String,
        #[serde(rename = "SandboxID")]
        pub sandbox_id: String,
        pub hairpin_mode: bool,
        #[serde(rename = "LinkLocalIPv6Address")]
        pub link_local_ipv6_address: String,
        #[serde(rename = "LinkLocalIPv6PrefixLen")]
        pub link_local_ipv6_prefix_len: i64,
        pub networks: BTreeMap<String, Endpoint>,
        pub service: Value,
        pub ports: Value,
        pub sandbox_key: String,
        #[serde(rename = "SecondaryIPAddresses")]
        pub secondary_ip_addresses: Value,
        #[serde(rename = "SecondaryIPv6Addresses")]
        pub secondary_ipv6_addresses: Value,
        /// The name was not given by the user.
        pub is_anonymous_endpoint: bool,
        pub has_swarm_endpoint: bool,
    }
}

go_struct! {
    /// A container's end of one network.
    pub struct Endpoint {
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Value,
        pub links: Value,
        pub aliases: Value,
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        pub gateway: String,
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: i64,
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: i64,
        pub mac_address: String,
        pub driver_opts: Value,
        #[serde(rename = "IPAMOperational")]
        pub ipam_operational: bool,
    }
}

/// A container's state in one word, as `docker ps` filters and shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

impl State {
    /// The state of a container that was just created.
    pub fn created() -> Self {
        Self { started_at: time::ZERO.to_owned(), finished_at: time::ZERO.to_owned(), ..Self::default() }
    }

    pub fn status(&self) -> Status {
        match self {
            s if s.running && s.paused => Status::Paused,
            s if s.running && s.restarting => Status::Restarting,
            s if s.running => Status::Running,
            s if s.removal_in_progress => Status::Removing,
            s if s.dead => Status::Dead,
            s if s.started().is_none() => Status::Created,
            _ => Status::Exited,
        }
    }

    /// When it was last started; `None` if never.
    pub fn started(&self) -> Option<Timestamp> {
        known(&self.started_at)
    }

    /// When it last ended; `None` if never.
    pub fn finished(&self) -> Option<Timestamp> {
        known(&self.finished_at)
    }

    /// Says that its process runs.
    pub fn set_running(&mut self, pid: i64, now: Timestamp) {
        *self = Self {
            running: true,
            pid,
            started_at: time::format(now),
            finished_at: self.finished_at.clone(),
            extra: std::mem::take(&mut self.extra),
            ..Self::default()
        };
    }

    /// Says that its process ended.
    pub fn set_exited(&mut self, code: i64, now: Timestamp) {
        self.running = false;
        self.paused = false;
        self.restarting = false;
        self.pid = 0;
        self.exit_code = code;
        self.finished_at = time::format(now);
    }
}

/// Reads a time; Go's zero time is no time.
fn known(text: &str) -> Option<Timestamp> {
    time::parse(text).ok().filter(|time| *time != time::zero())
}

impl Record {
    /// Reads the document. Fails on what is not a JSON object with fields of the right types.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the document as Docker does.
    pub fn to_bytes(&self) -> Vec<u8> {
        go::to_line(self).expect("strings, numbers and maps of strings are JSON")
    }

    /// An empty record in which what Docker never leaves empty is set.
    pub(crate) fn new(id: &ContainerId, image: ImageId, driver: &str) -> Self {
        Self {
            stream_config: Value::Object(Map::new()),
            state: State::created(),
            id: id.as_str().to_owned(),
            image: image.to_string(),
            driver: driver.to_owned(),
            os: "linux".to_owned(),
            local_log_cache_meta: serde_json::json!({"HaveNotifyEnabled": false}),
            ..Self::default()
        }
    }

    /// The name without its slash.
    pub fn short_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    pub fn created_at(&self) -> Option<Timestamp> {
        known(&self.created)
    }

    /// The image's ID; `None` if the record holds none that can be read.
    pub fn image_id(&self) -> Option<ImageId> {
        self.image.parse().ok()
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
