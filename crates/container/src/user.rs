//! Who a container runs as: users and groups by the container's own `/etc/passwd` and `/etc/group`.
//!
//! Source: runc `libcontainer/user/user.go`, version 1.1; moby `daemon/oci_linux.go`, version 20.10. Lines whose numbers
//! cannot be read are passed over here; there they count as 0.

use std::io::Read;

use strata_sys::{OFlags, tree::Dir};

use crate::Error;

/// The highest user and group ID.
const MAX_ID: u32 = i32::MAX as u32;
/// Bytes of `passwd` or `group` that are read; what follows is not seen.
const MAX_FILE: u64 = 16 << 20;

/// A process's user and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The primary group first, then the others that list the user.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Finds the user of `spec` (`""`, `user`, `uid`, `user:group`, `uid:gid` …) in the container mounted at `root`.
///
/// Files that are missing, not files, or damaged are as good as empty. They are reached with `root` as `/`.
pub fn lookup(root: &Dir, spec: &str) -> Result<User, Error> {
    resolve(spec, &read_in(root, "/etc/passwd"), &read_in(root, "/etc/group"))
}

/// Finds the groups of `--group-add`, by name or number, in the container mounted at `root`.
pub fn additional_groups(root: &Dir, names: &[String]) -> Result<Vec<u32>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let file = read_in(root, "/etc/group");
    names.iter().map(|name| group_of(name, &file)).collect()
}

/// Finds one group; a number need not be in the file.
fn group_of(name: &str, group_file: &[u8]) -> Result<u32, Error> {
    let found = group(group_file).find(|line| match number(name) {
        Some(gid) => i64::from(line.gid) == gid,
        None => line.name == name,
    });
    match (found, number(name)) {
        (Some(line), _) => in_range(line.gid.into()),
        (None, Some(gid)) => in_range(gid),
        (None, None) => Err(Error::invalid(format!("unable to find group {name}: no matching entries in group file"))),
    }
}

/// Reads a file of the container; empty if there is none that can be read.
fn read_in(root: &Dir, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // NONBLOCK: it may be a FIFO, and the image's author waits for nobody.
    if let Ok(fd) = root.open_in_root(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0) {
        let file = std::fs::File::from(fd);
        if file.metadata().is_ok_and(|m| m.is_file()) {
            let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
        }
    }
    bytes
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn passwd(bytes: &[u8]) -> impl Iterator<Item = PasswdLine<'_>> {
    lines(bytes).filter_map(|fields| {
        Some(PasswdLine {
            name: fields.first()?,
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).copied().unwrap_or_default(),
        })
    })
}

fn group(bytes: &[u8]) -> impl Iterator<Item = GroupLine<'_>> {
    lines(bytes).filter_map(|fields| {
        Some(GroupLine {
            name: fields.first()?,
            gid: fields.get(2)?.parse().ok()?,
            members: fields.get(3).copied().unwrap_or_default(),
        })
    })
}

/// Reads a number as Go's `strconv.Atoi` does; `None` if it is none.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn in_range(id: i64) -> Result<u32, Error> {
    match u32::try_from(id) {
        Ok(id) if id <= MAX_ID => Ok(id),
        _ => Err(Error::invalid("uids and gids must be in range 0-2147483647")),
    }
}

