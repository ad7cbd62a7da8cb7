//! `strata run`, `ps`, `commit` … and `strata container …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Filters, Listing, PruneFilters};

/// When an image is pulled before a container is made of it.
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
    /// Copy files and folders between a container and the local filesystem
    Cp(Cp),
    /// Export a container's filesystem as a tar archive
    Export(Export),
    /// Display detailed information on one or more containers
    Inspect(super::system::InspectOne),
    /// Remove all stopped containers
    Prune(Prune),
}

/// What makes a container: shared by `run` and `create`.
#[derive(Debug, Args)]
pub struct Options {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Overwrite the image's entrypoint; an empty one clears it
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User name or ID
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Bind mount a folder or file
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
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Limit the container's root, on the storage driver btrfs: size=10G
    #[arg(long, value_name = "NAME=VALUE")]
    pub storage_opt: Vec<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Runtime to use: the built-in one, or a program such as runc
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Set platform if the image has another
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Pull image before running
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = PullPolicy::Missing)]
    pub pull: PullPolicy,
    /// The image: a name, a digest or an ID
    pub image: String,
    /// The command and its arguments, in place of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
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
  strata start -a box          with its output here
  strata start -ai box         with input too")]
pub struct Start {
    /// Attach standard output and error, and forward signals; implied, as containers run in the foreground
    #[arg(short, long)]
    pub attach: bool,
    /// Attach the container's standard input
    #[arg(short, long)]
    pub interactive: bool,
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
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// Show the latest created container (includes all states)
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
    #[arg(required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata commit -m 'with python' box app:1
  strata commit -c 'CMD [\"python3\"]' -c 'ENV LANG=C.UTF-8' box app:2

With SOURCE_DATE_EPOCH set, the same container gives the same image.")]
pub struct Commit {
    /// Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")
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
    pub container: String,
    /// REPOSITORY[:TAG]
    pub reference: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "A is added, C is changed, D is deleted.")]
pub struct Diff {
    pub container: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata cp box:/etc/hosts .
  strata cp ./app box:/srv/
  strata cp box:/var/log - | tar t")]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    pub archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a local path, or - for a tar on standard input
    pub source: String,
    /// CONTAINER:PATH, a local path, or - for a tar on standard output
    pub destination: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata export box | tar t")]
pub struct Export {
    /// Write to a file, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    pub container: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Filters: until=<timestamp or duration>, label.")]
pub struct Prune {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub filters: PruneFilters,
}
