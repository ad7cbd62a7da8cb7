//! What `strata` and the process that watches a container say to each other, over one socket pair.
//!
//! ```text
//! strata                         watcher ("shim")
//!   Create, with stdin's fd  ->
//!                            <-  Created { pid }, with the terminal's master if there is one; or Failed
//!   Start                    ->
//!                            <-  Started; or Failed
//!   Kill { signal }          ->  (any number)
//!                            <-  Exited { exit }, once nothing of the container is left
//! ```
//!
//! Each message is one packet of JSON. An end that sees the other one's end closed knows that it is dead.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Exit,
    error::{Error, Refusal},
    shim::Lent,
    spec::Mount,
};

/// No message is longer; texts of errors are cut to fit.
const MAX_MESSAGE: usize = 64 << 10;
const MAX_REASON: usize = 16 << 10;

/// The compiled seccomp filter, in the bundle of a container of the built-in runtime.
pub(crate) const FILTER: &str = "seccomp.bpf";

/// All that the watcher needs to know of a container; also kept in its state folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateTask {
    pub id: String,
    /// Holds `config.json`.
    pub bundle: PathBuf,
    /// `<state root>/<id>`.
    pub state: PathBuf,
    /// The external runtime's program; `None` is the built-in one.
    pub runtime: Option<PathBuf>,
    pub terminal: bool,
    /// Whether the container gets a network namespace of its own, whose `lo` is to be brought up.
    pub own_network: bool,
    /// Whom the container's pipes are to belong to.
    pub uid: u32,
    pub cgroup: PathBuf,
    /// The mounts whose propagation is ours to set: those of a container of the built-in runtime.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Whether the seccomp filter is ours to load, from the bundle's [`FILTER`], and what was lent for that.
    pub filter: Option<Lent>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Create(CreateTask),
    Start,
    Kill { signal: i32 },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Created { pid: i32 },
    Started,
    Exited { exit: Exit },
    Failed { refusal: Refusal, reason: String },
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub fn pair() -> Result<(Self, OwnedFd), Error> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| Error::Protocol { reason: errno.to_string() })?;
        Ok((Self(ours), theirs))
    }

    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends `message`, and `fd` along with it.
    pub fn send<T: Serialize>(&self, message: &T, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let text = serde_json::to_vec(message).map_err(|error| Error::Protocol { reason: error.to_string() })?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Error::Protocol { reason: "no room for a file descriptor".to_owned() });
        }
        retry(|| rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL))
            .map_err(|errno| Error::Protocol { reason: errno.to_string() })?;
        Ok(())
    }

    /// Receives a message and the descriptor that came with it; `None` once the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>, Error> {
        let mut text = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(errno) => return Err(Error::Protocol { reason: errno.to_string() }),
        };
        if length == 0 {
            return Ok(None);
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message =
            serde_json::from_slice(&text[..length]).map_err(|error| Error::Protocol { reason: error.to_string() })?;
        Ok(Some((message, fd)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Report {
    /// A failure whose text fits into a message.
    pub fn failed(refusal: Refusal, mut reason: String) -> Self {
        if reason.len() > MAX_REASON {
            let cut = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(cut);
        }
        Self::Failed { refusal, reason }
    }
}

/// Repeats a system call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_and_the_end_is_seen() {
        let (ours, theirs) = Channel::pair().expect("socketpair");
        let theirs = Channel::new(theirs);
        let file = tempfile::tempfile().expect("temp file");
        ours.send(&Request::Kill { signal: 15 }, Some(file.as_fd())).expect("send");
        ours.send(&Request::Start, None).expect("send");
        let (first, fd) = theirs.receive::<Request>().expect("receive").expect("open");
        assert!(matches!(first, Request::Kill { signal: 15 }) && fd.is_some(), "{first:?}");
        let (second, fd) = theirs.receive::<Request>().expect("receive").expect("open");
        assert!(matches!(second, Request::Start) && fd.is_none(), "{second:?}");
        drop(ours);
        assert!(theirs.receive::<Request>().expect("receive").is_none());
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let Report::Failed { reason, .. } = Report::failed(Refusal::Other, "ü".repeat(MAX_REASON)) else {
            panic!("a failure stays one")
        };
        assert!(reason.len() <= MAX_REASON && reason.chars().all(|c| c == 'ü'));
    }
}
