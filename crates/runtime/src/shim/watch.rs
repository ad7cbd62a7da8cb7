//! The life of one container, seen from its watcher.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

use super::{builtin, external, loopback, propagation};
use crate::{
    Exit, cgroup,
    error::{Context, Error, Refusal},
    protocol::{Channel, CreateTask, Report, Request, retry},
    state::StateDir,
};

/// Runs the watcher; returns its exit code, which nobody reads: what happened is told over the control socket.
pub(super) fn main() -> i32 {
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { return 1 };
    let control = Channel::new(control);
    let Ok(Some((Request::Create(task), stdin))) = control.receive::<Request>() else { return 1 };
    match prepare(stdin).and_then(|children| watch(&control, &task, children)) {
        Ok(()) => 0,
        Err(error) => {
            let (refusal, reason) = match error {
                Error::Create { refusal, reason } => (refusal, reason),
                error => (Refusal::Other, error.to_string()),
            };
            let _ = control.send(&Report::failed(refusal, reason), None);
            1
        }
    }
}

/// Makes this process a clean parent: what it has, the container's first process inherits.
fn prepare(stdin: Option<OwnedFd>) -> Result<UnixStream, Error> {
    let own = Path::new("/proc/self");
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => File::open("/dev/null").context("open", "/dev/null")?.into(),
    };
    rustix::stdio::dup2_stdin(stdin).context("set the standard input of", own)?;
    // Else `ps` would show the number of the descriptor that this program was executed from.
    let _ = rustix::thread::set_name(c"strata-shim");
    // Out of reach of the caller's terminal: its ctrl-c is strata's to pass on.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("adopt the orphans of", own)?;
    // The caller's groups are not the container's; libcontainer leaves them if the container lists none.
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(&[]).context("drop the groups of", own)?;
    }
    unignore_signals().context("reset the signals of", own)?;
    let (read, write) = UnixStream::pair().context("make a pipe for", own)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, write)
        .context("watch the children of", own)?;
    Ok(read)
}

/// Gives every ignored signal a handler: a program executed later then has it at its default, as in Docker.
///
/// Rust ignores SIGPIPE, and a shell may have started `strata` with SIGINT or SIGHUP ignored.
fn unignore_signals() -> std::io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or(0);
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let settable = |signal: &i32| !signal_hook::consts::FORBIDDEN.contains(signal);
    // The two below the real-time signals proper belong to libc.
    for signal in
        (1..=64).filter(|signal| ignored >> (signal - 1) & 1 == 1 && ![32, 33].contains(signal)).filter(settable)
    {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(())
}

/// A container that exists, by whichever runtime.
enum Made {
    BuiltIn(Box<libcontainer::container::Container>),
    External(PathBuf),
}

fn watch(control: &Channel, task: &CreateTask, children: UnixStream) -> Result<(), Error> {
    let state = StateDir::at(&task.state);
    state.create(task)?;
    let ended = live(control, task, &state, children);
    // An error of the container itself says more than one of cleaning up after it.
    let cleaned = clean_up(task, &state, ended.is_err());
    let exit = ended?;
    cleaned?;
    if let Some(exit) = exit {
        control.send(&Report::Exited { exit }, None)?;
    }
    Ok(())
}

/// From create to exit; `None` if the caller went away before the start.
fn live(
    control: &Channel,
    task: &CreateTask,
    state: &StateDir,
    mut children: UnixStream,
) -> Result<Option<Exit>, Error> {
    let (mut made, pid, terminal) = create(task, state)?;
    if task.own_network {
        loopback::bring_up(pid)?;
    }
    control.send(&Report::Created { pid }, terminal.as_ref().map(AsFd::as_fd))?;
    drop(terminal);
    let started = loop {
        match control.receive::<Request>() {
            Ok(Some((Request::Start, _))) => break true,
            Ok(Some((Request::Kill { signal }, _))) => kill(pid, signal),
            Ok(Some((Request::Create(_), _))) => {}
            Ok(None) | Err(_) => break false,
        }
    };
    if !started {
        kill(pid, Signal::KILL.as_raw());
        wait(control, pid, &mut children)?;
        return Ok(None);
    }
    match &mut made {
        Made::BuiltIn(container) => builtin::start(container)?,
        Made::External(program) => external::start(task, program)?,
    }
    control.send(&Report::Started, None)?;
    release_streams();
    let status = wait(control, pid, &mut children)?;
    let signal = status.terminating_signal();
    let code = status.exit_status().or(signal.map(|signal| 128 + signal)).unwrap_or(255);
    Ok(Some(Exit { code, signal, oom_killed: cgroup::oom_kills(&task.cgroup) > 0 }))
}

