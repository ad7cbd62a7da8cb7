//! What a container will be, from an image's config and a request; touches nothing.
//!
//! Source: docker/cli `cli/command/container/opts.go`, moby `daemon/commit.go` (`merge`), `daemon/create.go`,
//! `daemon/container.go`, version 20.10.

use std::collections::BTreeMap;

use strata_spec::{
    ContainerId, ImageConfig, ImageId, Platform,
    config::{Document, RunConfig},
    quantity::ram_bytes,
    time,
};

use crate::{Container, Error, Request, create::blank, env, mounts, mounts::Mounts, record::Endpoint, signal};

/// Docker's other name of its default runtime: how a record tells that it was asked for.
pub(crate) const RUNC: &str = "io.containerd.runc.v2";

/// Returns the container, without a name yet, and warnings.
pub(crate) fn container(
    id: &ContainerId,
    image_id: ImageId,
    image: &ImageConfig,
    request: &Request,
    driver: &str,
) -> Result<(Container, Vec<String>), Error> {
    let warnings = check_platform(image.document(), request)?;
    let mounts = Mounts::parse(&request.volumes, &request.tmpfs)?;
    let network = network(request)?;
    let mut config = user_config(request, &mounts)?;
    if let Some(image) = &image.document().config {
        merge(&mut config, image);
    }
    if config.entrypoint.as_ref().is_some_and(|words| words.len() == 1 && words[0].is_empty()) {
        config.entrypoint = None;
    }
    if !config.working_dir.is_empty() {
        config.working_dir = mounts::clean(&config.working_dir);
    }
    if config.hostname.is_empty() {
        let host = network == "host";
        config.hostname = if host { strata_sys::process::hostname() } else { id.short().to_owned() };
    }
    let (path, args) = command(&config)?;

    let mut container = blank(id, image_id, driver);
    let record = &mut container.record;
    record.created = time::now_rfc3339();
    (record.path, record.args) = (path, args);
    record.config = config;
    record.network_settings.networks.insert(network.to_owned(), Endpoint::default());
    record.mount_points = mounts.points;

    let host = &mut container.host;
    host.network_mode = network.to_owned();
    host.binds = Some(mounts.binds).filter(|binds| !binds.is_empty());
    host.tmpfs = mounts.tmpfs;
    host.storage_opt = storage_options(&request.storage_opt)?;
    host.auto_remove = request.auto_remove;
    host.readonly_rootfs = request.read_only;
    host.cap_add = Some(request.cap_add.clone()).filter(|list| !list.is_empty());
    host.cap_drop = Some(request.cap_drop.clone()).filter(|list| !list.is_empty());
    host.runtime = match request.runtime.as_deref() {
        None | Some("") => "runc".to_owned(),
        Some("runc") => RUNC.to_owned(),
        Some(other) => other.to_owned(),
    };
    // Fails on a capability that there is none of.
    strata_runtime::spec::tweak_capabilities(&request.cap_add, &request.cap_drop)?;
    Ok((container, warnings))
}

/// Reads `--storage-opt`: `size` is all there is.
fn storage_options(asked: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let option = |text: &String| match text.split_once('=') {
        Some(("size", value)) if ram_bytes(value).is_some_and(|bytes| bytes > 0) => {
            Ok(("size".to_owned(), value.to_owned()))
        }
        Some(("size", value)) => Err(Error::invalid(format!("invalid size: {value:?}; a size is 10G, 512m, or bytes"))),
        _ => Err(Error::invalid(format!("unknown storage option {text:?}: there is size=SIZE"))),
    };
    asked.iter().map(option).collect()
}

/// Refuses an image for another machine, unless it was asked for or the kernel knows who can run it.
fn check_platform(image: &Document, request: &Request) -> Result<Vec<String>, Error> {
    let known = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let host = Platform::host();
    let found =
        Platform::new(known(&image.os, "linux"), known(&image.architecture, &host.architecture), image.variant.clone());
    if let Some(asked) = request.platform.as_ref().filter(|asked| !found.runs_on(asked)) {
        return Err(Error::invalid(format!(
            "image with reference {} was found but does not match the specified platform: wanted {asked}, actual: {found}",
            request.image
        )));
    }
    if found.runs_on(&host) {
        return Ok(Vec::new());
    }
    let warning = format!(
        "The requested image's platform ({found}) does not match the detected host platform ({host}) and no specific \
         platform was requested"
    );
    match (request.platform.is_some(), has_interpreter(&found.architecture)) {
        (true, _) => Ok(Vec::new()),
        (false, true) => Ok(vec![warning]),
        (false, false) => {
            Err(Error::OtherPlatform { image: request.image.clone(), found: found.to_string(), host: host.to_string() })
        }
    }
}

