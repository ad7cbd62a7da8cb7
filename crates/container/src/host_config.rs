//! `hostconfig.json`: what a container may use of its host.
//!
//! Fields stand in the order in which Docker 20.10 writes them; those of other versions survive in `extra`.
//!
//! Source: moby `api/types/container/host_config.go`, version 20.10.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use strata_runtime::spec::{MASKED_PATHS, READONLY_PATHS};
use strata_spec::gojson as go;

use crate::gojson::go_struct;

go_struct! {
    /// The document.
    pub struct HostConfig {
        /// `source:destination[:options]`.
        pub binds: Option<Vec<String>>,
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        pub log_config: LogConfig,
        /// `none`, `host`, `default`, or a network's name.
        pub network_mode: String,
        pub port_bindings: Value,
        pub restart_policy: RestartPolicy,
        /// Removed when it ends.
        pub auto_remove: bool,
        pub volume_driver: String,
        pub volumes_from: Value,
        pub cap_add: Option<Vec<String>>,
        pub cap_drop: Option<Vec<String>>,
        pub cgroupns_mode: String,
        pub dns: Option<Vec<String>>,
        pub dns_options: Option<Vec<String>>,
        pub dns_search: Option<Vec<String>>,
        pub extra_hosts: Option<Vec<String>>,
        pub group_add: Option<Vec<String>>,
        pub ipc_mode: String,
        pub cgroup: String,
        pub links: Value,
        pub oom_score_adj: i64,
        pub pid_mode: String,
        pub privileged: bool,
        pub publish_all_ports: bool,
        pub readonly_rootfs: bool,
        pub security_opt: Option<Vec<String>>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub storage_opt: BTreeMap<String, String>,
        /// Options by destination.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub tmpfs: BTreeMap<String, String>,
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        pub userns_mode: String,
        /// Bytes.
        pub shm_size: i64,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub sysctls: BTreeMap<String, String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub runtime: String,
        /// Height and width.
        pub console_size: [u32; 2],
        pub isolation: String,
        pub cpu_shares: i64,
        pub memory: i64,
        pub nano_cpus: i64,
        pub cgroup_parent: String,
        pub blkio_weight: u16,
        pub blkio_weight_device: Value,
        pub blkio_device_read_bps: Value,
        pub blkio_device_write_bps: Value,
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Value,
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Value,
        pub cpu_period: i64,
        pub cpu_quota: i64,
        pub cpu_realtime_period: i64,
        pub cpu_realtime_runtime: i64,
        pub cpuset_cpus: String,
        pub cpuset_mems: String,
        pub devices: Value,
        pub device_cgroup_rules: Value,
        pub device_requests: Value,
        pub kernel_memory: i64,
        #[serde(rename = "KernelMemoryTCP")]
        pub kernel_memory_tcp: i64,
        pub memory_reservation: i64,
        pub memory_swap: i64,
        pub memory_swappiness: Option<i64>,
        pub oom_kill_disable: Option<bool>,
        pub pids_limit: Option<i64>,
        pub ulimits: Value,
        pub cpu_count: i64,
        pub cpu_percent: i64,
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// As `--mount` asks for them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Value>,
        pub masked_paths: Option<Vec<String>>,
        pub readonly_paths: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }
}

go_struct! {
    /// Where the output of a container is kept.
    pub struct LogConfig {
        #[serde(rename = "Type")]
        pub kind: String,
        pub config: Option<BTreeMap<String, String>>,
    }
}

go_struct! {
    /// When a container is started again.
    pub struct RestartPolicy {
        pub name: String,
        pub maximum_retry_count: i64,
    }
}

/// Bytes of `/dev/shm`.
const SHM_SIZE: i64 = 64 << 20;

impl HostConfig {
    /// What `docker create` writes without any flag.
    pub fn docker_default() -> Self {
        let owned = |paths: &[&str]| Some(paths.iter().map(|p| (*p).to_owned()).collect());
        let none = || Some(Vec::new());
        Self {
            log_config: LogConfig {
                kind: "json-file".to_owned(),
                config: Some(BTreeMap::new()),
                ..LogConfig::default()
            },
            network_mode: "default".to_owned(),
            port_bindings: Value::Object(Map::new()),
            restart_policy: RestartPolicy { name: "no".to_owned(), ..RestartPolicy::default() },
            cgroupns_mode: default_cgroupns().to_owned(),
            dns: none(),
            dns_options: none(),
            dns_search: none(),
            ipc_mode: "private".to_owned(),
            shm_size: SHM_SIZE,
            runtime: "runc".to_owned(),
            blkio_weight_device: Value::Array(Vec::new()),
            devices: Value::Array(Vec::new()),
            oom_kill_disable: Some(false),
            masked_paths: owned(&MASKED_PATHS),
            readonly_paths: owned(&READONLY_PATHS),
            ..Self::default()
        }
    }

    /// Reads the document. Fails on what is not a JSON object with fields of the right types.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the document as Docker does.
    pub fn to_bytes(&self) -> Vec<u8> {
        go::to_line(self).expect("strings, numbers and maps of strings are JSON")
    }
}

/// Docker gives containers a cgroup namespace of their own where the machine has the unified hierarchy alone.
fn default_cgroupns() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "private" } else { "host" }
}
