//! What a union promises beyond what the kernel's does: handles over copy-up, stable numbers, marks that are wrong, many branches.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use common::{View, base::*, me};
use rustix::fs::{FileType, Mode};
use strata_sys::{tree::Time, xattr};
use strata_unionfs::*;

#[test]
fn an_open_handle_sees_what_is_written_after_copy_up() {
    for dialect in [None, Some(Dialect::Aufs)] {
        let mut base = Base::new();
        base.dialect = dialect.unwrap_or(base.dialect);
        base.write("low/d/f", "lower");
        let view = base.open();
        let node = view.node("d/f").unwrap();
        let reader = view.union.open_file(node, OFlags::RDONLY).unwrap();
        assert_eq!((view.read_handle(&reader).unwrap(), reader.is_settled()), (b"lower".to_vec(), false));
        let ino = view.attr("d/f").unwrap().ino;
        let writer = view.union.open_file(node, OFlags::WRONLY).unwrap();
        view.write_at(&writer, 0, b"UP").unwrap();
        assert_eq!((view.read_handle(&reader).unwrap(), reader.is_settled()), (b"UPwer".to_vec(), true));
        assert_eq!(fs::read(base.path("low/d/f")).unwrap(), b"lower");
        // Renamed, removed: it is still that file.
        view.rename("d/f", "d/g", RenameFlags::empty()).unwrap();
        assert_eq!(view.attr("d/g").unwrap().ino, ino);
        view.unlink("d/g").unwrap();
        view.write_at(&writer, 5, b"!").unwrap();
        assert_eq!(view.read_handle(&reader).unwrap(), b"UPwer!");
        let attr = view.union.attr(node, None).unwrap();
        assert_eq!((attr.nlink, attr.size, attr.ino), (0, 6, ino));
        assert_eq!(view.read("d/f"), Err(Errno::NOENT));
    }
}

#[test]
fn a_lower_file_removed_while_open_can_still_be_read_and_changed() {
    let base = Base::new();
    base.write("low/f", "lower");
    let view = base.open();
    let node = view.node("f").unwrap();
    let reader = view.union.open_file(node, OFlags::RDONLY).unwrap();
    view.unlink("f").unwrap();
    assert_eq!(view.union.attr(node, None).unwrap().nlink, 0);
    view.union.set_attr(node, Some(&reader), &SetAttr { size: Some(3), ..change() }).unwrap();
    assert_eq!(view.read_handle(&reader).unwrap(), b"low");
    assert_eq!(fs::read(base.path("low/f")).unwrap(), b"lower");
    assert_eq!(view.list("").unwrap(), Vec::<String>::new());
}

#[test]
fn copy_up_keeps_what_a_file_is() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("low/p/f", "content");
    let file = base.path("low/p/f");
    xattr::set(&file, "user.k", b"v").unwrap();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    std::os::unix::fs::chown(&file, Some(7), Some(8)).unwrap();
    xattr::set(&file, "security.capability", &capability).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(base.path("low/p"), fs::Permissions::from_mode(0o1710)).unwrap();
    let dir = strata_sys::tree::Dir::open(base.path("low")).unwrap();
    let time = Time { secs: -5, nanos: 123_456_789 };
    dir.set_times("p/f", Some(time), Some(time)).unwrap();
    dir.set_times("p", Some(time), Some(time)).unwrap();
    let view = base.open();
    let before = view.attr("p/f").unwrap();
    view.set_xattr("p/f", "user.new", b"n").unwrap();
    let after = view.attr("p/f").unwrap();
    assert!(base.path("up/p/f").exists());
    let shown = |attr: Attr| (attr.mode, attr.uid, attr.gid, attr.size, attr.modified, attr.ino, attr.nlink);
    assert_eq!(shown(before), shown(after));
    assert_eq!(after.modified, time);
    assert_eq!(xattr::get(base.path("up/p/f"), "security.capability").unwrap().unwrap(), capability);
    assert_eq!(view.attr("p").unwrap().modified, time, "a copy-up does not change its folder");
    assert_eq!(fs::metadata(base.path("up/p")).unwrap().mode() & 0o7777, 0o1710);
}

