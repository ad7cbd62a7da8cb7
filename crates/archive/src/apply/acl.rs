//! POSIX ACLs from the text that GNU tar and bsdtar write to the kernel's attribute.
//!
//! ```text
//! user::rw-,user:1000:r--,group::r--,mask::r--,other::---       entries; bsdtar puts a number in a fourth field: user:joe:r--:1000
//!
//! u32 version (2)                                               the attribute, little-endian
//! u16 tag   u16 permissions   u32 id                            an entry, sorted by tag and id; id all ones where there is none
//! ```
//!
//! Source: acl(5), linux/posix_acl_xattr.h.

/// `system.posix_acl_access`, `system.posix_acl_default`.
pub(super) const ACCESS: &str = "system.posix_acl_access";
pub(super) const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Returns the attribute's value for `text`; `None` if it is not an ACL, or names someone by a name alone (whose number only the
/// image's own user database would tell).
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            entries.push(entry(line)?);
        }
    }
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    (value.len() > 4).then_some(value)
}

fn entry(line: &str) -> Option<(u16, u32, u16)> {
    let mut fields = line.split(':').map(str::trim);
    let (tag, who) = (fields.next()?, fields.next()?);
    // `other:r--` and `mask:r--` are allowed to leave the empty field out.
    let (who, permissions) = match fields.next() {
        Some(permissions) => (who, permissions),
        None => ("", who),
    };
    let number = fields.next().and_then(|id| id.parse().ok()).or_else(|| who.parse().ok());
    let named = |object, other| match (who, number) {
        ("", _) => Some((object, NO_ID)),
        (_, Some(id)) => Some((other, id)),
        ("root", None) => Some((other, 0)),
        _ => None,
    };
    let (tag, id) = match tag {
        "user" | "u" => named(USER_OBJ, USER)?,
        "group" | "g" => named(GROUP_OBJ, GROUP)?,
        "mask" | "m" => (MASK, NO_ID),
        "other" | "o" => (OTHER, NO_ID),
        _ => return None,
    };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_the_kernel_reads() {
        let value = from_text(b"user::rw-,user:1000:r-x,group::r--,mask::r-x,other::---").unwrap();
        let expected: &[u8] = &[
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
            0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
        ];
        assert_eq!(value, expected);
        for same in [
            "user::rw-\nuser:1000:r-x\ngroup::r--\nmask::r-x\nother::---\n",
            "u::rw-,u:joe:r-x:1000,g::r--,m:r-x,o:---",
            "other::---,mask::r-x,group::r--,user:1000:r-x #effective:r-x\n,user::rw-",
        ] {
            assert_eq!(from_text(same.as_bytes()).as_deref(), Some(expected), "{same}");
        }
        for wrong in ["", "user:joe:r--", "user", "user::rz-", "who::r--", "\u{fffd}::"] {
            assert_eq!(from_text(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
