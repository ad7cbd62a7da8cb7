//! `docker cp`: between a container and the host, or a tar stream.
//!
//! | source | destination | what happens |
//! | --- | --- | --- |
//! | file | not there | it gets that name |
//! | file | not there, with a slash at its end | error |
//! | file | file | replaced |
//! | file | directory | put into it under its own name |
//! | directory | not there | made, with the source's content |
//! | directory | file | error |
//! | directory | directory | put into it under its own name |
//! | directory with `/.` at its end | directory | its content is put into it |
//!
//! Paths in a container are resolved with its root as `/`, whether it runs or not, and what is bound into it counts as part of it.
//! A link at a source's end is copied as a link, unless it is followed (`-L`) or has a slash behind it; at a destination's end it
//! is followed. Owners are kept on the way in, and are the caller's on the way out.
//!
//! Source: docker/cli `cli/command/container/cp.go`, moby `daemon/archive.go`, `pkg/archive/copy.go`, version 20.10.
//!
//! # Limitations
//!
//! A tmpfs of a running container is not seen, as with Docker: what lies below it in the container's layers is.

mod pack;
mod unpack;
mod view;

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
};

use strata_archive::pipe;
use strata_durable::Context;
use strata_graphdriver::{Access, Mounted};
use strata_sys::tree::{Dir, Kind};

use self::{
    pack::pack,
    unpack::{Owner, unpack},
    view::View,
};
use crate::{Container, Error, Store, user};

/// How to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// A link at the source's end is followed (`-L`).
    pub follow_link: bool,
    /// Into a container that runs as a user: what is copied becomes that user's (`-a`).
    pub archive: bool,
}

/// A container's tree while something is copied.
struct Tree {
    view: View,
    /// Holds the root's mount.
    mounted: Mounted,
}

impl Store {
    /// Copies `source` of the container to the path `to` of the host.
    pub fn copy_out(&self, container: &Container, source: &Path, to: &Path, options: CopyOptions) -> Result<(), Error> {
        let _used = self.use_lock(&container.id)?;
        let tree = self.tree(container, Access::ReadOnly)?;
        let host = View::host()?;
        let source = Source::find(&tree.view, source, options).map_err(|e| no_such_path(e, source, container))?;
        let to = std::path::absolute(to).map(|path| keep_end(path, to)).context("resolve", to)?;
        let destination = Destination::on_host(&host, &to)?;
        let (dir, name) = destination.place(&source)?;
        transfer(&tree.view, &source, &name, &host, &dir, Owner::Caller)
    }

    /// Copies `source` of the host to the path `to` of the container.
    pub fn copy_in(&self, source: &Path, container: &Container, to: &Path, options: CopyOptions) -> Result<(), Error> {
        let _used = self.use_lock(&container.id)?;
        let tree = self.tree(container, Access::ReadWrite)?;
        let host = View::host()?;
        let from = std::path::absolute(source).map(|path| keep_end(path, source)).context("resolve", source)?;
        let found = Source::find(&host, &from, options).context("copy", &from)?;
        let destination = Destination::in_container(&tree.view, to, container)?;
        let (dir, name) = destination.place(&found)?;
        let (dir, owner) = self.extraction_point(container, &tree, &dir, options)?;
        transfer(&host, &found, &name, &tree.view, &dir, owner)
    }

    /// Writes `source` of the container as a tar.
    pub fn copy_out_stream(
        &self,
        container: &Container,
        source: &Path,
        out: impl Write,
        options: CopyOptions,
    ) -> Result<(), Error> {
        let _used = self.use_lock(&container.id)?;
        let tree = self.tree(container, Access::ReadOnly)?;
        let source = Source::find(&tree.view, source, options).map_err(|e| no_such_path(e, source, container))?;
        pack(&tree.view, &source.path, &source.name, out)
    }

    /// Unpacks a tar, compressed or not, into the directory `to` of the container.
    pub fn copy_in_stream(
        &self,
        input: impl Read + Send,
        container: &Container,
        to: &Path,
        options: CopyOptions,
    ) -> Result<(), Error> {
        let _used = self.use_lock(&container.id)?;
        let tree = self.tree(container, Access::ReadWrite)?;
        let destination = Destination::in_container(&tree.view, to, container)?;
        if !destination.is_dir {
            return Err(Error::invalid(format!(
                "destination \"{}:{}\" must be a directory",
                container.name(),
                to.display()
            )));
        }
        let (dir, owner) = self.extraction_point(container, &tree, &destination.path, options)?;
        let (plain, _) = strata_archive::compression::decompress(input, &strata_archive::Limits::default())?;
        unpack(plain, &tree.view, &dir, owner)
    }

