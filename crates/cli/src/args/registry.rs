//! `strata registry serve`, `config`, `garbage-collect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The registry server.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Serve a registry until told to stop
    Serve(Serve),
    /// Print the effective configuration, or every mistake in it
    #[command(after_help = "Examples:
  strata registry config /etc/registry/config.yml
  REGISTRY_HTTP_ADDR=0.0.0.0:80 strata registry config --root /srv/registry")]
    Config(Source),
    /// Remove what no manifest names; the registry may serve meanwhile
    #[command(visible_alias = "gc")]
    GarbageCollect(GarbageCollect),
}

/// Where a registry's configuration comes from.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// A configuration in YAML, with distribution's keys; REGISTRY_… variables are laid over it
    #[arg(value_name = "CONFIG.yml")]
    pub config: Option<PathBuf>,
    /// The registry's directory, in distribution's layout
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata registry serve --root /srv/registry --addr 127.0.0.1:5000
  strata registry serve /etc/registry/config.yml
  REGISTRY_HTTP_ADDR=0.0.0.0:80 strata registry serve config.yml

On SIGTERM and SIGINT the requests under way end first; SIGHUP reads certificates and keys again. With --root and no file, deletions are allowed.")]
pub struct Serve {
    #[command(flatten)]
    pub source: Source,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata registry garbage-collect --root /srv/registry --dry-run
  strata registry garbage-collect --delete-untagged --grace 1h config.yml

A registry in a directory may serve meanwhile: what clients push, or are told is there, within the grace time is kept.
On an object store the server must be stopped first; strata.gc.interval has the server itself collect.")]
pub struct GarbageCollect {
    #[command(flatten)]
    pub source: Source,
    /// Do everything except remove the blobs
    #[arg(short, long)]
    pub dry_run: bool,
    /// Delete manifests that no tag reaches, too
    #[arg(short = 'm', long)]
    pub delete_untagged: bool,
    /// How long unnamed content is kept [default: strata.gc.grace, 24h]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// Do not print what is removed, only the sum
    #[arg(short, long)]
    pub quiet: bool,
}
