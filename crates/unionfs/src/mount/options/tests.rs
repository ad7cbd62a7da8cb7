use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use proptest::prelude::*;

use super::*;
use crate::{Access, Branch, Durability, Metacopy, RedirectDir};

fn mount(words: Words, options: &str) -> Mount {
    match parse(Some(words), OsStr::new(options), OsStr::new("none")).unwrap() {
        Request::Mount(mount) => *mount,
        Request::Remount(_) => panic!("a remount"),
    }
}

fn refused(words: Words, options: &str) -> String {
    parse(Some(words), OsStr::new(options), OsStr::new("none")).unwrap_err().to_string()
}

fn branch(path: &str, access: Access) -> Branch {
    Branch { path: path.into(), access }
}

#[test]
fn aufs_branches() {
    let mount = mount(Words::Aufs, "dirs=./top:./a=ro:./b=rw:/c=ro+wh,xino=/dev/shm/x,nodev");
    assert_eq!(
        mount.union.branches,
        [
            branch("./top", Access::ReadWrite),
            branch("./a", Access::ReadOnly),
            branch("./b", Access::ReadWrite),
            branch("/c", Access::ReadOnlyWhiteouts)
        ]
    );
    assert_eq!((mount.flags, mount.union.dialect), (MountFlags::NODEV, Dialect::Aufs));
    for same in ["br:/a=rw:/b=ro+wh,dio,dirperm1", "br=/a:/b=rr+wh", "br=/a,br=/b=ro+wh"] {
        let expected = [branch("/a", Access::ReadWrite), branch("/b", Access::ReadOnlyWhiteouts)];
        assert_eq!(super::tests::mount(Words::Aufs, same).union.branches, expected, "{same}");
    }
}

