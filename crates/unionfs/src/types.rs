//! What goes in and out of a union's operations.

use std::ffi::OsString;

pub use rustix::{
    fs::{OFlags, RenameFlags, XattrFlags},
    io::Errno,
};

/// The answer of an operation; an error is the number that the system call answers with.
/// What is wrong on disk (contradicting marks, redirects that lead nowhere) is logged with its path when it is met.
pub type Result<T> = std::result::Result<T, Errno>;

/// A file or directory of the merged view, known from `lookup` until `forget`. Hard links are one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the merged view; never forgotten.
    pub const ROOT: Self = Self(1);
}

/// What sort of file a node is.
pub use strata_sys::tree::{Kind, Time};

/// A node's inode, as `stat(2)` shall show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// `st_ino`: stays the same over copy-up and rename, for as long as the union is open.
    pub ino: u64,
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// 1 for merged directories, as in the kernel's overlayfs.
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub block_size: u32,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    pub born: Option<Time>,
}

/// How long an answer may be kept by who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nobody but this union changes it: until an operation through the union, or an [`Invalidation`], says otherwise.
    Long,
    /// Ask again soon: other processes may write this branch.
    Short,
}

/// A name that was found; counts as one lookup, to be given back by `forget`.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub node: NodeId,
    /// Tells two nodes apart that had the same [`NodeId`], one after the other.
    pub generation: u64,
    pub attr: Attr,
    pub cache: Cache,
}

/// Who asks: becomes the owner of what is created.
#[derive(Clone, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Taken off the mode of what is created, unless the folder has a default ACL. 0 where the caller has done so.
    pub umask: u32,
    /// Further groups; used where a set-group-ID bit depends on membership.
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
    At(Time),
}

/// Whether a change of content takes set-user-ID and set-group-ID bits off the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// The caller has `CAP_FSETID`, or the kernel above sees to it.
    #[default]
    Keep,
    /// As the kernel does for a caller without rights.
    Clear,
}

/// What to change of an inode; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits, `0o7777`.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
    /// Applies to `size`.
    pub privileges: Privileges,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    pub name: OsString,
    /// As `st_ino` of what it names.
    pub ino: u64,
    pub kind: Kind,
    /// Pass this to go on after this entry.
    pub next: u64,
}

/// Whether an entry was taken by who reads a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    Taken,
    /// No room: stop, and do not count this one.
    Full,
}

/// What a file's data sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncScope {
    /// `fsync`.
    All,
    /// `fdatasync`.
    Data,
}

/// What the front must drop from its caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Attributes and data of a node.
    Node(NodeId),
    /// A name in a directory.
    Entry { parent: NodeId, name: OsString },
}

/// Room on the filesystem of the writable branch (of the topmost one if there is none), as `statvfs(3)`.
#[derive(Clone, Copy, Debug)]
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
