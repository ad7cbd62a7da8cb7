//! The options of `-o`, as AUFS and overlayfs spell them. An option that is not supported is refused with the reason.

mod aufs;
mod general;
mod overlay;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

pub use general::{Flags, divide};

use super::{Change, Mount, MountFlags};
use crate::{Config, Dialect, Options, Switch, Xattrs};

/// The filesystem whose options are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// AUFS.
    Aufs,
    /// The kernel's overlayfs.
    Overlay,
}

/// A parsed `-o`.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new mount.
    Mount(Box<Mount>),
    /// `remount`: changes of a mounted union.
    Remount(Box<Remount>),
}

/// The changes of a remount.
#[derive(Clone, Debug)]
pub struct Remount {
    /// Changes of branches, in order.
    pub changes: Vec<Change>,
    /// Changes of the mount flags.
    pub flags: Flags,
    /// Options that cannot change. `mount` repeats them from fstab and the mount table, so they may have their present values.
    pub repeated: Vec<OsString>,
}

/// An option that is not supported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the option `{option}` {reason}")]
pub struct OptionError {
    /// The option.
    pub option: String,
    /// The reason, which continues the sentence that the option's name begins.
    pub reason: String,
}

impl OptionError {
    fn new(option: &[u8], reason: impl Into<String>) -> Self {
        Self { option: String::from_utf8_lossy(option).into_owned(), reason: reason.into() }
    }
}

/// The options parsed so far.
struct Draft {
    mount: Mount,
    upper: Option<PathBuf>,
    changes: Vec<Change>,
    flags: Flags,
}

/// Whether options include `remount`.
pub fn is_remount(options: &OsStr) -> bool {
    split(options.as_bytes(), b',').contains(&b"remount".as_slice())
}

/// Parses the options of a mount; without `words`, the options themselves tell the filesystem.
///
/// Several `-o` are joined by commas. `\,`, `\:` and `\=` stand for the characters themselves, as in the kernel.
pub fn parse(words: Option<Words>, options: &OsStr, source: &OsStr) -> Result<Request, OptionError> {
    let list: Vec<&[u8]> = split(options.as_bytes(), b',').into_iter().filter(|option| !option.is_empty()).collect();
    let words = match words {
        Some(words) => words,
        None => guess(&list)?,
    };
    let remount = is_remount(options);
    let mut draft = Draft::new(words);
    draft.mount.source = source.to_owned();
    let mut repeated = Vec::new();
    for option in list {
        if draft.flags.read(option) {
            continue;
        }
        if !remount {
            draft.read(words, option)?;
        } else if words == Words::Aufs
            && let Some(change) = aufs::change(option)?
        {
            draft.changes.push(change);
        } else {
            // Checks that the option exists and has a valid value.
            Draft::new(words).read(words, option)?;
            repeated.push(OsString::from_vec(option.to_vec()));
        }
    }
    if remount {
        return Ok(Request::Remount(Box::new(Remount { changes: draft.changes, flags: draft.flags, repeated })));
    }
    draft.mount.flags = draft.flags.over(MountFlags::empty());
    match words {
        Words::Aufs if draft.mount.union.branches.is_empty() => {
            Err(OptionError::new(b"dirs", "is missing: dirs=DIR[=rw|=ro]:DIR… names the branches, the topmost first"))
        }
        Words::Aufs => Ok(Request::Mount(Box::new(draft.mount))),
        Words::Overlay => overlay::finish(draft),
    }
}

/// Whether an option concerns unions in user space alone.
pub fn is_of_ours(option: &[u8]) -> bool {
    matches!(pair(option), (b"passthrough" | b"awake" | b"threads" | b"log", Some(_)))
}

