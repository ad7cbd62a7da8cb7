//! What the drivers have alike: a home with a folder a layer, ours beside it in `strata/`.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use strata_durable::{Context, create_dir_all, trace::content};
use strata_spec::{CacheId, ErrorKind};
use strata_sys::tree::Dir;

use crate::{Access, Error, Fault};

/// A driver's home on one data root.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub name: &'static str,
    /// `<data root>/<driver>`.
    pub path: PathBuf,
    /// Where the layers' folders lie: the home or a folder of it.
    pub folders: PathBuf,
    /// `strata`.
    pub strata: PathBuf,
    /// `strata/tmp/<driver>`: folders being deleted.
    pub trash: PathBuf,
}

impl Home {
    /// The home of driver `name` below `root`, its folders in `folders` of it (empty for the home itself); makes what is missing,
    /// the directories `others` of it too. With `ReadOnly` nothing is made, and what is not there is empty.
    pub fn open(
        root: &Path,
        name: &'static str,
        folders: &str,
        others: &[&str],
        access: Access,
    ) -> Result<Self, Error> {
        // Docker resolves its root once too, and shows it so in `inspect`.
        let root = match fs::canonicalize(root) {
            Err(error) if access == Access::ReadOnly && error.kind() == io::ErrorKind::NotFound => root.to_owned(),
            result => result.context("resolve", root)?,
        };
        let (path, strata) = (root.join(name), root.join("strata"));
        let home = Self {
            name,
            folders: if folders.is_empty() { path.clone() } else { path.join(folders) },
            path,
            trash: strata.join("tmp").join(name),
            strata,
        };
        if access == Access::ReadWrite {
            home.make(others)?;
        }
        Ok(home)
    }

    fn make(&self, others: &[&str]) -> Result<(), Error> {
        let mut wanted = vec![(self.path.clone(), 0o710), (self.folders.clone(), 0o710), (self.trash.clone(), 0o700)];
        wanted.extend(["mnt", "locks"].map(|name| (self.strata.join(name), 0o700)));
        wanted.extend(others.iter().map(|name| (self.path.join(name), 0o710)));
        for (path, mode) in wanted {
            if path.is_dir() {
                continue;
            }
            match create_dir_all(&path, mode) {
                Err(error) if !matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::PermissionDenied) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn dir(&self, id: &CacheId) -> PathBuf {
        self.folders.join(id.as_str())
    }

    pub fn exists(&self, id: &CacheId) -> bool {
        is_dir(&self.dir(id))
    }

    pub fn require(&self, id: &CacheId) -> Result<(), Error> {
        match self.exists(id) {
            true => Ok(()),
            false => Err(Error::NotFound(id.clone(), self.name)),
        }
    }

    /// All folders, in no order; what else lies here is passed over.
    pub fn list(&self) -> Result<Vec<CacheId>, Error> {
        list(&self.folders)
    }

    /// Makes the folder `id`, which must be new.
    pub fn create(&self, id: &CacheId, mode: u32) -> Result<(), Error> {
        match make_dir(&self.dir(id), mode) {
            Err(Error::Io(error)) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists(id.clone(), self.name))
            }
            result => result,
        }
    }

    /// Removes the folder `path`: first its name, then what is in it; one that is not there is no error.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        match strata_durable::remove_dir(path, &self.trash) {
            // The driver's home can be a filesystem of its own.
            Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {
                let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(error.into()) };
                let above = Dir::open(above).context("open", above)?;
                above.remove_tree(name).context("remove", path)?;
                content(path);
                Ok(())
            }
            result => Ok(result?),
        }
    }

    pub fn sync(&self) -> Result<(), Error> {
        Ok(strata_durable::sync_filesystem(&self.path)?)
    }

    pub fn sweep(&self) -> Result<(), Error> {
        strata_durable::sweep_tmp(&self.trash)?;
        Ok(())
    }

    /// Names in the folders' place that are neither a folder's nor among `known`.
    pub fn strays(&self, known: &[&str]) -> Result<Vec<Fault>, Error> {
        let entries = match fs::read_dir(&self.folders) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", &self.folders)?,
        };
        let mut strays = Vec::new();
        for entry in entries {
            let entry = entry.context("list", &self.folders)?;
            let name = entry.file_name();
            let text = name.to_str().unwrap_or_default();
            if text.parse::<CacheId>().is_err() && !known.contains(&text) {
                strays.push(Fault { path: entry.path(), reason: "is not the name of a layer's folder".into() });
            }
        }
        Ok(strays)
    }

    /// The missing folder as a fault.
    pub fn missing(&self, id: &CacheId) -> Vec<Fault> {
        vec![Fault { path: self.dir(id), reason: "the layer's folder is missing".into() }]
    }
}

/// The names in `dir` that are folders' IDs; none where there is no such directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<CacheId>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context("list", dir)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.context("list", dir)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<CacheId>().ok()));
    }
    Ok(ids)
}

/// `Backing Filesystem`, in Docker's words.
pub(crate) fn backing_filesystem(path: &Path) -> (String, String) {
    let name = strata_sys::fs::info(path).map_or("<unknown>", |info| match info.type_name {
        "unknown" => "<unknown>",
        name => name,
    });
    ("Backing Filesystem".to_owned(), name.to_owned())
}

/// Makes a directory with exactly `mode`, whatever the umask.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    fs::create_dir(path).context("create", path)?;
    set_mode(path, mode)?;
    content(path);
    Ok(())
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    Ok(fs::set_permissions(path, Permissions::from_mode(mode)).context("set the mode of", path)?)
}

/// Writes a file with exactly `mode`. Not synced: what is written for a folder is on disk with its content, at `sync`.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).context("create", path)?;
    file.set_permissions(Permissions::from_mode(mode)).context("set the mode of", path)?;
    file.write_all(bytes).context("write", path)?;
    content(path);
    Ok(())
}

pub(crate) fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

pub(crate) fn damaged(path: PathBuf, reason: impl Into<String>) -> Error {
    Error::Damaged { path, reason: reason.into() }
}

pub(crate) fn fault_of(error: Error) -> Fault {
    match error {
        Error::Damaged { path, reason } => Fault { path, reason },
        Error::Io(error) => Fault { reason: format!("cannot {}: {}", error.action, error.source), path: error.path },
        error => Fault { path: PathBuf::new(), reason: error.to_string() },
    }
}

/// Whether the filesystem of `dir` tells the kind of what lies in a directory. Nothing is written.
pub(crate) fn has_d_type(dir: &Path) -> bool {
    use rustix::fs::{Dir, FileType};
    let entries = fs::File::open(dir).and_then(|dir| Ok(Dir::read_from(dir)?));
    // It tells of all or of none.
    entries.is_ok_and(|mut entries| entries.next().is_some_and(|e| e.is_ok_and(|e| e.file_type() != FileType::Unknown)))
}

/// Fails where the kernel's overlayfs would show whiteouts as files: Docker does not start there either.
pub(crate) fn require_d_type(driver: &'static str, home: &Path) -> Result<(), Error> {
    if has_d_type(home) || !is_dir(home) {
        return Ok(());
    }
    let why =
        "the filesystem keeps no file types in directories (xfs: made with ftype=0); fuse-overlayfs does without them";
    Err(Error::Unsupported { driver, what: "keep layers here", why: why.to_owned() })
}
