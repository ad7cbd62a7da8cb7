//! Mounting. A folder is mounted for writing at its `merged`, as Docker does, and for reading at `strata/mnt/<cache ID>` unless
//! `merged` is mounted already.

use std::path::{Path, PathBuf};

use strata_spec::CacheId;
use strata_sys::{fs::overlay_parameters as kernel_parameters, mount as kernel};

use super::{By, Overlay2, layout::damaged};
use crate::names::overlay2 as names;
use crate::{Access, Error, GraphDriver, Mounted, home::make_dir, seats::Place, union};

impl Overlay2 {
    pub(super) fn mount_folder(&self, id: &CacheId, access: Access) -> Result<Mounted, Error> {
        self.require(id)?;
        let lower = self.lower_paths(id)?;
        if lower.is_empty() {
            // The kernel unions no single directory; Docker hands out the folder itself too.
            return Ok(Mounted::plain(self.layout.diff(id)));
        }
        if access == Access::ReadWrite && self.layout.committed(id).exists() {
            let why = format!("other layers stand on {id}");
            return Err(Error::Unsupported { driver: self.name(), what: "mount a committed layer for writing", why });
        }
        let _gate = self.seats.gate()?;
        let (merged, view) = (self.merged(id), self.view(id));
        if merged.is_mounted()? {
            return self.seats.join(&merged);
        }
        match access {
            Access::ReadWrite => {
                let work = self.layout.work(id);
                if !work.exists() {
                    make_dir(&work, self.work_mode())?;
                }
                self.put_up(id, &merged, &lower, access)?;
                self.seats.join(&merged)
            }
            Access::ReadOnly => {
                if !view.is_mounted()? {
                    self.put_up(id, &view, &lower, access)?;
                }
                self.seats.join(&view)
            }
        }
    }

    pub(super) fn unmount_folder(&self, id: &CacheId) -> Result<(), Error> {
        self.seats.take_down(&[self.merged(id), self.view(id)])
    }

    /// All below `id` from the topmost down, relative to the home, as the kernel gets them; each is there.
    fn lower_paths(&self, id: &CacheId) -> Result<Vec<PathBuf>, Error> {
        let links = self.layout.read_lower_file(id)?;
        let mut paths = Vec::with_capacity(links.len());
        for link in &links {
            let path = self.layout.link(link);
            if !path.is_dir() {
                let below = self.layout.resolve(link)?;
                return Err(damaged(self.layout.diff(&below), format!("the files of a layer below {id} are missing")));
            }
            paths.push(Path::new(names::LINKS).join(link.as_str()));
        }
        Ok(paths)
    }

    fn put_up(&self, id: &CacheId, place: &Place, lower: &[PathBuf], access: Access) -> Result<(), Error> {
        let depth = lower.len() + usize::from(access == Access::ReadOnly);
        if depth > super::DOCKER_DEPTH && depth > self.max_depth() {
            return Err(Error::TooDeep { id: id.clone(), driver: self.name(), depth, limit: self.max_depth() });
        }
        if self.by == By::Union {
            let (upper, work) = (self.layout.diff(id), self.layout.work(id));
            let mut lower: Vec<PathBuf> = lower.iter().map(|path| self.layout.home.join(path)).collect();
            let upper = match access {
                Access::ReadWrite => Some((upper, work)),
                Access::ReadOnly => {
                    lower.insert(0, upper);
                    None
                }
            };
            return self.seats.put_up(place, || union::overlay(lower, upper, &place.target));
        }
        let own = [PathBuf::from(id.as_str()).join(names::DIFF), PathBuf::from(id.as_str()).join(names::WORK)];
        let [upper, work] = [own[0].as_path(), own[1].as_path()];
        let lower = lower.iter().map(PathBuf::as_path);
        let overlay = match access {
            Access::ReadWrite => kernel::Overlay {
                lower: lower.collect(),
                upper: Some((upper, work)),
                options: options(),
                base: Some(&self.layout.home),
            },
            Access::ReadOnly => kernel::Overlay {
                lower: std::iter::once(upper).chain(lower).collect(),
                upper: None,
                options: options(),
                base: Some(&self.layout.home),
            },
        };
        self.seats.put_up(place, || kernel::overlay(&place.target, &overlay))
    }

    fn merged(&self, id: &CacheId) -> Place {
        self.seats.place(self.layout.merged(id), id.as_str())
    }

    fn view(&self, id: &CacheId) -> Place {
        self.seats.place(self.views.join(id.as_str()), &format!("view-{id}"))
    }
}

/// What keeps every layer whole and under its own names, of the options that this kernel knows.
pub(crate) fn options() -> Vec<&'static str> {
    let known = kernel_parameters();
    let options =
        [(known.redirect_dir, "redirect_dir=off"), (known.metacopy, "metacopy=off"), (known.index, "index=off")];
    options.into_iter().filter_map(|(known, option)| known.map(|_| option)).collect()
}
