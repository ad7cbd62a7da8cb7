//! All drivers of a root side by side: what a look at the root shows, and which driver a command works on.
//!
//! Docker keeps `image/<driver>` and `<driver>` for each driver, and `containers` and `volumes` for all of them. What is named is found
//! under whichever driver has it; new things go to the chosen driver (see [`drivers`](crate::drivers)).

use std::collections::BTreeSet;

use strata_spec::{ContainerId, ErrorKind, ImageId};

use crate::{Engine, Error, Options, Purpose, drivers, root};

/// An engine for each driver of a root that is in use; one for the driver that was asked for, or of an empty root.
pub struct Engines {
    /// Best first; at least one.
    engines: Vec<Engine>,
    /// The one that new things go to; `None` where it must be said.
    chosen: Option<usize>,
    /// Drivers in use that cannot be opened, and why.
    closed: Vec<(String, Error)>,
}

impl Engines {
    /// Opens the stores of all drivers in use, or those of `options.driver` alone. For writing, what dead processes left is settled first.
    pub fn open(options: &Options, purpose: Purpose) -> Result<Self, Error> {
        let path = root::resolve(&options.data_root)?;
        if purpose == Purpose::Write {
            root::may_write(&path)?;
        }
        let used = match &options.driver {
            Some(_) => Vec::new(),
            None => drivers::in_use(&path)?,
        };
        if used.len() < 2 {
            let engine = Engine::open(options, purpose)?;
            return Ok(Self { engines: vec![engine], chosen: Some(0), closed: Vec::new() });
        }
        let (mut engines, mut closed) = (Vec::new(), Vec::new());
        for driver in used {
            match Engine::unsettled(&Options { driver: Some(driver.clone()), ..options.clone() }, purpose) {
                Ok(engine) => engines.push(engine),
                Err(Error::Driver(strata_graphdriver::Error::UnknownDriver(_))) => {
                    closed.push((driver.clone(), Error::ForeignDriver { root: path.clone(), found: driver }));
                }
                Err(error @ (Error::Driver(_) | Error::Layer(_) | Error::Image(_))) => closed.push((driver, error)),
                // The root itself cannot be used so, under no driver.
                Err(error) => return Err(error),
            }
        }
        if engines.is_empty() {
            return Err(closed.swap_remove(0).1);
        }
        crate::settle::settle(&engines, options)?;
        let chosen = drivers::choose(&path, None).ok();
        let at = |name: &String| engines.iter().position(|engine| engine.driver() == name);
        let is_closed = |name: &String| closed.iter().position(|(closed, _)| closed == name);
        // New things do not go to another driver because this one fails: its images would seem to be gone.
        if purpose == Purpose::Write
            && let Some(n) = chosen.as_ref().and_then(is_closed)
        {
            return Err(closed.swap_remove(n).1);
        }
        Ok(Self { chosen: chosen.as_ref().and_then(at), engines, closed })
    }

    /// All of them, best first.
    pub fn iter(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter()
    }

    /// Whether more than one driver is in use.
    pub fn are_several(&self) -> bool {
        self.engines.len() > 1
    }

    /// Drivers in use that cannot be opened, and why.
    pub fn closed(&self) -> &[(String, Error)] {
        &self.closed
    }

    /// Whether it must be said which driver new things go to.
    pub fn are_undecided(&self) -> bool {
        self.chosen.is_none()
    }

    /// The driver that new things go to; the best in use if that is not decided.
    pub fn main(&self) -> &Engine {
        &self.engines[self.chosen.unwrap_or(0)]
    }

    /// The driver that new things go to, and that whole stores are cleaned of. `SeveralDrivers` if that must be said.
    pub fn for_new(&self) -> Result<&Engine, Error> {
        match self.chosen {
            Some(chosen) => Ok(&self.engines[chosen]),
            None => {
                let used = self.iter().map(Engine::driver).collect::<Vec<_>>().join(", ");
                Err(Error::SeveralDrivers { root: self.main().root().path().to_owned(), found: used })
            }
        }
    }

    /// The driver that has the image that `text` names, or that one is to be pulled to.
    pub fn of_image_or_new(&self, text: &str) -> Result<&Engine, Error> {
        let is_missing =
            |engine: &Engine| engine.images().resolve(text).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        match self.images_called(text) {
            Ok(hits) if hits.is_empty() => self.for_new(),
            // What is damaged under another driver keeps nobody from pulling.
            Err(Error::Image(_)) if is_missing(self.main()) => self.for_new(),
            _ => self.of_image(text),
        }
    }

    /// The driver that has the container that `text` names. That of [`Engines::main`] where none has: it says so best.
    pub fn of_container(&self, text: &str) -> Result<&Engine, Error> {
        if self.is_plain() {
            return Ok(self.main());
        }
        let resolve = |engine: &Engine| engine.containers().resolve(text).map_err(Error::from);
        let found = self.iter().map(|engine| (engine, resolve(engine)));
        let found: Vec<_> =
            found.filter(|(_, id)| id.as_ref().err().is_none_or(|e| e.kind() != ErrorKind::NotFound)).collect();
        // A name or a whole ID under one driver comes before the beginning of an ID under another.
        let name = text.strip_prefix('/').unwrap_or(text);
        let is_exact = |engine: &Engine, id: &ContainerId| {
            id.as_str() == text || engine.containers().name(id).is_some_and(|found| found == name)
        };
        let exact = found.iter().filter(|(engine, id)| id.as_ref().is_ok_and(|id| is_exact(engine, id)));
        let exact: Vec<&Engine> = exact.map(|(engine, _)| *engine).collect();
        let found: Vec<&Engine> = found.iter().map(|(engine, _)| *engine).collect();
        match (exact.as_slice(), found.as_slice()) {
            ([only], _) | ([], [only]) => Ok(*only),
            ([], []) => self.nowhere(format!("No such container: {text}")),
            ([], several) | (several, _) => Err(in_several("container", text, several)),
        }
    }

