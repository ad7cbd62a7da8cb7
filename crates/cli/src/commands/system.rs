//! `info`, `version`, `system prune`.

use anyhow::bail;
use serde_json::{Value, json};
use strata_engine::{
    Filters,
    info::{Info, VERSION},
};

use super::images::pruned_text;
use crate::{
    args::system,
    context::{Context, confirm, print},
    format::{template::Template, units},
};

pub fn info(context: &Context, args: &system::Info) -> anyhow::Result<()> {
    let info = context.read()?.info()?;
    if let Some(format) = args.format.as_deref().filter(|format| !format.is_empty()) {
        return print_formatted(&serde_json::to_value(info)?, format);
    }
    print(&info_text(&info))?;
    for warning in &info.warnings {
        eprintln!("WARNING: {warning}");
    }
    Ok(())
}

/// Prints one object as JSON or by a template.
fn print_formatted(value: &Value, format: &str) -> anyhow::Result<()> {
    let template = Template::parse_flag(if format == "json" { "{{json .}}" } else { format })?;
    print(&format!("{}\n", template.render(value)?))
}

fn info_text(info: &Info) -> String {
    let mut lines = vec![
        format!("Containers: {}", info.containers),
        format!(" Running: {}", info.containers_running),
        format!(" Paused: {}", info.containers_paused),
        format!(" Stopped: {}", info.containers_stopped),
        format!("Images: {}", info.images),
        format!("Server Version: {}", info.server_version),
        format!("Storage Driver: {}", info.driver),
    ];
    lines.extend(info.driver_status.iter().map(|(name, value)| format!(" {name}: {value}")));
    lines.push("Kernel and filesystem:".to_owned());
    lines.extend(info.features.iter().map(|feature| {
        let state = if feature.works { "yes" } else { "no" };
        format!(" {}: {state} ({})", feature.name, feature.detail)
    }));
    lines.push("Storage drivers on this filesystem:".to_owned());
    lines.extend(info.storage_drivers.iter().map(|driver| {
        let state = if driver.works { "works" } else { "does not work" };
        format!(" {}: {state} ({})", driver.name, driver.detail)
    }));
    lines.push(format!("Runtimes: {}", info.runtimes.join(" ")));
    lines.push(format!("Default Runtime: {}", info.default_runtime));
    lines.push(format!("Kernel Version: {}", info.kernel_version));
    lines.push(format!("Operating System: {}", info.operating_system));
    lines.push(format!("OSType: {}", info.os_type));
    lines.push(format!("Architecture: {}", info.architecture));
    lines.push(format!("CPUs: {}", info.cpus));
    lines.push(format!("Total Memory: {}", binary_size(info.mem_total)));
    lines.push(format!("Name: {}", info.name));
    lines.push(format!("Docker Root Dir: {}", info.docker_root_dir));
    if info.drivers_on_root.len() > 1 {
        lines.push("Drivers in use here:".to_owned());
        lines.extend(info.drivers_on_root.iter().map(|of| match &of.closed {
            Some(why) => format!(" {}: {why}", of.driver),
            None => format!(" {}: {} images, {} containers", of.driver, of.images, of.containers),
        }));
    }
    if let Some(daemon) = &info.daemon {
        lines.push(format!("Live dockerd: {daemon}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `23.4GiB`, as `docker info` shows memory.
fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.digits$}");
    format!("{}{}", text.trim_end_matches('0').trim_end_matches('.'), UNITS[unit])
}

pub fn version(args: &system::Version) -> anyhow::Result<()> {
    let value = json!({
        "Client": {
            "Version": VERSION,
            "Os": "linux",
            "Arch": strata_spec::manifest::Platform::host().architecture,
            "KernelVersion": strata_sys::process::kernel_release(),
        },
    });
    if let Some(format) = args.format.as_deref().filter(|format| !format.is_empty()) {
        return print_formatted(&value, format);
    }
    let client = &value["Client"];
    let text = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
    print(&format!(
        "Strata:\n Version:           {}\n OS/Arch:           {}/{}\n Kernel Version:    {}\n",
        text("Version"),
        text("Os"),
        text("Arch"),
        text("KernelVersion")
    ))
}

pub fn prune(context: &Context, args: &system::Prune) -> anyhow::Result<()> {
    let filters = Filters::parse(&args.filters.filter)?;
    if args.volumes && filters.has("until") {
        bail!("ERROR: The \"until\" filter is not supported with \"--volumes\"");
    }
    let mut goes = vec!["all stopped containers"];
    if args.volumes {
        goes.push("all anonymous volumes not used by at least one container");
    }
    goes.push(match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    let goes: String = goes.iter().map(|what| format!("  - {what}\n")).collect();
    if !confirm(&format!("This will remove:\n{goes}"), args.force)? {
        return Ok(());
    }
    let root = context.write()?;
    let containers = root.prune_containers(&filters)?;
    print(&deleted("Containers", &containers.items))?;
    let mut reclaimed = containers.reclaimed;
    if args.volumes {
        let volumes = root.prune_volumes()?;
        print(&deleted("Volumes", &volumes.items))?;
        reclaimed += volumes.reclaimed;
    }
    let images = root.prune_images(args.all, &filters)?;
    print(&pruned_text(&images))?;
    print(&format!("Total reclaimed space: {}\n", units::size(reclaimed + images.reclaimed)))
}

/// `Deleted Containers:` and what went; nothing if nothing went.
fn deleted(kind: &str, items: &[String]) -> String {
    match items {
        [] => String::new(),
        items => format!("Deleted {kind}:\n{}\n\n", items.join("\n")),
    }
}
