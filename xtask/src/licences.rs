//! The licences of everything that goes into the binary or runs while it is built or tested.

use std::collections::HashSet;

use anyhow::{Result, bail};

use crate::{
    metadata::{self, Metadata, Package},
    spdx::Expression,
};

/// Licences that an Apache-2.0 work may be linked with, by their SPDX names.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "bzip2-1.0.6",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Exceptions that only add permissions.
const EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// Packages that name no licence but hold one: name, version, and what the file says, as read by a person.
const READ: [(&str, &str, &str); 1] = [("rust-criu", "0.6.1", "MIT")];

/// The targets that we build for; packages for others are not ours.
const TARGETS: [&str; 4] =
    ["--filter-platform", "x86_64-unknown-linux-gnu", "--filter-platform", "aarch64-unknown-linux-gnu"];

/// Checks the workspace and all it builds with; returns what to print.
pub fn run() -> Result<String> {
    let metadata = metadata::read(&TARGETS)?;
    let packages = used(&metadata);
    let problems: Vec<String> = packages.iter().filter_map(|package| problem(package)).collect();
    if !problems.is_empty() {
        bail!(
            "{}\n\nUse another package, or add the licence to xtask/src/licences.rs if an Apache-2.0 work may be \
             linked with it.",
            problems.join("\n")
        );
    }
    Ok(format!("licences: all of {} packages may be used", packages.len()))
}

/// Returns the packages that are built on some of our targets.
fn used(metadata: &Metadata) -> Vec<&Package> {
    let nodes = metadata.resolve.as_ref().map(|resolve| resolve.nodes.iter().map(|node| node.id.as_str()));
    match nodes {
        None => metadata.packages.iter().collect(),
        Some(nodes) => {
            let built: HashSet<&str> = nodes.collect();
            metadata.packages.iter().filter(|package| built.contains(package.id.as_str())).collect()
        }
    }
}

/// Returns why the package may not be used; `None` if it may.
fn problem(package: &Package) -> Option<String> {
    let Package { name, version, .. } = package;
    let read = READ.iter().find(|(known, at, _)| known == name && at == version).map(|(_, _, licence)| *licence);
    let Some(licence) = package.license.as_deref().or(read) else {
        return Some(match &package.license_file {
            Some(file) => format!("{name} {version} names no licence; read its {file}, and say what it is in READ"),
            None => format!("{name} {version} has no licence"),
        });
    };
    match Expression::parse(licence) {
        Err(error) => Some(format!("{name} {version} has the malformed licence {licence:?}: {error}")),
        Ok(expression) if expression.satisfied(&allowed) => None,
        Ok(_) => Some(format!("{name} {version} has the licence {licence}, which is not allowed")),
    }
}

fn allowed(name: &str, exception: Option<&str>) -> bool {
    // `+` means "or any later version"; the version it names may be chosen.
    let name = name.strip_suffix('+').unwrap_or(name);
    ALLOWED.contains(&name) && exception.is_none_or(|exception| EXCEPTIONS.contains(&exception))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Node, Resolve};

    fn package(name: &str, license: Option<&str>, license_file: Option<&str>) -> Package {
        Package {
            id: format!("id of {name}"),
            name: name.to_owned(),
            version: "0.6.1".to_owned(),
            license: license.map(str::to_owned),
            license_file: license_file.map(str::to_owned),
            manifest_path: "Cargo.toml".into(),
            targets: Vec::new(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn licences_that_may_be_used() {
        for licence in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "MPL-2.0",
            "MPL-2.0 OR LGPL-3.0-or-later",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "GPL-2.0-only OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0+",
            "bzip2-1.0.6",
        ] {
            assert_eq!(problem(&package("p", Some(licence), None)), None, "{licence}");
        }
    }

    #[test]
    fn licences_that_may_not_be_used_are_named() {
        for licence in [
            "GPL-3.0-only",
            "AGPL-3.0-or-later",
            "LGPL-2.1-only",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "MIT AND GPL-2.0-only",
            "Apache-2.0 WITH Some-exception",
            "SSPL-1.0",
            "mit",
        ] {
            let problem = problem(&package("p", Some(licence), None)).unwrap();
            assert!(problem.starts_with("p 0.6.1 ") && problem.contains(licence), "{problem}");
        }
        for (found, words) in [
            (package("p", None, None), "p 0.6.1 has no licence"),
            (package("p", None, Some("COPYING")), "read its COPYING"),
            (package("p", Some("MIT,GPL"), None), "malformed"),
        ] {
            assert!(problem(&found).unwrap().contains(words));
        }
    }

    #[test]
    fn a_file_read_by_a_person_counts_for_its_version_alone() {
        let mut found = package("rust-criu", None, Some("LICENSE"));
        assert_eq!(problem(&found), None);
        found.version = "0.7.0".to_owned();
        assert!(problem(&found).is_some());
    }

    #[test]
    fn what_is_not_built_does_not_count() {
        let metadata = Metadata {
            packages: vec![package("ours", Some("MIT"), None), package("other", Some("GPL-3.0-only"), None)],
            resolve: Some(Resolve { nodes: vec![Node { id: "id of ours".to_owned() }] }),
        };
        assert_eq!(used(&metadata).iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["ours"]);
    }
}
