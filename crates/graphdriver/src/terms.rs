//! A folder in its driver's own terms: the marks on it, the files that it shares.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use strata_sys::{
    fs,
    tree::{Device, Dir, Entry, Kind, Stat, proc_path},
    xattr,
};
use strata_tree::marks::{
    Mark,
    aufs::{ORPHANS, PREFIX, PSEUDO_LINKS},
    mixed::{OPAQUE, OPAQUE_DEVICE},
    overlay::{TRUSTED, USER},
};

use crate::{
    Error,
    walk::{each_dir, if_there},
};

/// One thing that a driver tells of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// In the driver's own word: `branch`, `lower-id`, `subvolume` …
    pub name: &'static str,
    pub value: String,
    /// What was counted there: what, in one word or several with `_` between, and how many.
    pub counts: Vec<(&'static str, u64)>,
}

impl Term {
    pub(crate) fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), counts: Vec::new() }
    }

    /// With what was counted, or why that could not be.
    pub(crate) fn counted(
        name: &'static str,
        value: impl Into<String>,
        counts: Result<Vec<(&'static str, u64)>, Error>,
    ) -> Self {
        let mut term = Self::new(name, value);
        match counts {
            Ok(counts) => term.counts = counts,
            Err(error) => term.value += &format!(" ({error})"),
        }
        term
    }
}

/// A mount point, shown as `shown`, and whether something is mounted there.
pub(crate) fn mount_point(name: &'static str, shown: &str, target: &Path) -> Term {
    let mounted = match strata_sys::mount::is_mounted(target) {
        Ok(true) if fs::info(target).is_ok() => "mounted",
        // What the kernel remembers of a union's root outlives the process behind it.
        Ok(true) => "mounted, but nothing answers",
        Ok(false) => "not mounted",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "not mounted",
        Err(_) => "mounted, but nothing answers",
    };
    Term::new(name, format!("{shown}, {mounted}"))
}

/// Whose marks lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Aufs,
    Overlay,
    /// Those of both, and of the program fuse-overlayfs.
    All,
}

const REDIRECT: [&str; 2] = [TRUSTED.redirect, USER.redirect];
const METACOPY: [&str; 2] = [TRUSTED.metacopy, USER.metacopy];
const WHITEOUT: [&str; 2] = [TRUSTED.whiteout, USER.whiteout];

#[derive(Default)]
struct Marks {
    whiteouts: u64,
    opaque: u64,
    pseudo_links: u64,
    orphans: u64,
    redirects: u64,
    metadata_only: u64,
}

/// Counts the marks in the folder `root`.
pub(crate) fn marks(root: &Path, whose: Whose) -> Result<Vec<(&'static str, u64)>, Error> {
    let mut marks = Marks::default();
    each_dir(root, |dir, entries| {
        let mut opaque = false;
        if whose != Whose::Overlay {
            opaque |= marks.names(dir, entries)?;
        }
        if whose != Whose::Aufs {
            opaque |= marks.attributes(dir, entries)?;
        }
        marks.opaque += u64::from(opaque);
        Ok(())
    })?;
    let mut counts = vec![("whiteouts", marks.whiteouts), ("opaque_directories", marks.opaque)];
    match whose {
        Whose::Aufs => counts.extend([("pseudo_links", marks.pseudo_links), ("orphans", marks.orphans)]),
        _ => counts.extend([("redirects", marks.redirects), ("metadata_only", marks.metadata_only)]),
    }
    Ok(counts)
}

impl Marks {
    /// Counts marks that are names, and takes them out; says whether the directory is opaque by one.
    fn names(&mut self, dir: &Dir, entries: &mut Vec<Entry>) -> io::Result<bool> {
        let mut opaque = false;
        let (marks, plain): (Vec<Entry>, _) =
            entries.drain(..).partition(|entry| entry.name.as_bytes().starts_with(PREFIX.as_bytes()));
        *entries = plain;
        for entry in marks {
            let inside = || Ok::<_, io::Error>(dir.open_dir(&entry.name)?.entries()?.len() as u64);
            match Mark::of(entry.name.as_bytes()) {
                _ if entry.name == OPAQUE_DEVICE => opaque = true,
                Mark::Opaque => opaque = true,
                Mark::Whiteout(_) => self.whiteouts += 1,
                Mark::Meta if entry.name == PSEUDO_LINKS => self.pseudo_links += inside()?,
                Mark::Meta if entry.name == ORPHANS => self.orphans += inside()?,
                Mark::Meta | Mark::Invalid | Mark::Plain => {}
            }
        }
        Ok(opaque)
    }

