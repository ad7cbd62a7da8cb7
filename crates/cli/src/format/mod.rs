//! How results are shown: Go templates, tables, sizes and times, in Docker's words.

pub mod json;
pub mod list;
pub mod table;
pub mod template;
pub mod units;
