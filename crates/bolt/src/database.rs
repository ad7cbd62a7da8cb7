//! A database file, one transaction of it, and its buckets.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Damage, Error,
    meta::{self, Meta, PAGE_SIZES},
    page::{BUCKET, Element, HEADER, Header, Kind, Page, u64_at},
};

/// Bytes of the longest page run that is read.
const MAX_RUN: u64 = 256 << 20;
/// Pages from a bucket's root page down to a leaf, at most.
const MAX_DEPTH: usize = 64;
/// How often a file that changes meanwhile is read anew.
const ATTEMPTS: usize = 10;
/// Damaged pages that are named; more of the same say nothing new.
const NAMED: usize = 100;

/// One transaction of a database.
pub struct Database {
    source: Source,
    /// Bytes of both meta pages when the database was opened.
    metas: [Vec<u8>; 2],
    meta: Meta,
    damage: Vec<Damage>,
    /// References to a page that another one leads to already.
    refused: HashSet<Reference>,
}

/// A page and the element of it that leads to another page.
type Reference = (u64, usize);

/// What leads to the root bucket's root page.
const META: Reference = (0, 0);

/// A bucket: keys in order, each with a value or a nested bucket.
#[derive(Clone, Debug)]
pub struct Bucket(Location);

#[derive(Clone, Debug)]
enum Location {
    /// The root page, and what leads to it.
    Page { root: u64, from: Reference },
    /// The only page lies in the value of the page `of`.
    Inline { of: u64, page: Arc<[u8]> },
}

/// A key of a bucket and what it stands for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Value,
}

/// What a key stands for.
#[derive(Clone, Debug)]
pub enum Value {
    /// Plain bytes.
    Bytes(Vec<u8>),
    /// A nested bucket.
    Bucket(Bucket),
}

enum Source {
    File { file: File, path: PathBuf },
    Bytes(Vec<u8>),
}

/// Calls `read` on the database at `path` until it saw one transaction from beginning to end.
///
/// Fails with `Busy` when the owner commits so often that ten attempts do not suffice.
pub fn read<T>(path: &Path, mut read: impl FnMut(&Database) -> T) -> Result<T, Error> {
    for _ in 0..ATTEMPTS {
        let database = Database::open(path)?;
        let result = read(&database);
        if database.is_current()? {
            return Ok(result);
        }
    }
    Err(Error::Busy { path: path.to_owned() })
}