#[test]
fn holes_stay_holes() {
    let base = Base::new();
    let file = fs::File::create(base.path("low/sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    rustix::io::pwrite(&file, b"x", 20 << 20).unwrap();
    let view = base.open();
    view.write("sparse", b"end", OFlags::APPEND).unwrap();
    let copy = fs::metadata(base.path("up/sparse")).unwrap();
    assert_eq!(copy.size(), (64 << 20) + 3);
    assert!(copy.blocks() < 1024, "{} blocks", copy.blocks());
    assert_eq!(view.read("sparse").unwrap()[20 << 20], b'x');
}

#[test]
fn what_is_created_belongs_to_who_asked() {
    if needs_root() {
        return;
    }
    rustix::process::umask(Mode::empty());
    let base = Base::new();
    fs::create_dir(base.path("low/s")).unwrap();
    std::os::unix::fs::chown(base.path("low/s"), None, Some(50)).unwrap();
    fs::set_permissions(base.path("low/s"), fs::Permissions::from_mode(0o2777)).unwrap();
    let view = base.open();
    let caller = Caller { uid: 1000, gid: 1001, umask: 0o022, groups: vec![] };
    let make = |parent: &str, name: &str| {
        let parent = view.node(parent).unwrap();
        view.union.create(parent, name.as_ref(), 0o2775, OFlags::RDWR, &caller).unwrap().0.attr
    };
    let plain = make("", "f");
    assert_eq!((plain.uid, plain.gid, plain.mode), (1000, 1001, 0o2755));
    let grouped = make("s", "f");
    assert_eq!(
        (grouped.uid, grouped.gid, grouped.mode),
        (1000, 50, 0o755),
        "set-group-ID of a group that is not the caller's"
    );
    let parent = view.node("s").unwrap();
    let dir = view.union.mkdir(parent, "d".as_ref(), 0o777, &caller).unwrap().attr;
    assert_eq!((dir.gid, dir.mode), (50, 0o2755));
    // The same over a whiteout, where the work directory makes it.
    base.write("low/gone", "");
    view.unlink("gone").unwrap();
    let over = make("", "gone");
    assert_eq!((over.uid, over.gid, over.mode), (1000, 1001, 0o2755));
}

#[test]
fn a_directories_gifts_are_those_that_it_has_now() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("low/d/f", "");
    let view = base.open();
    let group = |path: &str| view.attr(path).unwrap().gid;
    view.create("d/one", 0o644).unwrap();
    view.set("d", SetAttr { gid: Some(77), ..change() }).unwrap();
    view.set("d", SetAttr { mode: Some(0o2755), ..change() }).unwrap();
    view.create("d/two", 0o644).unwrap();
    view.set("d", SetAttr { gid: Some(78), ..change() }).unwrap();
    view.create("d/three", 0o644).unwrap();
    view.set("d", SetAttr { mode: Some(0o755), ..change() }).unwrap();
    view.create("d/four", 0o644).unwrap();
    assert_eq!(["one", "two", "three", "four"].map(|name| group(&format!("d/{name}"))), [me().gid, 77, 78, me().gid]);
    view.remove_all("d").unwrap();
    view.mkdir("d", 0o755).unwrap();
    view.create("d/five", 0o644).unwrap();
    assert_eq!(group("d/five"), me().gid);
}

#[test]
fn a_capability_is_seen_as_soon_as_it_is_set() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("low/f", "");
    let view = base.open();
    view.create("g", 0o755).unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    for path in ["f", "g"] {
        let get = || view.union.get_xattr(view.node(path).unwrap(), std::ffi::OsStr::new("security.capability"));
        assert_eq!((get(), get()), (Err(Errno::NODATA), Err(Errno::NODATA)));
        view.set_xattr(path, "security.capability", capability).unwrap();
        assert_eq!(get().as_deref(), Ok(capability));
        view.union.remove_xattr(view.node(path).unwrap(), std::ffi::OsStr::new("security.capability")).unwrap();
        assert_eq!(get(), Err(Errno::NODATA));
    }
}

