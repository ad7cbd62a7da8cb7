//! The image store: which images there are, what they are called, and how they come in and go out.
//!
//! | module | owns |
//! | --- | --- |
//! | [`layout`] | the names in `image/<driver>` |
//! | [`store`] | opening, creating, reading, removing |
//! | [`resolve`] | from what a user types to an image |
//! | [`tags`] | `repositories.json` |
//! | [`index`] | what `images` shows, cached so that it costs little with thousands of images |
//! | [`history`] | what each layer of an image came from |
//! | [`load`] | archives and layouts, Docker's and OCI's, into the store |
//! | [`save`] | images into an archive that is Docker's and OCI's at once |
//! | [`import`] | a root filesystem's tar becomes an image |
//! | [`verify`] | whether what lies on disk is what was written |
#![forbid(unsafe_code)]

pub mod error;
pub mod history;
pub mod import;
pub mod index;
pub mod layout;
pub mod load;
pub mod resolve;
pub mod save;
pub mod store;
pub mod tags;
pub mod verify;

pub use error::Error;
pub use index::{Damage, Listing, Summary};
pub use layout::Layout;
pub use store::{Config, Store};
pub use tags::Tags;
