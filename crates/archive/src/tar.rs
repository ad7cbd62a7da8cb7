//! One tar reader and one tar writer.
//!
//! The reader yields every byte of the stream exactly once, as raw header bytes, content and padding, so that tar-split can
//! rebuild it, and each entry decoded: ustar, GNU, PAX, sparse of every kind, base-256, names that are not UTF-8, global headers.
//! The writer makes headers as Go's `archive/tar` makes them.
