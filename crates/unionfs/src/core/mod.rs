//! The union without FUSE: its branches, its nodes, and the operations of a filesystem.
//!
//! | module | owns |
//! | --- | --- |
//! | `union` | [`Union`](crate::Union): its locks, where a node lies, attributes |
//! | `assemble` | opening the branches and the work directory |
//! | `branch` | open branches, the work directory |
//! | `rebranch` | changing the branches of an open union |
//! | `nodes` | the table of known nodes and their names |
//! | `lookup` | which branches hold a name |
//! | `list` | reading directories |
//! | `handle` | open files |
//! | `attr`, `flags`, `acl` | attributes, inode flags, access control lists |
//! | `copy_up` | giving a lower object its copy in the writable branch |
//! | `create`, `remove`, `rename` | changing names |
//! | `raw` | system calls relative to a directory |

pub(crate) mod acl;
pub(crate) mod assemble;
pub(crate) mod attr;
pub(crate) mod branch;
pub(crate) mod copy_up;
pub(crate) mod create;
pub(crate) mod flags;
pub(crate) mod handle;
pub(crate) mod list;
pub(crate) mod lookup;
pub(crate) mod nodes;
pub(crate) mod raw;
pub(crate) mod rebranch;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod union;
