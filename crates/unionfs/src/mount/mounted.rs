//! Unions that are mounted, from the kernel's mount table and each union's own description.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::mount::UnmountFlags;

use super::{
    Change, FILESYSTEM, Mount, MountError, MountFlags,
    fields::Fields,
    mount_of,
    options::{self, Flags, Remount},
    process::NAME,
};
use crate::{
    Branch, Dialect, OpenError, Options,
    fuse::{ASKED, CHANGE, DESCRIPTION, PIECE},
};

const TABLE: &str = "/proc/self/mountinfo";

/// How long to wait for a union: for an answer, for its process to end, for the kernel to drop what has changed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted union.
#[derive(Clone, Debug)]
pub struct MountInfo {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The source that it was mounted with.
    pub source: OsString,
    /// The kernel's options of the mount.
    pub options: String,
    /// Whether it answers, and its description.
    pub state: State,
}

/// Whether a mounted union answers.
#[derive(Clone, Debug)]
pub enum State {
    /// Its process answers.
    Alive {
        /// Its process.
        pid: u32,
        /// The dialect of its marks.
        dialect: Dialect,
        /// Its branches from the topmost down.
        branches: Vec<Branch>,
        /// Its work directory.
        work: Option<PathBuf>,
        /// Its options.
        options: Options,
        /// Whether the kernel reads and writes files of the writable branch directly.
        passthrough: bool,
    },
    /// Its process has ended; [`unmount`] removes the mount.
    Dead,
    /// It does not answer, or not to us.
    Unknown,
}

struct Line {
    mountpoint: PathBuf,
    filesystem: String,
    source: OsString,
    options: String,
    /// Options of the filesystem, which all its mounts share.
    super_options: String,
}

impl Line {
    /// Returns the flags that would mount it the same way.
    fn flags(&self) -> MountFlags {
        let mut flags = Flags::default();
        let shared = self.super_options.split(',').filter(|word| ["ro", "sync", "dirsync", "lazytime"].contains(word));
        for word in self.options.split(',').filter(|word| *word != "rw").chain(shared) {
            flags.read(word.as_bytes());
        }
        let flags = flags.over(MountFlags::empty());
        let is_silent_on_times = !flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME);
        if is_silent_on_times { flags | MountFlags::STRICTATIME } else { flags }
    }
}

/// Makes a mount point's path absolute and free of symbolic links, without a request to the mount, which may be dead.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    let fail = |source| MountError::MountPoint { path: path.into(), source };
    let absolute = std::path::absolute(path).map_err(fail)?;
    let is_link = || fs::symlink_metadata(&absolute).is_ok_and(|metadata| metadata.is_symlink());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if !path.as_os_str().as_bytes().ends_with(b"..") && !is_link() => {
            Ok(fs::canonicalize(parent).map_err(fail)?.join(name))
        }
        _ => fs::canonicalize(&absolute).map_err(fail),
    }
}

/// Returns the unions of ours that are mounted, in the order of mounting.
pub fn list() -> Result<Vec<MountInfo>, MountError> {
    Ok(lines()?.into_iter().filter(|line| line.filesystem == FILESYSTEM).map(info).collect())
}

/// Returns the union that is mounted on a directory, the topmost of several.
pub fn find(mountpoint: &Path) -> Result<Option<MountInfo>, MountError> {
    let target = resolve(mountpoint)?;
    let line = lines()?.into_iter().rev().find(|line| line.mountpoint == target);
    Ok(line.filter(|line| line.filesystem == FILESYSTEM).map(info))
}

/// Whether the topmost mount on a directory is the kernel's overlayfs.
pub fn is_kernel_overlay(mountpoint: &Path) -> Result<bool, MountError> {
    let target = resolve(mountpoint)?;
    let line = lines()?.into_iter().rev().find(|line| line.mountpoint == target);
    Ok(line.is_some_and(|line| line.filesystem == "overlay"))
}

fn info(line: Line) -> MountInfo {
    let state = state(&line.mountpoint);
    MountInfo { mountpoint: line.mountpoint, source: line.source, options: line.options, state }
}

