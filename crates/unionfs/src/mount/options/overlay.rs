//! Overlayfs's options.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use super::{Draft, OptionError, Request, path, split, switch};
use crate::{Access, Branch, Dialect, Durability, Metacopy, RedirectDir, Switch, Xattrs};

/// Parses one option; `false` if it is none of overlayfs's.
pub(super) fn read(draft: &mut Draft, name: &[u8], value: Option<&[u8]>, option: &[u8]) -> Result<bool, OptionError> {
    let union = &mut draft.mount.union;
    let choices = &mut union.options;
    match (name, value) {
        (b"lowerdir", Some(list)) => {
            for text in split(list, b':') {
                if text.is_empty() {
                    return Err(OptionError::new(
                        option,
                        "names an empty directory; data-only layers (`::`) are not honoured",
                    ));
                }
                union.branches.push(lower(path(text)));
            }
        }
        // Neither escapes nor a list.
        (b"lowerdir+", Some(text)) if !text.is_empty() => {
            union.branches.push(lower(OsString::from_vec(text.to_vec()).into()));
        }
        (b"upperdir", Some(text)) if !text.is_empty() => draft.upper = Some(path(text)),
        (b"workdir", Some(text)) if !text.is_empty() => union.work = Some(path(text)),
        (b"redirect_dir", Some(text)) => {
            choices.redirect_dir = match text {
                b"on" => RedirectDir::On,
                b"off" | b"follow" => RedirectDir::Follow,
                b"nofollow" => RedirectDir::NoFollow,
                _ => return Err(OptionError::new(option, "takes on, off, follow or nofollow")),
            }
        }
        (b"index", Some(_)) => choices.index = switch(name, value)?,
        (b"metacopy", Some(_)) => {
            choices.metacopy = match switch(name, value)? {
                Switch::On => Metacopy::Make,
                Switch::Off => Metacopy::Refuse,
            }
        }
        // Inode numbers are unique and constant in any case.
        (b"xino", Some(b"on" | b"off" | b"auto")) => {}
        (b"userxattr", None) => union.dialect = Dialect::Overlay { xattrs: Xattrs::User },
        (b"volatile", None) | (b"fsync", Some(b"volatile")) => choices.durability = Durability::Volatile,
        (b"fsync", Some(b"auto" | b"strict")) => choices.durability = Durability::CopyUpSynced,
        (b"nfs_export" | b"verity" | b"uuid", Some(b"off")) | (b"uuid", Some(b"null" | b"auto")) => {}
        (b"nfs_export", _) => {
            return Err(OptionError::new(
                option,
                "is not supported: a union in user space cannot be exported by NFS; the kernel's overlayfs can",
            ));
        }
        (b"verity", _) => {
            return Err(OptionError::new(option, "is not supported: digests are not checked when a file is read"));
        }
        (b"uuid", _) => return Err(OptionError::new(option, "is not supported: the union has no UUID of its own")),
        (b"datadir+", _) => return Err(OptionError::new(option, "is not supported: data-only layers are not known")),
        _ => return Ok(false),
    }
    Ok(true)
}

fn lower(path: PathBuf) -> Branch {
    Branch { path, access: Access::ReadOnly }
}

/// Completes the union once all options are parsed.
pub(super) fn finish(mut draft: Draft) -> Result<Request, OptionError> {
    let union = &mut draft.mount.union;
    if union.branches.is_empty() {
        return Err(OptionError::new(
            b"lowerdir",
            "is missing: lowerdir=DIR:DIR… names the lower layers, the topmost first",
        ));
    }
    if union.options.metacopy == Metacopy::Make {
        let why = match (union.options.redirect_dir, union.dialect) {
            (_, Dialect::Overlay { xattrs: Xattrs::User }) => {
                "cannot be had with `userxattr`: users could forge such files"
            }
            (RedirectDir::Follow | RedirectDir::NoFollow, _) => {
                "needs redirect_dir=on: a file without data that moves says where from"
            }
            _ => "",
        };
        if !why.is_empty() {
            return Err(OptionError::new(b"metacopy=on", why));
        }
    }
    match (draft.upper, &union.work) {
        (Some(path), Some(_)) => union.branches.insert(0, Branch { path, access: Access::ReadWrite }),
        (Some(_), None) => {
            return Err(OptionError::new(
                b"workdir",
                "is missing: an upper directory needs one, empty, on the same filesystem",
            ));
        }
        // The kernel ignores a work directory without an upper one.
        (None, _) => union.work = None,
    }
    Ok(Request::Mount(Box::new(draft.mount)))
}
