//! Output in Docker's formats: Go templates, tables, sizes and times.

pub mod json;
pub mod list;
pub mod table;
pub mod template;
pub mod units;
