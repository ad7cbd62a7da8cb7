//! POSIX ACLs as extended attributes: inheritance from a directory's default ACL.
//!
//! The kernel applies it to files that are created in place. Files that are created in the work directory need it from here.

use crate::types::{Errno, Result};

pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Returns the access ACL (`None` if the mode expresses it) and the mode of a file created with `mode` under `default`.
///
/// Source: POSIX 1003.1e draft 17, 23.1.5; the attribute's form: Linux, include/uapi/linux/posix_acl_xattr.h.
pub(crate) fn inherit(default: &[u8], mode: u32) -> Result<(Option<Vec<u8>>, u32)> {
    let (head, body) = default.split_at_checked(4).ok_or(Errno::INVAL)?;
    if head != VERSION.to_le_bytes() || !body.len().is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let mut acl = default.to_vec();
    let tags: Vec<u16> = body.chunks(8).map(|entry| u16::from_le_bytes([entry[0], entry[1]])).collect();
    let has_mask = tags.contains(&MASK);
    let mut bits = mode & 0o7000;
    for (entry, &tag) in acl[4..].chunks_mut(8).zip(&tags) {
        let shift = match tag {
            USER_OBJ => 6,
            MASK => 3,
            GROUP_OBJ if !has_mask => 3,
            OTHER => 0,
            _ => continue,
        };
        let kept = u32::from(u16::from_le_bytes([entry[2], entry[3]])) & (mode >> shift) & 7;
        entry[2] = kept as u8;
        entry[3] = 0;
        bits |= kept << shift;
    }
    Ok(((tags.len() > 3).then_some(acl), bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, bits) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(u32::MAX.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn mode_and_acl_mask_each_other() {
        let plain = acl(&[(USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 0)]);
        assert_eq!(inherit(&plain, 0o2666).unwrap(), (None, 0o2640));
        let named = acl(&[(USER_OBJ, 7), (0x02, 7), (GROUP_OBJ, 7), (MASK, 7), (OTHER, 5)]);
        let (access, mode) = inherit(&named, 0o640).unwrap();
        assert_eq!(mode, 0o640);
        assert_eq!(access.unwrap(), acl(&[(USER_OBJ, 6), (0x02, 7), (GROUP_OBJ, 7), (MASK, 4), (OTHER, 0)]));
        assert_eq!(inherit(b"\x02", 0o644), Err(Errno::INVAL));
        assert_eq!(inherit(b"\x01\0\0\0", 0o644), Err(Errno::INVAL));
    }
}
