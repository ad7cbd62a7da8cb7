//! What a union remembers to answer sooner. Everything here is bounded, and can be dropped at any time.
//!
//! | module | owns |
//! | --- | --- |
//! | `descriptors` | open directories of the branches |
//! | `attributes` | attributes of read-only directories, from the listing of their parent |
//! | `listings` | directories that are being listed, and the order of their names |
//! | `inode_numbers` | the numbers that `stat` shows |
//! | `read_ahead` | reading files ahead of a program that walks a tree |

pub(crate) mod attributes;
pub(crate) mod descriptors;
pub(crate) mod inode_numbers;
pub(crate) mod listings;
pub(crate) mod read_ahead;
