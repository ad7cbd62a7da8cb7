//! Takes the tar apart, records it, and decides what is made when.
//!
//! Directories are made here, at once, because what follows needs them. All else is handed to the crew, whose threads work
//! in any order: which is safe, because a path that this layer may have made before waits until all earlier work is done.

use std::{collections::BTreeSet, ffi::OsStr, io::Write, os::unix::ffi::OsStrExt, sync::Arc};

use strata_sys::tree::{Device, Dir, Kind as FileKind, Time};
use strata_tree::marks::{Marks, overlay::is_whiteout};

use super::{
    Options, acl,
    batch::{Crew, DATA, Op, What},
    feed::Feed,
    folder::{Folder, Lost},
    make::{During, Failed, Late, Maker, Meta},
    name::{Inside, Wish, display},
    plinks::{PLINKS, Plinks},
    seen::Seen,
};
use crate::{
    Error,
    split::Packer,
    tar::{self, Entry, Kind, Reader},
};

/// Mode of a directory that the tar does not have and something lies in, as Docker makes it.
const IMPLIED_MODE: u32 = 0o755;

/// GNU tar's directory with a list of the names in it (`tar -g`).
const DUMP_DIR: u8 = b'D';
/// GNU tar's volume label (`tar -V`), which is no file.
const LABEL: u8 = b'V';

/// What the plan has counted.
pub(super) struct Counted {
    pub entries: u64,
    /// Sum of the sizes in the headers.
    pub claimed: u64,
}

pub(super) struct Plan<'a, W: Write> {
    options: &'a Options,
    tar: Reader<Feed<'a>>,
    split: Packer<W>,
    folder: Folder,
    maker: &'a Maker,
    crew: Crew<'a>,
    seen: Seen,
    /// The last directory that was found through symbolic links.
    alias: Option<Alias>,
    /// Symbolic links through which this layer has brought content.
    followed: BTreeSet<Inside>,
    late: Vec<(Inside, Late)>,
    plinks: Plinks,
    /// Content of entries that leave no file, to be recorded with the headers that follow.
    carry: Vec<u8>,
    counted: Counted,
}

/// A directory that lies behind symbolic links.
struct Alias {
    named: Inside,
    real: Inside,
    links: Vec<Inside>,
}

/// What goes to make way for an entry, or because of it.
#[derive(Clone, Copy)]
enum Replaced {
    /// A symbolic link; a directory stays.
    Link,
    /// Whatever is there, with all below it.
    Tree,
    /// In a directory, all that this layer has not made.
    Others,
}

impl<'a, W: Write> Plan<'a, W> {
    pub fn new(
        input: Feed<'a>,
        split: W,
        options: &'a Options,
        folder: Folder,
        maker: &'a Maker,
        crew: Crew<'a>,
    ) -> Self {
        Self {
            options,
            tar: Reader::lent(input, Feed::refill, &options.limits),
            split: Packer::new(split),
            folder,
            maker,
            crew,
            seen: Seen::new(options.marks == Marks::None),
            alias: None,
            followed: BTreeSet::new(),
            late: Vec::new(),
            plinks: Plinks::default(),
            carry: Vec::new(),
            counted: Counted { entries: 0, claimed: 0 },
        }
    }

    /// Unpacks the whole stream.
    pub fn run(mut self) -> Result<Counted, Error> {
        while let Some(entry) = self.tar.next_entry()? {
            self.counted.entries += 1;
            self.counted.claimed += entry.header.size;
            self.entry(&entry)?;
        }
        self.carry.extend_from_slice(self.tar.raw());
        self.split.end(&self.carry)?;
        loop {
            let piece = self.tar.trailing()?;
            if piece.is_empty() {
                break;
            }
            self.split.trailing(piece)?;
        }
        self.crew.wait()?;
        let plinks = std::mem::take(&mut self.plinks);
        plinks.end(self.maker, self.folder.root()).map_err(|failed| failed.at(PLINKS.as_bytes()))?;
        self.close_dirs()?;
        self.split.finish()?;
        Ok(self.counted)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let header = &entry.header;
        match header.kind {
            Kind::Global | Kind::Other(LABEL) => return self.skip(entry).map(drop),
            Kind::Other(DUMP_DIR) => {}
            Kind::Other(byte) => return Err(refuse(entry, format!("no file has the type {:?}", char::from(byte)))),
            _ => {}
        }
        match Wish::parse(&header.name, self.options.marks)? {
            Wish::Skip => {
                let begin = self.skip(entry)?;
                match Inside::parse(&header.name).as_ref().map(Plinks::name_of) {
                    Ok(Some(name)) if header.kind == Kind::Regular => self
                        .plinks
                        .add(self.maker, self.folder.root(), name, &meta_of(entry), &self.carry[begin..])
                        .map_err(|failed| failed.at(&header.name)),
                    _ => Ok(()),
                }
            }
            Wish::Root => {
                self.root(entry)?;
                self.skip(entry).map(drop)
            }
            Wish::Delete(path) => {
                self.delete(entry, path)?;
                self.skip(entry).map(drop)
            }
            Wish::Clear(path) => {
                self.clear(entry, path)?;
                self.skip(entry).map(drop)
            }
            Wish::Make(path) => self.make(entry, path),
        }
    }