#[test]
fn a_default_acl_is_inherited_over_a_whiteout_as_in_place() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    fs::create_dir(base.path("low/d")).unwrap();
    base.write("low/d/gone", "");
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 6, 1234), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(bits.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    if let Err(error) = xattr::set(base.path("low/d"), "system.posix_acl_default", &acl) {
        strata_testkit::require::report_skip(&format!("no ACLs here: {error}"));
        return;
    }
    let view = base.open();
    view.unlink("d/gone").unwrap();
    let caller = Caller { umask: 0o077, ..Caller::ROOT };
    let parent = view.node("d").unwrap();
    let read = |name: &str| {
        let entry = view.union.create(parent, name.as_ref(), 0o666, OFlags::RDWR, &caller).unwrap().0;
        let acl = view.union.get_xattr(entry.node, "system.posix_acl_access".as_ref()).unwrap();
        (entry.attr.mode, acl)
    };
    assert_eq!(read("gone"), read("in-place"));
    assert_eq!(view.attr("d/gone").unwrap().mode, 0o660);
}

#[test]
fn privileges_go_with_a_write_where_asked() {
    let base = Base::new();
    base.write("low/f", "lower");
    fs::set_permissions(base.path("low/f"), fs::Permissions::from_mode(0o6755)).unwrap();
    let view = base.open();
    let handle = view.union.open_file(view.node("f").unwrap(), OFlags::WRONLY).unwrap();
    view.union.write(&handle, 0, b"x", Privileges::Keep).unwrap();
    assert_eq!(view.attr("f").unwrap().mode, if root() { 0o6755 } else { 0o755 });
    view.union.write(&handle, 0, b"y", Privileges::Clear).unwrap();
    assert_eq!(view.attr("f").unwrap().mode, 0o755);
    assert_eq!(fs::metadata(base.path("low/f")).unwrap().mode() & 0o7777, 0o6755);
}

#[test]
fn attribute_whiteouts_hide_and_are_made_where_devices_cannot_be() {
    let base = Base::new();
    base.write("base/d/a", "a");
    base.write("base/d/b", "b");
    base.write("low/d/a", "");
    base.write("low/d/empty", "");
    base.mark("low/d/a", "whiteout", b"y");
    // Without the directory's mark it is an empty file.
    assert_eq!(base.open().list("d").unwrap(), ["a", "b", "empty"]);
    base.mark("low/d", "opaque", b"x");
    let view = base.open();
    assert_eq!(view.list("d").unwrap(), ["b", "empty"]);
    assert_eq!(view.read("d/a"), Err(Errno::NOENT));
    assert_eq!(view.read("d/empty").unwrap(), b"");
}

