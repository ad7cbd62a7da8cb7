//! `hostname`, `hosts` and `resolv.conf`: written at each start, and bound over the container's own.
//!
//! With `--network none` a container gets Docker's `hosts`, which knows no other machine, and the host's `resolv.conf` without
//! name servers that only the host itself reaches. With `--network host` it gets copies of the host's files.
//!
//! Source: libnetwork `sandbox_dns_unix.go`, `etchosts/etchosts.go`, `resolvconf/resolvconf.go`, as in moby 20.10.

use std::{fs, path::Path};

use strata_durable::Context;
use strata_spec::Digest;

use crate::{Container, ContainerDir, Error};

const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Name servers where the host has none that a container could reach.
const PUBLIC_DNS: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n\
    nameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844";

/// Writes the files of `container`, which are derived: they need not survive a crash, as the next start writes them again.
pub(crate) fn write(dir: &ContainerDir, container: &Container) -> Result<(), Error> {
    let host_network = container.host.network_mode == "host";
    put(&dir.hostname(), format!("{}\n", container.record.config.hostname).as_bytes())?;

    let extra = container.host.extra_hosts.as_deref().unwrap_or_default();
    let base = if host_network { read_host("/etc/hosts") } else { LOCAL_HOSTS.into() };
    put(&dir.hosts(), &with_extra_hosts(base, extra))?;

    let settings = Dns {
        servers: container.host.dns.as_deref().unwrap_or_default(),
        search: container.host.dns_search.as_deref().unwrap_or_default(),
        options: container.host.dns_options.as_deref().unwrap_or_default(),
    };
    let current = host_resolv_conf();
    let content = match (settings.is_empty(), host_network) {
        (true, true) => current,
        (true, false) => without_local(&String::from_utf8_lossy(&current)).into_bytes(),
        (false, _) => settings.over(&String::from_utf8_lossy(&current)).into_bytes(),
    };
    put(&dir.resolv_conf(), &content)?;
    match host_network && settings.is_empty() {
        true => remove(&dir.resolv_conf_hash()),
        false => put(&dir.resolv_conf_hash(), Digest::sha256(&content).to_string().as_bytes()),
    }
}

/// Writes a file of ours over what a container may have made of it: the same inode, for who has it bound.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes).context("write", path)?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o644)).context("set the mode of", path)?)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Ok(Err(error).context("remove", path)?),
        _ => Ok(()),
    }
}

/// A file of the host; empty where there is none.
fn read_host(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// The host's `resolv.conf`; where systemd's resolver answers on the host alone, the one with the servers behind it.
fn host_resolv_conf() -> Vec<u8> {
    let own = read_host("/etc/resolv.conf");
    let servers = name_servers(&String::from_utf8_lossy(&own));
    if servers == ["127.0.0.53"]
        && let Ok(behind) = fs::read("/run/systemd/resolve/resolv.conf")
    {
        return behind;
    }
    own
}

fn with_extra_hosts(mut base: Vec<u8>, extra: &[String]) -> Vec<u8> {
    for (name, address) in extra.iter().filter_map(|entry| entry.split_once(':')) {
        base.extend_from_slice(format!("{address}\t{name}\n").as_bytes());
    }
    base
}

/// The value of a line `keyword value…`.
fn value_of<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(keyword)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

fn name_servers(text: &str) -> Vec<String> {
    let servers = text.lines().filter_map(|line| value_of(line, "nameserver"));
    servers.filter_map(|value| value.split_whitespace().next()).map(str::to_owned).collect()
}

fn is_local(server: &str) -> bool {
    server == "::1" || server.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Leaves out name servers that only the host reaches; if none is left, public ones stand in.
fn without_local(text: &str) -> String {
    let keep = |line: &&str| {
        let server = value_of(line, "nameserver").and_then(|value| value.split_whitespace().next());
        !server.is_some_and(is_local)
    };
    let mut kept: String = text.split_inclusive('\n').filter(keep).collect();
    if name_servers(&kept).is_empty() {
        kept.push('\n');
        kept.push_str(PUBLIC_DNS);
    }
    kept
}

/// What `--dns` and its relatives ask for.
struct Dns<'a> {
    servers: &'a [String],
    search: &'a [String],
    options: &'a [String],
}

impl Dns<'_> {
    fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }

    /// A `resolv.conf` of these settings; what they leave open is as in `current`.
    fn over(&self, current: &str) -> String {
        let words = |keyword: &str| -> Vec<String> {
            let line = current.lines().filter_map(|line| value_of(line, keyword)).next_back();
            line.map(|line| line.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
        };
        let or = |own: &[String], found: Vec<String>| if own.is_empty() { found } else { own.to_vec() };
        let search = or(self.search, words("search"));
        let options = or(self.options, words("options"));
        let mut text = String::new();
        if !search.is_empty() && search != ["."] {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        for server in or(self.servers, name_servers(current)) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_that_dockerd_wrote() {
        let real = include_str!("../tests/fixtures/records/exited/hosts");
        assert_eq!(real, LOCAL_HOSTS);
        let extra = with_extra_hosts(b"x\n".to_vec(), &["a:1.2.3.4".into(), "b:::1".into()]);
        assert_eq!(extra, b"x\n1.2.3.4\ta\n::1\tb\n");
    }

    #[test]
    fn local_name_servers_are_left_out() {
        for (text, kept) in [
            ("nameserver 10.0.0.1\n", "nameserver 10.0.0.1\n".to_owned()),
            ("search x\nnameserver 127.0.0.1\nnameserver 1.1.1.1", "search x\nnameserver 1.1.1.1".to_owned()),
            ("# c\nnameserver 127.0.0.53\nnameserver ::1\n", format!("# c\n\n{PUBLIC_DNS}")),
            ("", format!("\n{PUBLIC_DNS}")),
        ] {
            assert_eq!(without_local(text), kept, "{text:?}");
        }
    }

    #[test]
    fn settings_come_before_the_hosts() {
        let text = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (servers, search) = (text(&["10.0.0.1"]), text(&["a", "b"]));
        let dns = Dns { servers: &servers, search: &[], options: &[] };
        let current = "search x y\nnameserver 1.1.1.1\noptions ndots:2\n";
        assert_eq!(dns.over(current), "search x y\nnameserver 10.0.0.1\noptions ndots:2\n");
        let dns = Dns { servers: &[], search: &search, options: &[] };
        assert_eq!(dns.over("nameserver 1.1.1.1\n"), "search a b\nnameserver 1.1.1.1\n");
    }
}
