//! `volumes/<name>/_data`: volumes without a name, as Docker's `local` driver keeps them.
//!
//! A volume begins as a copy of what the image has at its place. Docker's own `volumes/metadata.db` is not touched: its driver
//! finds volumes by their folders.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use strata_archive::{Limits, Marks, apply, diff, pipe};
use strata_durable::{Context, NewDir, create_dir_all, remove_dir};
use strata_spec::{ContainerId, ErrorKind};
use strata_sys::tree::{Dir, Kind, Stat, proc_path};

use crate::{Error, Layout, Note, Store, layout::VOLUME_DATA, names};

/// Makes the volume `name`, which gets a copy of what is at `destination` in the container's `root`.
///
/// The appearance of its folder is the commit point.
pub(crate) fn make(layout: &Layout, name: &str, root: &Dir, destination: &str) -> Result<(), Error> {
    create_dir_all(&layout.volumes(), 0o701)?;
    let mut folder = NewDir::begin(&layout.tmp(), 0o701)?;
    folder.create_dir(VOLUME_DATA, 0o755)?;
    let data = folder.path().join(VOLUME_DATA);
    if let Some(source) = source(root, destination)? {
        copy(&source, &data)?;
        strata_durable::dir::sync_filesystem(&data)?;
    }
    Ok(folder.commit(&layout.volume(name))?)
}

impl Store {
    /// The names of all volumes, sorted.
    pub fn volumes(&self) -> Result<Vec<String>, Error> {
        let dir = self.layout.volumes();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.context("list", &dir)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.context("list", &dir)?.file_name();
            found.extend(name.into_string().ok().filter(|name| self.layout.volume_data(name).is_dir()));
        }
        found.sort();
        Ok(found)
    }

    /// The volumes without a name of their own that no container of any driver has, and no running operation makes.
    ///
    /// Fails with `Damaged` if a record cannot be read: it may name any of them.
    pub fn unused_volumes(&self) -> Result<Vec<String>, Error> {
        // In this order: what an operation makes in between is not among the volumes, and what it has made is in a record.
        let volumes = self.volumes()?;
        let mut used = HashSet::new();
        for entry in self.journal.alive::<serde_json::Value>()? {
            used.extend(entry.notes.iter().filter_map(|note| match Note::of(note) {
                Note::Volume { name } => Some(name),
                _ => None,
            }));
        }
        for id in self.all_ids()? {
            match self.read(&id) {
                Ok(container) => used.extend(container.record.mount_points.into_values().map(|mount| mount.name)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let is_unnamed = |name: &String| name.parse::<ContainerId>().is_ok();
        Ok(volumes.into_iter().filter(|name| is_unnamed(name) && !used.contains(name)).collect())
    }

    /// Removes a volume; one that is not there is no error. Its directory goes by a rename, which is the commit point.
    pub fn remove_volume(&self, name: &str) -> Result<(), Error> {
        if !names::is_valid(name) {
            return Ok(());
        }
        Ok(remove_dir(&self.layout.volume(name), &self.layout.tmp())?)
    }
}

/// Opens what the image has at `destination`; `None` if nothing.
fn source(root: &Dir, destination: &str) -> Result<Option<Dir>, Error> {
    match root.dir_in_root(destination) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::invalid(format!("cannot mount volume over existing file, file exists {destination}")))
        }
        Err(error) => Ok(Err(error).context("open", destination)?),
    }
}

/// Copies all that is in `from`, and its own owner and mode, to the empty folder `to`.
fn copy(from: &Dir, to: &Path) -> Result<(), Error> {
    let from_path = PathBuf::from(proc_path(from));
    if !from.entries().context("list", &from_path)?.is_empty() {
        let (mut write, read) = pipe::pipe();
        thread::scope(|scope| {
            let writer = scope.spawn(move || -> Result<(), strata_archive::Error> {
                diff::tree(&from_path, &mut write)?;
                write.finish().map_err(|source| strata_archive::Error::Stream { action: "copy a volume", source })
            });
            let options = apply::Options { marks: Marks::None, limits: Limits::default() };
            let applied = apply::apply(read, to, io::sink(), &options);
            // What went wrong first is on the writing side, if anything did there.
            writer.join().expect("the archive does not panic")?;
            applied
        })?;
    }
    let stat = Stat::of_fd(from).context("look at", to)?;
    debug_assert_eq!(stat.kind, Kind::Dir);
    std::os::unix::fs::chown(to, Some(stat.uid), Some(stat.gid)).context("set the owner of", to)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.mode);
    Ok(fs::set_permissions(to, mode).context("set the mode of", to)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn a_volume_begins_with_what_the_image_has() {
        let scratch = strata_testkit::scratch();
        let root = scratch.join("root");
        fs::create_dir_all(root.join("data/sub")).unwrap();
        fs::write(root.join("data/sub/file"), "x").unwrap();
        fs::write(root.join("file"), "").unwrap();
        fs::set_permissions(root.join("data"), PermissionsExt::from_mode(0o1750)).unwrap();
        let layout = Layout::new(scratch.path());
        fs::create_dir_all(layout.tmp()).unwrap();
        let dir = Dir::open(&root).unwrap();
        make(&layout, "one", &dir, "/data").unwrap();
        assert_eq!(fs::read(scratch.join("volumes/one/_data/sub/file")).unwrap(), b"x");
        assert_eq!(fs::metadata(scratch.join("volumes/one/_data")).unwrap().mode() & 0o7777, 0o1750);
        make(&layout, "two", &dir, "/none").unwrap();
        assert!(scratch.join("volumes/two/_data").is_dir());
        assert!(make(&layout, "three", &dir, "/file").unwrap_err().to_string().contains("file exists /file"));
        assert!(!scratch.join("volumes/three").exists());
        assert_eq!(fs::read_dir(layout.tmp()).unwrap().count(), 0);
    }
}