    /// What `docker cp` and clients ask of one path; a link is not followed.
    pub fn stat_path(&self, container: &Container, path: &Path) -> Result<strata_sys::tree::Stat, Error> {
        let _used = self.use_lock(&container.id)?;
        let tree = self.tree(container, Access::ReadOnly)?;
        let source = Source::find(&tree.view, path, CopyOptions::default());
        let stat = source.and_then(|source| tree.view.stat(&source.path));
        stat.map_err(|error| no_such_path(error, path, container))
    }

    /// The container's root with what is bound into it.
    fn tree(&self, container: &Container, access: Access) -> Result<Tree, Error> {
        let mounted = self.mount(container, access)?;
        let root = Dir::open(mounted.path()).context("open", mounted.path())?;
        let record = &container.record;
        let mut mounts: Vec<(PathBuf, PathBuf)> = record
            .mount_points
            .values()
            .filter(|point| point.kind != "tmpfs")
            .map(|point| (PathBuf::from(&point.destination), point.host_path(&self.layout)))
            .collect();
        let dir = self.layout.container(&container.id);
        let own =
            [("/etc/resolv.conf", dir.resolv_conf()), ("/etc/hostname", dir.hostname()), ("/etc/hosts", dir.hosts())];
        for (destination, path) in own {
            if !record.mount_points.contains_key(destination) {
                mounts.push((destination.into(), path));
            }
        }
        mounts.retain(|(_, source)| source.exists());
        Ok(Tree { view: View::new(root, mounts), mounted })
    }

    /// Checks that the container may be changed at `dir`, and says whose the new files are.
    fn extraction_point(
        &self,
        container: &Container,
        tree: &Tree,
        dir: &Path,
        options: CopyOptions,
    ) -> Result<(PathBuf, Owner), Error> {
        let found = tree.view.resolve(dir, true).map_err(|error| no_such_path(error, dir, container))?;
        let stat = tree.view.stat(&found).map_err(|error| no_such_path(error, dir, container))?;
        if stat.kind != Kind::Dir {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        match tree.view.mount_of(&found).and_then(|path| container.record.mount_points.get(path.to_str()?)) {
            Some(point) if !point.rw => return Err(Error::VolumeReadOnly),
            None if container.host.readonly_rootfs => return Err(Error::ReadOnlyRoot),
            _ => {}
        }
        let spec = &container.record.config.user;
        if !options.archive || spec.is_empty() {
            return Ok((found, Owner::Archive));
        }
        let root = Dir::open(tree.mounted.path()).context("open", tree.mounted.path())?;
        let user = user::lookup(&root, spec)?;
        Ok((found, Owner::Of(user.uid, user.gid)))
    }
}

/// Packs on one side and unpacks on the other at once.
fn transfer(from: &View, source: &Source, name: &OsStr, to: &View, dir: &Path, owner: Owner) -> Result<(), Error> {
    let (write, read) = pipe();
    thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<(), Error> {
            let mut write = write;
            pack(from, &source.path, name, &mut write)?;
            Ok(write
                .finish()
                .map_err(|source| strata_archive::Error::Stream { action: "pass on an archive", source })?)
        });
        let unpacked = unpack(read, to, dir, owner);
        match (writer.join().expect("packing does not panic"), unpacked) {
            // A writer whose reader went away only says so; a reader whose writer failed, too.
            (Err(error), Err(_)) if !is_broken_pipe(&error) => Err(error),
            (Err(error), Ok(())) => Err(error),
            (_, unpacked) => unpacked,
        }
    })
}

fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Archive(strata_archive::Error::Stream { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe)
}

fn no_such_path(error: std::io::Error, path: &Path, container: &Container) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NoSuchPath { path: path.display().to_string(), container: container.name().to_owned() }
        }
        _ => match Err::<(), _>(error).context("find in the container", path) {
            Err(error) => error.into(),
            Ok(()) => unreachable!("it is an error"),
        },
    }
}

