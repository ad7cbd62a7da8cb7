//! Every dependency is used: a crate that a manifest names appears in the sources of its package.
//!
//! The search is for the crate's name as a word, so a name in a comment counts as a use. That errs on the quiet side; the check needs
//! no compiler and takes milliseconds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::metadata::{self, Dependency, Package};

/// Checks the workspace; returns what to print.
pub fn run() -> Result<String> {
    let workspace = metadata::read(&["--no-deps"])?.packages;
    let all = metadata::read(&[])?.packages;
    let library = |dependency: &Dependency| {
        let package = all.iter().find(|package| package.name == dependency.name);
        package.and_then(Package::library).unwrap_or(&dependency.name).to_owned()
    };
    let (mut count, mut unused) = (0, Vec::new());
    for package in &workspace {
        let dir = package.manifest_path.parent().context("a manifest lies in a directory")?;
        for dependency in &package.dependencies {
            count += 1;
            if !is_used(dependency, &library(dependency), dir)? {
                unused.push(describe(package, dependency));
            }
        }
    }
    if !unused.is_empty() {
        bail!("{}", unused.join("\n"));
    }
    Ok(format!("unused: each of {count} dependencies is used"))
}

fn describe(package: &Package, dependency: &Dependency) -> String {
    let kind = dependency.kind.as_ref().map_or(String::new(), |kind| format!("{kind}-"));
    format!("{}: no source names the {kind}dependency {}; remove it", package.name, dependency.name)
}

/// Whether a source that `dependency` is for names it, or `library`, its name in sources. `dir` is the package's directory.
fn is_used(dependency: &Dependency, library: &str, dir: &Path) -> Result<bool> {
    let places: &[&str] = match dependency.kind.as_deref() {
        Some("build") => &["build.rs"],
        Some("dev") => &["src", "tests", "examples", "benches"],
        _ => &["src"],
    };
    let name = dependency.rename.as_deref().unwrap_or(library).replace('-', "_");
    for source in places.iter().map(|place| dir.join(place)) {
        for file in sources(&source)? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            if names(&text, &name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The Rust files at and below `path`; none if it is not there.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
            let path = entry?.path();
            if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(sources(&path)?);
            }
        }
    }
    Ok(found)
}

/// Whether `name` stands in `text` as a word.
fn names(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_word)
            && !text[at + name.len()..].chars().next().is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_used_where_a_source_names_it() {
        for (text, is_used) in [
            ("use serde_json::Value;", true),
            ("#[serde_json]", true),
            ("use serde_json_lines::Value;", false),
            ("use my_serde_json::Value;", false),
            ("", false),
        ] {
            assert_eq!(names(text, "serde_json"), is_used, "{text:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::create_dir(dir.path().join("tests")).unwrap();
        fs::write(dir.path().join("src/deep/mod.rs"), "use one_crate::it;").unwrap();
        fs::write(dir.path().join("tests/it.rs"), "use two::it;").unwrap();
        let used = |name: &str, kind: Option<&str>, rename: Option<&str>| {
            let dependency =
                Dependency { name: name.to_owned(), kind: kind.map(str::to_owned), rename: rename.map(str::to_owned) };
            is_used(&dependency, name, dir.path()).unwrap()
        };
        assert!(used("one-crate", None, None));
        assert!(used("two", Some("dev"), None));
        assert!(!used("two", None, None), "a use in tests alone");
        assert!(!used("one-crate", Some("build"), None));
        assert!(used("other", None, Some("one_crate")));
    }
}
