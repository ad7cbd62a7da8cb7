//! `info`, `version`, `system df`, `system prune`.

use serde_json::{Value, json};
use strata_engine::{
    filter::Filters,
    info::{Info, VERSION},
    prune::CONTAINER_FILTERS,
    usage::Usage,
};

use super::images::pruned_text;
use crate::{
    args::system,
    context::{Context, confirm, print},
    format::{list::List, table, template::Template, units},
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

/// One object by `json` or a template.
fn print_formatted(value: &Value, format: &str) -> anyhow::Result<()> {
    let template = Template::parse(if format == "json" { "{{json .}}" } else { format })?;
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
        lines.push(format!("Drivers with images here: {}", info.drivers_on_root.join(" ")));
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

const DF: List<'static> = List {
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
};

pub fn df(context: &Context, args: &system::Df) -> anyhow::Result<()> {
    let engine = context.read()?;
    let usage = engine.usage()?;
    if args.verbose {
        return print(&df_verbose(&usage, &engine.images().tags().read()?));
    }
    print(&DF.render(&df_rows(&usage), args.format.as_deref(), false)?)
}

fn df_rows(usage: &Usage) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: u64, reclaimable: u64| {
        let percent = (reclaimable * 100).checked_div(size).unwrap_or(0);
        let reclaimable = match size {
            0 => units::size(reclaimable),
            _ => format!("{} ({percent}%)", units::size(reclaimable)),
        };
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": units::size(size),
            "Reclaimable": reclaimable,
        })
    };
    let containers: u64 = usage.containers.iter().map(|c| c.size).sum();
    let stopped: u64 = usage.containers.iter().filter(|c| !c.running).map(|c| c.size).sum();
    let volumes: u64 = usage.volumes.iter().map(|v| v.size).sum();
    let unused: u64 = usage.volumes.iter().filter(|v| v.containers == 0).map(|v| v.size).sum();
    vec![
        row(
            "Images",
            usage.images.len(),
            usage.images.iter().filter(|image| image.containers > 0).count(),
            usage.layers_size,
            usage.reclaimable_images(),
        ),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(|c| c.running).count(),
            containers,
            stopped,
        ),
        row(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(|v| v.containers > 0).count(),
            volumes,
            unused,
        ),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

fn df_verbose(usage: &Usage, names: &strata_image::tags::Names) -> String {
    let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let now = jiff::Timestamp::now();
    let mut images =
        vec![cells(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"])];
    for image in &usage.images {
        let name = names.of(image.summary.id).into_iter().find(|name| name.tag().is_some());
        images.push(cells(&[
            &name.as_ref().map_or_else(|| "<none>".to_owned(), |name| name.familiar_name()),
            name.as_ref().and_then(|name| name.tag()).unwrap_or("<none>"),
            &image.summary.id.short(),
            &units::ago(image.summary.created.as_deref().unwrap_or_default(), now),
            &units::size3(image.summary.size),
            &units::size(image.shared),
            &units::size(image.summary.size - image.shared),
            &image.containers.to_string(),
        ]));
    }
    let mut containers = vec![cells(&["CONTAINER ID", "SIZE", "STATUS"])];
    for container in &usage.containers {
        let state = if container.running { "running" } else { "stopped" };
        containers.push(cells(&[container.id.short(), &units::size(container.size), state]));
    }
    let mut volumes = vec![cells(&["VOLUME NAME", "LINKS", "SIZE"])];
    for volume in &usage.volumes {
        volumes.push(cells(&[&volume.name, &volume.containers.to_string(), &units::size(volume.size)]));
    }
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        table::table(&images),
        table::table(&containers),
        table::table(&volumes)
    )
}

pub fn prune(context: &Context, args: &system::Prune) -> anyhow::Result<()> {
    let filters = Filters::parse(&args.filters.filter, CONTAINER_FILTERS)?;
    let images =
        if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    if !confirm(&format!("This will remove:\n  - all stopped containers\n  - {images}\n"), args.force)? {
        return Ok(());
    }
    let engine = context.write()?;
    let containers = engine.prune_containers(&filters)?;
    if !containers.items.is_empty() {
        print(&format!("Deleted Containers:\n{}\n\n", containers.items.join("\n")))?;
    }
    let images = engine.prune_images(args.all, &filters)?;
    print(&pruned_text(&images))?;
    print(&format!("Total reclaimed space: {}\n", units::size(containers.reclaimed + images.reclaimed)))
}
