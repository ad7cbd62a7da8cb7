//! AUFS's options.

use super::{Draft, OptionError, path, split};
use crate::{Access, Branch, mount::Change, mount::fields};

/// Parses one option; `false` if it is none of AUFS's.
pub(super) fn read(draft: &mut Draft, name: &[u8], value: Option<&[u8]>, option: &[u8]) -> Result<bool, OptionError> {
    if let Some(list) = branch_list(name, value, option) {
        let given = &mut draft.mount.union.branches;
        for text in split(list, b':') {
            let first = if given.is_empty() { Access::ReadWrite } else { Access::ReadOnly };
            given.push(branch(text, first, option)?);
        }
        return Ok(true);
    }
    if change(option)?.is_some() {
        return Err(OptionError::new(option, "changes a mounted union: give it with remount"));
    }
    match (name, value) {
        // Inode numbers are kept in memory while the mount lives.
        (b"xino", Some(_)) | (b"noxino" | b"trunc_xino" | b"notrunc_xino", None) => Ok(true),
        // These hold always.
        (b"plink" | b"dio" | b"dirperm1" | b"nosum" | b"nowarn_perm" | b"warn_perm" | b"verbose" | b"quiet", None) => {
            Ok(true)
        }
        (b"udba", Some(b"none" | b"reval")) | (b"create" | b"create_policy", Some(b"tdp" | b"top-down-parent")) => {
            Ok(true)
        }
        (b"udba", _) => Err(OptionError::new(
            option,
            "is not supported: changes below the union are noticed when a name is asked for (`reval`)",
        )),
        (b"create" | b"create_policy" | b"cpup" | b"copyup", _) => {
            Err(OptionError::new(option, "is not supported: everything new goes to the leftmost writable branch"))
        }
        (b"noplink", None) => {
            Err(OptionError::new(option, "is not supported: hard links are kept together over copy-up"))
        }
        _ => Ok(false),
    }
}

/// Whether a word without a value starts a list of branches: `br:DIR:…`.
pub(super) fn is_branch_list(name: &[u8]) -> bool {
    name.starts_with(b"br:") || name.starts_with(b"dirs:")
}

fn branch_list<'a>(name: &[u8], value: Option<&'a [u8]>, option: &'a [u8]) -> Option<&'a [u8]> {
    match (name, value) {
        (b"dirs" | b"br", Some(list)) => Some(list),
        _ => option.strip_prefix(b"br:").or_else(|| option.strip_prefix(b"dirs:")),
    }
}

/// `DIR` or `DIR=rw`.
fn branch(text: &[u8], default: Access, option: &[u8]) -> Result<Branch, OptionError> {
    let parts = split(text, b'=');
    let (dir, access) = match parts.split_last() {
        // The `=` belongs to a directory's name.
        Some((last, before)) if !before.is_empty() && !last.contains(&b'/') => {
            let access = std::str::from_utf8(last).ok().and_then(fields::access_of).ok_or_else(|| {
                let reason = format!(
                    "defaults a branch the permission `{}`: rw, ro, ro+wh, rr and rr+wh are known, and `\\=` stands for a = in a name",
                    String::from_utf8_lossy(last)
                );
                OptionError::new(option, reason)
            })?;
            (&text[..text.len() - last.len() - 1], access)
        }
        _ => (text, default),
    };
    if dir.is_empty() {
        return Err(OptionError::new(option, "names an empty directory"));
    }
    Ok(Branch { path: path(dir), access })
}

/// `add:INDEX:DIR[=rw]`, `append:…`, `prepend:…`, `del:DIR`, `mod:DIR=ro`; `=` may stand for the first colon.
pub(super) fn change(option: &[u8]) -> Result<Option<Change>, OptionError> {
    let Some(end) = option.iter().position(|&byte| byte == b':' || byte == b'=') else { return Ok(None) };
    let (name, rest) = (&option[..end], &option[end + 1..]);
    let new = |text| branch(text, Access::ReadOnly, option);
    Ok(Some(match name {
        b"add" | b"ins" => {
            let Some(colon) = rest.iter().position(|&byte| byte == b':') else {
                return Err(OptionError::new(option, "has the form add:INDEX:DIR[=rw|=ro]"));
            };
            let index = std::str::from_utf8(&rest[..colon]).ok().and_then(|text| text.parse().ok());
            let index = index.ok_or_else(|| OptionError::new(option, "has the form add:INDEX:DIR[=rw|=ro]"))?;
            Change::Insert { index, branch: new(&rest[colon + 1..])? }
        }
        b"append" => Change::Append { branch: new(rest)? },
        b"prepend" => Change::Insert { index: 0, branch: branch(rest, Access::ReadWrite, option)? },
        b"del" => Change::Remove { path: new(rest)?.path },
        b"mod" => {
            if split(rest, b'=').len() < 2 {
                return Err(OptionError::new(option, "has the form mod:DIR=rw or mod:DIR=ro"));
            }
            Change::SetAccess { branch: new(rest)? }
        }
        _ => return Ok(None),
    }))
}
