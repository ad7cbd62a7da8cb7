//! The direction of dependencies: a crate may use those above it in [`ORDER`], never those below.

use anyhow::{Result, bail};

use crate::metadata::{self, Package};

/// The crates, from the one that uses none to the one that may use all.
const ORDER: [&str; 20] = [
    "spec",
    "sys",
    "durable",
    "content",
    "tree",
    "archive",
    "bolt",
    "unionfs",
    "graphdriver",
    "layer",
    "image",
    "distribution",
    "runtime",
    "container",
    "builder",
    "engine",
    "doctor",
    "daemon",
    "registry",
    "cli",
];

/// Crates that may use these alone, whatever stands above them.
const ONLY: [(&str, &[&str]); 2] =
    [("registry", &["spec", "durable"]), (TESTKIT, &["spec", "sys", "durable", "tree", "archive"])];

/// The crate that others use in tests only.
const TESTKIT: &str = "testkit";

/// Prefix of our packages' names.
const PREFIX: &str = "strata-";

/// Checks the workspace; returns what to print.
pub fn run() -> Result<String> {
    let workspace = metadata::read(&["--no-deps"])?.packages;
    let problems = check(&workspace);
    if !problems.is_empty() {
        bail!("{}\n\nA type that both need usually belongs in `spec`.", problems.join("\n"));
    }
    Ok(format!("deps: every arrow between {} packages points up", workspace.len()))
}

/// Returns what is wrong, a line each.
fn check(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let Some(from) = package.name.strip_prefix(PREFIX) else { continue };
        if from != TESTKIT && place(from).is_none() {
            problems.push(format!("{} has no place in the order; give it one in xtask/src/deps.rs", package.name));
            continue;
        }
        for dependency in &package.dependencies {
            let Some(to) = dependency.name.strip_prefix(PREFIX) else { continue };
            if let Some(why) = forbidden(from, to, dependency.kind.as_deref() == Some("dev")) {
                let kind = dependency.kind.as_ref().map_or(String::new(), |kind| format!(" ({kind}-dependency)"));
                problems.push(format!("{from} -> {to}{kind}: {why}"));
            }
        }
    }
    problems
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == name)
}

/// Returns why the arrow is forbidden; `None` if it is not.
fn forbidden(from: &str, to: &str, dev: bool) -> Option<String> {
    if to == TESTKIT {
        return (!dev).then(|| format!("{TESTKIT} may be a dev-dependency only"));
    }
    if let Some((_, allowed)) = ONLY.iter().find(|(name, _)| *name == from) {
        return (!allowed.contains(&to)).then(|| format!("{from} may use {} alone", allowed.join(", ")));
    }
    match (place(from), place(to)) {
        (Some(from_place), Some(to_place)) if to_place < from_place => None,
        (_, None) => Some(format!("{to} has no place in the order")),
        _ => Some(format!("{to} stands below {from} in the order")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    /// Makes a package that depends on `dependencies`, as `name` or `kind:name`.
    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependency = |text: &&str| {
            let (kind, name) = text.split_once(':').map_or((None, *text), |(kind, name)| (Some(kind.to_owned()), name));
            Dependency { name: name.to_owned(), kind, rename: None }
        };
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            license_file: None,
            dependencies: dependencies.iter().map(dependency).collect(),
            manifest_path: "Cargo.toml".into(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn arrows_that_point_up_are_fine() {
        for (name, dependencies) in [
            ("strata-spec", &["serde", "dev:proptest", "dev:strata-testkit"][..]),
            ("strata-layer", &["strata-spec", "strata-graphdriver", "dev:strata-archive"]),
            ("strata-registry", &["strata-spec", "strata-durable", "tokio", "dev:strata-testkit"]),
            ("strata-testkit", &["strata-archive", "build:strata-spec"]),
            ("strata-cli", &["strata-registry", "strata-doctor"]),
            ("xtask", &["anyhow"]),
        ] {
            assert_eq!(check(&[package(name, dependencies)]), [""; 0], "{name}");
        }
    }

    #[test]
    fn arrows_that_point_down_are_named() {
        for (name, dependency, problem) in [
            ("strata-spec", "strata-sys", "spec -> sys: sys stands below spec in the order"),
            ("strata-spec", "strata-spec", "spec -> spec: spec stands below spec in the order"),
            (
                "strata-image",
                "build:strata-cli",
                "image -> cli (build-dependency): cli stands below image in the order",
            ),
            (
                "strata-image",
                "dev:strata-engine",
                "image -> engine (dev-dependency): engine stands below image in the order",
            ),
            ("strata-registry", "strata-image", "registry -> image: registry may use spec, durable alone"),
            ("strata-registry", "strata-sys", "registry -> sys: registry may use spec, durable alone"),
            ("strata-cli", "strata-testkit", "cli -> testkit: testkit may be a dev-dependency only"),
            (
                "strata-testkit",
                "strata-layer",
                "testkit -> layer: testkit may use spec, sys, durable, tree, archive alone",
            ),
            ("strata-cli", "strata-new", "cli -> new: new has no place in the order"),
            ("strata-new", "strata-spec", "strata-new has no place in the order; give it one in xtask/src/deps.rs"),
        ] {
            assert_eq!(check(&[package(name, &[dependency])]), [problem], "{name}");
        }
    }

    #[test]
    fn this_workspace_passes() {
        run().unwrap_or_else(|e| panic!("{e:#}"));
    }
}
