//! Names, taken apart without asking a filesystem.

/// The shortest name for the same path, as Go's `path.Clean` has it: no empty or `.` parts, `..` undone, no slash at the end;
/// `.` for nothing.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let mut cleaned = if rooted { b"/".to_vec() } else { Vec::with_capacity(path.len()) };
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(part);
    }
    if cleaned.is_empty() { b".".to_vec() } else { cleaned }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cleans_as_go_does() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a/", "a"),
            ("./a//b/.", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("a/../../b", "../b"),
            ("/..", "/"),
            ("/../a/", "/a"),
            ("//", "/"),
        ] {
            assert_eq!(super::clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
