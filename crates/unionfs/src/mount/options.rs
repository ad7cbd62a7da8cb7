//! The words of `-o`, as AUFS and overlayfs have them. What is not honoured is refused, with the reason.

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
    Remount(Box<Remount>),
}

/// What a remount asks for.
#[derive(Clone, Debug)]
pub struct Remount {
    /// Of the branches, one after the other.
    pub changes: Vec<Change>,
    /// Of the mount.
    pub flags: Flags,
    /// Options that cannot be changed. `mount` repeats those in fstab and in the table of mounts, so they are fine where they hold already.
    pub repeated: Vec<OsString>,
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
    flags: Flags,
}

/// Whether options ask to change what is mounted.
pub fn is_remount(options: &OsStr) -> bool {
    split(options.as_bytes(), b',').contains(&b"remount".as_slice())
}

/// Reads the options of a mount; without `words` they are told apart by what they name.
///
/// Several `-o` are joined by commas. `\,`, `\:` and `\=` stand for the characters themselves, as the kernel has it.
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
            // Whether it is one at all, and what it says, must be known.
            Draft::new(words).read(words, option)?;
            repeated.push(OsString::from_vec(option.to_vec()));
        }
    }
    if remount {
        return Ok(Request::Remount(Box::new(Remount { changes: draft.changes, flags: draft.flags, repeated })));
    }
    draft.mount.flags = draft.flags.over(MountFlags::empty());
    match words {
        Words::Aufs if draft.mount.union.branches.is_empty() => Err(OptionError::new(
            b"dirs",
            "is missing: dirs=FOLDER[=rw|=ro]:FOLDER… names the branches, the topmost first",
        )),
        Words::Aufs => Ok(Request::Mount(Box::new(draft.mount))),
        Words::Overlay => overlay::finish(draft),
    }
}

/// Whether an option is for a union in user space alone: the kernel's has no such thing.
pub fn is_of_ours(option: &[u8]) -> bool {
    matches!(pair(option), (b"passthrough" | b"awake" | b"threads" | b"log", Some(_)))
}

/// Refuses the first of the `repeated` options of a remount that says other than what holds in `mounted`.
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
        for folder in given {
            if !known.any(|known| known == place(folder)) {
                let reason = match words {
                    Words::Aufs => {
                        "names a folder that is no branch of the mounted union, or not in its place: a remount changes branches by \
                         add:, del:, mod:, append: and prepend: (`mount` repeats what fstab says, unless it is given the source too)"
                    }
                    Words::Overlay => {
                        "names a folder that is no layer of the mounted union: unmount it and mount it anew"
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

    /// Reads one option of the union; no flag.
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

/// The options of a union in user space. `false` if it is none.
fn ours(mount: &mut Mount, name: &[u8], value: Option<&[u8]>) -> Result<bool, OptionError> {
    match (name, value) {
        // What the kernel shows of such mounts, and `mount` repeats; all of it holds anyway.
        (b"allow_other" | b"default_permissions", None) => {}
        (b"user_id", Some(id)) if id == strata_sys::process::effective_uid().to_string().as_bytes() => {}
        (b"group_id", Some(id)) if id == strata_sys::process::effective_gid().to_string().as_bytes() => {}
        (b"user_id" | b"group_id", _) => {
            return Err(OptionError::new(name, "is not honoured: a union is of whoever mounts it"));
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
