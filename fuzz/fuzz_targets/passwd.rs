//! Any bytes as `/etc/passwd` and `/etc/group` of a container, asked for any user.
//!
//! The input is user, passwd and group, with a zero byte between.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_fuzz::Folder;
use strata_sys::tree::Dir;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let user = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    Folder::with(|folder| {
        folder.write("etc/passwd", parts.next().unwrap_or_default());
        folder.write("etc/group", parts.next().unwrap_or_default());
        let root = Dir::open(folder.path()).expect("it is there");
        if let Ok(found) = strata_container::user::lookup(&root, &user) {
            assert!(found.uid <= i32::MAX as u32 && found.gid <= i32::MAX as u32);
        }
        let _ = strata_container::user::additional_groups(&root, &[user]);
    });
});
