//! The words of `-o`, as AUFS and overlayfs have them. What is not honoured is refused, with the reason.

mod aufs;
mod overlay;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use super::{Change, Mount, MountFlags};
use crate::{Config, Dialect, Options, Switch, Xattrs};

/// The words that the options are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Aufs,
    Overlay,
}

/// What `-o` asks for.
#[derive(Clone, Debug)]
pub enum Request {
    Mount(Box<Mount>),
    /// `remount`: what to change of a mounted union.
    Remount(Vec<Change>),
}

/// An option that is not honoured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the option `{option}` {reason}")]
pub struct OptionError {
    pub option: String,
    /// Goes on after the option's name.
    pub reason: String,
}

impl OptionError {
    fn new(option: &[u8], reason: impl Into<String>) -> Self {
        Self { option: String::from_utf8_lossy(option).into_owned(), reason: reason.into() }
    }
}

/// What has been read so far.
struct Draft {
    mount: Mount,
    upper: Option<PathBuf>,
    changes: Vec<Change>,
}

/// Reads the options of a mount; without `words` they are told apart by what they name.
///
/// Several `-o` are joined by commas. `\,`, `\:` and `\=` stand for the characters themselves, as the kernel has it.
pub fn parse(words: Option<Words>, options: &OsStr, source: &OsStr) -> Result<Request, OptionError> {
    let options = options.as_bytes();
    let list: Vec<&[u8]> = split(options, b',').into_iter().filter(|option| !option.is_empty()).collect();
    let words = match words {
        Some(words) => words,
        None => guess(&list)?,
    };
    let dialect = match words {
        Words::Aufs => Dialect::Aufs,
        Words::Overlay => Dialect::Overlay { xattrs: Xattrs::Trusted },
    };
    let config = Config { branches: Vec::new(), dialect, work: None, options: Options::default() };
    let mut mount = Mount::new(config);
    mount.source = source.to_owned();
    let mut draft = Draft { mount, upper: None, changes: Vec::new() };
    let remount = list.contains(&b"remount".as_slice());
    for option in list {
        let (name, value) = pair(option);
        let known = match words {
            Words::Aufs => aufs::read(&mut draft, name, value, option, remount)?,
            Words::Overlay => overlay::read(&mut draft, name, value, option)?,
        };
        if !known && !general(&mut draft.mount, name, value)? {
            return Err(OptionError::new(option, "is not known"));
        }
    }
    match words {
        Words::Aufs if remount => Ok(Request::Remount(draft.changes)),
        Words::Aufs if draft.mount.union.branches.is_empty() => Err(OptionError::new(
            b"dirs",
            "is missing: dirs=FOLDER[=rw|=ro]:FOLDER… names the branches, the topmost first",
        )),
        Words::Aufs => Ok(Request::Mount(Box::new(draft.mount))),
        Words::Overlay if remount => {
            Err(OptionError::new(b"remount", "cannot change an overlay: unmount it and mount it anew"))
        }
        Words::Overlay => overlay::finish(draft),
    }
}

/// The options that any filesystem takes. `false` if it is none.
fn general(mount: &mut Mount, name: &[u8], value: Option<&[u8]>) -> Result<bool, OptionError> {
    let flags = &mut mount.flags;
    match (name, value) {
        (b"ro", None) => *flags |= MountFlags::RDONLY,
        (b"rw", None) => *flags -= MountFlags::RDONLY,
        (b"nodev", None) => *flags |= MountFlags::NODEV,
        (b"dev", None) => *flags -= MountFlags::NODEV,
        (b"nosuid", None) => *flags |= MountFlags::NOSUID,
        (b"suid", None) => *flags -= MountFlags::NOSUID,
        (b"noexec", None) => *flags |= MountFlags::NOEXEC,
        (b"exec", None) => *flags -= MountFlags::NOEXEC,
        (b"noatime", None) => *flags |= MountFlags::NOATIME,
        (b"atime", None) => *flags -= MountFlags::NOATIME,
        // What `mount` and `systemd` say to each other, and what holds anyway.
        (
            b"defaults"
            | b"auto"
            | b"noauto"
            | b"nofail"
            | b"_netdev"
            | b"relatime"
            | b"diratime"
            | b"allow_other"
            | b"default_permissions"
            | b"remount",
            None,
        ) => {}
        _ if name.starts_with(b"x-") || name == b"comment" => {}
        (b"passthrough", Some(_)) => mount.passthrough = switch(name, value)?,
        (b"awake", Some(_)) => mount.awake = switch(name, value)?,
        (b"threads", Some(text)) => {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            let number = number.filter(|number| (1..=256).contains(number));
            mount.threads = Some(number.ok_or_else(|| OptionError::new(name, "takes a number from 1 to 256"))?);
        }
        (b"log", Some(text)) => mount.log = Some(path(text)),
        _ => return Ok(false),
    }
    Ok(true)
}

fn guess(list: &[&[u8]]) -> Result<Words, OptionError> {
    for option in list {
        match pair(option).0 {
            b"dirs" | b"br" => return Ok(Words::Aufs),
            b"lowerdir" | b"lowerdir+" | b"upperdir" => return Ok(Words::Overlay),
            name if aufs::is_branch_list(name) => return Ok(Words::Aufs),
            _ => {}
        }
    }
    Err(OptionError::new(b"lowerdir", "is missing, and `dirs` too: one of them names the folders of the union"))
}

fn switch(name: &[u8], value: Option<&[u8]>) -> Result<Switch, OptionError> {
    match value {
        Some(b"on") => Ok(Switch::On),
        Some(b"off") => Ok(Switch::Off),
        _ => Err(OptionError::new(name, "takes `on` or `off`")),
    }
}

/// `NAME=VALUE` or `NAME`.
fn pair(option: &[u8]) -> (&[u8], Option<&[u8]>) {
    match option.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&option[..equals], Some(&option[equals + 1..])),
        None => (option, None),
    }
}

/// Splits at `separator`, but not where a backslash stands before it; backslashes stay.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        if text[at] == b'\\' {
            at += 1;
        } else if text[at] == separator {
            parts.push(&text[start..at]);
            start = at + 1;
        }
        at += 1;
    }
    parts.push(&text[start..]);
    parts
}

/// Takes backslashes off.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    out
}

fn path(text: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(text)).into()
}

#[cfg(test)]
mod tests;