    /// Records an entry that leaves no file of its name. If it has content all the same, that is recorded with the headers: the tar
    /// comes back byte for byte. Returns where in [`Plan::carry`] it begins.
    fn skip(&mut self, entry: &Entry) -> Result<usize, Error> {
        if entry.stored > self.options.limits.metadata {
            return Err(refuse(entry, "it leaves no file, and yet has much content".into()));
        }
        let mut bare = entry.clone();
        (bare.header.size, bare.stored, bare.sparse) = (0, 0, None);
        self.record(&bare)?;
        let begin = self.carry.len();
        loop {
            let piece = self.tar.content()?;
            if piece.is_empty() {
                return Ok(begin);
            }
            self.carry.extend_from_slice(piece);
        }
    }

    /// Records the headers of `entry`.
    fn record(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.carry.is_empty() {
            return self.split.entry(entry, self.tar.raw());
        }
        let mut raw = std::mem::take(&mut self.carry);
        raw.extend_from_slice(self.tar.raw());
        self.split.entry(entry, &raw)
    }

    /// The root directory's own entry: in an overlay layer it means nothing, as in Docker, whose layers' roots are all alike.
    fn root(&mut self, entry: &Entry) -> Result<(), Error> {
        if !is_dir(entry.header.kind) {
            return Err(refuse(entry, "only a directory can be the root".into()));
        }
        if self.options.marks == Marks::Overlay {
            return Ok(());
        }
        let meta = meta_of(entry);
        let root = self.folder.root().clone();
        self.maker.dir(&root, OsStr::new("."), &meta).map_err(|failed| failed.at(&entry.header.name))?;
        self.late.push((Inside::default(), Late::of(&meta)));
        Ok(())
    }

