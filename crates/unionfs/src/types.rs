//! The arguments and results of a union's operations.

use std::ffi::OsString;

pub use rustix::{
    fs::{OFlags, RenameFlags, XattrFlags},
    io::Errno,
};

/// The result of an operation; an error is the number that the system call answers with. Damage on disk (contradicting marks,
/// redirects that lead nowhere) is logged with its path.
pub type Result<T> = std::result::Result<T, Errno>;

/// A file or directory of the merged view, valid from its `lookup` until its last `forget`. Hard links are one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the merged view, valid always.
    pub const ROOT: Self = Self(1);
}

/// A node's type, and a time in seconds and nanoseconds.
pub use strata_sys::tree::{Kind, Time};

/// A node's inode, as `stat(2)` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// `st_ino`: constant over copy-up and rename while the union is open; in the overlay dialect beyond that, see
    /// [the limitations](crate#limitations).
    pub ino: u64,
    /// The type of file.
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// 1 for merged directories, as in the kernel's overlayfs.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// Room on disk, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of reads and writes, in bytes.
    pub block_size: u32,
    /// A device's major number.
    pub rdev_major: u32,
    /// A device's minor number.
    pub rdev_minor: u32,
    /// `st_atime`.
    pub accessed: Time,
    /// `st_mtime`.
    pub modified: Time,
    /// `st_ctime`.
    pub changed: Time,
    /// Time of birth of the topmost object; `None` where its filesystem has none.
    pub born: Option<Time>,
}

/// How long the front may cache an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Until an operation through the union or an [`Invalidation`] says otherwise: nobody else changes the branch.
    Long,
    /// For a moment: other processes may write the branch.
    Short,
}

/// The result of a lookup. It counts as one, which `forget` defaults back.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The node that the name shows.
    pub node: NodeId,
    /// Distinguishes nodes that have the same [`NodeId`] one after the other.
    pub generation: u64,
    /// Its attributes.
    pub attr: Attr,
    /// How long they may be cached.
    pub cache: Cache,
}

/// The process that asks. It owns what it creates.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Cleared from the mode of what is created, unless the directory has a default ACL. 0 if the front has cleared it.
    pub umask: u32,
    /// Its supplementary groups; they decide over a set-group-ID bit.
    pub groups: Vec<u32>,
}

impl Caller {
    /// Root, with umask 0.
    pub const ROOT: Self = Self { uid: 0, gid: 0, umask: 0, groups: Vec::new() };
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The clock of the filesystem below.
    Now,
    /// This time.
    At(Time),
}

/// Whether a change of content clears the file's set-user-ID and set-group-ID bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// They stay: the caller has `CAP_FSETID`, or the kernel clears them itself.
    #[default]
    Keep,
    /// They go, as for any caller without `CAP_FSETID`.
    Clear,
}

/// A change of attributes; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits, `0o7777`.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// In bytes.
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<SetTime>,
    /// Modification time.
    pub modified: Option<SetTime>,
    /// Applies to `size`.
    pub privileges: Privileges,
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The name.
    pub name: OsString,
    /// `st_ino` of what it names.
    pub ino: u64,
    /// The type of what it names.
    pub kind: Kind,
    /// The offset of the entry after this one.
    pub next: u64,
}

/// The answer of a directory's reader to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The entry fits.
    Taken,
    /// No room for the entry: listing ends before it.
    Full,
}

/// What a sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncScope {
    /// `fsync`.
    All,
    /// `fdatasync`.
    Data,
}

/// Something that the front must drop from its caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Attributes and data of a node.
    Node(NodeId),
    /// A name in a directory.
    Entry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: OsString,
    },
}

/// Room on the filesystem of the writable branch, of the topmost one if none is writable, as in `statvfs(3)`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields of `struct statvfs`, spelled out")]
pub struct StatFs {
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u32,
    pub fragment_size: u32,
    pub name_max: u32,
}