#[test]
fn attributes_alone_are_shown_with_the_data_below() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("base/data", "the data");
    for at in ["low/data", "up/moved", "low/broken"] {
        let file = fs::File::create(base.path(at)).unwrap();
        file.set_len(8).unwrap();
        base.mark(at, "metacopy", b"");
    }
    base.mark("up/moved", "redirect", b"/data");
    fs::set_permissions(base.path("low/data"), fs::Permissions::from_mode(0o600)).unwrap();
    let view = base.open();
    assert_eq!(view.read("data").unwrap(), b"the data");
    assert_eq!(view.attr("data").unwrap().mode, 0o600);
    assert_eq!(view.read("moved").unwrap(), b"the data");
    assert_eq!(view.read("broken"), Err(Errno::IO), "never zeros for data that is not there");
    view.write("moved", b"!", OFlags::APPEND).unwrap();
    view.set("data", SetAttr { mode: Some(0o640), ..change() }).unwrap();
    for (path, content) in [("moved", "the data!"), ("data", "the data")] {
        assert_eq!(view.read(path).unwrap(), content.as_bytes());
        assert_eq!(fs::read(base.path("up").join(path)).unwrap(), content.as_bytes());
        assert_eq!(xattr::get(base.path("up").join(path), "trusted.overlay.metacopy").unwrap(), None);
    }
    let mut base = base;
    base.write("base/other", "x");
    fs::File::create(base.path("low/other")).unwrap();
    base.mark("low/other", "metacopy", b"");
    base.options.metacopy = Metacopy::Refuse;
    drop(view);
    assert_eq!(base.open().read("other"), Err(Errno::PERM));
}

#[test]
fn a_renamed_directory_keeps_its_lower_part_over_reopening() {
    let base = Base::new();
    base.write("low/a/b/f", "one");
    base.write("base/a/b/g", "two");
    let view = base.open();
    let ino = view.attr("a/b").unwrap().ino;
    view.rename("a/b", "c", RenameFlags::empty()).unwrap();
    view.mkdir("a/b", 0o755).unwrap();
    assert_eq!((view.list("c").unwrap(), view.list("a/b").unwrap()), (vec!["f".to_owned(), "g".to_owned()], vec![]));
    assert_eq!(view.attr("c").unwrap().ino, ino);
    view.rename("a", "z", RenameFlags::empty()).unwrap();
    view.rename("c", "z/c", RenameFlags::empty()).unwrap();
    let tree = view.tree().unwrap();
    drop(view);
    let again = base.open();
    assert_eq!(again.tree().unwrap(), tree);
    assert_eq!(again.read("z/c/g").unwrap(), b"two");
    assert_eq!(again.rename("z", "z/c/z", RenameFlags::empty()), Err(Errno::INVAL));
}

#[test]
fn a_redirect_leads_on_from_inside_an_opaque_directory() {
    let mut base = Base::new();
    base.write("base/a/b/f", "x");
    base.write("low/o/a/other", "y");
    base.mark("low/o", "opaque", b"y");
    base.mark("low/o/a", "redirect", b"/a");
    base.options.redirect_dir = RedirectDir::On;
    let view = base.open();
    assert_eq!(view.list("o/a/b").unwrap(), ["f"]);
    view.rename("o/a/b", "moved", RenameFlags::empty()).unwrap();
    drop(view);
    assert_eq!(base.open().list("moved").unwrap(), ["f"]);
}

#[test]
fn hard_links_stay_together_over_copy_up_and_reopening() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    base.write("low/d/one", "x");
    fs::hard_link(base.path("low/d/one"), base.path("low/two")).unwrap();
    fs::hard_link(base.path("low/d/one"), base.path("low/three")).unwrap();
    let view = base.open();
    view.write("two", b"y", OFlags::APPEND).unwrap();
    let check = |view: &View, links: u32| {
        let (one, two) = (view.attr("d/one").unwrap(), view.attr("two").unwrap());
        assert_eq!((one.ino, one.nlink, view.read("d/one").unwrap()), (two.ino, links, view.read("two").unwrap()));
        assert_eq!(view.node("d/one").unwrap(), view.node("two").unwrap());
    };
    check(&view, 3);
    drop(view);
    let view = base.open();
    check(&view, 3);
    view.unlink("three").unwrap();
    check(&view, 2);
    view.link("two", "d/four").unwrap();
    drop(view);
    let view = base.open();
    check(&view, 3);
    for path in ["d/one", "two", "d/four"] {
        view.unlink(path).unwrap();
    }
    assert_eq!(fs::read_dir(base.path("work/index")).unwrap().count(), 0, "the index forgets a file without names");
}

