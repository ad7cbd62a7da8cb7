//! What dead processes left is undone or completed, under whatever driver they worked.

use serde::Deserialize;

use crate::{Engine, Error, Options, Purpose, drivers, open::Note};

/// Whether some store of this version can settle `note`.
pub(crate) fn is_known(note: &serde_json::Value) -> bool {
    strata_layer::lease::Note::of(note) != strata_layer::lease::Note::Other
        || strata_container::settle::Note::of(note) != strata_container::settle::Note::Other
        || !matches!(Note::deserialize(note), Ok(Note::Other) | Err(_))
}

/// Undoes or completes what the journal says of dead processes, and sweeps up the files that they were writing in the stores of
/// `engines`, which are of one root.
///
/// The journal is one for all drivers of the root, and an entry goes when it is settled: so where there is something to settle, the
/// other drivers' stores are opened for it, too.
pub(crate) fn settle(engines: &[Engine], options: &Options) -> Result<(), Error> {
    let Some(first) = engines.first().filter(|engine| engine.root().purpose() == Purpose::Write) else { return Ok(()) };
    let mut others: Option<Vec<Engine>> = None;
    first.journal.settle(|notes: &[serde_json::Value]| {
        tracing::info!(?notes, "settling what an interrupted operation left");
        if others.is_none() {
            others = Some(open_others(engines, options)?);
        }
        let all = || engines.iter().chain(others.iter().flatten());
        all().try_for_each(|engine| engine.settle_containers_and_layers(notes))?;
        let own = || notes.iter().filter_map(|note| Note::deserialize(note).ok());
        all().try_for_each(|engine| own().try_for_each(|note| engine.settle_note(note)))
    })?;
    for engine in engines.iter().chain(others.iter().flatten()) {
        engine.sweep(others.is_some())?;
    }
    Ok(())
}

/// The stores of the root's other drivers. One that does not open here (a btrfs root that was copied to another filesystem) keeps what
/// was left in it, as `fsck` tells.
fn open_others(engines: &[Engine], options: &Options) -> Result<Vec<Engine>, Error> {
    let mut others = Vec::new();
    for driver in drivers::on(engines[0].root().path())? {
        let known = strata_graphdriver::DRIVERS.contains(&driver.as_str());
        if !known || engines.iter().any(|engine| engine.driver() == driver) {
            continue;
        }
        match Engine::unsettled(&Options { driver: Some(driver.clone()), ..options.clone() }, Purpose::Write) {
            Ok(engine) => others.push(engine),
            Err(error) => tracing::warn!(driver, %error, "what is left under this driver stays"),
        }
    }
    Ok(others)
}

impl Engine {
    fn settle_containers_and_layers(&self, notes: &[serde_json::Value]) -> Result<(), Error> {
        self.containers().settle(notes)?;
        Ok(self.layers().settle(notes, &|chain| self.needs(chain))?)
    }

    fn settle_note(&self, note: Note) -> Result<(), Error> {
        match note {
            Note::DeleteImage { driver, image, top } if driver == self.driver() && !self.images().contains(image) => {
                self.images().delete(image)?;
                top.map(|top| self.release(top)).transpose()?;
            }
            Note::DeleteImage { .. } | Note::Other => {}
        }
        Ok(())
    }

    /// Sweeps up temporary files and folders of dead processes; `settled` says that some left more.
    fn sweep(&self, settled: bool) -> Result<(), Error> {
        self.layers().sweep()?;
        // Names are changed without a note in the journal; all else that images write has one.
        strata_durable::file::sweep_files(self.images().layout().root()).map(drop).or_else(|error| {
            match error.is_not_found() {
                true => Ok(()),
                false => Err(error),
            }
        })?;
        if settled {
            self.images().sweep()?;
        }
        Ok(())
    }
}