    /// A whiteout hides what lies below, and nothing of its own layer, whichever of the two comes first.
    ///
    /// Source: OCI image-spec 1.1, layer.md, "Whiteouts".
    fn delete(&mut self, entry: &Entry, path: Inside) -> Result<(), Error> {
        let (dir, path) = self.locate(entry, path)?;
        if self.seen.insert(&path) {
            self.settle(true)?;
            match dir.stat(name_of(&path)) {
                Ok(stat) if stat.kind == FileKind::Dir => return self.clear(entry, path),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Failed::System { action: "look at", source }.at(&entry.header.name)),
            }
        }
        match self.options.marks {
            Marks::Overlay => self.put(entry, &path, dir, false, |meta| What::Whiteout { meta }),
            Marks::Aufs | Marks::Mixed => {
                let mark = path.whiteout();
                let old = self.seen.insert(&mark);
                let empty = |meta| What::File { meta, content: 0..0, size: 0, sparse: None };
                self.put(entry, &mark, dir, old, empty)
            }
            Marks::None => {
                self.keep_links(entry, &path, Replaced::Tree)?;
                self.crew.wait()?;
                self.maker.remove(&dir, name_of(&path)).map_err(|failed| failed.at(&entry.header.name))?;
                self.folder.forget();
                self.alias = None;
                Ok(())
            }
        }
    }

    /// Hides what the layers below have in a directory.
    fn clear(&mut self, entry: &Entry, path: Inside) -> Result<(), Error> {
        let (dir, path) = self.dir(entry, path)?;
        let at = |failed: Failed| failed.at(&entry.header.name);
        if self.options.marks != Marks::None {
            let dir = dir.open_dir(".").during("open").map_err(at)?;
            return self.maker.mark_opaque(&dir).map_err(at);
        }
        self.keep_links(entry, &path, Replaced::Others)?;
        self.settle(true)?;
        self.remove_others(&dir, path.bytes()).map_err(at)
    }

    /// Removes from a directory what this layer has not made.
    fn remove_others(&self, dir: &Dir, path: &[u8]) -> Result<(), Failed> {
        let mut pending = vec![path.to_vec()];
        while let Some(below) = pending.pop() {
            let from_here = OsStr::from_bytes(below[path.len()..].strip_prefix(b"/").unwrap_or(&below[path.len()..]));
            let here = if from_here.is_empty() { dir.open_dir(".") } else { dir.dir_beneath(from_here) };
            let here = here.during("open")?;
            for found in here.entries().during("list")? {
                let mut full = below.clone();
                if !full.is_empty() {
                    full.push(b'/');
                }
                full.extend_from_slice(found.name.as_bytes());
                if !self.seen.contains(&full) {
                    self.maker.remove(&here, &found.name)?;
                } else if found.kind == FileKind::Dir {
                    pending.push(full);
                }
            }
        }
        Ok(())
    }

    fn make(&mut self, entry: &Entry, path: Inside) -> Result<(), Error> {
        let header = &entry.header;
        let is_dir = is_dir(header.kind);
        match header.kind {
            Kind::Other(_) => drop(self.skip(entry)?),
            _ => self.record(entry)?,
        }
        let named = path.clone();
        let (dir, path) = self.locate(entry, path)?;
        if path != named
            && header.kind == Kind::Regular
            && entry.stored > 0
            && let Some(alias) = &self.alias
        {
            self.followed.extend(alias.links.iter().cloned());
        }
        let mut old = self.seen.insert(&path);
        if self.options.marks == Marks::None {
            // A link or a directory of a layer below may be on the way of this layer's entries before and after it: they must see
            // the same, as if this layer had made it.
            let is_on_the_way = |kind| kind == FileKind::Symlink || kind == FileKind::Dir && !is_dir;
            old |= dir.stat(name_of(&path)).is_ok_and(|stat| is_on_the_way(stat.kind));
            // A directory of a layer below that this layer puts something into is this layer's too: a whiteout must not remove it.
            for part in path.parent().parts() {
                self.seen.insert(&part);
            }
        }
        if old {
            self.keep_links(entry, &path, if is_dir { Replaced::Link } else { Replaced::Tree })?;
        }
        let hidden = self.unhide(entry, &dir, &path)?;
        if is_dir {
            return self.make_dir(entry, path, &dir, old, hidden);
        }
        match header.kind {
            Kind::HardLink => self.hard_link(entry, &path, &dir, old),
            Kind::Regular => {
                self.settle(old)?;
                if entry.stored as usize <= DATA && entry.stored <= DATA as u64 {
                    self.small_file(entry, &path, dir)?;
                } else {
                    self.large_file(entry, &path, dir)?;
                }
                self.settle(old)
            }
            Kind::Symlink if header.link.is_empty() => Err(refuse(entry, "a symbolic link cannot be empty".into())),
            Kind::Symlink => {
                self.put(entry, &path, dir, old, |meta| What::Symlink { meta, target: header.link.clone() })
            }
            Kind::Fifo | Kind::Char | Kind::Block => {
                let kind = match header.kind {
                    Kind::Fifo => FileKind::Fifo,
                    Kind::Char => FileKind::CharDevice,
                    _ => FileKind::BlockDevice,
                };
                let dev = Device { major: header.dev_major, minor: header.dev_minor };
                self.put(entry, &path, dir, old, |meta| What::Node { meta, kind, dev })
            }
            Kind::Dir | Kind::Global | Kind::Other(_) => unreachable!("dealt with above, or before the name was read"),
        }
    }

    fn make_dir(&mut self, entry: &Entry, path: Inside, dir: &Dir, old: bool, hidden: bool) -> Result<(), Error> {
        self.settle(old)?;
        let meta = meta_of(entry);
        self.maker.dir(dir, name_of(&path), &meta).map_err(|failed| failed.at(&entry.header.name))?;
        if hidden {
            self.hide_below(dir, &path).map_err(|failed| failed.at(&entry.header.name))?;
        }
        self.late.push((path, Late::of(&meta)));
        Ok(())
    }

    /// Links are made here, when all that was handed out is done: what they name must be there. Nothing else of the entry
    /// counts, because the file is the earlier entry's.
    fn hard_link(&mut self, entry: &Entry, path: &Inside, dir: &Dir, old: bool) -> Result<(), Error> {
        let target = Inside::parse(&entry.header.link)
            .map_err(|reason| refuse(entry, format!("its target {:?}: {reason}", display(&entry.header.link))))?;
        if target.is_root() {
            return Err(refuse(entry, "a directory cannot be the target of a hard link".into()));
        }
        self.crew.wait()?;
        let lost = |why: String| refuse(entry, format!("its target {:?} {why}", display(&entry.header.link)));
        if let Some(name) = Plinks::name_of(&target) {
            let from = self.plinks.get(name).ok_or_else(|| lost("is not in the layer, or comes after it".into()))?;
            self.maker
                .hard_link(from, OsStr::from_bytes(name), dir, name_of(path))
                .map_err(|failed| failed.at(&entry.header.name))?;
            return self.settle(old);
        }
        let mut target = target;
        if let Err(Lost::Link) = self.folder.dir(target.split().0) {
            let (real, _) = self.folder.real(&target.parent()).map_err(|error| unresolved(entry, error))?;
            target = real.child(target.split().1);
        }
        let (target_dir, target_name) = target.split();
        let from = self.folder.dir(target_dir).map_err(|found| match found {
            Lost::Missing | Lost::Link | Lost::Whiteout => lost("is not in the layer, or comes after it".into()),
            Lost::Blocked(part) => lost(format!("lies under the file {:?}", display(&part))),
            Lost::Failed(source) => {
                Failed::System { action: "open the directory of the target of", source }.at(&entry.header.name)
            }
        })?;
        let target_name = OsStr::from_bytes(target_name);
        match from.stat(target_name) {
            Ok(stat) if stat.kind == FileKind::Dir => return Err(lost("is a directory".into())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(lost("is not in the layer, or comes after it".into()));
            }
            Err(source) => {
                return Err(Failed::System { action: "look at the target of", source }.at(&entry.header.name));
            }
        }
        self.maker.hard_link(&from, target_name, dir, name_of(path)).map_err(|failed| failed.at(&entry.header.name))?;
        self.settle(old)
    }

    fn small_file(&mut self, entry: &Entry, path: &Inside, dir: Arc<Dir>) -> Result<(), Error> {
        let len = entry.stored as usize;
        let batch = self.crew.batch_with_room(len)?;
        let start = batch.next();
        while let Some(slice) = self.tar.content_slice(len)? {
            self.split.content(&slice)?;
            batch.hold(slice);
        }
        let content = start..batch.next();
        self.crew.push(Op {
            dir,
            name: path.split().1.into(),
            entry: entry.header.name.as_slice().into(),
            what: What::File { meta: meta_of(entry), content, size: entry.header.size, sparse: entry.sparse.clone() },
        })
    }

    fn large_file(&mut self, entry: &Entry, path: &Inside, dir: Arc<Dir>) -> Result<(), Error> {
        let op = |what| Op {
            dir: dir.clone(),
            name: path.split().1.into(),
            entry: entry.header.name.as_slice().into(),
            what,
        };
        self.crew.send()?;
        self.crew.bind();
        self.crew.push(op(What::Begin { meta: meta_of(entry), size: entry.header.size }))?;
        let mut goes = Goes::new(entry);
        while let Some((at, len)) = goes.next(DATA) {
            let Some(slice) = self.tar.content_slice(len)? else { break };
            self.split.content(&slice)?;
            goes.advance(slice.len());
            let slice = self.crew.batch()?.hold(slice);
            self.crew.push(op(What::Piece { slice, at }))?;
        }
        self.crew.push(op(What::End))?;
        self.crew.unbind()
    }

    /// Hands out something without content.
    fn put(
        &mut self,
        entry: &Entry,
        path: &Inside,
        dir: Arc<Dir>,
        old: bool,
        what: impl FnOnce(Meta) -> What,
    ) -> Result<(), Error> {
        self.settle(old)?;
        self.crew.push(Op {
            dir,
            name: path.split().1.into(),
            entry: entry.header.name.as_slice().into(),
            what: what(meta_of(entry)),
        })?;
        self.settle(old)
    }

    /// Before and after work on a path that this layer may have made before: waits for all that is under way.
    fn settle(&mut self, old: bool) -> Result<(), Error> {
        if old {
            self.crew.wait()?;
            self.folder.forget();
            self.alias = None;
        }
        Ok(())
    }

    /// Returns the directory that holds `path`, and where `path` really is; makes the directory if the tar has not.
    ///
    /// A symbolic link on the way is followed inside the layer, as Docker, containerd and umoci follow it.
    fn locate(&mut self, entry: &Entry, path: Inside) -> Result<(Arc<Dir>, Inside), Error> {
        let (parent, name) = path.split();
        if let Some(alias) = &self.alias
            && alias.named.bytes() == parent
            && let Ok(dir) = self.folder.dir(alias.real.bytes())
        {
            return Ok((dir, alias.real.child(name)));
        }
        if let Ok(dir) = self.folder.dir(parent) {
            return Ok((dir, path));
        }
        let (dir, parent) = self.dir(entry, path.parent())?;
        let path = parent.child(name);
        Ok((dir, path))
    }

    /// Returns the directory `path`, and where it really is; makes it, and those above it, if the tar has not.
    fn dir(&mut self, entry: &Entry, path: Inside) -> Result<(Arc<Dir>, Inside), Error> {
        let (named, mut real, mut links) = (path.clone(), path, Vec::new());
        // Each round follows the links there are.
        loop {
            if let Some(dir) = self.dir_without_links(entry, &real)? {
                if !links.is_empty() {
                    self.alias = Some(Alias { named, real: real.clone(), links });
                }
                return Ok((dir, real));
            }
            // `..` in a target goes up from where the links before it lead: none of them may be under way.
            self.crew.wait()?;
            let (next, followed) = self.folder.real(&real).map_err(|error| unresolved(entry, error))?;
            links.extend(followed);
            real = next;
        }
    }

    /// As [`Self::dir`]; `None` if a symbolic link is on the way.
    fn dir_without_links(&mut self, entry: &Entry, path: &Inside) -> Result<Option<Arc<Dir>>, Error> {
        match self.folder.dir(path.bytes()) {
            Err(Lost::Missing | Lost::Whiteout) => {}
            Err(Lost::Link) => return Ok(None),
            found => return found.map(Some).map_err(|lost| blocked(entry, lost)),
        }
        for part in path.parts() {
            match self.folder.dir(part.bytes()) {
                Ok(_) => continue,
                Err(Lost::Missing | Lost::Whiteout) => {}
                Err(Lost::Link) => return Ok(None),
                Err(lost) => return Err(blocked(entry, lost)),
            }
            if self.seen.insert(&part) {
                // Something of this name may be under way: it is there after this, and then a directory or in the way.
                self.settle(true)?;
            }
            let above = self.folder.dir(part.split().0).map_err(|lost| blocked(entry, lost))?;
            match above.stat(name_of(&part)) {
                Ok(stat) if stat.kind == FileKind::Symlink => return Ok(None),
                Ok(stat) if stat.kind == FileKind::Dir || is_whiteout(&stat) => {}
                Ok(_) => return Err(blocked(entry, Lost::Blocked(part.bytes().to_vec()))),
                Err(_) => {}
            }
            let hidden = self.unhide(entry, &above, &part)?;
            let now = Time { secs: 0, nanos: 0 };
            let meta = Meta { mode: IMPLIED_MODE, uid: 0, gid: 0, accessed: now, modified: now, xattrs: Vec::new() };
            let at = |failed: Failed| failed.at(&entry.header.name);
            self.maker.dir(&above, name_of(&part), &meta).map_err(at)?;
            if hidden {
                self.hide_below(&above, &part).map_err(at)?;
            }
        }
        self.folder.dir(path.bytes()).map(Some).map_err(|lost| blocked(entry, lost))
    }

    /// Removes the AUFS whiteout that this layer has made of `path`, which is about to be made: it would hide that too.
    /// Returns whether there was one.
    fn unhide(&mut self, entry: &Entry, dir: &Dir, path: &Inside) -> Result<bool, Error> {
        let mark = path.whiteout();
        if !self.options.marks.are_names() || !self.seen.may_have(&mark) {
            return Ok(false);
        }
        self.settle(true)?;
        match dir.remove_file(name_of(&mark)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Failed::System { action: "remove the whiteout of", source }.at(&entry.header.name)),
        }
    }

    fn hide_below(&self, dir: &Dir, path: &Inside) -> Result<(), Failed> {
        self.maker.mark_opaque(&dir.open_dir(name_of(path)).during("open")?)
    }

    /// Refuses to remove a symbolic link through which this layer has brought content: by its name the content could not be found again.
    fn keep_links(&mut self, entry: &Entry, path: &Inside, replaced: Replaced) -> Result<(), Error> {
        let goes = |link: &&Inside| match replaced {
            Replaced::Link => **link == *path,
            Replaced::Tree => link.is_in(path),
            Replaced::Others => link.is_in(path) && !self.seen.contains(link.bytes()),
        };
        let Some(link) = self.followed.iter().find(goes) else { return Ok(()) };
        let target = self.folder.link_target(link).map_err(|error| unresolved(entry, error))?;
        if link == path && entry.header.kind == Kind::Symlink && target.as_ref() == Some(&entry.header.link) {
            return Ok(());
        }
        let reason = format!(
            "it removes the symbolic link {:?}, through which this same layer brings files; write the archive without the first of the two",
            display(link.bytes())
        );
        Err(refuse(entry, reason))
    }

    fn close_dirs(&mut self) -> Result<(), Error> {
        for (path, late) in std::mem::take(&mut self.late) {
            // One that was replaced by something else later on is gone, and with it all below it.
            let Ok(dir) = self.folder.dir(path.split().0) else { continue };
            let name = if path.is_root() { OsStr::new(".") } else { name_of(&path) };
            self.maker.close_dir(&dir, name, &late).map_err(|failed| failed.at(path.bytes()))?;
        }
        Ok(())
    }
}

