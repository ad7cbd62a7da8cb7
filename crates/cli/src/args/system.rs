//! `strata inspect`, `explain`, `info` … and `strata system …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::PruneFilters;

#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show disk usage
    Df(Df),
    /// Display what this root, this kernel and this filesystem can do
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
    /// Return JSON for the specified type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<Kind>,
}

#[derive(Debug, Args)]
pub struct InspectOne {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub size: bool,
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Image,
    Container,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata explain debian                                an image: its chain, folder by folder
  strata explain box                                   a container: its mount line
  strata explain box:/etc/passwd                       a file: the layer it comes from, what hides it
  strata explain sha256:9f86…                          a layer by DiffID, ChainID or cache ID
  strata explain /var/lib/docker/overlay2/4f53…/diff   a path: who owns it
  strata explain --format json debian                  for programs")]
pub struct Explain {
    /// `text`, `json`, or a Go template
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub format: String,
    /// An image, a container, CONTAINER:PATH, a layer, or a path under the data root
    #[arg(required = true)]
    pub objects: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 if all is sound, 1 if something is damaged.")]
pub struct Fsck {
    /// Read every layer's files too, and compare them with what was written
    #[arg(long)]
    pub contents: bool,
    /// `text` or `json`
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

#[derive(Debug, Args)]
pub struct Info {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct Version {
    /// Format the output using a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct Df {
    /// Show detailed information on space usage
    #[arg(short, long)]
    pub verbose: bool,
    /// Pretty-print using a Go template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Filters: until=<timestamp or duration>, label.")]
pub struct Prune {
    /// Remove all unused images not just dangling ones
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
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata man /usr/local/share/man/man1")]
pub struct Man {
    pub dir: PathBuf,
}
