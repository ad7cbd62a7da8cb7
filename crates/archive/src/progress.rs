//! How far a long operation is: the libraries say it, the front doors show it.

/// Receives progress; called from several threads.
pub trait Progress: Send + Sync {
    /// A unit of work begins: a layer, named by its short digest, with its size in bytes if known.
    fn begin(&self, item: &str, action: &str, total: Option<u64>);
    /// `bytes` more of `item` are done.
    fn advance(&self, item: &str, bytes: u64);
    /// `item` is finished; `outcome` is a word such as `Loaded` or `Already exists`.
    fn finish(&self, item: &str, outcome: &str);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn finish(&self, _: &str, _: &str) {}
}
