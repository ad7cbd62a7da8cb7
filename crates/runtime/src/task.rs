//! A container through its watcher: create, start, kill, wait.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::Child,
};

use crate::{
    Exit, Spec, cgroup,
    error::{Context, Error, Refusal},
    filter,
    protocol::{Channel, CreateTask, FILTER, Report, Request},
    shim,
    spec::{self, Mount},
    state::StateDir,
};

/// Which program makes the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// libcontainer, inside the watcher.
    #[default]
    BuiltIn,
    /// A program with runc's command line, by path or by name in `$PATH` (`--runtime runc`).
    External(PathBuf),
}

/// What the container reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// The caller's standard input (`-i`).
    Attached,
}

/// A container to run.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Also its folder's name under `state_root`.
    pub id: &'a str,
    /// An existing folder of the container's own; `config.json` is written into it.
    pub bundle: &'a Path,
    /// Where running containers are known, on a tmpfs: `/run/strata/runtime`.
    pub state_root: &'a Path,
    /// Where compiled seccomp filters are kept for the next container; made when needed, and to be trusted as `state_root` is.
    pub filters: &'a Path,
    pub spec: &'a Spec,
    pub stdin: Stdin,
    pub runtime: &'a Runtime,
}

impl Task<'_> {
    /// Creates the container: all is set up, and its first process waits. Dropped, it is killed and removed.
    ///
    /// Standard output and error are the caller's own unless `spec.process.terminal` is set.
    ///
    /// Fails with [`Error::Create`] if the command cannot be run or the container cannot be set up, and leaves nothing.
    pub fn create(&self) -> Result<Created, Error> {
        let state = StateDir::of(self.state_root, self.id)?;
        let bundle = fs::canonicalize(self.bundle).context("find", self.bundle)?;
        check_text(self.spec)?;
        let filter = self.write_config(&bundle)?;
        let request = CreateTask {
            id: self.id.to_owned(),
            bundle,
            state: std::path::absolute(state.path()).context("find", state.path())?,
            runtime: match self.runtime {
                Runtime::BuiltIn => None,
                Runtime::External(program) => Some(program.clone()),
            },
            terminal: self.spec.process.terminal,
            own_network: self.spec.linux.namespaces.iter().any(|ns| ns.kind == "network" && ns.path.is_none()),
            uid: self.spec.process.user.uid,
            cgroup: self.spec.linux.cgroups_path.clone(),
            mounts: match self.runtime {
                Runtime::BuiltIn => {
                    let spread =
                        |mount: &&Mount| mount.options.iter().any(|word| spec::PROPAGATION.contains(&word.as_str()));
                    self.spec.mounts.iter().filter(spread).cloned().collect()
                }
                Runtime::External(_) => Vec::new(),
            },
            filter,
        };
        let (child, channel) = shim::spawn()?;
        let mut shim = Shim { id: self.id.to_owned(), state_root: self.state_root.to_owned(), child, channel };
        let stdin = std::io::stdin();
        let attached = self.stdin == Stdin::Attached && !request.terminal;
        shim.send(&Request::Create(request), attached.then(|| stdin.as_fd()))?;
        match shim.receive()? {
            (Report::Created { pid }, terminal) => Ok(Created { shim, pid, terminal }),
            (report, _) => Err(unexpected(report)),
        }
    }

    /// Writes what the runtime reads. What it returns is the watcher's to do instead of the runtime.
    fn write_config(&self, bundle: &Path) -> Result<Option<shim::Lent>, Error> {
        let file = bundle.join("config.json");
        let mut fitted;
        let mut lent = None;
        let spec = match self.runtime {
            Runtime::BuiltIn => {
                fitted = fit_to_builtin(self.spec);
                let profile = fitted.linux.seccomp.as_ref();
                if let Some(program) = profile.and_then(|profile| filter::program(profile, self.filters)) {
                    let path = bundle.join(FILTER);
                    fs::write(&path, program).context("write", &path)?;
                    lent = Some(shim::Lent::to(&mut fitted));
                }
                &fitted
            }
            Runtime::External(_) => self.spec,
        };
        let text = serde_json::to_vec(spec).map_err(|error| Error::Protocol { reason: error.to_string() })?;
        fs::write(&file, text).context("write", &file)?;
        Ok(lent)
    }
}

