//! What the user mounts into a container: `-v` and `--tmpfs`, checked and put into a record.
//!
//! Source: moby `volume/mounts/linux_parser.go`, `daemon/volumes.go`, version 20.10.

use std::collections::BTreeMap;

use strata_spec::{config::Empty, config::Set};

use crate::{
    Error, Layout,
    record::{MountPoint, MountSpec},
};

/// A `-v` as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeFlag {
    /// A path of the host at a path of the container.
    Bind(Bind),
    /// A volume without a name at this path of the container.
    Anonymous(String),
}

/// A path of the host seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute, cleaned.
    pub source: String,
    /// Absolute, cleaned, not `/`.
    pub destination: String,
    /// What stood behind the second colon: `ro,z`.
    pub mode: String,
}

impl Bind {
    pub fn read_only(&self) -> bool {
        self.mode.split(',').any(|word| word == "ro")
    }

    /// How mounts spread: as asked for, else `rprivate`.
    pub fn propagation(&self) -> &str {
        self.mode.split(',').find(|word| PROPAGATION.contains(word)).unwrap_or("rprivate")
    }

    fn mount_point(&self, given: &str) -> MountPoint {
        let mut parts = given.split(':');
        let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        MountPoint {
            source: self.source.clone(),
            destination: self.destination.clone(),
            rw: !self.read_only(),
            kind: "bind".to_owned(),
            mode: self.mode.clone(),
            propagation: self.propagation().to_owned(),
            spec: MountSpec {
                kind: "bind".to_owned(),
                source: source.to_owned(),
                target: target.to_owned(),
                read_only: self.read_only(),
                ..MountSpec::default()
            },
            ..MountPoint::default()
        }
    }
}

const ACCESS: &[&str] = &["rw", "ro"];
const PROPAGATION: &[&str] = &["private", "rprivate", "slave", "rslave", "shared", "rshared"];
const LABEL: &[&str] = &["z", "Z"];
const CONSISTENCY: &[&str] = &["consistent", "cached", "delegated"];
const COPY: &[&str] = &["nocopy"];

/// Whether `mode` holds known words, one of a kind at most.
fn valid_mode(mode: &str) -> bool {
    let kinds = [ACCESS, PROPAGATION, LABEL, CONSISTENCY, COPY];
    let count = |kind: &[&str]| mode.split(',').filter(|word| kind.contains(word)).count();
    mode.is_empty()
        || (mode.split(',').all(|word| kinds.iter().any(|kind| kind.contains(&word)))
            && kinds.iter().all(|kind| count(kind) <= 1))
}

/// Go's `path.Clean`: `.` and `..` and doubled slashes gone; `..` at the root stays at the root.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match kept.last() {
                Some(&"..") => kept.push(".."),
                Some(_) => drop(kept.pop()),
                None if absolute => {}
                None => kept.push(".."),
            },
            part => kept.push(part),
        }
    }
    match (absolute, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

/// Reads `-v [source:]destination[:mode]`.
pub fn parse_volume(text: &str) -> Result<VolumeFlag, Error> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        [destination] => (None, *destination, ""),
        [_, mode] if valid_mode(mode) => return Err(invalid()),
        [source, destination] => (Some(*source), *destination, ""),
        [source, destination, mode] => (Some(*source), *destination, *mode),
        _ => return Err(invalid()),
    };
    if source.unwrap_or(destination).is_empty() {
        return Err(invalid());
    }
    if !valid_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let kind = if source.is_some_and(|s| s.starts_with('/')) { "bind" } else { "volume" };
    let destination = destination_of(destination).map_err(|why| {
        Error::invalid(format!(
            "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {why}"
        ))
    })?;
    match source {
        None => Ok(VolumeFlag::Anonymous(destination)),
        Some(source) if source.starts_with('/') => {
            Ok(VolumeFlag::Bind(Bind { source: clean(source), destination, mode: mode.to_owned() }))
        }
        Some(source) if is_volume_name(source) => Err(Error::Unsupported(format!(
            "volume {source:?}: named volumes are not available yet; give an absolute path of the host"
        ))),
        Some(source) => Err(Error::invalid(format!(
            "create {source}: {source:?} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))),
    }
}

fn is_volume_name(text: &str) -> bool {
    crate::names::is_valid(text)
}

/// Checks and cleans a path in the container.
fn destination_of(path: &str) -> Result<String, String> {
    let cleaned = clean(path);
    match cleaned.as_str() {
        "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        _ if !path.starts_with('/') => Err(format!("invalid mount path: '{path}' mount path must be absolute")),
        _ if path.contains('\0') => Err(format!("invalid mount path: {path:?} holds a NUL")),
        _ => Ok(cleaned),
    }
}

/// Words of `mount -o` that a tmpfs takes without a value.
const TMPFS_WORDS: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "unbindable",
    "runbindable",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];
/// And with one.
const TMPFS_VALUES: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Reads `--tmpfs destination[:options]`; returns the two, the options as they were given.
pub fn parse_tmpfs(text: &str) -> Result<(String, String), Error> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    destination_of(destination).map_err(Error::invalid)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let known = match option.split_once('=') {
            Some((name, value)) => TMPFS_VALUES.contains(&name) && !value.is_empty(),
            None => TMPFS_WORDS.contains(&option),
        };
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option {option:?}")));
        }
    }
    Ok((destination.to_owned(), options.to_owned()))
}