/// Whether the kernel has an emulator for an architecture registered.
fn has_interpreter(architecture: &str) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        other => other,
    };
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && std::path::Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{name}")).exists()
}

fn network(request: &Request) -> Result<&str, Error> {
    match request.network.as_deref() {
        None | Some("" | "none" | "default") => Ok("none"),
        Some("host") => Ok("host"),
        Some(other) => Err(Error::Unsupported(format!(
            "network {other} is not available: there are `none` (the default) and `host`"
        ))),
    }
}

/// The config as the `docker` command would send it.
fn user_config(request: &Request, mounts: &Mounts) -> Result<RunConfig, Error> {
    if let Some(dir) = request.working_dir.as_deref().filter(|dir| !dir.is_empty() && !dir.starts_with('/')) {
        return Err(Error::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    let hostname = request.hostname.clone().unwrap_or_default();
    // The kernel's limit, and nothing that could forge a line of a file.
    if hostname.len() > 64 || hostname.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::invalid(format!("invalid hostname: {hostname:?}")));
    }
    if let Some(name) = &request.stop_signal {
        signal::parse(name)?;
    }
    let stdin = request.interactive && !request.detached;
    Ok(RunConfig {
        hostname,
        domainname: request.domainname.clone().unwrap_or_default(),
        user: request.user.clone().unwrap_or_default(),
        attach_stdin: stdin,
        attach_stdout: !request.detached,
        attach_stderr: !request.detached,
        tty: request.tty,
        open_stdin: request.interactive,
        stdin_once: stdin,
        env: Some(request.env.clone()).filter(|list| !list.is_empty()),
        cmd: Some(request.cmd.clone()).filter(|list| !list.is_empty()),
        image: request.image.clone(),
        volumes: Some(mounts.anonymous.clone()).filter(|set| !set.is_empty()),
        working_dir: request.working_dir.clone().unwrap_or_default(),
        entrypoint: request.entrypoint.clone().map(|word| vec![word]),
        labels: Some(labels(&request.labels)?),
        stop_signal: request.stop_signal.clone().unwrap_or_default(),
        ..RunConfig::default()
    })
}

fn labels(list: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let pair = |label: &String| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.is_empty() {
            return Err(Error::invalid(format!("invalid label format: {label:?}")));
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    list.iter().map(pair).collect()
}

/// Fills from `image` what `config` leaves open.
pub(crate) fn merge(config: &mut RunConfig, image: &RunConfig) {
    let or_text = |own: &mut String, other: &String| {
        if own.is_empty() {
            own.clone_from(other);
        }
    };
    or_text(&mut config.user, &image.user);
    or_text(&mut config.working_dir, &image.working_dir);
    or_text(&mut config.stop_signal, &image.stop_signal);
    config.exposed_ports.extend(image.exposed_ports.clone());
    merge_env(&mut config.env, &image.env);
    let labels = config.labels.get_or_insert_default();
    for (name, value) in image.labels.iter().flatten() {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&config.entrypoint) {
        if is_empty(&config.cmd) {
            config.cmd.clone_from(&image.cmd);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    merge_health(config, image);
    match &mut config.volumes {
        Some(own) if !own.is_empty() => own.extend(image.volumes.clone().unwrap_or_default()),
        own => own.clone_from(&image.volumes),
    }
}

fn merge_env(own: &mut Option<Vec<String>>, image: &Option<Vec<String>>) {
    match own {
        Some(own) if !own.is_empty() => {
            for variable in image.iter().flatten() {
                if !own.iter().any(|have| env::key(have) == env::key(variable)) {
                    own.push(variable.clone());
                }
            }
        }
        own => own.clone_from(image),
    }
}

fn merge_health(config: &mut RunConfig, image: &RunConfig) {
    let Some(theirs) = &image.healthcheck else { return };
    let Some(own) = &mut config.healthcheck else {
        config.healthcheck = Some(theirs.clone());
        return;
    };
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test.clone_from(&theirs.test);
    }
    let pairs = [
        (&mut own.interval, theirs.interval),
        (&mut own.timeout, theirs.timeout),
        (&mut own.start_period, theirs.start_period),
        (&mut own.retries, theirs.retries),
    ];
    for (own, theirs) in pairs.into_iter().filter(|(own, _)| **own == 0) {
        *own = theirs;
    }
}

/// The program and its arguments.
fn command(config: &RunConfig) -> Result<(String, Vec<String>), Error> {
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    let mut words = words.cloned();
    let program = words.next().ok_or(Error::NoCommand)?;
    Ok((program, words.collect()))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
