//! What `cargo metadata` tells.
//!
//! Source: The Cargo Book, "cargo metadata", JSON format.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    /// What is built for what; absent with `--no-deps`.
    pub resolve: Option<Resolve>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    /// An SPDX expression.
    pub license: Option<String>,
    pub license_file: Option<String>,
    pub dependencies: Vec<Dependency>,
    pub manifest_path: PathBuf,
    /// What is built of it.
    #[serde(default)]
    pub targets: Vec<Target>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// A library's name in sources, which may differ from the package's.
    pub name: String,
    /// `lib`, `proc-macro`, `bin`, `test` …
    pub kind: Vec<String>,
}

impl Package {
    /// The library's name in sources; `None` where there is none.
    pub fn library(&self) -> Option<&str> {
        let is_library =
            |target: &&Target| target.kind.iter().any(|kind| kind.ends_with("lib") || kind == "proc-macro");
        self.targets.iter().find(is_library).map(|target| &*target.name)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `dev`, `build`, or absent for an ordinary one.
    pub kind: Option<String>,
    /// What the package calls it, if not by its name.
    pub rename: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Resolve {
    pub nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub id: String,
}

/// Runs `cargo metadata` with `arguments` in the folder of the workspace.
pub fn read(arguments: &[&str]) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata printed")
}