/// Where the stored content of a large file goes, piece by piece.
struct Goes<'a> {
    extents: std::slice::Iter<'a, tar::Extent>,
    at: u64,
    left: u64,
}

impl<'a> Goes<'a> {
    fn new(entry: &'a Entry) -> Self {
        match &entry.sparse {
            Some(extents) => Self { extents: extents.iter(), at: 0, left: 0 },
            None => Self { extents: [].iter(), at: 0, left: entry.stored },
        }
    }

    /// The offset of the next piece, and its length of at most `most`.
    fn next(&mut self, most: usize) -> Option<(u64, usize)> {
        while self.left == 0 {
            let extent = self.extents.next()?;
            (self.at, self.left) = (extent.offset, extent.len);
        }
        Some((self.at, self.left.min(most as u64) as usize))
    }

    fn advance(&mut self, len: usize) {
        self.at += len as u64;
        self.left -= len as u64;
    }
}

fn refuse(entry: &Entry, reason: String) -> Error {
    Error::Refused { entry: display(&entry.header.name), reason }
}

fn blocked(entry: &Entry, lost: Lost) -> Error {
    match lost {
        Lost::Blocked(part) => refuse(entry, format!("it lies under the file {:?}", display(&part))),
        Lost::Missing | Lost::Link | Lost::Whiteout => {
            refuse(entry, "its directory went away while the layer was unpacked".into())
        }
        Lost::Failed(source) => Failed::System { action: "open the directory of", source }.at(&entry.header.name),
    }
}