    /// The driver that has the image that `text` names; the chosen one if it is among several. That of [`Engines::main`] where none has.
    pub fn of_image(&self, text: &str) -> Result<&Engine, Error> {
        self.of_images(&[text.to_owned()], false)
    }

    /// The same for what only looks: of several that have the very same image, any will do.
    pub fn of_image_to_read(&self, text: &str) -> Result<&Engine, Error> {
        self.of_images(&[text.to_owned()], true)
    }

    /// The driver that has all of these images, to look at them.
    pub fn of_images_to_read(&self, texts: &[String]) -> Result<&Engine, Error> {
        self.of_images(texts, true)
    }

    fn of_images(&self, texts: &[String], to_read: bool) -> Result<&Engine, Error> {
        if self.is_plain() {
            return Ok(self.main());
        }
        let hits = texts.iter().map(|text| self.images_called(text)).collect::<Result<Vec<_>, _>>()?;
        let ids = |engine: &Engine| {
            let of = |hits: &Vec<Hit<'_>>| hits.iter().find(|hit| std::ptr::eq(hit.engine, engine)).map(|hit| hit.id);
            hits.iter().map(of).collect::<Option<Vec<_>>>()
        };
        let found: Vec<_> = self.iter().filter_map(|engine| Some((engine, ids(engine)?))).collect();
        let chosen = found.iter().find(|(engine, _)| self.chosen.is_some() && std::ptr::eq(*engine, self.main()));
        let same = || found.iter().all(|(_, ids)| *ids == found[0].1 && ids.iter().all(Option::is_some));
        match (chosen, found.as_slice()) {
            (Some((engine, _)), _) | (None, [(engine, _)]) => Ok(engine),
            (None, [(first, _), ..]) if to_read && same() => Ok(first),
            (None, []) => self.apart(texts, &hits),
            (None, several) => {
                let several: Vec<&Engine> = several.iter().map(|(engine, _)| *engine).collect();
                Err(in_several("image", &texts.join(" "), &several))
            }
        }
    }

    /// The drivers that have an image that `text` may mean. Of an image that is found, what is damaged elsewhere does not matter.
    fn images_called(&self, text: &str) -> Result<Vec<Hit<'_>>, Error> {
        let (mut hits, mut failed) = (Vec::new(), None);
        for engine in self.iter() {
            match engine.images().resolve(text) {
                Ok(id) => hits.push(Hit { engine, id: Some(id) }),
                Err(strata_image::Error::Ambiguous { .. }) => hits.push(Hit { engine, id: None }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let ids: BTreeSet<Option<ImageId>> = hits.iter().map(|hit| hit.id).collect();
        let are_beginnings = ids.iter().flatten().all(|id| id.hex().starts_with(digits));
        match failed {
            Some(error) if hits.is_empty() => Err(error.into()),
            _ if ids.len() > 1 && are_beginnings => {
                let engines: Vec<&Engine> = hits.iter().map(|hit| hit.engine).collect();
                Err(in_several("image", text, &engines))
            }
            _ => Ok(hits),
        }
    }

    /// No driver has all of these images.
    fn apart(&self, texts: &[String], hits: &[Vec<Hit<'_>>]) -> Result<&Engine, Error> {
        let all = || texts.iter().zip(hits);
        if let Some((missing, _)) = all().find(|(_, hits)| hits.is_empty()) {
            return match self.main().images().resolve(missing) {
                Err(error) if !self.closed.is_empty() => self.nowhere(error.to_string()),
                Err(error) if texts.len() > 1 => Err(error.into()),
                _ => Ok(self.main()),
            };
        }
        let drivers = |hits: &[Hit<'_>]| hits.iter().map(|hit| hit.engine.driver()).collect::<Vec<_>>().join(" and ");
        let places: Vec<String> = all().map(|(text, hits)| format!("{text} under {}", drivers(hits))).collect();
        Err(Error::Apart(places.join(", ")))
    }

    /// What was looked for and, as `said`, is under no driver that could be looked at.
    fn nowhere(&self, said: String) -> Result<&Engine, Error> {
        match self.closed.first() {
            Some((driver, why)) => Err(Error::Nowhere { said, driver: driver.clone(), why: why.to_string() }),
            None => Ok(self.main()),
        }
    }

    /// Whether one driver is all there is.
    fn is_plain(&self) -> bool {
        !self.are_several() && self.closed.is_empty()
    }
}

/// A driver that has an image of a name.
struct Hit<'a> {
    engine: &'a Engine,
    /// `None` if the name is the beginning of several IDs.
    id: Option<ImageId>,
}

fn in_several(kind: &'static str, name: &str, engines: &[&Engine]) -> Error {
    let drivers = engines.iter().map(|engine| engine.driver()).collect::<Vec<_>>().join(", ");
    Error::InSeveral { kind, name: name.to_owned(), drivers }
}