/// How a path's end is written, which says what is meant.
fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// Puts the slash or `/.` of `like` back onto `path`.
fn keep_end(path: PathBuf, like: &Path) -> PathBuf {
    let mut path = path.into_os_string();
    let (has_dot, has_slash) = (ends_in_dot(Path::new(&path)), ends_in_slash(Path::new(&path)));
    if ends_in_dot(like) && !has_dot {
        path.push(if has_slash { "." } else { "/." });
    } else if ends_in_slash(like) && !has_slash {
        path.push("/");
    }
    path.into()
}

/// What is copied.
struct Source {
    /// Where it is, without links but for the last.
    path: PathBuf,
    is_dir: bool,
    /// The name it goes by in an archive: `.` where its content is meant.
    name: OsString,
}

impl Source {
    fn find(view: &View, path: &Path, options: CopyOptions) -> std::io::Result<Self> {
        let must_be_dir = ends_in_slash(path) || ends_in_dot(path);
        let found = view.resolve(path, options.follow_link || must_be_dir)?;
        let is_dir = view.stat(&found)?.kind == Kind::Dir;
        if must_be_dir && !is_dir {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        let name = match path.file_name() {
            // Rust's `file_name` passes over `/.`.
            Some(name) if !ends_in_dot(path) => name.to_owned(),
            _ => ".".into(),
        };
        Ok(Self { path: found, is_dir, name })
    }
}

/// Where it is copied to.
struct Destination {
    /// As given, or what the link there leads to.
    path: PathBuf,
    exists: bool,
    is_dir: bool,
}

impl Destination {
    fn on_host(host: &View, path: &Path) -> Result<Self, Error> {
        let found = host.resolve(path, true);
        match found.and_then(|found| Ok((host.stat(&found)?, found))) {
            Ok((stat, found)) => Self::checked(stat.kind, keep_end(found, path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                let is_dir = host.resolve(parent, true).and_then(|found| host.stat(&found));
                if !is_dir.is_ok_and(|stat| stat.kind == Kind::Dir) {
                    return Err(Error::invalid(format!(
                        "invalid output path: directory {:?} does not exist",
                        parent.display().to_string()
                    )));
                }
                Ok(Self { path: path.to_owned(), exists: false, is_dir: false })
            }
            Err(error) => Ok(Err(error).context("find", path)?),
        }
    }

    fn in_container(view: &View, path: &Path, container: &Container) -> Result<Self, Error> {
        let path = keep_end(Path::new("/").join(path), path);
        let found = view.resolve(&path, true);
        match found.and_then(|found| Ok((view.stat(&found)?, found))) {
            Ok((stat, found)) => Self::checked(stat.kind, keep_end(found, &path)),
            // Its directory may be there; extracting will tell.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { path, exists: false, is_dir: false })
            }
            Err(error) => Err(no_such_path(error, &path, container)),
        }
    }

    fn checked(kind: Kind, path: PathBuf) -> Result<Self, Error> {
        match kind {
            Kind::CharDevice | Kind::BlockDevice => Err(Error::invalid("got a device")),
            Kind::Fifo | Kind::Socket => Err(Error::invalid("got an irregular file")),
            kind => Ok(Self { path, exists: true, is_dir: kind == Kind::Dir }),
        }
    }

    /// The directory to unpack in, and the name that the source gets there.
    fn place(&self, source: &Source) -> Result<(PathBuf, OsString), Error> {
        let split = || {
            let parent = self.path.parent().unwrap_or(Path::new("/")).to_owned();
            (parent, self.path.file_name().unwrap_or(OsStr::new(".")).to_owned())
        };
        match (self.exists, self.is_dir, source.is_dir) {
            (true, true, _) => Ok((self.path.clone(), source.name.clone())),
            (true, false, true) => Err(Error::invalid("cannot copy directory")),
            (true, false, false) if ends_in_slash(&self.path) => Err(Error::invalid("not a directory")),
            (false, _, false) if ends_in_slash(&self.path) || ends_in_dot(&self.path) => {
                Err(Error::invalid("no such directory"))
            }
            _ => Ok(split()),
        }
    }
}

#[cfg(test)]
#[path = "cp_tests.rs"]
mod tests;
