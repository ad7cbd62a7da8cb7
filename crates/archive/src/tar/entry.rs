//! An entry, decoded.

use std::borrow::Cow;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file with content: types `0`, `7` (contiguous), `S` (old GNU sparse), and NUL where the name has no slash at its end.
    Regular,
    /// One more name for an earlier entry, which `link` names.
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
    /// A global PAX header (`g`): stands for no file. Its records change nothing in what follows, as in Go's reader.
    Global,
    /// Any other type byte; it may have content.
    Other(u8),
}

impl Kind {
    /// Reads a type byte. NUL is a file; the reader makes it a directory where the name ends in a slash.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0 | b'0' | b'7' | b'S' => Self::Regular,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::Char,
            b'4' => Self::Block,
            b'5' => Self::Dir,
            b'6' => Self::Fifo,
            b'g' => Self::Global,
            other => Self::Other(other),
        }
    }

    /// The type byte that the writer uses.
    pub fn byte(self) -> u8 {
        match self {
            Self::Regular => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Char => b'3',
            Self::Block => b'4',
            Self::Dir => b'5',
            Self::Fifo => b'6',
            Self::Global => b'g',
            Self::Other(byte) => byte,
        }
    }

    /// True where no content follows, whatever the size field says.
    pub fn is_header_only(self) -> bool {
        matches!(self, Self::HardLink | Self::Symlink | Self::Char | Self::Block | Self::Dir | Self::Fifo)
    }
}

/// A time: `secs` since 1970, may be negative, plus `nanos` of a second, 0 to 999,999,999, always forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

/// All that a header and its extensions say of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name as it stands, maybe absolute, with `..`, or not UTF-8; a directory's mostly ends in a slash.
    pub name: Vec<u8>,
    /// Where a hard or symbolic link points.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits; Docker's writer adds the file type bits, so mask with `0o7777` before use.
    pub mode: u32,
    /// Owner; a number outside 32 bits is cut to them, as the system call in Docker cuts it.
    pub uid: u32,
    pub gid: u32,
    /// Bytes of the file, holes included; zero where [`Kind::is_header_only`].
    pub size: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub ctime: Option<Time>,
    pub uname: Vec<u8>,
    pub gname: Vec<u8>,
    pub dev_major: u32,
    pub dev_minor: u32,
    /// Extended attributes by full name (`security.capability`), sorted by name, values as the kernel has them.
    ///
    /// Collected from `SCHILY.xattr.*`, `LIBARCHIVE.xattr.*` and `RHT.security.selinux`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `SCHILY.acl.access` and `SCHILY.acl.default`: ACLs as text, as GNU tar and bsdtar write them.
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
}

impl Header {
    /// A header of `kind` with nothing else set.
    pub fn new(kind: Kind, name: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            link: Vec::new(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            atime: None,
            ctime: None,
            uname: Vec::new(),
            gname: Vec::new(),
            dev_major: 0,
            dev_minor: 0,
            xattrs: Vec::new(),
            acl_access: None,
            acl_default: None,
        }
    }
}

/// A part of a sparse file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Byte in the file at which it begins.
    pub offset: u64,
    pub len: u64,
}

/// An entry as the reader found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub header: Header,
    /// Byte of the stream at which its first header block stands.
    pub offset: u64,
    /// Bytes of content in the stream: what [`Reader::content`](super::Reader::content) will hand out in all.
    /// Equal to `header.size` unless the file is sparse.
    pub stored: u64,
    /// Of a sparse file, where the stored bytes go, in order, without overlap; their lengths add up to `stored`.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// The name for people: what is not UTF-8 is replaced.
    pub fn display_name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.header.name)
    }
}