/// Refuses the first of the `repeated` options of a remount that differs from `mounted`.
pub(super) fn check_repeated(mounted: &Mount, repeated: &[OsString]) -> Result<(), OptionError> {
    let words = match mounted.union.dialect {
        Dialect::Aufs => Words::Aufs,
        Dialect::Overlay { .. } => Words::Overlay,
    };
    let place = |path: &PathBuf| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    for option in repeated {
        let mut draft = Draft { mount: mounted.clone(), ..Draft::new(words) };
        draft.mount.union.branches.clear();
        draft.read(words, option.as_bytes())?;
        let given = draft.mount.union.branches.iter().map(|branch| &branch.path).chain(&draft.upper);
        let mut known = mounted.union.branches.iter().map(|branch| place(&branch.path));
        for dir in given {
            if !known.any(|known| known == place(dir)) {
                let reason = match words {
                    Words::Aufs => {
                        "names a directory that is no branch of the mounted union, or not in its place: a remount changes branches by \
                         add:, del:, mod:, append: and prepend: (`mount` repeats what fstab says, unless it is given the source too)"
                    }
                    Words::Overlay => {
                        "names a directory that is no layer of the mounted union: unmount it and mount it anew"
                    }
                };
                return Err(OptionError::new(option.as_bytes(), reason));
            }
        }
        let all = |mount: &Mount| {
            let Mount {
                union: Config { branches: _, dialect, work, options }, passthrough, awake, threads, log, ..
            } = mount;
            let paths = (work.as_ref().and_then(place), log.as_ref().and_then(place));
            (*dialect, *options, *passthrough, *awake, *threads, paths)
        };
        if all(&draft.mount) != all(mounted) {
            return Err(OptionError::new(
                option.as_bytes(),
                "cannot be changed by a remount: unmount the union and mount it anew",
            ));
        }
    }
    Ok(())
}

/// As [`check_repeated`], for the kernel's overlayfs, whose options are `mounted`.
pub(super) fn check_kernels(mounted: &str, wanted: &Remount) -> Result<(), OptionError> {
    let holds = |option: &OsString| mounted.split(',').any(|known| known.as_bytes() == option.as_bytes());
    match wanted.repeated.iter().find(|option| !holds(option)) {
        Some(option) => Err(OptionError::new(
            option.as_bytes(),
            "cannot be changed by a remount of the kernel's overlayfs: unmount it and mount it anew",
        )),
        None => Ok(()),
    }
}

impl Draft {
    fn new(words: Words) -> Self {
        let dialect = match words {
            Words::Aufs => Dialect::Aufs,
            Words::Overlay => Dialect::Overlay { xattrs: Xattrs::Trusted },
        };
        let config = Config { branches: Vec::new(), dialect, work: None, options: Options::default() };
        Self { mount: Mount::new(config), upper: None, changes: Vec::new(), flags: Flags::default() }
    }

    /// Parses one option that is no flag.
    fn read(&mut self, words: Words, option: &[u8]) -> Result<(), OptionError> {
        let (name, value) = pair(option);
        let known = match words {
            Words::Aufs => aufs::read(self, name, value, option)?,
            Words::Overlay => overlay::read(self, name, value, option)?,
        };
        if known || ours(&mut self.mount, name, value)? {
            return Ok(());
        }
        Err(OptionError::new(option, "is not known"))
    }
}

/// Parses an option of unions in user space; `false` for others.
fn ours(mount: &mut Mount, name: &[u8], value: Option<&[u8]>) -> Result<bool, OptionError> {
    match (name, value) {
        // The kernel shows these of a FUSE mount and `mount` repeats them; they hold always.
        (b"allow_other" | b"default_permissions", None) => {}
        (b"user_id", Some(id)) if id == strata_sys::process::effective_uid().to_string().as_bytes() => {}
        (b"group_id", Some(id)) if id == strata_sys::process::effective_gid().to_string().as_bytes() => {}
        (b"user_id" | b"group_id", _) => {
            return Err(OptionError::new(name, "is not supported: a union is of whoever mounts it"));
        }
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
    Err(OptionError::new(b"lowerdir", "is missing, and `dirs` too: one of them names the directories of the union"))
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

/// Removes backslashes.
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
