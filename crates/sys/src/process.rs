//! Processes and the machine: who is alive, who holds a lock, random bytes, rights, kernel and memory.

use std::{io, os::fd::AsFd, path::Path};

use rustix::{fs::Mode, io::Errno, process::Pid, thread::CapabilitySet};

use crate::{StepContext, retry, tree::Stat};

/// Whether a process `pid` exists, be it a zombie, or one that we have no right to signal.
pub fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

/// Returns the name of a process as the kernel keeps it, at most 15 bytes; `None` if it is gone.
pub fn name_of(pid: u32) -> Option<String> {
    let comm = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned())
}

/// When a process started, in clock ticks after boot; with its number it names the process for good, since numbers come again.
///
/// `None` if there is no such process. Source: proc(5), `/proc/<pid>/stat`, field 22.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_start_time(&stat)
}

fn parse_start_time(stat: &[u8]) -> Option<u64> {
    // The second field is the name in parentheses, and may hold spaces and parentheses itself: count from the last one.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The release of the running kernel, as `uname -r` prints it: `6.1.0-13-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Major and minor number of the running kernel; (0, 0) if its release does not begin with two numbers.
pub fn kernel_version() -> (u32, u32) {
    parse_version(&kernel_release())
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (0, 0),
    }
}

/// The hardware, as `uname -m` prints it: `x86_64`.
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// This machine's own name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Memory of the machine, in bytes.
pub fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    // Both are `unsigned long`, 32 bits wide on some machines.
    #[allow(clippy::useless_conversion)]
    let (total, unit) = (u64::from(info.totalram), u64::from(info.mem_unit));
    total.saturating_mul(unit)
}

/// Processors that this process may use, at least 1.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Returns `N` random bytes from the kernel, fit for names that nobody guesses.
#[allow(unsafe_code)]
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        let rest = &mut bytes[filled..];
        // SAFETY: the kernel writes at most `rest.len()` bytes to `rest`, which is ours alone.
        let len = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(len) {
            Ok(len) => filled += len,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error).step(|| "getrandom".into()),
            },
        }
    }
    Ok(bytes)
}

/// The effective user of this process; 0 is root, be it of a user namespace.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The effective group of this process.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// The capabilities that the stores and drivers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Mounts, `trusted.*` attributes.
    SysAdmin,
    /// Files of other owners.
    Chown,
    DacOverride,
    Fowner,
    /// Device nodes.
    Mknod,
    /// File capabilities.
    Setfcap,
    SysChroot,
    NetAdmin,
}

/// Whether this thread has `capability` in effect.
pub fn has_capability(capability: Capability) -> bool {
    let set = match capability {
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
        Capability::Chown => CapabilitySet::CHOWN,
        Capability::DacOverride => CapabilitySet::DAC_OVERRIDE,
        Capability::Fowner => CapabilitySet::FOWNER,
        Capability::Mknod => CapabilitySet::MKNOD,
        Capability::Setfcap => CapabilitySet::SETFCAP,
        Capability::SysChroot => CapabilitySet::SYS_CHROOT,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
    };
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(set))
}

/// Whether this process is in a user namespace other than the machine's: its root has no rights over devices.
pub fn in_user_namespace() -> bool {
    // The first namespace maps all of the 32-bit IDs onto themselves.
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

/// Sets the file creation mask of this process, all its threads, and returns the one before.
///
/// Programs that make files with given modes set 0 once, at their start.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

/// How a lock on a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    Shared,
    Exclusive,
}

/// Takes a `flock(2)` lock on an open file, waiting for it. It is the open file's: released with its last descriptor.
pub fn lock_file(file: &impl AsFd, mode: LockMode) -> io::Result<()> {
    Ok(retry(|| rustix::fs::flock(file, mode.blocking()))?)
}

