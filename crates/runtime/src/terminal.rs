//! The caller's terminal while a container has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Context, Error};

/// A terminal in raw mode: every key goes to the container. Dropped, also by a panic, it is as it was.
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<Self, Error> {
        let path = "/dev/tty";
        let terminal = terminal.try_clone_to_owned().context("keep open", path)?;
        let before = tcgetattr(&terminal).context("read the settings of", path)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).context("set to raw mode", path)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has been hung up has no settings to restore.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Gives the container's terminal the size of the caller's.
pub(crate) fn copy_size(from: impl AsFd, to: impl AsFd) {
    if let Ok(size) = tcgetwinsize(from) {
        let _ = tcsetwinsize(to, size);
    }
}