impl Database {
    /// Opens the file at `path`, which is never locked and never waited for.
    ///
    /// Reads every page of the tree once. A file that is not regular is refused, and a symbolic link is not followed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        for _ in 0..ATTEMPTS {
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(io)?;
            if !file.metadata().map_err(io)?.is_file() {
                return Err(Error::NotBolt { path: path.to_owned(), reason: "it is not a regular file".into() });
            }
            let database = Self::of(Source::File { file, path: path.to_owned() })?;
            // Damage that a commit in between made is none.
            if database.damage.is_empty() || database.is_current()? {
                return Ok(database);
            }
        }
        Err(Error::Busy { path: path.to_owned() })
    }

    /// Reads a database from memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::of(Source::Bytes(bytes))
    }

    fn of(source: Source) -> Result<Self, Error> {
        let first = source.read_at(0, meta::LEN as u64)?;
        let parsed = Meta::parse(&first);
        let (second, second_parsed) = source.second_meta(parsed.as_ref().ok())?;
        let metas = [first, second];
        let mut valid: Vec<Meta> = [&parsed, &second_parsed].into_iter().flatten().copied().collect();
        valid.sort_by_key(|meta| std::cmp::Reverse(meta.transaction));
        let mut damage = Vec::new();
        for (page, parsed) in [&parsed, &second_parsed].into_iter().enumerate() {
            if let Err(reason) = parsed {
                damage.push(Damage { page: page as u64, reason: format!("the meta page is damaged: {reason}") });
            }
        }
        let Some(newest) = valid.first() else {
            let reason = damage.iter().map(Damage::to_string).collect::<Vec<_>>().join("; ");
            return Err(Error::NotBolt { path: source.path(), reason });
        };
        let mut database = Self { meta: *newest, source, metas, damage: Vec::new(), refused: HashSet::new() };
        let tree = database.check();
        if let (false, Some(older)) = (tree.is_empty(), valid.get(1)) {
            let newer = std::mem::replace(&mut database.meta, *older);
            let refused = std::mem::take(&mut database.refused);
            if database.check().is_empty() {
                let reason = format!(
                    "transaction {} is damaged ({}); the older transaction {} is whole and is read instead",
                    newer.transaction, tree[0], older.transaction
                );
                damage.push(Damage { page: newer.root, reason });
            } else {
                (database.meta, database.refused) = (newer, refused);
                damage.extend(tree);
            }
        } else {
            damage.extend(tree);
        }
        database.damage = damage;
        Ok(database)
    }

    /// What of the file cannot be read; at most 100 pages are named. Empty for a sound database.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The transaction that is read.
    pub fn transaction(&self) -> u64 {
        self.meta.transaction
    }

    /// Whether nothing was committed since the database was opened: everything read so far is then of one transaction.
    ///
    /// bbolt writes no page of a transaction before the next but one, so unchanged meta pages prove it.
    pub fn is_current(&self) -> Result<bool, Error> {
        let at = |page: u64| self.source.read_at(page * u64::from(self.meta.page_size), meta::LEN as u64);
        Ok(self.source.read_at(0, meta::LEN as u64)? == self.metas[0] && at(1)? == self.metas[1])
    }

    /// The bucket that holds all others.
    pub fn root(&self) -> Bucket {
        Bucket(Location::Page { root: self.meta.root, from: META })
    }

    /// The bucket at `path`, a name for each level; `None` if there is none, or damage hides it.
    pub fn bucket<N: AsRef<[u8]>>(&self, path: &[N]) -> Option<Bucket> {
        path.iter().try_fold(self.root(), |bucket, name| match self.get(&bucket, name.as_ref())? {
            Value::Bucket(bucket) => Some(bucket),
            Value::Bytes(_) => None,
        })
    }

    /// What `key` stands for in `bucket`; `None` if it is not there, or damage hides it.
    pub fn get(&self, bucket: &Bucket, key: &[u8]) -> Option<Value> {
        self.entries(bucket).flatten().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// The entries of `bucket`, in the order of their keys. Damage costs a subtree; the rest follows.
    pub fn entries(&self, bucket: &Bucket) -> Entries<'_> {
        Entries::new(self, bucket)
    }

    /// Walks the whole tree; returns what is damaged, and notes which references make a page belong to two others.
    fn check(&mut self) -> Vec<Damage> {
        let (mut damage, mut seen) = (Vec::new(), HashSet::new());
        let mut twice = HashSet::new();
        let mut buckets = vec![self.root()];
        while let Some(bucket) = buckets.pop() {
            let mut entries = Entries { seen: std::mem::take(&mut seen), ..Entries::new(self, &bucket) };
            for entry in entries.by_ref() {
                match entry {
                    Ok(Entry { value: Value::Bucket(bucket), .. }) => buckets.push(bucket),
                    Ok(_) => {}
                    Err(found) if damage.len() < NAMED => damage.push(found),
                    Err(_) => {}
                }
            }
            seen = entries.seen;
            twice.extend(entries.twice);
        }
        self.refused = twice;
        damage
    }

    /// Reads page `id`; or says what is wrong with it.
    fn page(&self, id: u64) -> Result<(Page, u64), String> {
        if id < 2 || id >= self.meta.high_water {
            return Err(format!("lies outside the tree, whose pages run from 2 to {}", self.meta.high_water));
        }
        let size = u64::from(self.meta.page_size);
        let read = |len: u64| {
            let at = id.checked_mul(size).ok_or("lies beyond every file")?;
            let bytes = self.source.read_at(at, len).map_err(|error| match error {
                Error::Io { source, .. } => format!("cannot be read: {source}"),
                other => other.to_string(),
            })?;
            if (bytes.len() as u64) < len { Err("lies past the end of the file".to_owned()) } else { Ok(bytes) }
        };
        let header = Header::parse(&read(HEADER as u64)?).ok_or("ends inside its header")?;
        if header.id != id {
            return Err(format!("says that it is page {}", header.id));
        }
        header.kind()?;
        let overflow = u64::from(header.overflow);
        let len = (overflow + 1) * size;
        if overflow >= self.meta.high_water - id {
            return Err(format!("continues in {overflow} pages, past the last one"));
        }
        if len > MAX_RUN {
            return Err(format!("is {len} bytes long; at most {MAX_RUN} are read"));
        }
        Ok((Page::new(read(len)?)?, overflow))
    }
}

impl Source {
    fn path(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Bytes(_) => PathBuf::from("(memory)"),
        }
    }

    /// `len` bytes from `at`; fewer at the end of the file.
    fn read_at(&self, at: u64, len: u64) -> Result<Vec<u8>, Error> {
        let (file, path) = match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)).min(bytes.len());
                return Ok(bytes[from..to].to_vec());
            }
            Self::File { file, path } => (file, path),
        };
        let failed = |source: io::Error| Error::Io { path: path.clone(), source };
        // A claimed length costs memory only as far as the file goes.
        let left = file.metadata().map_err(failed)?.len().saturating_sub(at).min(len);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// The second meta page: its bytes, and what they say. Without a first one the page size is found by trying.
    fn second_meta(&self, first: Option<&Meta>) -> Result<(Vec<u8>, Result<Meta, String>), Error> {
        let read = |size: u32| self.read_at(u64::from(size), meta::LEN as u64);
        if let Some(first) = first {
            let bytes = read(first.page_size)?;
            let parsed = Meta::parse(&bytes).and_then(|meta| match meta.page_size == first.page_size {
                true => Ok(meta),
                false => Err(format!("its page size is {}, that of page 0 is {}", meta.page_size, first.page_size)),
            });
            return Ok((bytes, parsed));
        }
        let sizes = std::iter::successors(Some(*PAGE_SIZES.start()), |size| Some(size * 2));
        for size in sizes.take_while(|size| PAGE_SIZES.contains(size)) {
            let bytes = read(size)?;
            if let Ok(meta) = Meta::parse(&bytes)
                && meta.page_size == size
            {
                return Ok((bytes, Ok(meta)));
            }
        }
        let bytes = read(4096)?;
        let parsed = Meta::parse(&bytes).and(Err("its page size does not fit its place".to_owned()));
        Ok((bytes, parsed))
    }
}

