//! `run`, `create`, `start`.

use std::{fs, io::Write, path::Path};

use anyhow::{Context as _, bail};
use strata_container::{Created, Request, env};

use super::pull;
use crate::{
    args::container::{Create, Options, Run, Start},
    context::{Context, print},
};

pub fn run(context: &Context, args: &Run) -> anyhow::Result<u8> {
    let request = request(&args.options)?;
    let root = context.write()?;
    let cidfile = args.cidfile.as_deref().map(CidFile::begin).transpose()?;
    pull::for_container(&root, args.options.pull, &request)?;
    let mut told = Ok(());
    let exit = root.run_container(&request, |created| told = tell(created, cidfile))?;
    told?;
    Ok(exit_code(exit.code))
}

pub fn create(context: &Context, args: &Create) -> anyhow::Result<()> {
    let request = request(&args.options)?;
    let root = context.write()?;
    let cidfile = args.cidfile.as_deref().map(CidFile::begin).transpose()?;
    pull::for_container(&root, args.options.pull, &request)?;
    let created = root.create_container(&request)?;
    tell(&created, cidfile)?;
    print(&format!("{}\n", created.container.id))
}

pub fn start(context: &Context, args: &Start) -> anyhow::Result<u8> {
    let root = context.write()?;
    Ok(exit_code(root.start_container(&args.container)?.code))
}

/// An exit status has eight bits.
fn exit_code(code: i32) -> u8 {
    (code & 0xff) as u8
}

/// Says what the user should know of a new container.
fn tell(created: &Created, cidfile: Option<CidFile<'_>>) -> anyhow::Result<()> {
    for warning in &created.warnings {
        eprintln!("WARNING: {warning}");
    }
    match cidfile {
        Some(cidfile) => cidfile.write(created.container.id.as_str()),
        None => Ok(()),
    }
}

/// The file of `--cidfile`; gone again if no container came of it.
struct CidFile<'a> {
    path: &'a Path,
    file: fs::File,
    written: bool,
}

impl<'a> CidFile<'a> {
    /// Takes the file's name before anything is made: one that exists may belong to a container that lives.
    fn begin(path: &'a Path) -> anyhow::Result<Self> {
        match fs::File::options().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path, file, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!(
                    "Container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                )
            }
            Err(error) => Err(error).with_context(|| format!("cannot create the container ID file {}", path.display())),
        }
    }

    fn write(mut self, id: &str) -> anyhow::Result<()> {
        self.written = true;
        write!(self.file, "{id}").with_context(|| format!("cannot write the container ID to {}", self.path.display()))
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(self.path);
        }
    }
}

fn request(options: &Options) -> anyhow::Result<Request> {
    let ours = |name: &str| std::env::var(name).ok();
    let mut variables = Vec::new();
    for file in &options.env_file {
        let bytes = fs::read(file).with_context(|| format!("cannot read the env file {}", file.display()))?;
        variables.extend(env::parse_file(&file.display().to_string(), &bytes, ours)?);
    }
    for text in &options.env {
        variables.push(env::parse_flag(text, ours)?);
    }
    Ok(Request {
        // As with Docker, an empty name is none.
        name: options.name.clone().filter(|name| !name.is_empty()),
        image: options.image.clone(),
        tty: options.tty,
        interactive: options.interactive,
        detached: false,
        entrypoint: options.entrypoint.clone(),
        cmd: options.command.clone(),
        env: variables,
        working_dir: options.workdir.clone(),
        user: options.user.clone(),
        volumes: options.volume.iter().map(|volume| absolute(volume)).collect(),
        tmpfs: options.tmpfs.clone(),
        read_only: options.read_only,
        hostname: options.hostname.clone(),
        domainname: options.domainname.clone(),
        network: Some(options.network.clone()),
        labels: options.label.clone(),
        runtime: options.runtime.clone(),
        auto_remove: options.rm,
        stop_signal: options.stop_signal.clone(),
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        platform: options.platform.as_deref().map(str::parse).transpose()?,
        storage_opt: options.storage_opt.clone(),
    })
}

/// `./here:/there` is relative to where the user stands, as docker's command line has it.
fn absolute(volume: &str) -> String {
    match volume.split_once(':') {
        Some((source, rest))
            if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") =>
        {
            match std::path::absolute(source) {
                Ok(path) => format!("{}:{rest}", path.display()),
                Err(_) => volume.to_owned(),
            }
        }
        _ => volume.to_owned(),
    }
}
