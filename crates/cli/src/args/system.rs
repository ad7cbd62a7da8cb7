//! `strata inspect`, `explain`, `info` … and `strata system …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PruneFilters;

#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show disk usage
    Df(Df),
    /// Display information about the data root, the kernel and the filesystem
    Info(Info),
    /// Remove unused data
    Prune(Prune),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata inspect debian
  strata inspect -f '{{.GraphDriver.Data.UpperDir}}' box
  strata inspect --type image app")]
pub struct Inspect {
    #[command(flatten)]
    pub one: InspectOne,
    /// Look for objects of this type only
    #[arg(long = "type", value_name = "container|image")]
    pub kind: Option<String>,
}

#[derive(Debug, Args)]
pub struct InspectOne {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Display the sizes of containers
    #[arg(short, long)]
    pub size: bool,
    /// Names or IDs of objects
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata explain debian                                an image: its layers and their directories
  strata explain box                                   a container: the options of its mount
  strata explain box:/etc/passwd                       a file: the layer that provides it, and what hides it
  strata explain sha256:9f86…                          a layer, by DiffID, ChainID or cache ID
  strata explain /var/lib/docker/overlay2/4f53…/diff   a path: the layer or container that owns it
  strata explain --format json debian                  JSON output")]
pub struct Explain {
    /// Output format: `text`, `json`, or a Go template
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub format: String,
    /// Image, container, CONTAINER:PATH, layer, or path below the data root
    #[arg(required = true)]
    pub objects: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata fsck
  strata --data-root /var/lib/docker fsck --contents

Exit status: 0 if nothing is damaged, 1 otherwise.")]
pub struct Fsck {
    /// Also read the files of every layer and compare them with the recorded checksums
    #[arg(long)]
    pub contents: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata info
  strata info -f '{{.Driver}}'")]
pub struct Info {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata version -f json")]
pub struct Version {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata system df
  strata system df -v")]
pub struct Df {
    /// Show detailed information on space usage
    #[arg(short, long)]
    pub verbose: bool,
    /// Pretty-print using a Go template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata system prune
  strata system prune -af --volumes

Filters: until=<timestamp or duration>, label.")]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    pub volumes: bool,
    #[command(flatten)]
    pub filters: PruneFilters,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata completion bash > /etc/bash_completion.d/strata")]
pub struct Completion {
    /// Shell to write the script for
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata man /usr/local/share/man/man1")]
pub struct Man {
    /// Directory to write to; created if it does not exist
    pub dir: PathBuf,
}