fn create(task: &CreateTask, state: &StateDir) -> Result<(Made, i32, Option<OwnedFd>), Error> {
    let console = task.terminal.then(|| Console::listen(state)).transpose()?;
    let path = console.as_ref().map(|console| console.path.as_path());
    let (made, pid) = match &task.runtime {
        None => {
            give_pipes(task.uid);
            let (container, pid) = builtin::create(task, path)?;
            if let Err(error) = propagation::apply(pid, &task.mounts) {
                kill(pid, Signal::KILL.as_raw());
                return Err(error);
            }
            (Made::BuiltIn(Box::new(container)), pid)
        }
        Some(program) => (Made::External(program.clone()), external::create(task, program, path)?),
    };
    let terminal = console.map(Console::accept).transpose()?;
    Ok((made, pid, terminal))
}

/// Makes pipes among the standard streams the user's, who could not open `/dev/stdout` else; runc does so itself.
///
/// Only pipes: a file or a terminal of the caller's keeps its owner.
fn give_pipes(uid: u32) {
    let owner = rustix::fs::Uid::from_raw(uid);
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let is_pipe = |stat: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo();
        if !owner.is_root() && rustix::fs::fstat(stream).is_ok_and(is_pipe) {
            // Without the right to, the program inside will say what it misses.
            let _ = rustix::fs::fchown(stream, Some(owner), None);
        }
    }
}

/// Lets go of the container's streams, so that they end when the container closes them.
fn release_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Where the runtime sends the terminal's master.
struct Console {
    listener: UnixListener,
    /// Short whatever the state root, for a socket's address holds 108 bytes.
    path: PathBuf,
    /// What makes `path` valid.
    _folder: OwnedFd,
    file: PathBuf,
}

impl Console {
    fn listen(state: &StateDir) -> Result<Self, Error> {
        let folder: OwnedFd = File::open(state.path()).context("open", state.path())?.into();
        let name = state.console_socket();
        let name = name.file_name().expect("the socket has a name");
        let path = Path::new("/proc")
            .join(std::process::id().to_string())
            .join("fd")
            .join(folder.as_raw_fd().to_string())
            .join(name);
        let listener = UnixListener::bind(&path).context("listen on", state.console_socket())?;
        Ok(Self { listener, path, _folder: folder, file: state.console_socket() })
    }

    /// Takes the master, which the runtime has sent by now.
    fn accept(self) -> Result<OwnedFd, Error> {
        let (stream, _) = self.listener.accept().context("accept a connection on", &self.file)?;
        let mut bytes = [0; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
        retry(|| rustix::net::recvmsg(&stream, &mut slices, &mut control, rustix::net::RecvFlags::CMSG_CLOEXEC))
            .context("receive the terminal from", &self.file)?;
        let master = control.drain().find_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        master
            .ok_or_else(|| Error::Create { refusal: Refusal::Other, reason: "the runtime sent no terminal".to_owned() })
    }
}

/// Waits for `pid` to end, passing signals on; kills it once the caller is gone.
fn wait(control: &Channel, pid: i32, children: &mut UnixStream) -> Result<WaitStatus, Error> {
    let mut heard = true;
    loop {
        if let Some(status) = reap(pid)? {
            return Ok(status);
        }
        let mut fds = vec![PollFd::new(&*children, PollFlags::IN)];
        if heard {
            fds.push(PollFd::new(control, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.context("wait for the container in", Path::new("/proc"))?,
        };
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (child_ended, told) = (ready(0), ready(1));
        if child_ended {
            let mut drained = [0; 64];
            let _ = rustix::io::read(&*children, &mut drained);
        }
        if told {
            match control.receive::<Request>() {
                Ok(Some((Request::Kill { signal }, _))) => kill(pid, signal),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    heard = false;
                    kill(pid, Signal::KILL.as_raw());
                }
            }
        }
    }
}

/// Collects every child that has ended; returns how `pid` did, if it is among them.
fn reap(pid: i32) -> Result<Option<WaitStatus>, Error> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended.as_raw_nonzero().get() == pid => return Ok(Some(status)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => {
                return Err(errno).context("wait for the process", Path::new("/proc").join(pid.to_string()))?;
            }
        }
    }
}

/// This process reaps `pid`, so the number is not another's before [`wait`] has returned.
fn kill(pid: i32, signal: i32) {
    let signal = Signal::from_named_raw(signal);
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid), signal) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Removes what the container had: its processes, its cgroup, its state.
fn clean_up(task: &CreateTask, state: &StateDir, failed: bool) -> Result<(), Error> {
    if let Some(program) = &task.runtime {
        // A runtime that failed to create the container has removed it.
        if !failed || state.runtime_root().join(&task.id).exists() {
            external::delete(task, program);
        }
    }
    let removed = cgroup::remove(&task.cgroup);
    state.remove()?;
    removed
}
