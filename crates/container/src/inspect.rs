//! `docker inspect` of a container, field by field.
//!
//! Source: moby `api/types/types.go` (`ContainerJSON`), `daemon/inspect.go`, version 20.10.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use strata_spec::config::RunConfig;

use crate::{
    Container, Error, HostConfig, Store,
    record::{Endpoint, Health, MountPoint, NetworkSettings, State, Status},
};

/// What `docker inspect` shows; serialised in its order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: InspectState,
    /// The image's ID.
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    /// With its slash.
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    pub graph_driver: GraphDriver,
    /// Bytes that the container wrote; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Those and its image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// By destination.
    pub mounts: Vec<InspectMount>,
    pub config: RunConfig,
    pub network_settings: InspectNetwork,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectState {
    pub status: Status,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i64,
    pub exit_code: i64,
    pub error: String,
    pub started_at: String,
    pub finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Null where the driver has nothing to tell, as Docker's.
    pub data: Option<BTreeMap<String, String>>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectMount {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectNetwork {
    pub bridge: String,
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    pub ports: Value,
    pub sandbox_key: String,
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Value,
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Value,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    pub mac_address: String,
    pub networks: Value,
}

impl Store {
    /// Returns what `docker inspect` shows of `container`, with its sizes where `size` is set.
    pub fn inspect(&self, container: &Container, size: bool) -> Result<Inspect, Error> {
        let data: BTreeMap<_, _> = match self.layer(container) {
            Ok((layer, layers)) => layers.driver().metadata(&layer.mount_id)?.into_iter().collect(),
            // The record is readable on a root of any driver.
            Err(Error::NoStore { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let mut inspect = self.inspect_record(container, Some(data).filter(|data| !data.is_empty()));
        if size {
            let sizes = self.size(container)?;
            inspect.size_rw = Some(sizes.rw as i64);
            inspect.size_root_fs = Some(sizes.root as i64);
        }
        Ok(inspect)
    }

    fn inspect_record(&self, container: &Container, data: Option<BTreeMap<String, String>>) -> Inspect {
        let record = &container.record;
        Inspect {
            id: record.id.clone(),
            created: record.created.clone(),
            path: record.path.clone(),
            args: record.args.clone(),
            state: state_of(&record.state),
            image: record.image.clone(),
            resolv_conf_path: record.resolv_conf_path.clone(),
            hostname_path: record.hostname_path.clone(),
            hosts_path: record.hosts_path.clone(),
            log_path: record.log_path.clone(),
            name: record.name.clone(),
            restart_count: record.restart_count,
            driver: record.driver.clone(),
            platform: record.os.clone(),
            mount_label: record.mount_label.clone(),
            process_label: record.process_label.clone(),
            app_armor_profile: record.app_armor_profile.clone(),
            exec_ids: None,
            host_config: container.host.clone(),
            graph_driver: GraphDriver { data, name: record.driver.clone() },
            size_rw: None,
            size_root_fs: None,
            mounts: record.mount_points.values().map(|point| self.mount_of(point)).collect(),
            config: record.config.clone(),
            network_settings: network_of(&record.network_settings),
        }
    }

    pub(crate) fn mount_of(&self, point: &MountPoint) -> InspectMount {
        let source = match point.kind.as_str() {
            "tmpfs" => point.source.clone(),
            _ => point.host_path(&self.layout).to_string_lossy().into_owned(),
        };
        InspectMount {
            kind: point.kind.clone(),
            name: point.name.clone(),
            source,
            destination: point.destination.clone(),
            driver: point.driver.clone(),
            mode: point.mode.clone(),
            rw: point.rw,
            propagation: point.propagation.clone(),
        }
    }
}

fn state_of(state: &State) -> InspectState {
    InspectState {
        status: state.status(),
        running: state.running,
        paused: state.paused,
        restarting: state.restarting,
        oom_killed: state.oom_killed,
        dead: state.dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started_at.clone(),
        finished_at: state.finished_at.clone(),
        health: state.health.clone(),
    }
}

fn network_of(settings: &NetworkSettings) -> InspectNetwork {
    let bridge = settings.networks.get("bridge").cloned().unwrap_or_default();
    InspectNetwork {
        bridge: settings.bridge.clone(),
        sandbox_id: settings.sandbox_id.clone(),
        hairpin_mode: settings.hairpin_mode,
        link_local_ipv6_address: settings.link_local_ipv6_address.clone(),
        link_local_ipv6_prefix_len: settings.link_local_ipv6_prefix_len,
        ports: if settings.ports.is_null() { Value::Object(Map::new()) } else { settings.ports.clone() },
        sandbox_key: settings.sandbox_key.clone(),
        secondary_ip_addresses: settings.secondary_ip_addresses.clone(),
        secondary_ipv6_addresses: settings.secondary_ipv6_addresses.clone(),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks: networks_of(&settings.networks),
    }
}

/// The networks as clients see them, without what is dockerd's own.
pub(crate) fn networks_of(networks: &BTreeMap<String, Endpoint>) -> Value {
    let mut value = serde_json::to_value(networks).expect("strings and numbers are JSON");
    for endpoint in value.as_object_mut().into_iter().flat_map(|networks| networks.values_mut()) {
        endpoint.as_object_mut().map(|fields| fields.shift_remove("IPAMOperational"));
    }
    value
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
