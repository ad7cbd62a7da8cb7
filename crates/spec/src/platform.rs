//! What an image runs on: operating system, architecture and variant, in Go's words.
//!
//! Source: OCI image-spec, image-index.md, "platform"; containerd, `platforms/`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::null_is_default;

/// What an image of an index runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub variant: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a platform; write it like linux/amd64 or linux/arm64/v8")]
pub struct PlatformError {
    pub text: String,
}

impl Platform {
    pub fn new(os: impl Into<String>, architecture: impl Into<String>, variant: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), variant: variant.into(), ..Self::default() }
    }

    /// The machine this program was built for.
    pub fn host() -> Self {
        Self::of_machine(std::env::consts::ARCH)
    }

    /// The platform of a Linux machine by the kernel's or Rust's name for it: `x86_64` is `linux/amd64`.
    pub fn of_machine(machine: &str) -> Self {
        let (architecture, variant) = normal(machine, "");
        // On 64-bit ARM Go speaks of v8 alone.
        let variant = if architecture == "arm64" && variant.is_empty() { "v8" } else { variant };
        Self::new("linux", architecture, variant)
    }

    /// Whether an image for `self` runs on `host`.
    pub fn runs_on(&self, host: &Self) -> bool {
        self.rank_on(host).is_some()
    }

    /// Returns how far an image for `self` is from the best for `host`: 0 is the best, `None` does not run.
    pub fn rank_on(&self, host: &Self) -> Option<u32> {
        // As containerd does: some tools write `Linux` and `AMD64`.
        let lower =
            |platform: &Self| (platform.architecture.to_ascii_lowercase(), platform.variant.to_ascii_lowercase());
        let ((architecture, variant), (host_architecture, host_variant)) = (lower(self), lower(host));
        let (architecture, variant) = normal(&architecture, &variant);
        let (host_architecture, host_variant) = normal(&host_architecture, &host_variant);
        if !self.os.eq_ignore_ascii_case(&host.os) || architecture != host_architecture {
            return None;
        }
        let (level, host_level) = (level(architecture, variant)?, level(architecture, host_variant)?);
        host_level.checked_sub(level)
    }
}

/// Returns architecture and variant in one spelling each; a variant that goes without saying is empty.
fn normal<'a>(architecture: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", _) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", _) => ("arm64", variant),
        ("armhf" | "armv7l" | "armv7", _) => ("arm", "v7"),
        ("armel" | "armv6l", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "8") => ("arm", "v8"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("loongarch64", _) => ("loong64", variant),
        ("powerpc64le", _) => ("ppc64le", variant),
        ("powerpc64", _) => ("ppc64", variant),
        other => other,
    }
}

/// Returns the place of a variant in the order in which each machine also runs the ones before; `None` if unknown.
fn level(architecture: &str, variant: &str) -> Option<u32> {
    let order: &[&str] = match architecture {
        "amd64" => &["", "v2", "v3", "v4"],
        "arm" => &["v5", "v6", "v7", "v8"],
        "arm64" => &["", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v9", "v9.1", "v9.2"],
        _ => &[""],
    };
    order.iter().position(|known| *known == variant).map(|at| at as u32)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, or an architecture alone, which is Linux's.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError { text: text.chars().take(160).collect() };
        let part = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(part) {
            return Err(error());
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => return Ok(Self::host()),
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(error()),
        };
        let (architecture, variant) = normal(architecture, variant);
        Ok(Self::new(os, architecture, variant))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn machines_have_gos_names() {
        for (machine, platform) in [
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64/v8"),
            ("armv7l", "linux/arm/v7"),
            ("arm", "linux/arm/v7"),
            ("i686", "linux/386"),
            ("x86", "linux/386"),
            ("riscv64", "linux/riscv64"),
            ("s390x", "linux/s390x"),
            ("powerpc64", "linux/ppc64"),
            ("loongarch64", "linux/loong64"),
        ] {
            assert_eq!(Platform::of_machine(machine).to_string(), platform);
        }
    }

    #[test]
    fn a_machine_runs_its_own_and_older_variants() {
        for (image, host, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/x86_64", "linux/amd64", Some(0)),
            ("linux/amd64/v1", "linux/amd64", Some(0)),
            ("linux/amd64/v3", "linux/amd64", None),
            ("linux/amd64", "linux/amd64/v3", Some(2)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm/v6", "linux/arm/v7", Some(1)),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/arm64", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
            ("linux/riscv64/odd", "linux/riscv64", None),
            ("Linux/AMD64", "linux/amd64", Some(0)),
            ("LINUX/ARM/V6", "linux/arm/v7", Some(1)),
        ] {
            // As a document has it, which no parser has put into lower case.
            let parts: Vec<&str> = image.split('/').collect();
            let variant = parts.get(2).copied().unwrap_or_default();
            let (image, host): (Platform, Platform) =
                (Platform::new(parts[0], parts[1], variant), host.parse().unwrap());
            assert_eq!(image.rank_on(&host), rank, "{image} on {host}");
        }
    }

    #[test]
    fn what_is_no_platform_is_named() {
        for text in ["", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux/é"] {
            assert!(text.parse::<Platform>().unwrap_err().to_string().contains(&format!("{text:?}")));
        }
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in any::<String>()) {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
            }
        }
    }
}
