//! The options that any filesystem takes: the kernel's flags of a mount, and what `mount` and `systemd` say to each other.

use super::super::MountFlags;

/// Each flag with the words that set and clear it.
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

/// Flags of which a mount has one.
const TIMES: MountFlags = MountFlags::NOATIME.union(MountFlags::RELATIME).union(MountFlags::STRICTATIME);

/// Words for who mounts, and when; the mount is the same with and without.
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

/// Which flags of a mount options set, and which they clear. A later option overrides an earlier one.
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
    /// Takes one option in; `false` if it is none that any filesystem takes.
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
            // Who lets others mount distrusts what is mounted: so has it mount(8).
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

    /// The flags of a mount that had `before`.
    pub fn over(self, before: MountFlags) -> MountFlags {
        (before - self.clear) | self.set
    }
}

/// Tells the options of the mount itself from those of the filesystem: what the kernel is given as flags, and what as text.
pub fn divide(options: &[u8]) -> (Flags, Vec<&[u8]>) {
    let mut flags = Flags::default();
    let rest = super::split(options, b',').into_iter().filter(|option| !flags.read(option)).collect();
    (flags, rest)
}