#[test]
fn offsets_in_a_directory_stay_good() {
    let base = Base::new();
    for number in 0..200 {
        base.write(&format!("low/f{number:03}"), "");
    }
    let view = base.open();
    let mut seen = Vec::new();
    let mut offset = 0;
    loop {
        let mut some = Vec::new();
        view.union
            .read_dir_plus(NodeId::ROOT, offset, &mut |entry, _| {
                if some.len() == 7 {
                    return Fill::Full;
                }
                offset = entry.next;
                some.push(entry.name.to_string_lossy().into_owned());
                Fill::Taken
            })
            .unwrap();
        if some.is_empty() {
            break;
        }
        for name in &some {
            view.unlink(name).unwrap();
        }
        seen.extend(some);
    }
    seen.sort();
    assert_eq!(seen, (0..200).map(|number| format!("f{number:03}")).collect::<Vec<_>>());
    let mut left = 0;
    view.union
        .read_dir(NodeId::ROOT, 0, &mut |_| {
            left += 1;
            Fill::Taken
        })
        .unwrap();
    assert_eq!(left, 0, "from the start it is read afresh");
}

#[test]
fn nodes_are_given_back() {
    let base = Base::new();
    base.write("low/a/b/c", "");
    let view = base.open();
    let node = view.node("a/b/c").unwrap();
    assert_eq!(view.union.known_nodes(), 4);
    let parents = [view.union.parent(view.node("a/b").unwrap()).unwrap(), view.node("a/b").unwrap()];
    // As often as they were looked up above.
    view.union.forget(parents[0], 100);
    view.union.forget(parents[1], 100);
    assert_eq!(view.union.known_nodes(), 4, "kept for the file in it");
    view.union.forget(node, 1);
    assert_eq!(view.union.known_nodes(), 1);
}

#[test]
fn names_of_255_bytes() {
    let base = Base::new();
    let name = "n".repeat(255);
    base.write(&format!("low/{name}"), "x");
    let view = base.open();
    view.write(&name, b"y", OFlags::APPEND).unwrap();
    view.unlink(&name).unwrap();
    view.mkdir(&name, 0o755).unwrap();
    assert_eq!(view.list("").unwrap().concat(), name);
    assert_eq!(view.mkdir(&format!("{name}n"), 0o755), Err(Errno::NAMETOOLONG));
}

#[test]
fn a_thousand_branches() {
    let base = Base::new();
    let mut config = base.config();
    config.branches.truncate(1);
    for number in 0..1000 {
        let path = format!("b{number}");
        base.write(&format!("{path}/d/f{number}"), "x");
        base.write(&format!("{path}/same"), &number.to_string());
        config.branches.push(Branch { path: base.path(&path), access: Access::ReadOnly });
    }
    let start = std::time::Instant::now();
    let view = View::open(config);
    let opened = start.elapsed();
    assert_eq!(view.list("d").unwrap().len(), 1000);
    assert_eq!(view.read("same").unwrap(), b"0");
    view.write("d/f999", b"y", OFlags::APPEND).unwrap();
    assert_eq!(view.read("d/f999").unwrap(), b"xy");
    view.remove_all("d").unwrap();
    assert_eq!(view.list("").unwrap(), ["same"]);
    println!("1,001 branches opened in {opened:?}");
}

#[test]
fn a_union_without_a_writable_branch_changes_nothing() {
    let base = Base::new();
    base.write("low/f", "x");
    let mut config = base.config();
    config.branches.remove(0);
    config.work = None;
    let view = View::open(config);
    assert_eq!(view.write("f", b"y", OFlags::APPEND), Err(Errno::ROFS));
    assert_eq!(view.mkdir("d", 0o755), Err(Errno::ROFS));
    assert_eq!(view.unlink("f"), Err(Errno::ROFS));
    assert_eq!(view.rename("f", "g", RenameFlags::empty()), Err(Errno::ROFS));
    assert_eq!(view.set("f", SetAttr { mode: Some(0), ..change() }), Err(Errno::ROFS));
    assert_eq!(view.read("f").unwrap(), b"x");
    assert!(!base.path("work/work").exists());
}

