//! `strata pull`, `push`, `login`, `logout`, `search`.

use clap::{Args, ValueEnum};

/// Connection options.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Allow plain HTTP and unverified certificates (always allowed for loopback addresses)
    #[arg(long)]
    pub insecure: bool,
}

/// Format of progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata pull debian
  strata pull registry.example:5000/team/app:1.2
  strata pull --platform linux/arm64 debian@sha256:…
  strata pull --all-platforms debian && strata tag debian registry.example/debian &&
    strata push --all-platforms registry.example/debian

The next pull resumes an interrupted one. Mirrors and insecure registries come from /etc/docker/daemon.json, or from
STRATA_REGISTRY_MIRRORS and STRATA_INSECURE_REGISTRIES; certificates from /etc/docker/certs.d; credentials from
Docker's config.json.")]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform to pull from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Also keep the compressed blobs of all other platforms, for push --all-platforms
    #[arg(long)]
    pub all_platforms: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Format of progress output
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Print a summary of where time was spent
    #[arg(long)]
    pub verbose: bool,
    /// Image to pull: NAME[:TAG|@DIGEST]
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
    /// Push all platforms of an image that was pulled with --all-platforms; the digest of its index stays the same
    #[arg(long)]
    pub all_platforms: bool,
    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Format of progress output
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Print a summary of where time was spent
    #[arg(long)]
    pub verbose: bool,
    /// Image to push: NAME[:TAG]
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
    /// Password; other users of this machine can see it in the process list
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Registry [default: Docker Hub]
    pub server: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata logout
  strata logout registry.example:5000")]
pub struct Logout {
    /// Registry [default: Docker Hub]
    pub server: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata search debian
  strata search registry.example:5000/team")]
pub struct Search {
    /// Maximum number of results
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub limit: usize,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    #[command(flatten)]
    pub connection: Connection,
    /// Term to search for: [REGISTRY/]TERM
    pub term: String,
}
