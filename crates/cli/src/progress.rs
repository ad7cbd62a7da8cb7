//! What the user sees of a long operation: bars on a terminal, lines where there is none, JSON where asked for.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use strata_spec::{
    Digest, Reference,
    progress::{Event, Progress, Silent, Status},
};

/// How a pull or a push reports its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Lines,
    Json,
    Nothing,
}

/// Of a load or a save: bars on standard error; nothing with `quiet`, or where standard error is no terminal.
pub fn bars(quiet: bool) -> Box<dyn Progress> {
    match quiet || !io::stderr().is_terminal() {
        true => Box::new(Silent),
        false => Box::new(Bars::new(ProgressDrawTarget::stderr())),
    }
}

/// Of a pull or a push: bars on a terminal, lines elsewhere; on standard output.
pub fn on_stdout() -> Box<dyn Progress> {
    match io::stdout().is_terminal() {
        true => Box::new(Bars::new(ProgressDrawTarget::stdout())),
        false => Box::new(Lines { stderr: false }),
    }
}

/// As [`on_stdout`], on standard error.
pub fn on_stderr() -> Box<dyn Progress> {
    match io::stderr().is_terminal() {
        true => Box::new(Bars::new(ProgressDrawTarget::stderr())),
        false => Box::new(Lines { stderr: true }),
    }
}

/// A line for each state that is not a measure.
struct Lines {
    stderr: bool,
}

impl Progress for Lines {
    fn report(&self, event: Event<'_>) {
        let text = match event {
            Event::Message(text) => text.to_owned(),
            Event::Item { status, .. } if status.bytes().is_some() => return,
            Event::Item { id, status } => format!("{id}: {status}"),
        };
        // A reader that went away does not end the operation.
        let _ = match self.stderr {
            true => writeln!(io::stderr(), "{text}"),
            false => writeln!(io::stdout(), "{text}"),
        };
    }
}

/// A JSON object for each state, and one for the end.
#[derive(Default)]
pub struct Json {
    /// The state and percentage that were printed last, by part.
    printed: Mutex<HashMap<String, (String, u64)>>,
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

    fn measure(&self, id: &str, status: Status<'_>, (done, total): (u64, u64)) {
        let new = (status.to_string(), done.saturating_mul(100) / total.max(1));
        let mut printed = self.printed.lock().expect("nothing panics while it holds this");
        // A line each percent.
        if printed.get(id) != Some(&new) {
            self.print(&json!({"id": id, "status": new.0, "progressDetail": {"current": done, "total": total}}));
            printed.insert(id.to_owned(), new);
        }
    }
}

impl Progress for Json {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Message(text) => self.print(&json!({"status": text})),
            Event::Item { id, status: Status::Mounted(from) } => {
                self.print(&json!({"id": id, "status": "Mounted", "from": from}));
            }
            Event::Item { id, status } => match status.bytes() {
                Some(measure) => self.measure(id, status, measure),
                None => self.print(&json!({"id": id, "status": status.to_string()})),
            },
        }
    }
}

/// A bar for each layer, and one for all that is transferred.
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<String, Bar>>,
    whole: ProgressBar,
}

struct Bar {
    bar: ProgressBar,
    /// What it shows; empty at first.
    text: String,
    /// Bytes of the transfer that `whole` has counted.
    counted: Option<u64>,
    transferring: bool,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let style = "total: {decimal_bytes}/{decimal_total_bytes} at {decimal_bytes_per_sec}";
        let whole = all.add(ProgressBar::new(0));
        whole.set_style(ProgressStyle::with_template(style).expect("the template is ours"));
        Self { all, layers: Mutex::default(), whole }
    }

    fn show(&self, id: &str, status: Status<'_>) {
        let mut layers = self.layers.lock().expect("nothing panics while it holds this");
        let layer = layers.entry(id.to_owned()).or_insert_with(|| {
            let bar = self.all.insert_before(&self.whole, ProgressBar::new(0));
            bar.set_prefix(id.to_owned());
            Bar { bar, text: String::new(), counted: None, transferring: false }
        });
        // A layer is fetched and unpacked at the same time: the unpacking shows when the fetch is done.
        if layer.transferring && matches!(status, Status::Extracting { .. }) {
            return;
        }
        let (text, bytes) = (status.to_string(), status.bytes());
        layer.transferring = bytes.is_some() && !matches!(status, Status::Extracting { .. });
        if let (Some((done, total)), true) = (bytes, layer.transferring) {
            if layer.counted.is_none() {
                self.whole.inc_length(total);
            }
            self.whole.inc(done.saturating_sub(layer.counted.unwrap_or_default()));
            layer.counted = Some(done);
        }
        if let Some((done, total)) = bytes {
            layer.bar.set_length(total);
            layer.bar.set_position(done);
        }
        if layer.text != text {
            let template = match bytes {
                Some(_) => "{prefix}: {msg:<12} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}",
                None => "{prefix}: {msg}",
            };
            let style = ProgressStyle::with_template(template).expect("the template is ours").progress_chars("=> ");
            layer.bar.set_style(style);
            layer.bar.set_message(text.clone());
            layer.text = text;
        }
    }
}

impl Progress for Bars {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Message(text) => drop(self.all.println(text)),
            Event::Item { id, status } => self.show(id, status),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.whole.finish_and_clear();
        for layer in self.layers.lock().expect("nothing panics while it holds this").values() {
            layer.bar.abandon();
        }
    }
}