/// Refuses text that no system call can take, in the words of runc, before anything is made.
fn check_text(spec: &Spec) -> Result<(), Error> {
    let process = &spec.process;
    let texts = (process.env.iter().map(|text| ("environment variable", text)))
        .chain(process.args.iter().map(|text| ("argument", text)))
        .chain([("working directory", &process.cwd), ("hostname", &spec.hostname)]);
    for (what, text) in texts {
        if text.contains('\0') {
            let shown = format!("{text:?}").replace("\\0", "\\x00");
            let reason = format!("unable to start container process: {what} value can't contain null(\\x00): {shown}");
            return Err(Error::Create { refusal: Refusal::Other, reason });
        }
    }
    Ok(())
}

/// The built-in runtime's own configuration: control groups of version 1 are bound read-only, one by one, and the root's propagation
/// has the only words that it knows.
fn fit_to_builtin(spec: &Spec) -> Spec {
    let mut fitted = spec.clone();
    if let Some(propagation) = &mut fitted.linux.rootfs_propagation {
        *propagation = propagation.trim_start_matches('r').to_owned();
    }
    fitted.mounts = spec
        .mounts
        .iter()
        .flat_map(|mount| {
            let groups = (mount.kind == "cgroup")
                .then(|| cgroup::v1_mounts(&mount.destination, &spec.linux.cgroups_path))
                .flatten();
            groups.unwrap_or_else(|| vec![mount.clone()])
        })
        .collect();
    fitted
}

/// A container whose command has not been executed yet.
#[derive(Debug)]
pub struct Created {
    shim: Shim,
    pid: i32,
    terminal: Option<OwnedFd>,
}

impl Created {
    /// The container's first process, as this machine numbers it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The master of the container's terminal, if it has one; to be taken once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Executes the container's command.
    pub fn start(mut self) -> Result<Running, Error> {
        self.shim.send(&Request::Start, None)?;
        match self.shim.receive()? {
            (Report::Started, _) => Ok(Running { shim: self.shim }),
            (Report::Failed { reason, .. }, _) => Err(Error::Start { reason }),
            (report, _) => Err(unexpected(report)),
        }
    }
}

/// A container that runs. Dropped, it is killed and removed.
#[derive(Debug)]
pub struct Running {
    shim: Shim,
}

impl Running {
    /// Sends `signal`, by number, to the container's first process; one that has ended by now does not mind.
    pub fn kill(&self, signal: i32) {
        // Without a watcher there is no container, and `wait` will say so.
        let _ = self.shim.channel.send(&Request::Kill { signal }, None);
    }

    /// Waits until the container has ended and nothing of it is left.
    pub fn wait(mut self) -> Result<Exit, Error> {
        let exit = match self.shim.receive()? {
            (Report::Exited { exit }, _) => exit,
            (report, _) => return Err(unexpected(report)),
        };
        let _ = self.shim.child.wait();
        Ok(exit)
    }
}

impl AsFd for Running {
    /// Readable once [`wait`](Self::wait) does not block.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shim.channel.as_fd()
    }
}

#[derive(Debug)]
struct Shim {
    id: String,
    state_root: PathBuf,
    child: Child,
    channel: Channel,
}

impl Shim {
    fn send(&mut self, request: &Request, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        self.channel.send(request, fd).map_err(|_| self.died())
    }

    fn receive(&mut self) -> Result<(Report, Option<OwnedFd>), Error> {
        self.channel.receive()?.ok_or_else(|| self.died())
    }

    /// The watcher is gone without a word: ends what it watched.
    fn died(&mut self) -> Error {
        let _ = self.child.wait();
        if let Err(error) = crate::state::cleanup(&self.state_root, &self.id) {
            return error;
        }
        Error::ShimDied { id: self.id.clone() }
    }
}

impl Drop for Shim {
    /// Closes the conversation, upon which the watcher ends its container, and waits for that.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        if let Ok((closed, _)) = Channel::pair() {
            self.channel = closed;
        }
        let _ = self.child.wait();
    }
}

fn unexpected(report: Report) -> Error {
    match report {
        Report::Failed { refusal, reason } => Error::Create { refusal, reason },
        report => Error::Protocol { reason: format!("{report:?} comes out of turn") },
    }
}
