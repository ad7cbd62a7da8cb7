//! `strata images`, `load`, `save` … and `strata image …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Filters, Listing, PruneFilters};

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Load images from a tar archive or standard input
    Load(Load),
    /// Save one or more images to a tar archive (streamed to standard output by default)
    Save(Save),
    /// Import the contents of a tarball to create a filesystem image
    Import(Import),
    /// Pull an image or a repository from a registry
    Pull(super::registry_client::Pull),
    /// Push an image or a repository to a registry
    Push(super::registry_client::Push),
    /// Show the history of an image
    History(History),
    /// Display detailed information on one or more images
    #[command(after_help = "Examples:
  strata image inspect app:1
  strata image inspect -f '{{.RootFS.Layers}}' app:1")]
    Inspect(super::system::InspectOne),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(Tag),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(Rmi),
    /// Remove unused images
    Prune(Prune),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata images
  strata images debian
  strata images --filter dangling=true -q
  strata images --format '{{.Repository}}:{{.Tag}} {{.Size}}'

Filters: dangling, label, before, since, reference, until.")]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    pub all: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub listing: Listing,
    /// REPOSITORY[:TAG], with * and ? as wildcards
    pub reference: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata load -i app.tar
  zstd -dc app.tar.zst | strata load
  strata load -i layout/            load an OCI layout directory

Reads Docker archives of every version, OCI layouts and OCI archives, uncompressed or compressed with gzip, zstd, xz or
bzip2.")]
pub struct Load {
    /// Read from a tar archive or a directory instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform to load from a multi-platform image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub limits: Limits,
}

/// Limits on layers of untrusted archives.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Refuse layers with more entries
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_entries: Option<u64>,
    /// Refuse layers whose files are larger in total; holes count
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub max_bytes: Option<u64>,
    /// Refuse compressed streams that expand by more than this factor
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_ratio: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata save -o app.tar app:1 app:2
  strata save app | zstd > app.tar.zst

The archive is both a Docker archive and an OCI layout. Saving the same images twice gives the same bytes.")]
pub struct Save {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,
    /// Names or IDs of images
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tar -C rootfs -c . | strata import - debian:12
  strata import -c 'CMD [\"/bin/bash\"]' rootfs.tar.xz debian:12")]
pub struct Import {
    /// Apply a Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Commit message of the image
    #[arg(short, long)]
    pub message: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub limits: Limits,
    /// Tar archive, compressed or not; - for standard input
    pub source: String,
    /// Name of the image: REPOSITORY[:TAG]
    pub reference: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata history --no-trunc --format '{{.CreatedBy}}' app")]
pub struct History {
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub human: bool,
    #[command(flatten)]
    pub listing: Listing,
    /// Name or ID of the image
    pub image: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  strata tag app:1 registry.example:5000/team/app:1")]
pub struct Tag {
    /// Existing image: NAME[:TAG], digest or ID
    pub source: String,
    /// New name: NAME[:TAG]
    pub target: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata rmi app:1
  strata rmi $(strata images -q --filter dangling=true)")]
pub struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    pub force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    pub no_prune: bool,
    /// Names or IDs of images
    #[arg(required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata image prune
  strata image prune -af --filter until=240h

Filters: until=<timestamp or duration>, label, dangling.")]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub filters: PruneFilters,
}
