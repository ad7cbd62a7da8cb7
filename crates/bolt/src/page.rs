//! One page: its header and its elements. Every offset, length and count is checked against the bytes that are there.

/// Bytes of a page header.
pub const HEADER: usize = 16;
/// Bytes of an element, of either kind.
const ELEMENT: usize = 16;
/// Bytes of a bucket's own fields: root page and sequence.
pub(crate) const BUCKET: usize = 16;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const BUCKET_FLAG: u32 = 1;

/// What a page of the tree holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keys and the pages below them.
    Branch,
    /// Keys and values.
    Leaf,
}

/// The first 16 bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The page's number as it says itself.
    pub id: u64,
    /// Elements.
    pub count: u16,
    /// Pages that follow and belong to this one.
    pub overflow: u32,
    flags: u16,
}

impl Header {
    /// Reads a header; `None` if `bytes` are fewer than [`HEADER`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Some(Self { id: u64_at(bytes, 0), flags: half(8), count: half(10), overflow: u32_at(bytes, 12) })
    }

    /// What the page holds; or says why it is no page of a tree.
    pub fn kind(&self) -> Result<Kind, String> {
        match self.flags {
            BRANCH => Ok(Kind::Branch),
            LEAF => Ok(Kind::Leaf),
            flags => Err(format!("is neither a branch nor a leaf: its flags are {flags:#x}")),
        }
    }
}

/// One element of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// Of a branch: the page below, and its first key.
    Child {
        /// The first key below, or one before it.
        key: &'a [u8],
        /// The page below.
        page: u64,
    },
    /// Of a leaf: a key and its value.
    Value {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Of a leaf: a nested bucket.
    Bucket {
        /// The bucket's name.
        key: &'a [u8],
        /// Root page and sequence; the bucket's only page if it is inline.
        value: &'a [u8],
    },
}

impl<'a> Element<'a> {
    /// The key, of whatever kind the element is.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Child { key, .. } | Self::Value { key, .. } | Self::Bucket { key, .. } => key,
        }
    }
}

/// A page, its overflow pages included.
#[derive(Clone, Debug)]
pub struct Page {
    bytes: Vec<u8>,
    kind: Kind,
    count: usize,
}

impl Page {
    /// Takes the bytes of a whole page; or says what is wrong with its header.
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let header = Header::parse(&bytes).ok_or("ends inside its header")?;
        let count = usize::from(header.count);
        if count * ELEMENT > bytes.len() - HEADER {
            return Err(format!("has {count} elements, and {} bytes", bytes.len()));
        }
        Ok(Self { kind: header.kind()?, count, bytes })
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many elements it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Its element `n`; `None` past the last. Or says why it cannot be read.
    pub fn element(&self, n: usize) -> Option<Result<Element<'_>, String>> {
        (n < self.count).then(|| self.read(n).ok_or_else(|| format!("element {n} leads out of the page")))
    }

    fn read(&self, n: usize) -> Option<Element<'_>> {
        let element = self.bytes.get(HEADER + n * ELEMENT..)?;
        let at = |field: usize| u32_at(element, field) as usize;
        match self.kind {
            Kind::Branch => Some(Element::Child { key: slice(element, at(0), at(4))?, page: u64_at(element, 8) }),
            Kind::Leaf => {
                let (offset, key_len, value_len) = (at(4), at(8), at(12));
                let key = slice(element, offset, key_len)?;
                let value = slice(element, offset + key_len, value_len)?;
                match u32_at(element, 0) & BUCKET_FLAG {
                    0 => Some(Element::Value { key, value }),
                    _ => Some(Element::Bucket { key, value }),
                }
            }
        }
    }
}

/// `len` bytes that lie after the element itself.
fn slice(element: &[u8], offset: usize, len: usize) -> Option<&[u8]> {
    if offset < ELEMENT && len > 0 {
        return None;
    }
    element.get(offset..offset.checked_add(len)?)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
