//! `system df`.

use serde_json::{Value, json};
use strata_engine::usage::{DriverUsage, VolumeUsage};
use strata_image::tags::Names;

use super::{Failures, under_each};
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
    let mut failures = Failures::default();
    let all = under_each(&root, &mut failures, |stores| {
        Ok((root.usage_under(stores)?, stores.images().tags().read().unwrap_or_default()))
    })?;
    for stores in root.stores() {
        if let Err(error) = stores.images().tags().read() {
            failures.add(format!("image names of the storage driver {}: {error}", stores.driver()));
        }
    }
    let volumes = root.volume_usage()?;
    if args.verbose {
        print(&verbose(&all, &volumes, root.has_several_drivers()))?;
        return failures.end();
    }
    let mut rows: Vec<Value> = all.iter().flat_map(|(usage, _)| [images_row(usage), containers_row(usage)]).collect();
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
    let size: u64 = usage.containers.iter().map(|c| c.size).sum();
    let stopped: u64 = usage.containers.iter().filter(|c| !c.running).map(|c| c.size).sum();
    let active = usage.containers.iter().filter(|c| c.running).count();
    row("Containers", (usage.containers.len(), active), size, stopped, &usage.driver)
}

fn volumes_row(volumes: &[VolumeUsage]) -> Value {
    let size: u64 = volumes.iter().map(|v| v.size).sum();
    let unused: u64 = volumes.iter().filter(|v| v.containers == 0).map(|v| v.size).sum();
    let active = volumes.iter().filter(|v| v.containers > 0).count();
    row("Local Volumes", (volumes.len(), active), size, unused, "")
}

/// Three tables; of several drivers the first two have a column that tells them apart.
fn verbose(all: &[(DriverUsage, Names)], volumes: &[VolumeUsage], several: bool) -> String {
    let cells = |cells: &[&str], driver: &str| {
        let driver = several.then_some(driver);
        cells.iter().copied().chain(driver).map(str::to_owned).collect::<Vec<_>>()
    };
    let now = jiff::Timestamp::now();
    let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
    let mut images = vec![cells(&header, "DRIVER")];
    let mut containers = vec![cells(&["CONTAINER ID", "SIZE", "STATUS"], "DRIVER")];
    for (usage, names) in all {
        for image in &usage.images {
            let name = names.of(image.summary.id).into_iter().find(|name| name.tag().is_some());
            let row = [
                &name.as_ref().map_or_else(|| "<none>".to_owned(), |name| name.familiar_name()),
                name.as_ref().and_then(|name| name.tag()).unwrap_or("<none>"),
                &image.summary.id.short(),
                &units::ago(image.summary.created.as_deref().unwrap_or_default(), now),
                &units::size3(image.summary.size),
                &units::size(image.shared),
                &units::size(image.summary.size - image.shared),
                &image.containers.to_string(),
            ];
            images.push(cells(&row, &usage.driver));
        }
        for container in &usage.containers {
            let state = if container.running { "running" } else { "stopped" };
            containers.push(cells(&[container.id.short(), &units::size(container.size), state], &usage.driver));
        }
    }
    let row = |volume: &VolumeUsage| vec![volume.name.clone(), volume.containers.to_string(), units::size(volume.size)];
    let header = ["VOLUME NAME", "LINKS", "SIZE"].map(str::to_owned).to_vec();
    let volumes: Vec<_> = std::iter::once(header).chain(volumes.iter().map(row)).collect();
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        table::table(&images),
        table::table(&containers),
        table::table(&volumes)
    )
}
