//! Faults that users of other unions have reported, tried on ours: each in both dialects, and again after a remount. `docs/field.md`
//! lists the reports.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::mounted::{Mounted, can_mount, shell, unions};
use strata_testkit::skip;

/// What happens in the mount point `$M` of a union with the branch `$U` on top.
struct Case {
    /// The claim.
    name: &'static str,
    /// Runs in the mount point.
    commands: &'static str,
    /// What they print.
    says: &'static str,
}

const CASES: [Case; 9] = [
    Case {
        name: "a rename onto a removed name leaves a whiteout at the old one",
        commands: "rm two; mv -n one two; cat two; test ! -e one && echo gone",
        says: "1\ngone\n",
    },
    Case {
        name: "a name that no lower branch has needs no whiteout",
        commands: "echo x > new; mv new newer; rm newer; ls -A $U | grep -c new || true",
        says: "0\n",
    },
    Case {
        name: "a symbolic link takes the place of a whiteout",
        commands: "rm one; ln -s to one; readlink one; rm one; ln -s again one",
        says: "to\n",
    },
    Case {
        name: "a set-user-ID bit that is set after a write stays",
        commands: "exec 3> set; echo text >&3; chown 0:0 set; chmod 4755 set; exec 3>&-; stat -c %a set",
        says: "4755\n",
    },
    Case {
        name: "a directory that leaves a new one at a removed one's name leaves nothing behind",
        commands: "rm -r dir; mkdir -p dir/sub; mv dir/sub sub; ls -A dir | wc -l",
        says: "0\n",
    },
    Case {
        name: "a directory without permissions is removed whole",
        commands: "mkdir closed; chmod a-rw closed; rm -rf closed; test ! -e closed && echo gone",
        says: "gone\n",
    },
    Case {
        name: "a directory of several branches moves with all that it shows",
        commands: "echo changed > dir/f2; mv dir other; ls other | tr '\\n' ' '; cat other/f2; test ! -e dir && echo gone",
        says: "f1 f2 g sub changed\ngone\n",
    },
    Case {
        name: "a lower file in a new directory can be removed there",
        commands: "mkdir new; mv fixed new; rm -f new/fixed; ls -A new | wc -l; rmdir new; test ! -e fixed && echo gone",
        says: "0\ngone\n",
    },
    Case {
        name: "a time that is to stay stays",
        commands: "touch -d 2001-01-01 one; touch -m -d 2002-02-02 one; stat -c '%X %Y' one",
        says: "978307200 1012608000\n",
    },
];

fn fill(dir: &Path) {
    for (path, text) in [
        ("lower1/one", "1\n"),
        ("lower1/two", "2\n"),
        ("lower1/fixed", ""),
        ("lower1/dir/f1", ""),
        ("lower1/dir/f2", ""),
        ("lower1/dir/sub/deep", ""),
        ("lower2/dir/g", ""),
    ] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut permissions = fs::metadata(dir.join("lower1/fixed")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.join("lower1/fixed"), permissions).unwrap();
}

#[test]
fn what_users_of_other_unions_met_does_not_happen_here() {
    if !can_mount() {
        skip!("needs root and /dev/fuse");
    }
    let mut wrong = Vec::new();
    for words in ["aufs", "overlay"] {
        for Case { name, commands, says } in &CASES {
            let mounted = Mounted::new(words, "", fill);
            let at = mounted.dir.path().display();
            let said = shell(&mounted, &format!("export TZ=UTC U={at}/upper; cd $M; {commands}"));
            let tree = "cd $M; find . -mindepth 1 -printf '%P %y %m %l\\n' | sort";
            let before = shell(&mounted, tree);
            unions(&["umount", mounted.mnt().to_str().unwrap()]);
            mounted.mount("");
            let after = shell(&mounted, tree);
            if said != *says || before != after {
                wrong.push(format!("{words}: {name}: {said:?} for {says:?}; before a remount\n{before}after\n{after}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