/// What is to be mounted, checked against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mounts {
    /// As given, for `HostConfig.Binds`.
    pub binds: Vec<String>,
    /// Options by destination, for `HostConfig.Tmpfs`.
    pub tmpfs: BTreeMap<String, String>,
    /// By destination.
    pub points: BTreeMap<String, MountPoint>,
    /// Destinations of `-v` without a source, for `Config.Volumes`.
    pub anonymous: Set,
}

impl Mounts {
    pub fn parse(volumes: &[String], tmpfs: &[String]) -> Result<Self, Error> {
        let mut mounts = Self::default();
        for text in tmpfs {
            let (destination, options) = parse_tmpfs(text)?;
            mounts.tmpfs.insert(destination, options);
        }
        for text in volumes {
            match parse_volume(text)? {
                VolumeFlag::Anonymous(destination) => drop(mounts.anonymous.insert(destination, Empty {})),
                VolumeFlag::Bind(bind) => {
                    let taken = mounts.points.contains_key(&bind.destination)
                        || mounts.tmpfs.keys().any(|path| clean(path) == bind.destination);
                    if taken {
                        return Err(Error::invalid(format!("Duplicate mount point: {}", bind.destination)));
                    }
                    mounts.points.insert(bind.destination.clone(), bind.mount_point(text));
                    mounts.binds.push(text.clone());
                }
            }
        }
        Ok(mounts)
    }
}

/// The mount point of a volume without a name, as dockerd records one that the image asks for.
pub(crate) fn anonymous_volume(name: &str, destination: &str) -> MountPoint {
    MountPoint {
        destination: destination.to_owned(),
        rw: true,
        name: name.to_owned(),
        driver: "local".to_owned(),
        kind: "volume".to_owned(),
        ..MountPoint::default()
    }
}

impl MountPoint {
    /// Where on the host the mount's content is.
    ///
    /// A volume of the `local` driver is found by its name in this root, as dockerd finds it. The path in the record may be that of the
    /// root that this one is a copy of, and dockerd leaves it out for volumes that an image asks for.
    pub fn host_path(&self, layout: &Layout) -> std::path::PathBuf {
        let is_local = matches!(self.driver.as_str(), "" | "local") && crate::names::is_valid(&self.name);
        match self.kind.as_str() {
            "volume" if is_local => layout.volume_data(&self.name),
            _ => self.source.clone().into(),
        }
    }

    /// Whether it is a volume that nobody named: it goes with the container when `-v` or `--rm` says so.
    pub fn is_anonymous_volume(&self) -> bool {
        self.kind == "volume" && self.spec.source.is_empty() && crate::names::is_valid(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, cleaned) in [
            ("", "."),
            ("/", "/"),
            ("//", "/"),
            ("/a/../b/./c/", "/b/c"),
            ("/../..", "/"),
            ("a/..", "."),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("./a//b", "a/b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }

    #[test]
    fn volumes_as_docker_reads_them() {
        let bind = |source: &str, destination: &str, mode: &str| {
            VolumeFlag::Bind(Bind { source: source.into(), destination: destination.into(), mode: mode.into() })
        };
        for (text, parsed) in [
            ("/a:/b", bind("/a", "/b", "")),
            ("/a/../c/:/b/./d:ro", bind("/c", "/b/d", "ro")),
            ("/a:/b:rw,z,rshared", bind("/a", "/b", "rw,z,rshared")),
            ("/a:/b:", bind("/a", "/b", "")),
            ("/data", VolumeFlag::Anonymous("/data".into())),
        ] {
            assert_eq!(parse_volume(text).unwrap(), parsed, "{text}");
        }
        for (text, why) in [
            ("", "invalid volume specification: ''"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:/b:ro:x", "invalid volume specification"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:bad", "invalid mode: bad"),
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            ("/a:/x/..", "destination can't be '/'"),
            ("rel", "mount path must be absolute"),
            ("./x:/b", "create ./x: \"./x\" includes invalid characters for a local volume name"),
            ("named:/b", "not available yet"),
        ] {
            let error = parse_volume(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn tmpfs_options_are_checked() {
        assert_eq!(parse_tmpfs("/run").unwrap(), ("/run".into(), String::new()));
        assert_eq!(parse_tmpfs("/run:rw,size=64k").unwrap(), ("/run".into(), "rw,size=64k".into()));
        for (text, why) in [
            ("/", "can't be '/'"),
            ("run", "must be absolute"),
            ("/run:siz=1", "invalid tmpfs option \"siz=1\""),
            ("/run:size", "invalid tmpfs option"),
        ] {
            assert!(parse_tmpfs(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn two_at_one_place_are_refused() {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let error = Mounts::parse(&strings(&["/a:/x", "/b:/x/"]), &[]).unwrap_err();
        assert_eq!(error.to_string(), "Duplicate mount point: /x");
        assert!(Mounts::parse(&strings(&["/a:/x"]), &strings(&["/x/"])).is_err());
        let mounts = Mounts::parse(&strings(&["/a:/x:ro", "/v"]), &strings(&["/t"])).unwrap();
        assert!(mounts.tmpfs.contains_key("/t") && mounts.anonymous.contains_key("/v"));
        assert!(!mounts.points["/x"].rw);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_is_taken_is_absolute_and_clean(text in "[a-z/:.,]{0,24}") {
            if let Ok(VolumeFlag::Bind(bind)) = parse_volume(&text) {
                prop_assert!(bind.source.starts_with('/') && bind.destination.starts_with('/'));
                prop_assert_eq!(clean(&bind.destination), bind.destination.clone());
                prop_assert!(bind.destination != "/");
            }
        }

        #[test]
        fn cleaning_twice_changes_nothing(path in "[a./]{0,20}") {
            let once = clean(&path);
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert!(!once.contains("//"));
        }
    }
}