#[test]
fn branches_come_and_go() {
    let mut base = Base::new();
    base.dialect = Dialect::Aufs;
    base.write("low/d/f", "low");
    base.write("new/d/f", "new");
    base.write("new/d/g", "g");
    let view = base.open();
    let dir = view.node("d").unwrap();
    assert_eq!(view.read("d/f").unwrap(), b"low");
    let branch = Branch { path: base.path("new"), access: Access::ReadOnly };
    view.union.add_branch(1, branch.clone()).unwrap();
    assert_eq!((view.list("d").unwrap().len(), view.read("d/f").unwrap()), (2, b"new".to_vec()));
    assert_eq!(view.node("d").unwrap(), dir);
    assert!(matches!(view.union.add_branch(0, branch), Err(OpenError::Twice { .. })));
    let open = view.union.open_file(view.node("d/g").unwrap(), OFlags::RDONLY).unwrap();
    assert!(matches!(view.union.remove_branch(&base.path("new")), Err(OpenError::Busy { .. })));
    drop(open);
    view.union.remove_branch(&base.path("new")).unwrap();
    assert_eq!((view.list("d").unwrap(), view.read("d/f").unwrap()), (vec!["f".to_owned()], b"low".to_vec()));
    assert!(matches!(view.union.remove_branch(&base.path("new")), Err(OpenError::NoSuchBranch { .. })));
    view.union.set_access(&base.path("up"), Access::ReadOnly).unwrap();
    assert_eq!(view.mkdir("x", 0o755), Err(Errno::ROFS));
    view.union.set_access(&base.path("up"), Access::ReadWrite).unwrap();
    view.mkdir("x", 0o755).unwrap();
}

#[test]
fn what_a_killed_union_left_is_settled() {
    let base = Base::new();
    base.write("low/f", "x");
    drop(base.open());
    base.write("work/work/#5", "half a copy");
    base.write("work/work/#6/sub/x", "half a removal");
    let view = base.open();
    assert_eq!(fs::read_dir(base.path("work/work")).unwrap().count(), 0);
    assert_eq!(view.list("").unwrap(), ["f"]);
}

#[test]
fn many_threads_at_once() {
    let base = Base::new();
    for number in 0..50 {
        base.write(&format!("low/d/f{number}"), "lower");
    }
    let view = base.open();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let view = &view;
            scope.spawn(move || {
                for number in 0..50 {
                    let path = format!("d/f{number}");
                    view.write(&path, &[b'0' + thread], OFlags::empty()).unwrap();
                    view.create(&format!("d/t{thread}-{number}"), 0o644).unwrap();
                    view.rename(
                        &format!("d/t{thread}-{number}"),
                        &format!("d/r{thread}-{number}"),
                        RenameFlags::empty(),
                    )
                    .unwrap();
                    let content = view.read(&path).unwrap();
                    assert_eq!(&content[1..], b"ower", "{path}");
                }
                assert!(view.list("d").unwrap().len() >= 100);
            });
        }
    });
    assert_eq!(view.list("d").unwrap().len(), 250);
    let scratch = fs::read_dir(base.path("work/work")).unwrap().count();
    assert_eq!(scratch, 0);
}

#[test]
fn a_device_that_would_be_a_whiteout_is_refused() {
    if needs_root() {
        return;
    }
    let base = Base::new();
    let view = base.open();
    assert_eq!(view.mknod("w", libc::S_IFCHR | 0o600, 0), Err(Errno::PERM));
    rustix::fs::mknodat(rustix::fs::CWD, base.path("low/w"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    assert_eq!(view.list("").unwrap(), Vec::<String>::new());
}
