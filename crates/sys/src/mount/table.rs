//! The mount table, `/proc/self/mountinfo`.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::{StepContext, tree::Device};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub id: u64,
    pub parent: u64,
    pub dev: Device,
    /// What of the filesystem is shown at `target`: `/` but for bind mounts.
    pub root: PathBuf,
    pub target: PathBuf,
    /// Options of this mount: `rw,relatime`.
    pub options: String,
    /// How mounts below it spread: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`; none of a private one.
    pub tags: Vec<String>,
    pub fs_type: String,
    pub source: String,
    /// Options of the filesystem: for an overlay, its layers.
    pub super_options: String,
}

/// The mounts that this process sees, in the kernel's order.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let text = std::fs::read(TABLE).step(|| format!("read {TABLE}"))?;
    parse_mountinfo(&text).step(|| format!("read {TABLE}"))
}

/// The mounts at and below `path`, which must be absolute and free of links; the last made come last.
pub fn mounts_under(path: &Path) -> io::Result<Vec<MountInfo>> {
    let mut mounts = mounts()?;
    mounts.retain(|mount| mount.target.starts_with(path));
    Ok(mounts)
}

/// Reads the text of a `mountinfo` file. `InvalidData` names the first line that is not of its form.
pub fn parse_mountinfo(text: &[u8]) -> io::Result<Vec<MountInfo>> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                let shown = String::from_utf8_lossy(line);
                io::Error::new(io::ErrorKind::InvalidData, format!("not a line of a mount table: {shown:?}"))
            })
        })
        .collect()
}

/// `<id> <parent> <major>:<minor> <root> <target> <options> [<tag>…] - <type> <source> <super options>`
///
/// One space between fields, which may be empty.
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut dev = fields.next()?.splitn(2, |&byte| byte == b':');
    let dev = Device { major: number(dev.next()?)?, minor: number(dev.next()?)? };
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = text(fields.next()?);
    let mut tags = Vec::new();
    loop {
        match fields.next()? {
            b"-" => break,
            tag => tags.push(text(tag)),
        }
    }
    let fs_type = text(fields.next()?);
    let source = text(fields.next()?);
    // Of an older kernel or an odd filesystem these may be missing or hold spaces of their own.
    let rest: Vec<&[u8]> = fields.collect();
    let super_options = text(&rest.join(&b' '));
    Some(MountInfo { id, parent, dev, root, target, options, tags, fs_type, source, super_options })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes space, tab, newline, backslash and `#` as `\` and three octal digits; anything else stays as it is.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            _ => {
                bytes.push(first);
                after
            }
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_every_form() {
        let cases: [(&str, &str, &str, &str, &str); 4] = [
            (
                "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
                "/mnt2",
                "ext3",
                "/dev/root",
                "rw,errors=continue",
            ),
            ("1 1 0:1 / / rw shared:1 master:2 propagate_from:3 - tmpfs  rw", "/", "tmpfs", "", "rw"),
            (
                "1 1 0:1 / /a\\040b\\011\\012\\134c\\043 ro - overlay overlay rw,lowerdir=/a\\072b",
                "/a b\t\n\\c#",
                "overlay",
                "overlay",
                "rw,lowerdir=/a:b",
            ),
            ("1 1 0:1 / /x\\9\\0 rw - fuse.a-b s", "/x\\9\\0", "fuse.a-b", "s", ""),
        ];
        for (line, target, fs_type, source, super_options) in cases {
            let [mount] = &parse_mountinfo(line.as_bytes()).unwrap()[..] else { panic!("one line: {line}") };
            let found = (mount.target.to_str().unwrap(), &*mount.fs_type, &*mount.source, &*mount.super_options);
            assert_eq!(found, (target, fs_type, source, super_options), "{line}");
        }
    }

    #[test]
    fn what_is_no_mount_table_is_refused_by_its_line() {
        for line in ["x", "1 2 3 4", "1 1 0 / / rw - a b c", "a 1 0:1 / / rw - a b c", "1 1 0:1 / / rw tmpfs x y"] {
            let error = parse_mountinfo(line.as_bytes()).expect_err(line);
            assert!(error.to_string().contains(line), "{error}");
        }
    }

    #[test]
    fn our_own_table_parses() {
        assert!(mounts().unwrap().iter().any(|mount| mount.target == Path::new("/")));
    }

    fn escape(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for &byte in bytes {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => text.extend(format!("\\{byte:03o}").bytes()),
                _ => text.push(byte),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn any_path_comes_back(bytes in prop::collection::vec(1_u8.., 0..64)) {
            let mut line = b"7 6 8:1 / ".to_vec();
            line.extend(escape(&bytes));
            line.extend(b" rw - ext4 /dev/sda1 rw\n");
            let mounts = parse_mountinfo(&line).unwrap();
            prop_assert_eq!(mounts[0].target.clone().into_os_string().into_vec(), bytes);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\\'), Just(b'-'), b'0'..=b'9'], 0..200)) {
            let _ = parse_mountinfo(&bytes);
        }
    }
}