/// As [`lock_file`], without waiting; `false` if another open file holds it.
pub fn try_lock_file(file: &impl AsFd, mode: LockMode) -> io::Result<bool> {
    match retry(|| rustix::fs::flock(file, mode.immediate())) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

impl LockMode {
    fn blocking(self) -> rustix::fs::FlockOperation {
        match self {
            Self::Shared => rustix::fs::FlockOperation::LockShared,
            Self::Exclusive => rustix::fs::FlockOperation::LockExclusive,
        }
    }

    fn immediate(self) -> rustix::fs::FlockOperation {
        match self {
            Self::Shared => rustix::fs::FlockOperation::NonBlockingLockShared,
            Self::Exclusive => rustix::fs::FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The process's name, where it can be read.
    pub name: Option<String>,
}

/// Gives up a `flock(2)` lock, for whoever else has the same open file too.
pub fn unlock_file(file: &impl AsFd) {
    // It fails where nothing is locked only.
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
}

/// Returns who holds a `flock(2)` lock on the file at `path`, which need not be opened for that.
///
/// The kernel names the process that took the lock; one that inherited it goes unseen. Processes of other PID namespaces
/// are left out. On filesystems whose files report another device than their locks do (btrfs, overlay) nobody is found.
///
/// Source: proc(5), `/proc/locks`.
pub fn lock_holders(path: &Path) -> io::Result<Vec<Holder>> {
    let stat = Stat::of_path(path).step(|| format!("stat {}", path.display()))?;
    let table = std::fs::read("/proc/locks").step(|| "read /proc/locks".into())?;
    let table = String::from_utf8_lossy(&table);
    let mut holders: Vec<Holder> = Vec::new();
    for pid in table.lines().filter_map(|line| parse_lock(line, &stat)) {
        if !holders.iter().any(|holder| holder.pid == pid) {
            holders.push(Holder { pid, name: name_of(pid) });
        }
    }
    Ok(holders)
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; a waiter's line has `->` after its number.
fn parse_lock(line: &str, stat: &Stat) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let pid = fields.nth(2)?;
    let mut file = fields.next()?.splitn(3, ':');
    let major = u32::from_str_radix(file.next()?, 16).ok()?;
    let minor = u32::from_str_radix(file.next()?, 16).ok()?;
    let inode: u64 = file.next()?.parse().ok()?;
    if (major, minor, inode) != (stat.dev.major, stat.dev.minor, stat.inode) {
        return None;
    }
    // -1 and 0 stand for processes that this namespace does not see.
    pid.parse().ok().filter(|&pid| pid > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn processes_alive_and_gone() {
        let own = std::process::id();
        assert!(is_alive(own) && is_alive(1));
        assert!(!is_alive(0) && !is_alive(u32::MAX) && !is_alive(0x7fff_fff0));
        assert!(name_of(own).is_some() && start_time(own).is_some());
        assert_eq!(start_time(0x7fff_fff0), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!is_alive(pid));
    }

    #[test]
    fn start_time_of_names_that_try_to_confuse() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let line = format!("77 (a) S 1 ) x) {}", fields.join(" "));
        assert_eq!(parse_start_time(line.as_bytes()), Some(22));
        for line in ["", "1 (", "1 ) 2 3", "1 (x) \u{fffd}"] {
            assert_eq!(parse_start_time(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn versions() {
        for (release, version) in
            [("6.1.0-13-amd64", (6, 1)), ("5.10", (5, 10)), ("4.19-rc1", (4, 19)), ("x", (0, 0)), ("", (0, 0))]
        {
            assert_eq!(parse_version(release), version, "{release}");
        }
        assert!(kernel_version() > (3, 0) && total_memory() > 0 && cpus() > 0);
        assert!(!hostname().is_empty() && !machine().is_empty());
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let file = File::create(&path).unwrap();
        assert_eq!(lock_holders(&path).unwrap(), []);
        assert!(try_lock_file(&file, LockMode::Shared).unwrap());
        let other = File::open(&path).unwrap();
        assert!(!try_lock_file(&other, LockMode::Exclusive).unwrap());
        lock_file(&other, LockMode::Shared).unwrap();
        let holders = lock_holders(&path).unwrap();
        assert_eq!(holders, [Holder { pid: std::process::id(), name: name_of(std::process::id()) }]);
    }

    #[test]
    fn lines_of_the_lock_table() {
        let temp = tempfile::tempdir().unwrap();
        let stat = Stat::of_path(temp.path()).unwrap();
        let file = format!("{:02x}:{:02x}:{}", stat.dev.major, stat.dev.minor, stat.inode);
        for (line, pid) in [
            (format!("1: FLOCK  ADVISORY  WRITE 12 {file} 0 EOF"), Some(12)),
            (format!("1: -> FLOCK  ADVISORY  WRITE 12 {file} 0 EOF"), None),
            (format!("1: POSIX  ADVISORY  WRITE 12 {file} 0 EOF"), None),
            (format!("1: FLOCK  ADVISORY  READ -1 {file} 0 EOF"), None),
            ("1: FLOCK  ADVISORY  READ 12 zz:00:1 0 EOF".into(), None),
            ("1: FLOCK".into(), None),
        ] {
            assert_eq!(parse_lock(&line, &stat), pid, "{line}");
        }
    }
}
