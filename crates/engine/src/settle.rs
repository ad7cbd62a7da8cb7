//! What dead processes left is undone or completed, under whatever driver they worked.

use serde::Deserialize;

use crate::{DriverStores, Error, Root, stores::Note};

/// Whether some store of this version can settle `note`.
pub(crate) fn is_known(note: &serde_json::Value) -> bool {
    strata_layer::lease::Note::of(note) != strata_layer::lease::Note::Other
        || strata_container::settle::Note::of(note) != strata_container::settle::Note::Other
        || !matches!(Note::deserialize(note), Ok(Note::Other) | Err(_))
}

impl Root {
    /// Undoes or completes what the journal says of dead processes, and sweeps up the temporary files that they left.
    ///
    /// The journal is one for all drivers of the root, and an entry goes when it is settled: `others` are the stores of the root's drivers
    /// that are not in use.
    pub(crate) fn settle(&self, others: &[DriverStores]) -> Result<(), Error> {
        let all = || self.stores().iter().chain(others).filter(|stores| stores.usable().is_ok());
        let mut settled = false;
        self.journal.settle(|notes: &[serde_json::Value]| {
            tracing::info!(?notes, "settling what an interrupted operation left");
            settled = true;
            self.containers().settle(notes)?;
            all().try_for_each(|stores| stores.layers().settle(notes, &|chain| stores.needs(chain)))?;
            let own = || notes.iter().filter_map(|note| Note::deserialize(note).ok());
            all().try_for_each(|stores| own().try_for_each(|note| stores.settle_note(note)))
        })?;
        all().try_for_each(|stores| stores.sweep(settled))
    }
}

impl DriverStores {
    fn settle_note(&self, note: Note) -> Result<(), Error> {
        match note {
            Note::DeleteImage { driver, image, top } if driver == self.driver() && !self.images().contains(image) => {
                self.images().delete(image)?;
                top.map(|top| self.release(top)).transpose()?;
                self.forget_kept(image);
            }
            Note::DeleteImage { .. } | Note::Other => {}
        }
        Ok(())
    }

    /// Sweeps up temporary files and directories of dead processes; `settled` says that some left more.
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
