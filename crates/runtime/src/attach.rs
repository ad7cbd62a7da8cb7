//! The foreground: a container that has the caller's terminal, signals and exit status.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
    io::Errno,
};
use signal_hook::{
    consts::{FORBIDDEN, SIGBUS, SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

use crate::{
    Exit,
    error::{Context, Error},
    task::{Running, Stdin, Task},
    terminal::{self, RawMode},
};

/// Runs a container to its end, attached to the caller's standard streams, and leaves nothing of it behind.
///
/// `on_created` is called before the command is executed, `on_started` after, both with the container's first process;
/// what `on_created` returns as an error ends the container. Without a terminal the container has the caller's own
/// standard output and error. Signals that the caller gets are passed on, but SIGCHLD, SIGPIPE and SIGURG, and none are
/// lost between its creation and its start.
///
/// Fails with [`Error::Create`] if the command cannot be run, and with [`Error::NotATerminal`] if the container is to
/// have the caller's input as its terminal and that is none.
pub fn run<E: From<Error>>(
    task: &Task<'_>,
    on_created: impl FnOnce(i32) -> Result<(), E>,
    on_started: impl FnOnce(i32),
) -> Result<Exit, E> {
    let stdin = io::stdin();
    let with_terminal = task.spec.process.terminal;
    let keys = with_terminal && task.stdin == Stdin::Attached;
    if keys && !rustix::termios::isatty(&stdin) {
        return Err(Error::NotATerminal.into());
    }
    let signals = Signals::catch()?;
    let mut created = task.create()?;
    let pid = created.pid();
    on_created(pid)?;
    let master = created.take_terminal();
    if let Some(master) = &master {
        terminal::copy_size(size_source(), master);
    }
    let raw = if keys { Some(RawMode::enter(stdin.as_fd())?) } else { None };
    let running = created.start()?;
    on_started(pid);
    let exit = Attached { running, signals, raw, keys: keys.then(|| stdin.as_fd()) }.until_exit(master);
    Ok(exit?)
}

/// Where the terminal's size is read: the first standard stream that is one.
fn size_source() -> BorrowedFd<'static> {
    let streams = [rustix::stdio::stdout(), rustix::stdio::stdin(), rustix::stdio::stderr()];
    streams.into_iter().find(|stream| rustix::termios::isatty(stream)).unwrap_or(rustix::stdio::stdout())
}

/// The signals that the caller gets, from now on as bytes to be polled for.
///
/// They stay caught to the end of the process: one that arrives after the container's end must not kill the caller
/// half-way through recording it.
struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    fn catch() -> Result<Self, Error> {
        let own = Path::new("/proc/self");
        let (read, write) = UnixStream::pair().context("make a pipe for", own)?;
        read.set_nonblocking(true).context("make a pipe for", own)?;
        // In the background, the terminal stops the caller as any other command; SIGBUS is this program's own.
        let left_alone = [SIGBUS, SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG];
        let caught = (1..=31).filter(|signal| !FORBIDDEN.contains(signal) && !left_alone.contains(signal));
        let delivery =
            SignalDelivery::with_pipe(read, write, SignalOnly, caught).context("catch the signals of", own)?;
        Ok(Self(delivery))
    }
}

struct Attached<'a> {
    running: Running,
    signals: Signals,
    /// Held until the container has ended.
    raw: Option<RawMode>,
    /// The caller's terminal, if its keys are the container's.
    keys: Option<BorrowedFd<'a>>,
}

