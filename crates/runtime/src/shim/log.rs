//! What went wrong inside the processes that become a container, told to the watcher through a pipe.
//!
//! libcontainer reports a failure as a short text and logs the details, in processes that it forked; they inherit the
//! pipe, and the program that they execute does not. A record is one line: `!<class> <text>` from our executor, and
//! `<text>` for an error that libcontainer logged, the innermost first.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::pipe::PipeFlags;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::error::Refusal;

/// Shorter than what a pipe takes in one piece, so that lines of several processes do not mix.
const MAX_LINE: usize = 2048;

/// The writing end, to be shared with processes that are forked.
#[derive(Clone)]
pub(super) struct Log(Arc<OwnedFd>);

/// The reading end.
pub(super) struct Records(File);

/// What the records say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What our executor says about the command.
    pub refused: Option<(Refusal, String)>,
    /// What libcontainer logged first: where it failed.
    pub first_error: Option<String>,
}

pub(super) fn pipe() -> rustix::io::Result<(Log, Records)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((Log(Arc::new(write)), Records(File::from(read))))
}

impl Log {
    /// Makes this the place where the errors of this process and its forks are logged.
    pub fn install(&self) {
        // It fails only if one is installed already, and a watcher has but one.
        let _ = tracing::subscriber::set_global_default(self.clone());
    }

    /// Records why the command cannot be run.
    pub fn refuse(&self, refusal: Refusal, text: &str) {
        let class = match refusal {
            Refusal::NotFound => "notfound",
            Refusal::NotInvocable => "notinvocable",
            Refusal::Other => "other",
        };
        self.line(&format!("!{class} {text}"));
    }

    fn line(&self, text: &str) {
        let mut line: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).take(MAX_LINE / 4).collect();
        line.push('\n');
        // A full pipe means that enough was said already.
        let _ = rustix::io::write(&*self.0, line.as_bytes());
    }
}

impl Records {
    /// Reads what was recorded so far.
    pub fn read(mut self) -> Told {
        let mut bytes = Vec::new();
        // The pipe never blocks: with writers left, reading ends with EAGAIN.
        let _ = self.0.read_to_end(&mut bytes);
        parse(&String::from_utf8_lossy(&bytes))
    }
}

fn parse(text: &str) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        match line.strip_prefix('!').and_then(|rest| rest.split_once(' ')) {
            Some((class, text)) => {
                let refusal = match class {
                    "notfound" => Refusal::NotFound,
                    "notinvocable" => Refusal::NotInvocable,
                    _ => Refusal::Other,
                };
                told.refused.get_or_insert((refusal, text.to_owned()));
            }
            None => {
                told.first_error.get_or_insert_with(|| line.to_owned());
            }
        }
    }
    told
}

/// Collects `message key=value …`, leaving out the source's own `Debug` noise where a message stands alone.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let into = if field.name() == "message" { &mut self.message } else { &mut self.fields };
        let _ = match field.name() {
            "message" => write!(into, "{value:?}"),
            name => write!(into, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.line(&format!("{}{}", text.message, text.fields));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_told() {
        let (log, records) = pipe().expect("pipe");
        log.line("failed to mount\n/proc");
        log.refuse(Refusal::NotFound, "exec: \"x\": executable file not found in $PATH");
        log.line("failed to create container");
        let told = records.read();
        assert_eq!(told.first_error.as_deref(), Some("failed to mount /proc"));
        let (refusal, text) = told.refused.expect("refused");
        assert_eq!((refusal, text.ends_with("in $PATH")), (Refusal::NotFound, true));
    }
}
