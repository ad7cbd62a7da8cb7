//! Options that any filesystem takes: mount flags, and the words of `mount` and `systemd`.

use super::super::MountFlags;

/// Flags with the words that set and clear them.
const FLAGS: [(&[u8], &[u8], MountFlags); 13] = [
    (b"ro", b"rw", MountFlags::RDONLY),
    (b"nosuid", b"suid", MountFlags::NOSUID),
    (b"nodev", b"dev", MountFlags::NODEV),
    (b"noexec", b"exec", MountFlags::NOEXEC),
    (b"nosymfollow", b"symfollow", MountFlags::NOSYMFOLLOW),
    (b"noatime", b"atime", MountFlags::NOATIME),
    (b"nodiratime", b"diratime", MountFlags::NODIRATIME),
    (b"relatime", b"norelatime", MountFlags::RELATIME),
    (b"strictatime", b"nostrictatime", MountFlags::STRICTATIME),
    (b"lazytime", b"nolazytime", MountFlags::LAZYTIME),
    (b"sync", b"async", MountFlags::SYNCHRONOUS),
    (b"dirsync", b"", MountFlags::DIRSYNC),
    (b"silent", b"loud", MountFlags::SILENT),
];

/// Flags that exclude each other.
const TIMES: MountFlags = MountFlags::NOATIME.union(MountFlags::RELATIME).union(MountFlags::STRICTATIME);

/// Words about who mounts and when. They do not change the mount.
const PASSED: [&[u8]; 17] = [
    b"",
    b"defaults",
    b"auto",
    b"noauto",
    b"nofail",
    b"_netdev",
    b"nouser",
    b"nousers",
    b"noowner",
    b"nogroup",
    b"nomand",
    b"noiversion",
    b"user",
    b"users",
    b"owner",
    b"group",
    b"remount",
];

/// The mount flags that options set and clear. A later option overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    set: MountFlags,
    clear: MountFlags,
}

impl Default for Flags {
    fn default() -> Self {
        Self { set: MountFlags::empty(), clear: MountFlags::empty() }
    }
}

impl Flags {
    /// Parses one option; `false` if it is none that any filesystem takes.
    pub fn read(&mut self, option: &[u8]) -> bool {
        for (set, clear, flag) in FLAGS {
            if option == set {
                self.put(flag);
                return true;
            }
            if option == clear && !clear.is_empty() {
                self.set -= flag;
                self.clear |= flag;
                return true;
            }
        }
        match option {
            // As in mount(8), `user` implies nosuid, nodev, noexec.
            b"user" | b"users" => self.put(MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC),
            b"owner" | b"group" => self.put(MountFlags::NOSUID | MountFlags::NODEV),
            _ => {}
        }
        PASSED.contains(&option)
            || [&b"x-"[..], b"X-", b"comment=", b"user="].iter().any(|prefix| option.starts_with(prefix))
    }

    fn put(&mut self, flags: MountFlags) {
        if TIMES.contains(flags) {
            self.set -= TIMES;
            self.clear |= TIMES;
        }
        self.set |= flags;
        self.clear -= flags;
    }

    /// Returns the flags of a mount that has `before`.
    pub fn over(self, before: MountFlags) -> MountFlags {
        (before - self.clear) | self.set
    }
}

/// Separates mount flags from the options of the filesystem, which the kernel takes as text.
pub fn divide(options: &[u8]) -> (Flags, Vec<&[u8]>) {
    let mut flags = Flags::default();
    let rest = super::split(options, b',').into_iter().filter(|option| !flags.read(option)).collect();
    (flags, rest)
}
