//! The command line: names, flags and help, as Docker's users expect them.

pub mod container;
pub mod flags;
pub mod image;
pub mod mount;
pub mod registry;
pub mod registry_client;
pub mod system;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Stores, unpacks, runs, saves, inspects and checks container images in Docker's own on-disk layout, with no daemon.
#[derive(Debug, Parser)]
#[command(
    name = "strata",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  strata load -i debian.tar                 an image comes in
  strata run --rm -it debian bash           a container runs
  strata explain debian                     how the image lies on disk
  strata --data-root /var/lib/docker images a root that dockerd wrote

Exit status: 0 done, 1 failed, 125 a run failed before its command began, 126 the command cannot be invoked,
127 the command was not found, otherwise the container's own.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The data root: Docker's layout, Docker's own included
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STRATA_DATA_ROOT",
        default_value = "/var/lib/strata",
        help_heading = "Global options"
    )]
    pub data_root: PathBuf,
    /// Where running containers keep their state [default: a folder of this root's own in /run/strata]
    #[arg(long, global = true, value_name = "DIR", env = "STRATA_EXEC_ROOT", help_heading = "Global options")]
    pub exec_root: Option<PathBuf>,
    /// The storage driver; if not given, all that the root has are shown, and its own is worked on
    #[arg(long, global = true, value_name = "NAME", env = "STRATA_STORAGE_DRIVER", help_heading = "Global options")]
    pub storage_driver: Option<String>,
    /// Log what happens to which object, on standard error
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn", value_parser = ["error", "warn", "info", "debug"], help_heading = "Global options")]
    pub log_level: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and run a new container from an image
    Run(container::Run),
    /// Create a new container
    Create(container::Create),
    /// Start a stopped container in the foreground
    Start(container::Start),
    /// List containers
    Ps(container::Ps),
    /// Remove one or more containers
    Rm(container::Rm),
    /// Create a new image from a container's changes
    Commit(container::Commit),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(container::Diff),
    /// Copy files and folders between a container and the local filesystem
    Cp(container::Cp),
    /// Export a container's filesystem as a tar archive
    Export(container::Export),

    /// List images
    Images(image::Images),
    /// Load images from a tar archive or standard input
    Load(image::Load),
    /// Save one or more images to a tar archive (streamed to standard output by default)
    Save(image::Save),
    /// Import the contents of a tarball to create a filesystem image
    Import(image::Import),
    /// Show the history of an image
    History(image::History),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(image::Tag),
    /// Remove one or more images
    Rmi(image::Rmi),

    /// Pull an image or a repository from a registry
    Pull(registry_client::Pull),
    /// Push an image or a repository to a registry
    Push(registry_client::Push),
    /// Log in to a registry
    Login(registry_client::Login),
    /// Log out from a registry
    Logout(registry_client::Logout),
    /// Search a registry for images
    Search(registry_client::Search),

    /// Return low-level information on images and containers
    Inspect(system::Inspect),
    /// Show how an image, a container, a layer or a path lies on disk
    Explain(system::Explain),
    /// Check everything in the data root, and change nothing
    Fsck(system::Fsck),
    /// Display what this root, this kernel and this filesystem can do
    Info(system::Info),
    /// Show version information
    Version(system::Version),

    /// Serve a registry of images
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Mount a union of folders, in AUFS's or overlayfs's words
    Mount(mount::Mount),
    /// Unmount unions, dead ones too
    Umount(mount::Umount),

    /// Manage images
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Manage containers
    #[command(subcommand)]
    Container(container::ContainerCommand),
    /// Manage the data root
    #[command(subcommand)]
    System(system::SystemCommand),

    /// Print the shell completion script
    Completion(system::Completion),
    /// Write the man pages into a folder
    Man(system::Man),
}

/// `--filter KEY=VALUE`, several times.
#[derive(Debug, Clone, Default, Args)]
pub struct Filters {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub filter: Vec<String>,
}

/// The same for commands whose `-f` is `--force`.
#[derive(Debug, Clone, Default, Args)]
pub struct PruneFilters {
    /// Provide filter values
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub filter: Vec<String>,
}

/// What is no filter at all is a mistake in the command line; what the command does not know is refused by it.
fn filter(text: &str) -> Result<String, strata_engine::Error> {
    strata_engine::Filters::parse(&[text.to_owned()]).map(|_| text.to_owned())
}

/// How a list is shown.
#[derive(Debug, Clone, Args)]
pub struct Listing {
    /// Pretty-print using a Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only display IDs
    #[arg(short, long)]
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