impl Attached<'_> {
    fn until_exit(mut self, master: Option<OwnedFd>) -> Result<Exit, Error> {
        let mut screen = master.map(Screen::new).transpose()?;
        loop {
            let wants = screen.as_ref().map(|screen| screen.wants());
            let ready = self.poll(screen.as_ref(), wants)?;
            if ready.signals {
                self.pass_signals(screen.as_ref());
            }
            if let Some(shown) = &mut screen {
                if ready.output && !shown.show() {
                    screen = None;
                } else {
                    if ready.room {
                        shown.type_pending();
                    }
                    if ready.keys && !shown.read_keys(self.keys) {
                        self.keys = None;
                    }
                }
            }
            if ready.ended {
                // What the container wrote last is in the terminal's buffer still.
                if let Some(mut screen) = screen {
                    screen.show_rest();
                }
                let exit = self.running.wait();
                drop(self.raw);
                return exit;
            }
        }
    }

    fn poll(&self, screen: Option<&Screen>, wants: Option<PollFlags>) -> Result<Ready, Error> {
        let mut fds =
            vec![PollFd::new(&self.running, PollFlags::IN), PollFd::new(self.signals.0.get_read(), PollFlags::IN)];
        if let (Some(screen), Some(wants)) = (screen, wants) {
            fds.push(PollFd::new(&screen.master, wants));
            if let (Some(keys), true) = (&self.keys, screen.pending.is_empty()) {
                fds.push(PollFd::new(keys, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno).context("wait on", Path::new("/proc/self/fd"))?,
        }
        let of = |at: usize| fds.get(at).map_or(PollFlags::empty(), |fd| fd.revents());
        Ok(Ready {
            ended: !of(0).is_empty(),
            signals: !of(1).is_empty(),
            output: of(2).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            room: of(2).contains(PollFlags::OUT),
            keys: !of(3).is_empty(),
        })
    }

    fn pass_signals(&mut self, screen: Option<&Screen>) {
        for signal in self.signals.0.pending() {
            match screen {
                // The kernel tells the container's foreground processes that their terminal has changed.
                Some(screen) if signal == SIGWINCH => terminal::copy_size(size_source(), &screen.master),
                _ => self.running.kill(signal),
            }
        }
    }
}

#[derive(Default)]
struct Ready {
    ended: bool,
    signals: bool,
    output: bool,
    room: bool,
    keys: bool,
}

/// The container's terminal, shown on the caller's standard output.
struct Screen {
    master: File,
    buffer: Vec<u8>,
    /// Keys that the container has not taken yet: it may not read while the caller types or pastes.
    pending: Vec<u8>,
}

impl Screen {
    fn new(master: OwnedFd) -> Result<Self, Error> {
        let flags = rustix::fs::fcntl_getfl(&master).context("read the flags of", "/dev/ptmx")?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).context("set the flags of", "/dev/ptmx")?;
        Ok(Self { master: master.into(), buffer: vec![0; 32 << 10], pending: Vec::new() })
    }

    fn wants(&self) -> PollFlags {
        if self.pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Shows what there is; `false` once nothing can come any more.
    fn show(&mut self) -> bool {
        match self.master.read(&mut self.buffer) {
            // With no process left that holds the terminal, Linux says EIO.
            Ok(0) => false,
            Ok(length) => {
                let mut out = io::stdout().lock();
                // Nobody looks (a closed pipe): the container goes on, as under dockerd.
                let _ = out.write_all(&self.buffer[..length]).and_then(|()| out.flush());
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    fn show_rest(&mut self) {
        loop {
            match self.master.read(&mut self.buffer) {
                Ok(length) if length > 0 => {
                    let mut out = io::stdout().lock();
                    let _ = out.write_all(&self.buffer[..length]).and_then(|()| out.flush());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    /// Takes keys from the caller's terminal; `false` once it has ended.
    fn read_keys(&mut self, keys: Option<BorrowedFd<'_>>) -> bool {
        let Some(keys) = keys else { return false };
        let mut typed = [0; 4096];
        match rustix::io::read(keys, &mut typed) {
            Ok(0) => false,
            Ok(length) => {
                self.pending.extend_from_slice(&typed[..length]);
                self.type_pending();
                true
            }
            Err(errno) => matches!(errno, Errno::INTR | Errno::AGAIN),
        }
    }

    fn type_pending(&mut self) {
        if let Ok(length) = self.master.write(&self.pending) {
            self.pending.drain(..length);
        }
    }
}