fn state(mountpoint: &Path) -> State {
    let answer = match ask(mountpoint) {
        Some(answer) => answer,
        None => return State::Unknown,
    };
    match answer {
        Ok(fields) => {
            let read = || {
                let union = mounted(&fields)?.union;
                Some(State::Alive {
                    pid: fields.text("pid")?.parse().ok()?,
                    dialect: union.dialect,
                    branches: union.branches,
                    work: union.work,
                    options: union.options,
                    passthrough: fields.text("passthrough") == Some("on"),
                })
            };
            read().unwrap_or(State::Unknown)
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => State::Dead,
        Err(_) => State::Unknown,
    }
}

/// Asks a mounted union for its description; `None` if it does not answer in time. Asked on a thread of its own, which the
/// kernel keeps for as long as the union hangs.
fn ask(mountpoint: &Path) -> Option<io::Result<Fields>> {
    let target = mountpoint.to_path_buf();
    let (sender, receiver) = std::sync::mpsc::channel();
    let asking = std::thread::Builder::new().name("ask".into()).spawn(move || sender.send(describe(&target)));
    asking.ok()?;
    receiver.recv_timeout(PATIENCE).ok()
}

/// Asks a mounted union for its description.
fn describe(mountpoint: &Path) -> io::Result<Fields> {
    let mut all = Vec::new();
    for number in 0.. {
        let piece = strata_sys::xattr::get(mountpoint, format!("{DESCRIPTION}{number}"))?
            .ok_or_else(|| io::Error::from(rustix::io::Errno::NODATA))?;
        let last = piece.len() < PIECE;
        all.extend(piece);
        if last {
            break;
        }
    }
    Fields::decode(&all).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Changes the branches of a mounted union in order, and returns once the kernel shows none of the old state.
pub fn change(mountpoint: &Path, changes: &[Change]) -> Result<(), MountError> {
    let target = resolve(mountpoint)?;
    let fail = |source| MountError::Change { path: target.clone(), source };
    if find(&target)?.is_none() {
        return Err(MountError::NotMounted { path: target });
    }
    for change in changes {
        let change = absolute(change).map_err(fail)?;
        if let Change::Insert { branch, .. } | Change::Append { branch } = &change
            && lies_in(&branch.path, &target)
        {
            return Err(OpenError::Itself { path: branch.path.clone() }.into());
        }
        if let Err(source) = strata_sys::xattr::set(&target, CHANGE, &change.encode()) {
            let reason = describe(&target).ok().and_then(|told| told.text("refused").map(str::to_owned));
            return Err(match reason {
                Some(reason) => MountError::Unchanged { path: target, reason },
                None => fail(source),
            });
        }
    }
    let end = Instant::now() + PATIENCE;
    while describe(&target).map_err(fail)?.text("pending") != Some("0") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Changes a mount: an AUFS union's branches and any union's mount flags; of the kernel's overlayfs, the mount flags.
///
/// An option that differs from the mount's and cannot be changed is refused before anything changes.
pub fn remount(mountpoint: &Path, wanted: &Remount) -> Result<(), MountError> {
    let target = resolve(mountpoint)?;
    let line = lines()?.into_iter().rev().find(|line| line.mountpoint == target);
    let line = line.ok_or_else(|| MountError::NotMounted { path: target.clone() })?;
    let fail = |source| MountError::Remount { path: target.clone(), source };
    let flags = line.flags();
    let new = wanted.flags.over(flags);
    match line.filesystem.as_str() {
        FILESYSTEM => {
            let mounted = mounted(&describe(&target).map_err(fail)?).ok_or_else(|| MountError::Refused {
                message: format!(
                    "the union on {} was mounted by another version of strata and can only be unmounted",
                    target.display()
                ),
            })?;
            options::check_repeated(&mounted, &wanted.repeated)?;
            if flags.contains(MountFlags::RDONLY) && !new.contains(MountFlags::RDONLY) && mounted.union.never_writes() {
                let message = format!("{} stays read-only: no branch is writable", target.display());
                return Err(MountError::Refused { message });
            }
            change(&target, &wanted.changes)?;
        }
        "overlay" => options::check_kernels(&line.super_options, wanted)?,
        _ => return Err(MountError::NotMounted { path: target }),
    }
    if new == flags {
        return Ok(());
    }
    rustix::mount::mount_remount(&target, new, "").map_err(|errno| fail(errno.into()))
}

/// Whether a directory lies on what is mounted on `target`.
fn lies_in(path: &Path, target: &Path) -> bool {
    super::device_of(target).is_ok_and(|own| super::device_of(path).is_ok_and(|device| device == own))
}

/// Returns the mount's configuration, with its present branches.
fn mounted(told: &Fields) -> Option<Mount> {
    let mut mount = mount_of(&told.under(ASKED))?;
    mount.union.branches = told.branches();
    Some(mount)
}

fn absolute(change: &Change) -> io::Result<Change> {
    let path = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let branch = |branch: &Branch| Ok::<_, io::Error>(Branch { path: path(&branch.path)?, access: branch.access });
    Ok(match change {
        Change::Insert { index, branch: new } => Change::Insert { index: *index, branch: branch(new)? },
        Change::Append { branch: new } => Change::Append { branch: branch(new)? },
        Change::Remove { path: old } => Change::Remove { path: path(old)? },
        Change::SetAccess { branch: new } => Change::SetAccess { branch: branch(new)? },
    })
}

/// Unmounts a union, alive or dead, or the kernel's overlayfs, and waits for the end of the process behind it.
///
/// A union that answers is [`MountError::Busy`] while it is in use. One that does not answer is aborted: processes that wait for
/// it get an error.
pub fn unmount(mountpoint: &Path) -> Result<(), MountError> {
    let target = resolve(mountpoint)?;
    let line = lines()?.into_iter().rev().find(|line| line.mountpoint == target);
    let Some(line) = line.filter(|line| [FILESYSTEM, "overlay"].contains(&&*line.filesystem)) else {
        return Err(MountError::NotMounted { path: target });
    };
    let is_ours = line.filesystem == FILESYSTEM;
    // A hanging union cannot be asked for its process.
    let process = if is_ours { process_of_mount(&target) } else { None };
    let fail = |errno: rustix::io::Errno| MountError::Unmount { path: target.clone(), source: errno.into() };
    match rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW) {
        Ok(()) => {}
        Err(rustix::io::Errno::BUSY) if is_ours && !answers(&target) => {
            // `MNT_FORCE` aborts the FUSE connection, as `/sys/fs/fuse/connections/N/abort` does.
            let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE;
            rustix::mount::unmount(&target, flags).map_err(fail)?;
        }
        Err(rustix::io::Errno::BUSY) => return Err(MountError::Busy { path: target }),
        Err(errno) => return Err(fail(errno)),
    }
    if let Some(process) = process {
        wait(&process);
    }
    Ok(())
}

/// Whether a union answers at all.
fn answers(target: &Path) -> bool {
    ask(target).is_some_and(|answer| !answer.is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN)))
}

