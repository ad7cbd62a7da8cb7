//! Lists of names and values as bytes: `name=value` and a zero byte each. A value has any bytes but zero, as a path does.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::{Access, Branch, Dialect, Xattrs};

/// Names and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    /// Adds a value. `name` has no `=`, `value` no zero byte.
    pub fn put(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    pub fn put_path(&mut self, name: &str, path: &Path) {
        self.put(name, path.as_os_str().as_bytes());
    }

    pub fn put_branch(&mut self, branch: &Branch) {
        self.put_path(&format!("branch:{}", access_name(branch.access)), &branch.path);
    }

    pub fn put_dialect(&mut self, dialect: Dialect) {
        let name = match dialect {
            Dialect::Aufs => "aufs",
            Dialect::Overlay { xattrs: Xattrs::Trusted } => "overlay",
            Dialect::Overlay { xattrs: Xattrs::User } => "overlay:user",
        };
        self.put("dialect", name);
    }

    /// Adds all of `other` under names that begin with `prefix`.
    pub fn put_all(&mut self, prefix: &str, other: &Self) {
        self.0.extend(other.0.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone())));
    }

    /// Returns the fields whose names begin with `prefix`, without the prefix.
    pub fn under(&self, prefix: &str) -> Self {
        let own = |(name, value): &(String, Vec<u8>)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()));
        Self(self.0.iter().filter_map(own).collect())
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(OsString::from_vec(self.get(name)?.to_vec()).into())
    }

    pub fn branches(&self) -> Vec<Branch> {
        let branch = |(name, value): &(String, Vec<u8>)| {
            let access = access_of(name.strip_prefix("branch:")?)?;
            Some(Branch { path: OsString::from_vec(value.clone()).into(), access })
        };
        self.0.iter().filter_map(branch).collect()
    }

    pub fn dialect(&self) -> Option<Dialect> {
        match self.text("dialect")? {
            "aufs" => Some(Dialect::Aufs),
            "overlay" => Some(Dialect::Overlay { xattrs: Xattrs::Trusted }),
            "overlay:user" => Some(Dialect::Overlay { xattrs: Xattrs::User }),
            _ => None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value);
            bytes.push(0);
        }
        bytes
    }

    /// `None` if the bytes are malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        for field in bytes.split_inclusive(|&byte| byte == 0) {
            let field = field.strip_suffix(&[0])?;
            let equals = field.iter().position(|&byte| byte == b'=')?;
            fields.push((String::from_utf8(field[..equals].to_vec()).ok()?, field[equals + 1..].to_vec()));
        }
        Some(Self(fields))
    }
}

/// AUFS's word for an access.
pub(crate) fn access_name(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "rw",
        Access::ReadOnly => "ro",
        Access::ReadOnlyWhiteouts => "ro+wh",
    }
}

/// The inverse. `rr` is AUFS's word for a branch that never changes.
pub(crate) fn access_of(name: &str) -> Option<Access> {
    match name {
        "rw" => Some(Access::ReadWrite),
        "ro" | "rr" => Some(Access::ReadOnly),
        "ro+wh" | "rr+wh" => Some(Access::ReadOnlyWhiteouts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_fields_survive(fields in prop::collection::vec(("[a-z:+]{1,8}", prop::collection::vec(1u8.., 0..20)), 0..8)) {
            let mut all = Fields::default();
            for (name, value) in fields {
                all.put(&name, value);
            }
            prop_assert_eq!(Fields::decode(&all.encode()), Some(all));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(fields) = Fields::decode(&bytes) {
                prop_assert_eq!(fields.encode(), bytes);
            }
        }
    }
}