/// What following the links of a path ended in.
fn unresolved(entry: &Entry, error: std::io::Error) -> Error {
    use rustix::io::Errno;
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => refuse(entry, "it lies under too many symbolic links".into()),
        Some(Errno::NOENT | Errno::NOTDIR) => {
            refuse(entry, "it lies under a symbolic link whose target goes up from what is no directory".into())
        }
        _ => Failed::System { action: "follow the symbolic links above", source: error }.at(&entry.header.name),
    }
}

/// Whether an entry is a directory: one of GNU tar's incremental archives (`D`) has a list of names for content.
fn is_dir(kind: Kind) -> bool {
    matches!(kind, Kind::Dir | Kind::Other(DUMP_DIR))
}

fn name_of(path: &Inside) -> &OsStr {
    OsStr::from_bytes(path.split().1)
}

fn meta_of(entry: &Entry) -> Meta {
    let header = &entry.header;
    let time = |time: tar::Time| Time { secs: time.secs, nanos: time.nanos };
    let mut xattrs = header.xattrs.clone();
    for (name, text) in [(acl::ACCESS, &header.acl_access), (acl::DEFAULT, &header.acl_default)] {
        let Some(text) = text else { continue };
        if xattrs.iter().any(|(other, _)| other == name.as_bytes()) {
            continue;
        }
        match acl::from_text(text) {
            Some(value) => xattrs.push((name.as_bytes().to_vec(), value)),
            None => {
                tracing::warn!(entry = %entry.display_name(), acl = %String::from_utf8_lossy(text), "an ACL in a layer was left out")
            }
        }
    }
    let modified = time(header.mtime);
    Meta {
        mode: header.mode & 0o7777,
        uid: header.uid,
        gid: header.gid,
        // Nothing is read before it is written: as Docker.
        accessed: header.atime.map_or(modified, time).max(modified),
        modified,
        xattrs,
    }
}