    /// Counts marks that are devices and attributes; says whether the directory is opaque by one.
    fn attributes(&mut self, dir: &Dir, entries: &[Entry]) -> io::Result<bool> {
        let has = |names: &[std::ffi::OsString], wanted: &[&str]| {
            names.iter().any(|name| wanted.iter().any(|wanted| name == OsStr::new(wanted)))
        };
        let own = attributes(xattr::list_of(dir))?;
        let value = |name: &&&str| xattr::get_of(dir, name).ok().flatten();
        let opaque: Vec<Vec<u8>> = OPAQUE.iter().filter(|name| has(&own, &[name])).filter_map(|n| value(&n)).collect();
        self.redirects += u64::from(has(&own, &REDIRECT));
        let second_form = opaque.iter().any(|value| value == b"x");
        let at = PathBuf::from(proc_path(dir));
        for entry in entries {
            match entry.kind {
                Kind::CharDevice => {
                    let stat = if_there(dir.stat(&entry.name))?;
                    self.whiteouts += u64::from(stat.is_some_and(|stat| stat.rdev == Device::default()));
                }
                Kind::File => {
                    let names = attributes(xattr::list(at.join(&entry.name)))?;
                    self.metadata_only += u64::from(has(&names, &METACOPY));
                    self.redirects += u64::from(has(&names, &REDIRECT));
                    self.whiteouts += u64::from(second_form && has(&names, &WHITEOUT));
                }
                _ => {}
            }
        }
        Ok(opaque.iter().any(|value| value == b"y"))
    }
}

/// None of what is gone, or cannot have any.
fn attributes(listed: io::Result<Vec<std::ffi::OsString>>) -> io::Result<Vec<std::ffi::OsString>> {
    match listed {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        result => Ok(if_there(result)?.unwrap_or_default()),
    }
}

/// Calls `visit` with each regular file below `root`, one of several names at each of them.
fn each_file(root: &Path, mut visit: impl FnMut(&Dir, &OsStr, &Stat) -> io::Result<()>) -> Result<(), Error> {
    each_dir(root, |dir, entries| {
        for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
            if let Some(stat) = if_there(dir.stat(&entry.name))? {
                visit(dir, &entry.name, &stat)?;
            }
        }
        Ok(())
    })
}

/// Counts the files of a root, those that are files of the root `below` too, and those that have more names than one, anywhere.
pub(crate) fn links(root: &Path, below: Option<&Path>) -> Result<Vec<(&'static str, u64)>, Error> {
    let mut known = HashSet::new();
    if let Some(below) = below {
        each_file(below, |_, _, stat| {
            known.insert(stat.inode);
            Ok(())
        })?;
    }
    let (mut files, mut shared, mut linked) = (0, 0, 0);
    each_file(root, |_, _, stat| {
        files += 1;
        shared += u64::from(known.contains(&stat.inode));
        linked += u64::from(stat.nlink > 1);
        Ok(())
    })?;
    let mut counts = vec![("files", files), ("linked", linked)];
    if below.is_some() {
        counts.push(("shared_with_layer_below", shared));
    }
    Ok(counts)
}

/// Counts the files and bytes of a tree, and the bytes that others share where the filesystem tells: hard links once.
pub(crate) fn shares(root: &Path) -> Result<Vec<(&'static str, u64)>, Error> {
    let (mut seen, mut files, mut bytes) = (HashSet::new(), 0, 0);
    let mut shared = Some(0);
    each_file(root, |dir, name, stat| {
        if stat.nlink > 1 && !seen.insert(stat.inode) {
            return Ok(());
        }
        files += 1;
        bytes += stat.size;
        if let Some(sum) = shared.filter(|_| stat.size > 0) {
            shared = match dir.open_file(name).and_then(|file| fs::shared_bytes(&file)) {
                Ok(of_file) => Some(sum + of_file),
                // One filesystem tells of all its files or of none.
                Err(_) => None,
            };
        }
        Ok(())
    })?;
    let mut counts = vec![("files", files), ("bytes", bytes)];
    counts.extend(shared.map(|shared| ("bytes_shared", shared)));
    Ok(counts)
}
