//! `strata run`, `ps`, `commit` … and `strata container …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Filters, Listing, PruneFilters};

/// When `run` and `create` pull the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PullPolicy {
    Always,
    Missing,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Ps),
    /// Create and run a new container from an image
    Run(Run),
    /// Create a new container
    Create(Create),
    /// Start a stopped container in the foreground
    Start(Start),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Create a new image from a container's changes
    Commit(Commit),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(Diff),
    /// Copy files and directories between a container and the local filesystem
    Cp(Cp),
    /// Export a container's filesystem as a tar archive
    Export(Export),
    /// Display detailed information on one or more containers
    #[command(after_help = "Examples:
  strata container inspect box
  strata container inspect -s -f '{{.SizeRw}}' box")]
    Inspect(super::system::InspectOne),
    /// Remove all stopped containers
    Prune(Prune),
}

/// Options that configure a container: shared by `run` and `create`.
#[derive(Debug, Args)]
pub struct Options {
    /// Keep standard input open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container and its anonymous volumes when it exits
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Replace the image's entrypoint; an empty value clears it
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Set an environment variable; NAME alone copies it from the environment of strata
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    pub env: Vec<String>,
    /// Read environment variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User name or ID
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Bind mount a directory, a file or a named volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    pub volume: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub read_only: bool,
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Connect the container to a network: none or host
    #[arg(long, visible_alias = "net", value_name = "NETWORK", default_value = "none")]
    pub network: String,
    /// Set a label on the container
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = label)]
    pub label: Vec<String>,
    /// Limit the size of the container's root filesystem, e.g. size=10G (storage driver btrfs)
    #[arg(long, value_name = "NAME=VALUE")]
    pub storage_opt: Vec<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// OCI runtime to use, e.g. runc [default: the built-in runtime]
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Platform of the image, if it is multi-platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = PullPolicy::Missing)]
    pub pull: PullPolicy,
    /// Name, digest or ID of an image
    pub image: String,
    /// Command and its arguments, replacing the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Checks `NAME[=VALUE]` of `--env`.
fn variable(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Checks `NAME[=VALUE]` of `--label`.
fn label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid label '{text}': empty name")),
        Some(_) => Ok(text.to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  strata run --rm debian cat /etc/os-release
  strata run -it --name box debian bash
  strata run --rm -v /srv/data:/data:ro -w /data -e LANG=C.UTF-8 debian ls -l
  strata run --rm --network host --entrypoint python3 app -m http.server
  strata run --rm --runtime runc busybox true

Exit status: the command's own; 125 if the container could not be made, 126 if the command cannot be invoked,
127 if it was not found."
)]
pub struct Run {
    #[command(flatten)]
    pub options: Options,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Proxy received signals to the process
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sig_proxy: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  strata create --name box debian sleep 60
  strata start -a box"
)]
pub struct Create {
    #[command(flatten)]
    pub options: Options,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata start -a box          attach the container's output
  strata start -ai box         attach its input as well")]
pub struct Start {
    /// Attach standard output and error, and forward signals; always on, because containers run in the foreground
    #[arg(short, long)]
    pub attach: bool,
    /// Attach the container's standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Name or ID of the container
    pub container: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata ps -a
  strata ps -aq --filter status=exited
  strata ps -a --format 'table {{.Names}}\\t{{.Status}}'

Filters: ancestor, before, exited, expose, health, id, isolation, is-task, label, name, network, publish, since,
status, volume.")]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub all: bool,
    /// Show the N last created containers, in any state
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// Show the last created container, in any state
    #[arg(short, long)]
    pub latest: bool,
    /// Display total file sizes
    #[arg(short, long)]
    pub size: bool,
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata rm box
  strata rm -f $(strata ps -aq)")]
pub struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub volumes: bool,
    /// Names or IDs of containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata commit -m 'with python' box app:1
  strata commit -c 'CMD [\"python3\"]' -c 'ENV LANG=C.UTF-8' box app:2

If SOURCE_DATE_EPOCH is set, committing the same container twice gives the same image ID.")]
pub struct Commit {
    /// Author of the image, e.g. "Ann Example <ann@example.com>"
    #[arg(short, long, default_value = "")]
    pub author: String,
    /// Apply a Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Pause the container during commit
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub pause: bool,
    /// Name or ID of the container
    pub container: String,
    /// Name of the new image: REPOSITORY[:TAG]
    pub reference: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata diff box

Each line has a letter and a path: A for added, C for changed, D for deleted.")]
pub struct Diff {
    /// Name or ID of the container
    pub container: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata cp box:/etc/hosts .
  strata cp ./app box:/srv/
  strata cp box:/var/log - | tar t")]
pub struct Cp {
    /// Keep user and group IDs
    #[arg(short, long)]
    pub archive: bool,
    /// Follow a symbolic link at SOURCE
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a local path, or - to read a tar archive from standard input
    pub source: String,
    /// CONTAINER:PATH, a local path, or - to write a tar archive to standard output
    pub destination: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata export box | tar t")]
pub struct Export {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name or ID of the container
    pub container: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata container prune -f --filter until=24h

Filters: until=<timestamp or duration>, label.")]
pub struct Prune {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub filters: PruneFilters,
}