impl Bucket {
    /// The bucket in the value of the leaf element `from`; or says what is wrong with it.
    fn parse(from: Reference, value: &[u8]) -> Result<Self, String> {
        if value.len() < BUCKET {
            return Err(format!("has a bucket of {} bytes", value.len()));
        }
        match u64_at(value, 0) {
            0 => Ok(Self(Location::Inline { of: from.0, page: value[BUCKET..].into() })),
            root => Ok(Self(Location::Page { root, from })),
        }
    }
}

/// The entries of a bucket in the order of their keys, and the damage between them.
pub struct Entries<'a> {
    database: &'a Database,
    /// The root page, which is read with the first entry.
    root: Option<Location>,
    /// The pages from the root page down to the one that is read.
    stack: Vec<Frame>,
    /// An entry that follows the damage found with it.
    pending: Option<Entry>,
    last: Option<Vec<u8>>,
    /// Pages met so far.
    seen: HashSet<u64>,
    /// References to pages that were met before.
    twice: HashSet<Reference>,
}

struct Frame {
    id: u64,
    is_inline: bool,
    page: Page,
    next: usize,
}

impl<'a> Entries<'a> {
    fn new(database: &'a Database, bucket: &Bucket) -> Self {
        Self {
            database,
            root: Some(bucket.0.clone()),
            stack: Vec::new(),
            pending: None,
            last: None,
            seen: HashSet::new(),
            twice: HashSet::new(),
        }
    }

    fn begin(&mut self, root: Location) -> Result<(), Damage> {
        match root {
            Location::Page { root, from } => self.descend(root, from),
            Location::Inline { of, page } => {
                let inline = |reason| Damage { page: of, reason: format!("has an inline bucket that {reason}") };
                let page = Page::new(page.to_vec()).map_err(inline)?;
                if page.kind() != Kind::Leaf {
                    return Err(inline("is not a leaf".to_owned()));
                }
                self.stack.push(Frame { id: of, is_inline: true, page, next: 0 });
                Ok(())
            }
        }
    }

    /// Goes on with page `id`, to which `from` leads.
    fn descend(&mut self, id: u64, from: Reference) -> Result<(), Damage> {
        let damaged = |reason| Damage { page: id, reason };
        let claimed = || damaged(format!("belongs to another page; page {} leads to it too", from.0));
        if self.stack.len() >= MAX_DEPTH {
            return Err(damaged(format!("lies more than {MAX_DEPTH} pages deep")));
        }
        if self.database.refused.contains(&from) {
            return Err(claimed());
        }
        let (page, overflow) = self.database.page(id).map_err(damaged)?;
        if !(id..=id + overflow).all(|used| self.seen.insert(used)) {
            self.twice.insert(from);
            return Err(claimed());
        }
        if page.kind() == Kind::Branch && page.count() == 0 {
            return Err(damaged("is a branch that leads nowhere".to_owned()));
        }
        self.stack.push(Frame { id, is_inline: false, page, next: 0 });
        Ok(())
    }

    /// Whether `key` comes after the key before it.
    fn is_in_order(&mut self, key: &[u8]) -> bool {
        let is_later = self.last.as_deref().is_none_or(|last| last < key);
        self.last = Some(key.to_vec());
        is_later
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.root.take()
            && let Err(damage) = self.begin(root)
        {
            return Some(Err(damage));
        }
        if let Some(entry) = self.pending.take() {
            return Some(Ok(entry));
        }
        loop {
            let frame = self.stack.last_mut()?;
            let from = (frame.id, frame.next);
            let damaged = |reason| Some(Err(Damage { page: from.0, reason }));
            frame.next += 1;
            let entry = match frame.page.element(from.1) {
                None => {
                    self.stack.pop();
                    continue;
                }
                Some(Err(reason)) => return damaged(reason),
                Some(Ok(Element::Child { page, .. })) => match self.descend(page, from) {
                    Ok(()) => continue,
                    Err(damage) => return Some(Err(damage)),
                },
                Some(Ok(Element::Value { key, value })) => {
                    Entry { key: key.to_vec(), value: Value::Bytes(value.to_vec()) }
                }
                Some(Ok(Element::Bucket { .. })) if frame.is_inline => {
                    return damaged("has a bucket in an inline bucket".to_owned());
                }
                Some(Ok(Element::Bucket { key, value })) => match Bucket::parse(from, value) {
                    Ok(bucket) => Entry { key: key.to_vec(), value: Value::Bucket(bucket) },
                    Err(reason) => return damaged(reason),
                },
            };
            if self.is_in_order(&entry.key) {
                return Some(Ok(entry));
            }
            self.pending = Some(entry);
            return damaged("has keys out of order".to_owned());
        }
    }
}
