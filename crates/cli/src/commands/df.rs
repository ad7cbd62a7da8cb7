//! `system df`.

use serde_json::{Value, json};
use strata_container::{Status, ps::Summary};
use strata_engine::usage::{DriverUsage, ImageUsage, VolumeUsage};

use super::{Failures, containers};
use crate::{
    args::system,
    context::{Context, print},
    format::{list::List, table, units},
};

const DF: List<'static> = List {
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Driver", "DRIVER"),
    ],
    default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
};

pub fn df(context: &Context, args: &system::Df) -> anyhow::Result<()> {
    let root = context.read_layers()?;
    let (all, failures) = root.usage()?;
    let failures = Failures::of(failures);
    let volumes = root.volume_usage()?;
    if args.verbose {
        print(&verbose(&all, &volumes, root.has_several_drivers()))?;
        return failures.end();
    }
    let mut rows: Vec<Value> = all.iter().flat_map(|usage| [images_row(usage), containers_row(usage)]).collect();
    rows.push(volumes_row(&volumes));
    rows.push(row("Build Cache", (0, 0), 0, 0, ""));
    print(&DF.render_of(&rows, args.format.as_deref(), false, root.has_several_drivers())?)?;
    failures.end()
}

fn row(kind: &str, (total, active): (usize, usize), size: u64, reclaimable: u64, driver: &str) -> Value {
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
        "Driver": driver,
    })
}

fn images_row(usage: &DriverUsage) -> Value {
    let active = usage.images.iter().filter(|image| image.containers > 0).count();
    row("Images", (usage.images.len(), active), usage.layers_size, usage.reclaimable_images(), &usage.driver)
}

fn containers_row(usage: &DriverUsage) -> Value {
    let is_active = |row: &Summary| matches!(row.status, Status::Running | Status::Paused | Status::Restarting);
    let bytes = |row: &Summary| row.size.map_or(0, |size| size.rw);
    let size: u64 = usage.containers.iter().map(bytes).sum();
    let stopped: u64 = usage.containers.iter().filter(|row| !is_active(row)).map(bytes).sum();
    let active = usage.containers.iter().filter(|row| is_active(row)).count();
    row("Containers", (usage.containers.len(), active), size, stopped, &usage.driver)
}

fn volumes_row(volumes: &[VolumeUsage]) -> Value {
    let size: u64 = volumes.iter().map(|v| v.size).sum();
    let unused: u64 = volumes.iter().filter(|v| v.containers == 0).map(|v| v.size).sum();
    let active = volumes.iter().filter(|v| v.containers > 0).count();
    row("Local Volumes", (volumes.len(), active), size, unused, "")
}

/// Four tables, as Docker has them; with several drivers the first two have a column that tells them apart.
fn verbose(all: &[DriverUsage], volumes: &[VolumeUsage], several: bool) -> String {
    let cells = |cells: &[&str], driver: &str| {
        let driver = several.then_some(driver);
        cells.iter().copied().chain(driver).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut images = vec![cells(&IMAGES, "DRIVER")];
    let mut containers = vec![cells(&CONTAINERS, "DRIVER")];
    for usage in all {
        images.extend(
            usage.images.iter().map(|image| cells(&image_cells(image).each_ref().map(String::as_str), &usage.driver)),
        );
        for row in &usage.containers {
            containers.push(cells(&container_cells(row).each_ref().map(String::as_str), &usage.driver));
        }
    }
    let row = |volume: &VolumeUsage| vec![volume.name.clone(), volume.containers.to_string(), units::size(volume.size)];
    let header = VOLUMES.map(str::to_owned).to_vec();
    let volumes: Vec<_> = std::iter::once(header).chain(volumes.iter().map(row)).collect();
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: 0B\n\n{}",
        table::table(&images),
        table::table(&containers),
        table::table(&volumes),
        table::table(&[BUILD_CACHE.map(str::to_owned).to_vec()])
    )
}

const IMAGES: [&str; 8] =
    ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
const CONTAINERS: [&str; 8] =
    ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
const VOLUMES: [&str; 3] = ["VOLUME NAME", "LINKS", "SIZE"];
const BUILD_CACHE: [&str; 7] = ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"];

fn image_cells(image: &ImageUsage) -> [String; 8] {
    let none = || "<none>".to_owned();
    let summary = &image.summary;
    [
        image.tag.as_ref().map_or_else(none, |name| name.familiar_name()),
        image.tag.as_ref().and_then(|name| name.tag()).map_or_else(none, str::to_owned),
        summary.id.short(),
        units::ago(summary.created.as_deref().unwrap_or_default(), jiff::Timestamp::now()),
        units::size3(summary.size),
        units::size(image.shared),
        units::size(summary.size - image.shared),
        image.containers.to_string(),
    ]
}

fn container_cells(row: &Summary) -> [String; 8] {
    [
        row.id.short().to_owned(),
        containers::image(row, false),
        containers::command(row, false),
        containers::local_volumes(row).to_string(),
        row.size.map_or_else(|| "N/A".to_owned(), |size| units::size3(size.rw)),
        containers::running_for(row),
        row.status_text.clone(),
        row.name.clone(),
    ]
}
