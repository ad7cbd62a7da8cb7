//! Containers of one data root, by hand and in tests; the real command is `strata`.
//!
//! ```text
//! strata-containers <root> import <tar> <name>
//! strata-containers <root> create|run [flags] <image ID or name> [command…]
//! strata-containers <root> start|rm|commit <container>
//! strata-containers <root> rm -f <container>
//! ```
//!
//! Flags: `-i`, `-t`, `--rm`, `--name`, `--entrypoint`, `-e`, `-w`, `-u`, `-v`, `--tmpfs`, `--read-only`, `--hostname`,
//! `--network`, `--label`, `--runtime`.

use std::{fs::File, path::Path, process::ExitCode, sync::Arc};

use strata_container::{Base, CommitRequest, Config, Error, RemoveOptions, Request, Store, default_exec_root};
use strata_durable::Journal;
use strata_graphdriver::Access;
use strata_spec::{ImageId, Reference};

fn main() -> ExitCode {
    strata_runtime::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, command, rest @ ..] = args.as_slice() else {
        eprintln!("strata-containers: a root and a command are wanted");
        return ExitCode::from(125);
    };
    match act(Path::new(root), command, rest) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("strata-containers: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

struct Stores {
    images: strata_image::Store,
    containers: Store,
}

fn open(root: &Path) -> Result<Stores, Error> {
    let strata = root.join("strata");
    strata_durable::create_dir_all(&strata.join("tmp"), 0o700)?;
    let locks = strata.join("locks");
    let journal = Journal::open(&strata.join("journal"))?;
    let driver = strata_graphdriver::open("overlay2", root, strata_graphdriver::Access::ReadWrite)?;
    let layers = strata_layer::Config { root, driver, journal: journal.clone(), locks: &locks };
    let layers = Arc::new(strata_layer::Store::open(layers)?);
    let images = strata_image::Store::open(strata_image::Config {
        root,
        driver_name: "overlay2",
        layers: layers.clone(),
        locks: &locks,
        cache: &strata.join("cache"),
    })?;
    let exec_root = default_exec_root(root);
    let settling = journal.clone();
    let containers = Store::open(Config {
        root,
        layers: vec![layers.clone()],
        only: None,
        journal,
        locks: &locks,
        exec_root,
        access: Access::ReadWrite,
    })?;
    settling.settle::<serde_json::Value, Error>(|notes| {
        layers.settle(notes, &|_| true)?;
        containers.settle(notes)
    })?;
    Ok(Stores { images, containers })
}

fn act(root: &Path, command: &str, args: &[String]) -> Result<u8, Error> {
    let Stores { images, containers } = open(root)?;
    let text = |at: usize| args.get(at).map(String::as_str).unwrap_or_default();
    match command {
        "import" => {
            let file = strata_durable::Context::context(File::open(text(0)), "open", text(0))?;
            let id = images.import(file, strata_image::import::Options::default())?;
            images.tags().set(&Reference::parse(text(1)).map_err(strata_image::Error::from)?, id, true)?;
            println!("{id}");
        }
        "create" | "run" => {
            let request = request(args);
            let image_id = find(&images, &request.image)?;
            let config = images.get(image_id)?;
            let image = Base { driver: "overlay2", id: image_id, config: &config };
            let warn = |warnings: &[String]| warnings.iter().for_each(|warning| eprintln!("WARNING: {warning}"));
            if command == "run" {
                let exit = containers.create_and_run(image, &request, |created| warn(&created.warnings))?;
                return Ok(exit.code as u8);
            }
            let created = containers.create(image, &request)?;
            warn(&created.warnings);
            println!("{}", created.container.id);
        }
        "start" => return Ok(containers.run(&containers.resolve(text(0))?)?.code as u8),
        "commit" => println!("{}", containers.commit(&images, &containers.get(text(0))?, &CommitRequest::default())?),
        "rm" => {
            let force = text(0) == "-f";
            let id = containers.resolve(text(usize::from(force)))?;
            containers.remove(&id, RemoveOptions { force, volumes: true })?;
        }
        other => eprintln!("strata-containers: what is {other}?"),
    }
    Ok(0)
}

fn find(images: &strata_image::Store, name: &str) -> Result<ImageId, Error> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let reference = Reference::parse(name).map_err(strata_image::Error::from)?;
    let found = images.tags().read()?.get(&reference);
    Ok(found.ok_or_else(|| strata_image::Error::NotFound(name.to_owned()))?)
}

fn request(args: &[String]) -> Request {
    let mut request = Request::default();
    let mut args = args.iter().cloned();
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        match arg.as_str() {
            "-i" => request.interactive = true,
            "-t" => request.tty = true,
            "--rm" => request.auto_remove = true,
            "--read-only" => request.read_only = true,
            "--name" => request.name = Some(value()),
            "--entrypoint" => request.entrypoint = Some(value()),
            "-e" => request.env.push(value()),
            "-w" => request.working_dir = Some(value()),
            "-u" => request.user = Some(value()),
            "-v" => request.volumes.push(value()),
            "--tmpfs" => request.tmpfs.push(value()),
            "--hostname" => request.hostname = Some(value()),
            "--network" => request.network = Some(value()),
            "--label" => request.labels.push(value()),
            "--runtime" => request.runtime = Some(value()),
            _ => {
                request.image = arg;
                request.cmd = args.collect();
                break;
            }
        }
    }
    request
}