#[test]
fn names_with_separators() {
    let mount = mount(Words::Aufs, r"br=/a\:b=rw:/c\,d:/e\=rw:/f=g/h");
    let paths: Vec<_> = mount.union.branches.iter().map(|branch| branch.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/a:b", "/c,d", "/e=rw", "/f=g/h"]);
    let mount = super::tests::mount(Words::Overlay, r"lowerdir=/a\:b:/c\,d,lowerdir+=/x:y");
    let paths: Vec<_> = mount.union.branches.iter().map(|branch| branch.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/a:b", "/c,d", "/x:y"]);
}

#[test]
fn aufs_changes() {
    let text = "remount,add:1:/a=rw,del:/b,mod:/c=ro+wh,append:/d,prepend:/e,append=/f";
    let Request::Remount(wanted) = parse(Some(Words::Aufs), OsStr::new(text), OsStr::new("none")).unwrap() else {
        panic!("a mount")
    };
    assert_eq!(
        wanted.changes,
        [
            Change::Insert { index: 1, branch: branch("/a", Access::ReadWrite) },
            Change::Remove { path: "/b".into() },
            Change::SetAccess { branch: branch("/c", Access::ReadOnlyWhiteouts) },
            Change::Append { branch: branch("/d", Access::ReadOnly) },
            Change::Insert { index: 0, branch: branch("/e", Access::ReadWrite) },
            Change::Append { branch: branch("/f", Access::ReadOnly) },
        ]
    );
}

#[test]
fn overlay_options() {
    let text =
        "lowerdir=/a:/b,upperdir=/u,workdir=/w,redirect_dir=off,index=off,metacopy=off,volatile,userxattr,xino=auto";
    let mount = mount(Words::Overlay, text);
    assert_eq!(
        mount.union.branches,
        [branch("/u", Access::ReadWrite), branch("/a", Access::ReadOnly), branch("/b", Access::ReadOnly)]
    );
    assert_eq!(mount.union.work, Some("/w".into()));
    let options = mount.union.options;
    assert_eq!((options.redirect_dir, options.index), (RedirectDir::Follow, Switch::Off));
    assert_eq!((options.metacopy, options.durability), (Metacopy::Refuse, Durability::Volatile));
    assert_eq!(mount.union.dialect, Dialect::Overlay { xattrs: Xattrs::User });
}

#[test]
fn what_is_not_honoured_is_refused_with_the_reason() {
    for (words, text, part) in [
        (Words::Overlay, "lowerdir=/a,nfs_export=on", "NFS"),
        (Words::Overlay, "lowerdir=/a::/d", "data-only"),
        (Words::Overlay, "lowerdir=/a,upperdir=/u", "workdir"),
        (Words::Overlay, "upperdir=/u,workdir=/w", "lowerdir"),
        (Words::Overlay, "lowerdir=/a,remount,frobnicate", "`frobnicate` is not known"),
        (Words::Overlay, "remount,add:1:/x", "is not known"),
        (Words::Overlay, "lowerdir=/a,frobnicate", "`frobnicate` is not known"),
        (Words::Overlay, "lowerdir=/a,index=maybe", "takes `on` or `off`"),
        (Words::Overlay, "lowerdir=/a,metacopy=on,userxattr", "userxattr"),
        (Words::Overlay, "lowerdir=/a,redirect_dir=off,metacopy=on", "redirect_dir=on"),
        (Words::Aufs, "br=/a=rx", "permission `rx`"),
        (Words::Aufs, "br=/a,del:/b", "with remount"),
        (Words::Aufs, "br=/a,cpup=tdp", "leftmost"),
        (Words::Aufs, "br=/a,udba=notify", "reval"),
        (Words::Aufs, "remount,add:/b", "add:INDEX"),
        (Words::Aufs, "xino=/x", "dirs="),
        (Words::Aufs, "br=/a,threads=0", "from 1 to 256"),
        (Words::Aufs, "br=/a,awake=yes", "takes `on` or `off`"),
    ] {
        let message = refused(words, text);
        assert!(message.contains(part), "{text}: {message}");
    }
    let message = parse(None, OsStr::new("ro"), OsStr::new("none")).unwrap_err().to_string();
    assert!(message.contains("lowerdir"), "{message}");
}

#[test]
fn flags_are_the_kernels_and_the_last_word_counts() {
    use MountFlags as F;
    for (text, flags, rest) in [
        ("defaults,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir,comment=a", F::empty(), ""),
        ("ro,nosuid,nodev,noexec,rw,suid", F::NODEV | F::NOEXEC, ""),
        ("noatime,relatime", F::RELATIME, ""),
        ("relatime,noatime,nodiratime", F::NOATIME | F::NODIRATIME, ""),
        ("sync,dirsync,lazytime", F::SYNCHRONOUS | F::DIRSYNC | F::LAZYTIME, ""),
        ("user,exec", F::NOSUID | F::NODEV, ""),
        (r"lowerdir=/a\,ro:/b,ro,index=on", F::RDONLY, r"lowerdir=/a\,ro:/b,index=on"),
    ] {
        let (found, left) = divide(text.as_bytes());
        assert_eq!((found.over(F::empty()), left.join(&b','), text), (flags, rest.into(), text));
    }
    let (flags, _) = divide(b"rw,nodev");
    assert_eq!(flags.over(F::RDONLY | F::NOEXEC), F::NODEV | F::NOEXEC);
}

#[test]
fn a_remount_is_the_word_and_no_part_of_a_name() {
    for (text, remount) in [("ro,remount", true), ("remount=x", false), (r"lowerdir=/a\,remount\,b:/c", false)] {
        assert_eq!(is_remount(OsStr::new(text)), remount, "{text}");
    }
}

#[test]
fn a_remount_may_repeat_what_holds() {
    let mounted = mount(Words::Overlay, "lowerdir=/a:/b,upperdir=/u,workdir=/w,index=off,threads=3");
    let check = |options: &str| {
        let text = format!("remount,{options}");
        let Request::Remount(wanted) = parse(Some(Words::Overlay), OsStr::new(&text), OsStr::new("none")).unwrap()
        else {
            panic!("a mount")
        };
        check_repeated(&mounted, &wanted.repeated).map_err(|error| error.option)
    };
    let same = "ro,relatime,lowerdir=/a:/b,upperdir=/u,workdir=/w,index=off,threads=3,allow_other,default_permissions";
    assert_eq!(check(same), Ok(()));
    for other in ["lowerdir=/b:/a", "lowerdir=/c", "upperdir=/b2", "workdir=/v", "index=on", "userxattr", "threads=2"] {
        assert_eq!(check(other), Err(other.to_owned()), "{other}");
    }
}

fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in name {
        if b"\\:,=".contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

proptest! {
    #[test]
    fn any_directory_can_be_named(names in prop::collection::vec(prop::collection::vec(1u8.., 1..12), 1..6)) {
        let list: Vec<Vec<u8>> = names.iter().map(|name| escape(name)).collect();
        let list = list.join(&b':');
        for (words, prefix) in [(Words::Aufs, "dirs="), (Words::Overlay, "lowerdir=")] {
            let text = OsString::from_vec([prefix.as_bytes(), &list].concat());
            let Request::Mount(mount) = parse(None, &text, OsStr::new("none")).unwrap() else { panic!("a remount") };
            let given: Vec<Vec<u8>> =
                mount.union.branches.iter().map(|branch| branch.path.as_os_str().as_bytes().to_vec()).collect();
            prop_assert_eq!(&given, &names, "{:?}", words);
        }
    }

    #[test]
    fn any_text_is_read_without_harm(text in prop::collection::vec(prop::sample::select(b"abdr=:,\\/+lowerdirsbupok".to_vec()), 0..60)) {
        let text = OsString::from_vec(text);
        for words in [None, Some(Words::Aufs), Some(Words::Overlay)] {
            _ = parse(words, &text, OsStr::new("none"));
        }
    }
}
