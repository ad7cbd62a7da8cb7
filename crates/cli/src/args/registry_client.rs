//! `strata pull`, `push`, `login`, `logout`, `search`.

use clap::{Args, ValueEnum};

/// How a registry is spoken to.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Allow plain HTTP and any certificate (loopback addresses may always have them)
    #[arg(long)]
    pub insecure: bool,
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A JSON object a line
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata pull debian
  strata pull registry.example:5000/team/app:1.2
  strata pull --platform linux/arm64 debian@sha256:…
  strata pull --all-platforms debian && strata tag debian registry.example/debian && strata push --all-platforms registry.example/debian

An interrupted pull goes on where it stopped. Mirrors and insecure registries are those of /etc/docker/daemon.json, or of
STRATA_REGISTRY_MIRRORS and STRATA_INSECURE_REGISTRIES; certificates those of /etc/docker/certs.d; logins those of config.json.")]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    pub quiet: bool,
    /// Set platform if the image has several
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Keep the images of all platforms too, compressed as they come, for a push with --all-platforms
    #[arg(long)]
    pub all_platforms: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// How to tell what happens
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Say at the end where the time went
    #[arg(long)]
    pub verbose: bool,
    /// NAME[:TAG|@DIGEST]
    pub name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata push registry.example:5000/team/app:1.2
  strata push -a registry.example:5000/team/app
  strata push --all-platforms registry.example:5000/team/app:1.2")]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Push the images of all platforms under the index that they were pulled with by --all-platforms, which keeps its digest
    #[arg(long)]
    pub all_platforms: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// How to tell what happens
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Say at the end where the time went
    #[arg(long)]
    pub verbose: bool,
    /// NAME[:TAG]
    pub name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata login registry.example:5000
  echo \"$TOKEN\" | strata login -u ci --password-stdin registry.example")]
pub struct Login {
    /// Username
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password: other users of this machine may see it in the list of processes
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Take the password from stdin
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// The registry; Docker's if not given
    pub server: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata logout
  strata logout registry.example:5000")]
pub struct Logout {
    /// The registry; Docker's if not given
    pub server: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata search debian
  strata search registry.example:5000/team")]
pub struct Search {
    /// Max number of search results
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub limit: usize,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// [REGISTRY/]TERM
    pub term: String,
}
