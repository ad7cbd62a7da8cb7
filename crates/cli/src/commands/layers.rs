//! What happens to layers in a pull or a push: bars on a terminal, lines where there is none, JSON where asked for.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use strata_distribution::{Events, Phase};
use strata_spec::{Digest, Reference};

/// How the end is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Lines,
    Json,
    Nothing,
}

/// Bars on a terminal, lines elsewhere; on standard output.
pub fn events() -> Box<dyn Events> {
    match io::stdout().is_terminal() {
        true => Box::new(Bars::new(ProgressDrawTarget::stdout())),
        false => Box::new(Lines { stderr: false }),
    }
}

/// The same on standard error.
pub fn events_on_stderr() -> Box<dyn Events> {
    match io::stderr().is_terminal() {
        true => Box::new(Bars::new(ProgressDrawTarget::stderr())),
        false => Box::new(Lines { stderr: true }),
    }
}

/// Docker's word for a phase.
fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pulling => "Pulling fs layer",
        Phase::Downloading { .. } => "Downloading",
        Phase::Verifying => "Verifying Checksum",
        Phase::Downloaded => "Download complete",
        Phase::Extracting { .. } => "Extracting",
        Phase::Pulled => "Pull complete",
        Phase::Exists => "Already exists",
        Phase::Preparing => "Preparing",
        Phase::Pushing { .. } => "Pushing",
        Phase::Pushed => "Pushed",
        Phase::ExistsThere => "Layer already exists",
        Phase::Mounted => "Mounted",
    }
}

/// How far a phase is, if it says.
fn measure(phase: Phase) -> Option<(u64, u64)> {
    match phase {
        Phase::Downloading { done, total } | Phase::Extracting { done, total } | Phase::Pushing { done, total } => {
            Some((done, total))
        }
        _ => None,
    }
}

/// A line for each phase that comes to an end.
struct Lines {
    stderr: bool,
}

impl Events for Lines {
    fn layer(&self, id: &str, phase: Phase) {
        if measure(phase).is_none() {
            self.line(&format!("{id}: {}", word(phase)));
        }
    }

    fn mounted(&self, id: &str, from: &str) {
        self.line(&format!("{id}: Mounted from {from}"));
    }

    fn line(&self, text: &str) {
        // A reader that went away does not end the pull.
        let _ = match self.stderr {
            true => writeln!(io::stderr(), "{text}"),
            false => writeln!(io::stdout(), "{text}"),
        };
    }
}

/// A JSON object for each phase, and one for the end.
#[derive(Default)]
pub struct Json {
    /// Percent that were told last.
    told: Mutex<HashMap<String, (&'static str, u64)>>,
}

impl Json {
    /// The object of the end.
    pub fn end(reference: &Reference, digest: Digest, up_to_date: bool) -> String {
        let status = if up_to_date { "up to date" } else { "done" };
        format!("{}\n", json!({"status": status, "reference": reference.to_string(), "digest": digest.to_string()}))
    }

    fn print(&self, value: &serde_json::Value) {
        let _ = writeln!(io::stdout(), "{value}");
    }
}

impl Events for Json {
    fn layer(&self, id: &str, phase: Phase) {
        let Some((done, total)) = measure(phase) else {
            return self.print(&json!({"id": id, "status": word(phase)}));
        };
        let new = (word(phase), done.saturating_mul(100) / total.max(1));
        let mut told = self.told.lock().expect("nothing panics while it holds this");
        // A percent is worth a line.
        if told.insert(id.to_owned(), new) != Some(new) {
            self.print(&json!({"id": id, "status": word(phase), "progressDetail": {"current": done, "total": total}}));
        }
    }

    fn mounted(&self, id: &str, from: &str) {
        self.print(&json!({"id": id, "status": "Mounted", "from": from}));
    }

    fn line(&self, text: &str) {
        self.print(&json!({"status": text}));
    }
}

/// A bar a layer, and one for all of them.
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<String, (ProgressBar, Phase)>>,
    whole: ProgressBar,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let style = "total: {decimal_bytes}/{decimal_total_bytes} at {decimal_bytes_per_sec}";
        let whole = all.add(ProgressBar::new(0));
        whole.set_style(ProgressStyle::with_template(style).expect("the template is ours"));
        Self { all, layers: Mutex::default(), whole }
    }

    fn show(&self, id: &str, phase: Phase, text: String) {
        let mut layers = self.layers.lock().expect("nothing panics while it holds this");
        let (bar, last) = layers.entry(id.to_owned()).or_insert_with(|| {
            let bar = self.all.insert_before(&self.whole, ProgressBar::new(0));
            bar.set_prefix(id.to_owned());
            (bar, Phase::Pulling)
        });
        // Fetching and unpacking go on at once: the one that is behind is shown when the other is done.
        let fetching = matches!(phase, Phase::Downloading { .. } | Phase::Pushing { .. });
        if let (Some((done, total)), true) = (measure(phase), fetching) {
            let before = measure(*last).filter(|_| matches!(last, Phase::Downloading { .. } | Phase::Pushing { .. }));
            if before.is_none() {
                self.whole.inc_length(total);
            }
            self.whole.inc(done.saturating_sub(before.map_or(0, |(before, _)| before)));
        }
        let unpacking = matches!(phase, Phase::Extracting { .. });
        if unpacking && matches!(last, Phase::Downloading { .. }) {
            return;
        }
        let template = match measure(phase) {
            Some((done, total)) => {
                bar.set_length(total);
                bar.set_position(done);
                "{prefix}: {msg:<12} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}"
            }
            None => "{prefix}: {msg}",
        };
        if std::mem::discriminant(&phase) != std::mem::discriminant(last) || measure(phase).is_none() {
            let style = ProgressStyle::with_template(template).expect("the template is ours").progress_chars("=> ");
            bar.set_style(style);
            bar.set_message(text);
        }
        *last = phase;
    }
}

impl Events for Bars {
    fn layer(&self, id: &str, phase: Phase) {
        self.show(id, phase, word(phase).to_owned());
    }

    fn mounted(&self, id: &str, from: &str) {
        self.show(id, Phase::Mounted, format!("Mounted from {from}"));
    }

    fn line(&self, text: &str) {
        let _ = self.all.println(text);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.whole.finish_and_clear();
        for (bar, _) in self.layers.lock().expect("nothing panics while it holds this").values() {
            bar.abandon();
        }
    }
}
