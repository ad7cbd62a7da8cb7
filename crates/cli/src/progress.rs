//! Progress on standard error: a bar a layer on a terminal, nothing where there is none.

use std::{collections::HashMap, io::IsTerminal, sync::Mutex};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use strata_archive::progress::{Progress, Silent};

/// Bars for a person, or silence: with `--quiet`, or where standard error is no terminal.
pub fn progress(quiet: bool) -> Box<dyn Progress> {
    match quiet || !std::io::stderr().is_terminal() {
        true => Box::new(Silent),
        false => Box::new(Bars::default()),
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    running: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn with(&self, item: &str, act: impl FnOnce(&ProgressBar)) {
        if let Ok(running) = self.running.lock()
            && let Some(bar) = running.get(item)
        {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, item: &str, action: &str, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(
                ProgressStyle::with_template("{prefix}: {msg} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}")
                    .expect("the template is ours")
                    .progress_chars("=> "),
            ),
            None => ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{prefix}: {msg} {decimal_bytes}").expect("the template is ours"),
            ),
        };
        let bar = self.all.add(bar);
        bar.set_prefix(item.to_owned());
        bar.set_message(action.to_owned());
        if let Ok(mut running) = self.running.lock() {
            running.insert(item.to_owned(), bar);
        }
    }

    fn advance(&self, item: &str, bytes: u64) {
        self.with(item, |bar| bar.inc(bytes));
    }

    fn finish(&self, item: &str, outcome: &str) {
        self.with(item, |bar| {
            bar.set_style(ProgressStyle::with_template("{prefix}: {msg}").expect("the template is ours"));
            bar.finish_with_message(outcome.to_owned());
        });
    }
}
