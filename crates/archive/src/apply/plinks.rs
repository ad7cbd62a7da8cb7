//! AUFS's pseudo-links: a layer that AUFS made may bring a file with several names as `.wh..wh.plnk/<inode>.<inode>`, and each of its
//! names as a hard link to that.
//!
//! Docker resolves them (`pkg/archive/diff.go`, `UnpackLayer`) to as many copies; here they stay one file. Until the layer is whole the
//! files lie where their entries say, a name that nothing else in a layer can have.

use std::{ffi::OsStr, io::Write, os::unix::ffi::OsStrExt};

use strata_sys::tree::Dir;
pub(super) use strata_tree::marks::aufs::PSEUDO_LINKS as PLINKS;

use super::{
    make::{During, Failed, Maker, Meta},
    name::Inside,
};

#[derive(Default)]
pub(super) struct Plinks {
    /// Open once there is one.
    dir: Option<Dir>,
    names: Vec<Vec<u8>>,
}

impl Plinks {
    /// The name that `path` has in the folder, if it lies there.
    pub fn name_of(path: &Inside) -> Option<&[u8]> {
        let (dir, name) = path.split();
        (dir == PLINKS.as_bytes()).then_some(name)
    }

    /// Makes the file `name`.
    pub fn add(&mut self, maker: &Maker, root: &Dir, name: &[u8], meta: &Meta, content: &[u8]) -> Result<(), Failed> {
        if self.dir.is_none() {
            root.create_dir(OsStr::new(PLINKS), 0o700).during("create the folder of")?;
            self.dir = Some(root.open_dir(OsStr::new(PLINKS)).during("open the folder of")?);
        }
        let dir = self.dir.as_ref().expect("opened just above");
        let mut file = maker.create(dir, OsStr::from_bytes(name), meta.mode)?;
        file.write_all(content).during("write")?;
        maker.finish(&file, meta, content.len() as u64)?;
        self.names.push(name.to_vec());
        Ok(())
    }

    /// Where the file `name` is, if the layer has brought it.
    pub fn get(&self, name: &[u8]) -> Option<&Dir> {
        self.dir.as_ref().filter(|_| self.names.iter().any(|known| known == name))
    }

    /// Takes the folder away; what was linked stays under its other names.
    pub fn end(self, maker: &Maker, root: &Dir) -> Result<(), Failed> {
        let Some(dir) = self.dir else { return Ok(()) };
        for name in &self.names {
            maker.forget(&dir, OsStr::from_bytes(name))?;
        }
        root.remove_dir(OsStr::new(PLINKS)).during("remove the folder of")
    }
}
