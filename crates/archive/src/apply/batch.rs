//! Work for the threads that make files: many small files at a time, large files piece by piece.

use std::{
    ffi::OsStr,
    fs::File,
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use strata_sys::tree::{Device, Dir, Kind};

use super::make::{During, Failed, HOLE, Maker, Meta};
use crate::{
    Error,
    piece::{PIECE, Slice},
    tar::Extent,
};

/// Bytes of content in one batch; also the largest file that is not streamed.
pub(super) const DATA: usize = PIECE;
/// Pieces of the stream that a batch of small files may hold: another file may add two. Far fewer than there are, or the stream would stop.
const HELD: usize = 3;
/// Files in one batch.
const OPS: usize = 128;
/// Bytes of attributes and link texts in one batch.
const WEIGHT: usize = 64 * 1024;
/// Directories that one batch may hold open.
const DIRS: usize = 16;
/// Batches there are at most.
const BATCHES: usize = 12;

/// Something to make, at a path where nothing of this layer is.
pub(super) struct Op {
    pub dir: Arc<Dir>,
    pub name: Box<[u8]>,
    /// The entry's whole name, for errors.
    pub entry: Box<[u8]>,
    pub what: What,
}

pub(super) enum What {
    /// A whole file; its stored content is that of several slices of the batch.
    File {
        meta: Meta,
        content: Range<usize>,
        size: u64,
        sparse: Option<Vec<Extent>>,
    },
    /// A large file begins: all its pieces go to the same thread, in order.
    Begin {
        meta: Meta,
        size: u64,
    },
    /// A slice of it, by its place in the batch, and where it goes.
    Piece {
        slice: usize,
        at: u64,
    },
    /// It is whole.
    End,
    Symlink {
        meta: Meta,
        target: Vec<u8>,
    },
    Node {
        meta: Meta,
        kind: Kind,
        dev: Device,
    },
    Whiteout {
        meta: Meta,
    },
}

impl Op {
    fn weight(&self) -> usize {
        let (meta, text) = match &self.what {
            What::File { meta, .. } | What::Begin { meta, .. } => (meta, 0),
            What::Node { meta, .. } | What::Whiteout { meta } => (meta, 0),
            What::Symlink { meta, target } => (meta, target.len()),
            What::Piece { .. } | What::End => return 0,
        };
        text + meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Files on their way to a thread, and back when done.
pub(super) struct Batch {
    pub ops: Vec<Op>,
    /// The content, as it lies in the stream.
    slices: Vec<Slice>,
    /// Bytes of it.
    used: usize,
    /// Pieces that it keeps from being used again.
    held: usize,
    dirs: usize,
    /// Bytes of attributes and link texts: each may be as long as the limits allow.
    weight: usize,
    failed: Option<Error>,
}

impl Batch {
    fn new() -> Self {
        Self { ops: Vec::new(), slices: Vec::new(), used: 0, held: 0, dirs: 0, weight: 0, failed: None }
    }

    pub fn room(&self) -> usize {
        DATA.saturating_sub(self.used)
    }

    /// Adds content; returns its place.
    pub fn hold(&mut self, slice: Slice) -> usize {
        self.used += slice.len();
        if !self.slices.last().is_some_and(|last| Arc::ptr_eq(&last.piece, &slice.piece)) {
            self.held += 1;
        }
        self.slices.push(slice);
        self.slices.len() - 1
    }

    /// The place of what is added next.
    pub fn next(&self) -> usize {
        self.slices.len()
    }

    fn push(&mut self, op: Op) {
        if !self.ops.last().is_some_and(|last| Arc::ptr_eq(&last.dir, &op.dir)) {
            self.dirs += 1;
        }
        self.weight += op.weight();
        self.ops.push(op);
    }

    fn is_full(&self) -> bool {
        self.ops.len() >= OPS || self.dirs >= DIRS || self.used >= DATA || self.held >= HELD || self.weight > WEIGHT
    }

    /// Makes what is in it, up to the first that fails, and empties it; whether all went well.
    fn make(&mut self, maker: &Maker, large: &mut Option<Large>) -> bool {
        let failed = |op: &Op| Some(run(maker, op, &self.slices, large).err()?.at(&op.entry));
        self.failed = self.ops.iter().find_map(failed);
        self.clear();
        self.failed.is_none()
    }

    fn clear(&mut self) {
        self.ops.clear();
        self.slices.clear();
        self.used = 0;
        self.held = 0;
        self.dirs = 0;
        self.weight = 0;
    }
}

/// The sending side: fills batches and hands them out.
pub(super) struct Crew<'a> {
    maker: &'a Maker,
    workers: Vec<Sender<Batch>>,
    /// Those of workers that have had nothing to do yet.
    posts: Vec<Option<Post>>,
    /// Starts a worker's thread.
    hire: Box<dyn Fn(Post) + Send + 'a>,
    done: Receiver<Batch>,
    current: Option<Batch>,
    made: usize,
    /// Batches with the workers.
    out: usize,
    /// The worker that has the large file.
    bound_to: Option<usize>,
}

/// What a worker thread runs on.
pub(super) struct Post {
    work: Receiver<Batch>,
    done: Sender<Batch>,
}

impl<'a> Crew<'a> {
    /// A crew of up to `count` threads, each started by `hire` when there is work for it.
    pub fn new(count: usize, maker: &'a Maker, hire: impl Fn(Post) + Send + 'a) -> Self {
        let (done_out, done) = bounded(BATCHES);
        let (workers, posts) = (0..count)
            .map(|_| {
                let (send, work) = bounded(BATCHES);
                (send, Some(Post { work, done: done_out.clone() }))
            })
            .unzip();
        Self { maker, workers, posts, hire: Box::new(hire), done, current: None, made: 0, out: 0, bound_to: None }
    }

    /// The batch being filled.
    pub fn batch(&mut self) -> Result<&mut Batch, Error> {
        if self.current.is_none() {
            let batch = match self.done.try_recv() {
                Ok(batch) => self.take_back(batch)?,
                Err(_) if self.made < BATCHES => {
                    self.made += 1;
                    Batch::new()
                }
                Err(_) => self.wait_for_one()?,
            };
            self.current = Some(batch);
        }
        Ok(self.current.as_mut().expect("filled just above"))
    }

    /// A batch with room for `len` bytes, at most [`DATA`].
    pub fn batch_with_room(&mut self, len: usize) -> Result<&mut Batch, Error> {
        if self.batch()?.room() < len {
            self.send()?;
        }
        self.batch()
    }

    /// Adds `op` to the batch, and sends that if it is full.
    pub fn push(&mut self, op: Op) -> Result<(), Error> {
        let batch = self.batch()?;
        batch.push(op);
        if batch.is_full() { self.send() } else { Ok(()) }
    }

    /// From here until [`Crew::unbind`], all goes to one thread, in order.
    pub fn bind(&mut self) {
        self.bound_to = Some(self.least_busy());
    }

    /// Ends what [`Crew::bind`] began; the last of it is sent.
    pub fn unbind(&mut self) -> Result<(), Error> {
        self.send()?;
        self.bound_to = None;
        Ok(())
    }

    /// Sends the batch.
    pub fn send(&mut self) -> Result<(), Error> {
        let Some(batch) = self.current.take() else { return Ok(()) };
        let worker = self.bound_to.unwrap_or_else(|| self.least_busy());
        self.out += 1;
        if let Some(post) = self.posts[worker].take() {
            (self.hire)(post);
        }
        // A worker ends only when the crew is dropped, or by a panic, which the scope of the threads passes on.
        self.workers[worker].send(batch).map_err(|_| gone())
    }

    /// Waits until all is done. What no worker has begun to do, and nothing else is under way, is done here.
    pub fn wait(&mut self) -> Result<(), Error> {
        if self.out == 0
            && let Some(batch) = &mut self.current
        {
            batch.make(self.maker, &mut None);
            return batch.failed.take().map_or(Ok(()), Err);
        }
        if self.current.as_ref().is_some_and(|batch| !batch.ops.is_empty()) {
            self.send()?;
        }
        while self.out > 0 {
            let batch = self.wait_for_one()?;
            if self.current.is_none() {
                self.current = Some(batch);
            } else {
                // The channel has room for all batches there are.
                self.made -= 1;
            }
        }
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<Batch, Error> {
        let batch = self.done.recv().map_err(|_| gone())?;
        self.take_back(batch)
    }

    fn take_back(&mut self, mut batch: Batch) -> Result<Batch, Error> {
        self.out -= 1;
        match batch.failed.take() {
            Some(error) => Err(error),
            None => Ok(batch),
        }
    }

    fn least_busy(&self) -> usize {
        (0..self.workers.len()).min_by_key(|&worker| self.workers[worker].len()).unwrap_or(0)
    }
}

fn gone() -> Error {
    Error::Stream { action: "write the files", source: std::io::Error::other("a thread that writes files has ended") }
}

/// A large file being written.
struct Large {
    file: File,
    meta: Meta,
    size: u64,
    /// The end of what was really written.
    written: u64,
}

impl Post {
    /// Makes files until the crew is dropped.
    pub fn run(self, maker: &Maker) {
        let mut large = None;
        let mut failed = false;
        for mut batch in self.work {
            if failed {
                batch.clear();
            } else {
                failed = !batch.make(maker, &mut large);
            }
            if self.done.send(batch).is_err() {
                return;
            }
        }
    }
}

fn run(maker: &Maker, op: &Op, slices: &[Slice], large: &mut Option<Large>) -> Result<(), Failed> {
    let name = OsStr::from_bytes(&op.name);
    match &op.what {
        What::File { meta, content, size, sparse } => {
            let file = maker.create(&op.dir, name, meta.mode)?;
            write_small(&file, &slices[content.clone()], *size, sparse.as_deref()).during("write")?;
            maker.finish(&file, meta, *size)
        }
        What::Begin { meta, size } => {
            let file = maker.create(&op.dir, name, meta.mode)?;
            *large = Some(Large { file, meta: meta.clone(), size: *size, written: 0 });
            Ok(())
        }
        What::Piece { slice, at } => {
            let large = large.as_mut().expect("a piece comes after its file's beginning, to the same thread");
            large.write(&slices[*slice], *at).during("write")
        }
        What::End => {
            let large = large.take().expect("an end comes after its file's beginning, to the same thread");
            if large.written < large.size {
                large.file.set_len(large.size).during("set the size of")?;
            }
            maker.finish(&large.file, &large.meta, large.size)
        }
        What::Symlink { meta, target } => maker.symlink(&op.dir, name, target, meta),
        What::Node { meta, kind, dev } => maker.node(&op.dir, name, *kind, *dev, meta),
        What::Whiteout { meta } => maker.whiteout(&op.dir, name, meta),
    }
}

fn write_small(file: &File, content: &[Slice], size: u64, sparse: Option<&[Extent]>) -> std::io::Result<()> {
    let whole = [Extent { offset: 0, len: size }];
    let mut extents = match sparse {
        Some(extents) => {
            file.set_len(size)?;
            extents.iter()
        }
        None => whole.iter(),
    };
    // Where the next byte goes, and how many go there.
    let (mut at, mut left) = (0, 0);
    for mut rest in content.iter().map(|slice| &slice[..]) {
        while !rest.is_empty() {
            if left == 0 {
                let Some(extent) = extents.next() else { return Ok(()) };
                (at, left) = (extent.offset, extent.len);
                continue;
            }
            let (part, more) = rest.split_at(usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len())));
            file.write_all_at(part, at)?;
            (at, left, rest) = (at + part.len() as u64, left - part.len() as u64, more);
        }
    }
    Ok(())
}

impl Large {
    /// Writes a piece; blocks of zeros, at multiples of their size, become holes, and so do what parts of them a piece begins or ends with.
    fn write(&mut self, piece: &[u8], at: u64) -> std::io::Result<()> {
        let mut from = 0;
        let mut to = 0;
        while to < piece.len() {
            let block = HOLE - (at as usize + to) % HOLE;
            let block = &piece[to..piece.len().min(to + block)];
            if is_zero(block) {
                self.flush(&piece[from..to], at + from as u64)?;
                from = to + block.len();
            }
            to += block.len();
        }
        self.flush(&piece[from.min(piece.len())..], at + from as u64)?;
        Ok(())
    }

    fn flush(&mut self, bytes: &[u8], at: u64) -> std::io::Result<()> {
        if !bytes.is_empty() {
            self.file.write_all_at(bytes, at)?;
            self.written = at + bytes.len() as u64;
        }
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    // Data gives itself away by its first bytes; only what looks empty is read in full.
    block[0] == 0 && block.iter().all(|&byte| byte == 0)
}
