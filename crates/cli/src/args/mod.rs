//! The command line: commands, flags and help texts. Names and defaults are those of Docker's command line.
//!
//! `snapshots/` holds the help text of every command.

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
  strata load -i debian.tar                   load an image from an archive
  strata run --rm -it debian bash             run a container
  strata explain debian                       show where the image is on disk
  strata --data-root /var/lib/docker images   list the images of a root that dockerd wrote

Exit status: 0 on success, 1 on failure, 64 for a template that does not parse (inspect, info, version), 125 for a wrong
flag. run: 125 if the container could not be started, 126 if its command cannot be invoked, 127 if the command is not
found, else the exit status of the command.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Data root, in Docker's on-disk layout; may be one that dockerd wrote
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STRATA_DATA_ROOT",
        hide_env_values = true,
        default_value = "/var/lib/strata",
        help_heading = "Global options"
    )]
    pub data_root: PathBuf,
    /// State of running containers [default: a directory in /run/strata for each data root]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STRATA_EXEC_ROOT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub exec_root: Option<PathBuf>,
    /// Storage driver [default: read from every driver in use; write to the root's own]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "STRATA_STORAGE_DRIVER",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub storage_driver: Option<String>,
    /// Least severe messages to log on standard error
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
    /// Copy files and directories between a container and the local filesystem
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
    /// Show where an image, a container, a layer or a file is on disk
    Explain(system::Explain),
    /// Check the data root for damage; changes nothing
    Fsck(system::Fsck),
    /// Display information about the data root, the kernel and the filesystem
    Info(system::Info),
    /// Show version information
    Version(system::Version),

    /// Run a registry server
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// Mount a union of directories, with the options of AUFS or overlayfs
    Mount(mount::Mount),
    /// Unmount unions, also those whose server died
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
    /// Write the man pages to a directory
    Man(system::Man),
}

/// `--filter KEY=VALUE`; may be repeated.
#[derive(Debug, Clone, Default, Args)]
pub struct Filters {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub filter: Vec<String>,
}

/// `--filter` of commands whose `-f` is `--force`.
#[derive(Debug, Clone, Default, Args)]
pub struct PruneFilters {
    /// Provide filter values
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub filter: Vec<String>,
}

/// Checks the form of a filter. The command itself refuses a filter that it does not know.
fn filter(text: &str) -> Result<String, strata_engine::Error> {
    strata_engine::Filters::parse(&[text.to_owned()]).map(|_| text.to_owned())
}

/// Output options of commands that list objects.
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

    /// Returns the help text of `command` and of every command below it, with their names.
    fn help(mut command: clap::Command, path: &str) -> Vec<(String, String)> {
        let mut all = vec![(path.replace(' ', "-"), command.render_help().to_string())];
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            all.extend(help(sub.clone(), &format!("{path} {}", sub.get_name())));
        }
        all
    }

    /// `INSTA_UPDATE=always cargo test -p strata-cli help_texts` writes the snapshots anew.
    #[test]
    fn help_texts_match_their_snapshots() {
        let mut command = super::Cli::command().term_width(110);
        command.build();
        for (name, text) in help(command, "strata") {
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(name, text);
            });
        }
    }

    #[test]
    fn every_command_and_every_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} has no help for {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = super::Cli::command();
        command.build();
        check(&command);
    }
}