fn resolve(spec: &str, passwd_file: &[u8], group_file: &[u8]) -> Result<User, Error> {
    let mut parts = spec.split(':');
    let (user_part, group_part) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());

    let found = passwd(passwd_file).find(|line| match number(user_part) {
        _ if user_part.is_empty() => line.uid == 0,
        Some(uid) => i64::from(line.uid) == uid,
        None => line.name == user_part,
    });
    let (uid, mut gid, home, name) = match &found {
        Some(line) => (in_range(line.uid.into())?, in_range(line.gid.into())?, line.home, line.name),
        None if user_part.is_empty() => (0, 0, "", ""),
        None => match number(user_part) {
            Some(uid) => (in_range(uid)?, 0, "", ""),
            None => {
                return Err(Error::invalid(format!(
                    "unable to find user {user_part}: no matching entries in passwd file"
                )));
            }
        },
    };

    let mut others = Vec::new();
    if !group_part.is_empty() {
        gid = group_of(group_part, group_file)?;
    } else if !name.is_empty() {
        let listed = group(group_file).filter(|line| line.members.split(',').any(|member| member == name));
        others = listed.filter_map(|line| in_range(line.gid.into()).ok()).collect();
    }

    let mut groups = vec![gid];
    groups.extend(others);
    let home = if home.is_empty() { "/" } else { home };
    Ok(User { uid, gid, groups, home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# bob:x:1:1\n\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n\
        broken:x:abc:0::/:\nshort\nnohome:x:7:8\n\xff\xfe:x:9:9::/\nhuge:x:4294967295:1::/\n";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:bob,eve\nbob:x:1000:\nmore:x:60:bob\nbad:x:x:bob\n";

    fn user(spec: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let user = resolve(spec, PASSWD, GROUP).map_err(|e| e.to_string())?;
        Ok((user.uid, user.gid, user.groups, user.home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![0], "/root"),
            ("0", 0, 0, vec![0], "/root"),
            ("bob", 1000, 1000, vec![1000, 50, 60], "/home/bob"),
            ("1000", 1000, 1000, vec![1000, 50, 60], "/home/bob"),
            ("bob:staff", 1000, 50, vec![50], "/home/bob"),
            ("bob:7", 1000, 7, vec![7], "/home/bob"),
            ("123", 123, 0, vec![0], "/"),
            ("123:456", 123, 456, vec![456], "/"),
            (":staff", 0, 50, vec![50], "/root"),
            ("nohome", 7, 8, vec![8], "/"),
            ("bob:staff:rest", 1000, 50, vec![50], "/home/bob"),
        ] {
            assert_eq!(user(spec), Ok((uid, gid, groups, home.to_owned())), "{spec:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (spec, why) in [
            ("foo", "unable to find user foo: no matching entries in passwd file"),
            ("broken", "unable to find user broken: no matching entries in passwd file"),
            ("bob:nobodies", "unable to find group nobodies: no matching entries in group file"),
            ("-1", "uids and gids must be in range 0-2147483647"),
            ("4294967296", "uids and gids must be in range 0-2147483647"),
            ("0:2147483648", "uids and gids must be in range 0-2147483647"),
            ("huge", "uids and gids must be in range 0-2147483647"),
        ] {
            assert_eq!(user(spec), Err(why.to_owned()), "{spec:?}");
        }
    }

    #[test]
    fn files_are_read_inside_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("etc/group")).unwrap();
        std::os::unix::fs::symlink("../../../../real", root.path().join("etc/passwd")).unwrap();
        std::fs::write(root.path().join("real"), "only:x:77:78::/h:\n").unwrap();
        let dir = Dir::open(root.path()).unwrap();
        assert_eq!(lookup(&dir, "only").unwrap().uid, 77);
        assert!(lookup(&dir, "root").is_err(), "the host's root is not the container's");
        assert_eq!(lookup(&dir, "").unwrap().home, "/");
        // A FIFO holds nobody up, and a directory is no file.
        std::fs::remove_file(root.path().join("etc/passwd")).unwrap();
        std::fs::create_dir(root.path().join("etc/passwd")).unwrap();
        assert_eq!(lookup(&dir, "").unwrap().uid, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_file_and_no_spec_panics(
            spec in "[a-z0-9:-]{0,12}",
            one in prop::collection::vec(any::<u8>(), 0..120),
            two in "([a-z0-9]{0,3}[:,\n]){0,20}",
        ) {
            let _ = resolve(&spec, &one, two.as_bytes());
            let _ = resolve(&spec, two.as_bytes(), &one);
        }
    }
}