/// Finds the process that serves the union on `target` by its command line.
fn process_of_mount(target: &Path) -> Option<std::os::fd::OwnedFd> {
    let wanted = [NAME.as_bytes(), target.as_os_str().as_bytes()].join(&0);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut own = pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.strip_suffix(&[0]) == Some(&wanted))
    });
    // The newest one serves the topmost mount.
    own.by_ref().max().and_then(process_of)
}

fn process_of(pid: u32) -> Option<std::os::fd::OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn wait(process: &std::os::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience));
}

fn lines() -> Result<Vec<Line>, MountError> {
    let text = fs::read(TABLE).map_err(|source| MountError::Table { path: TABLE.into(), source })?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// Parses `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELD…] - TYPE SOURCE SUPEROPTIONS`, with `\040` for a space.
fn parse(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mountpoint = fields.nth(4)?;
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut rest = fields.skip_while(|&field| field != b"-");
    let filesystem = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    let source = OsString::from_vec(unescape(rest.next()?));
    let super_options = String::from_utf8_lossy(&unescape(rest.next().unwrap_or_default())).into_owned();
    let mountpoint = OsString::from_vec(unescape(mountpoint)).into();
    Some(Line { mountpoint, filesystem, source, options, super_options })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|digits| digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match (field[at], digits) {
            (b'\\', Some(digits)) => {
                out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table() {
        let line = parse(br"63 29 0:42 / /mnt/a\040b rw,nodev shared:1 - fuse.strata so\134me rw,user_id=0").unwrap();
        assert_eq!(line.mountpoint, Path::new("/mnt/a b"));
        assert_eq!((line.filesystem.as_str(), line.options.as_str()), ("fuse.strata", "rw,nodev"));
        assert_eq!(line.source, "so\\me");
        assert_eq!(line.flags(), MountFlags::NODEV | MountFlags::STRICTATIME);
        let line = parse(b"63 29 0:42 / /mnt rw,nosuid,relatime - overlay none ro,sync,lowerdir=/a").unwrap();
        let shared = MountFlags::RDONLY | MountFlags::SYNCHRONOUS;
        assert_eq!(line.flags(), MountFlags::NOSUID | MountFlags::RELATIME | shared);
        assert!(parse(b"").is_none());
    }
}
