//! `strata registry serve`, `config`, `garbage-collect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The registry server.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Run a registry server in the foreground
    Serve(Serve),
    /// Print the effective configuration, or every error in it
    #[command(after_help = "Examples:
  strata registry config /etc/registry/config.yml
  REGISTRY_HTTP_ADDR=0.0.0.0:80 strata registry config --root /srv/registry")]
    Config(Source),
    /// Remove blobs that no manifest references; the server may be running
    #[command(visible_alias = "gc")]
    GarbageCollect(GarbageCollect),
}

/// Where a registry's configuration comes from.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// Configuration in YAML, with distribution's keys; REGISTRY_… variables override it
    #[arg(value_name = "CONFIG.yml")]
    pub config: Option<PathBuf>,
    /// Directory of the registry, in distribution's layout
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata registry serve --root /srv/registry --addr 127.0.0.1:5000
  strata registry serve /etc/registry/config.yml
  REGISTRY_HTTP_ADDR=0.0.0.0:80 strata registry serve config.yml

SIGTERM and SIGINT stop the server after the current requests. SIGHUP reloads certificates and keys. With --root and no
configuration, deletes are allowed.")]
pub struct Serve {
    #[command(flatten)]
    pub source: Source,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata registry garbage-collect --root /srv/registry --dry-run
  strata registry garbage-collect --delete-untagged --grace 1h config.yml

A registry on a filesystem may keep running: blobs that were pushed or requested within the grace time are kept.
On an object store, stop the server first, or set strata.gc.interval so that the server itself collects.")]
pub struct GarbageCollect {
    #[command(flatten)]
    pub source: Source,
    /// Print what would be removed; remove nothing
    #[arg(short, long)]
    pub dry_run: bool,
    /// Also delete untagged manifests
    #[arg(short = 'm', long)]
    pub delete_untagged: bool,
    /// Minimum age of what is removed [default: strata.gc.grace, 24h]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// Print only a summary
    #[arg(short, long)]
    pub quiet: bool,
}
