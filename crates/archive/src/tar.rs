//! One tar reader and one tar writer.
//!
//! ```text
//! header block    512 bytes; before it, on demand: PAX `x`, GNU `L` and `K` blocks with their payloads     raw bytes
//! content         `stored` bytes, for a sparse file only the parts between its holes                      content
//! padding         zeros up to 512 bytes                                                        raw bytes, with the next header
//! …
//! end             two zero blocks, then whatever follows up to the end of the stream           raw bytes, then trailing bytes
//! ```
//!
//! The reader yields every byte of the stream exactly once, as raw header bytes, content and padding, so that tar-split can
//! rebuild it, and each entry decoded: ustar, GNU, PAX, sparse of every kind, base-256, names that are not UTF-8, global headers.
//! What a stream means is what Go's `archive/tar` makes of it, because Docker and the other tools of the field read images with it:
//! two readers that disagree where a header ends can be made to see different files.
//! The writer makes headers as Go's `archive/tar` makes them.
//!
//! ```no_run
//! # fn main() -> Result<(), strata_archive::Error> {
//! use strata_archive::{Limits, tar::Reader};
//! let mut tar = Reader::new(std::io::stdin(), &Limits::default());
//! while let Some(entry) = tar.next_entry()? {
//!     println!("{} {}", entry.display_name(), entry.header.size);
//!     loop {
//!         let chunk = tar.content()?;
//!         if chunk.is_empty() {
//!             break;
//!         }
//!     }
//! }
//! # Ok(()) }
//! ```

mod block;
mod entry;
pub(crate) mod path;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, Extent, Header, Kind, Time};
pub(crate) use reader::Buffer;
pub use reader::Reader;
pub use writer::Writer;
