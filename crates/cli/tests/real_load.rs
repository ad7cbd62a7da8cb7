//! What people do in a container (packages, a build, git, a database, many small files), on unions of ours and on the kernel's:
//! the commit is the same, times apart.
//!
//! Compared of every entry: name, type, mode, owner, target, device, extended attributes, hard links, size and content. Not
//! compared: times, and the content of logs and of caches that hold times.
//!
//! - `aufs`: the layer.
//! - `fuse-overlayfs`: the whole root of a container of the committed image. Its layer is another one, as with dockerd, whose driver
//!   of that name compares trees: it has whiteouts instead of opaque folders, no folders of which only times changed, and
//!   a new name of a lower file is a file.
//!
//! `STRATA_LOAD=full` makes 60,000 small files instead of 2,000, and adds `fuse-overlayfs`; `make load` does that.

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use common::{Root, root_on_ext4};
use strata_testkit::{Scratch, require, scratch};

/// A Debian root, with the archives of what will be installed in it: no network is needed later. `None` where none can be made.
fn base(dir: &Scratch) -> Option<PathBuf> {
    require::program("mmdebstrap")?;
    let tar = dir.join("base.tar");
    let suite = "sh -c '. /etc/os-release; echo ${VERSION_CODENAME:-bookworm}'";
    let packages = "gcc libc6-dev make git sqlite3";
    let script = format!(
        "mmdebstrap --quiet --variant=minbase --skip=cleanup/apt \
         --customize-hook='chroot \"$1\" apt-get -qq update' \
         --customize-hook='chroot \"$1\" apt-get -qq -y --no-install-recommends -d install {packages}' \
         \"$({suite})\" {}",
        tar.display()
    );
    let made = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("sh runs");
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr);
        require::report_skip(&format!("no Debian root can be made here: {}", why.lines().last().unwrap_or_default()));
        return None;
    }
    Some(tar)
}

/// What the load leaves on one driver.
struct Left {
    /// The layer's entries.
    layer: BTreeSet<String>,
    /// Those of the root of a container of the committed image; empty unless asked for.
    tree: BTreeSet<String>,
}

/// The lines that `real_load.py` prints; the tar goes.
fn list(what: &str, tar: &Path) -> BTreeSet<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_load.py");
    let printed = tar.with_extension("list");
    let mut command = Command::new("python3");
    command.arg(script).arg(what).arg(tar).stdout(File::create(&printed).expect("a file"));
    assert!(command.status().expect("python3 runs").success());
    fs::remove_file(tar).expect("the tar goes");
    fs::read_to_string(&printed).expect("the list").lines().map(str::to_owned).collect()
}

fn load(root: &Root, base: &Path, work: &Scratch, full: bool) -> Left {
    let script =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_load.sh")).expect("a script");
    let files = if full { "60000" } else { "2000" };
    root.ok(&["import", base.to_str().expect("a path"), "debian:base"]);
    let run = ["run", "--name", "load", "--network", "none", "debian:base", "bash", "-c", &script, "load", files];
    let said = root.run(&run);
    assert_eq!(said.code, 0, "{}: {}{}", root.driver(), said.out, said.err);
    println!("{}: {}", root.driver(), said.out);
    root.ok(&["commit", "load", "debian:loaded"]);
    root.ok(&["rm", "load"]);
    let tar = work.join(format!("tar-{}", root.driver()));
    let path = tar.to_str().expect("a path");
    root.ok(&["save", "-o", path, "debian:loaded"]);
    let layer = list("layer", &tar);
    let mut tree = BTreeSet::new();
    if full {
        root.assert_sound(&root.driver());
        root.ok(&["create", "--name", "again", "debian:loaded"]);
        root.ok(&["export", "-o", path, "again"]);
        tree = list("tree", &tar);
    }
    Left { layer, tree }
}

fn assert_same(driver: &str, what: &str, kernel: &BTreeSet<String>, ours: &BTreeSet<String>) {
    let missing: Vec<_> = kernel.difference(ours).take(20).collect();
    let more: Vec<_> = ours.difference(kernel).take(20).collect();
    assert!(missing.is_empty() && more.is_empty(), "{what}: overlay2's: {missing:#?}\n{driver}'s: {more:#?}");
    println!("{driver}: the same {what} of {} entries", kernel.len());
}

#[test]
fn a_real_load_leaves_the_same_on_a_union_of_ours() {
    let (Some(()), Some(()), Some(_)) = (require::root(), require::overlay(), require::program("python3")) else {
        return;
    };
    let full = std::env::var_os("STRATA_LOAD").is_some_and(|value| value == "full");
    let work = scratch();
    let Some(base) = base(&work) else { return };
    let left = |driver| Some(load(&root_on_ext4(driver, 12 << 30)?, &base, &work, full));
    let both = thread::scope(|scope| {
        let kernel = scope.spawn(|| left("overlay2"));
        let aufs = left("aufs");
        (kernel.join().expect("the kernel's"), aufs)
    });
    let (Some(kernel), Some(aufs)) = both else { return };
    assert!(kernel.layer.len() > 5_000, "{}", kernel.layer.len());
    assert_same("aufs", "layer", &kernel.layer, &aufs.layer);
    if full {
        assert_same("aufs", "tree", &kernel.tree, &aufs.tree);
        let Some(fuse) = left("fuse-overlayfs") else { return };
        assert_same("fuse-overlayfs", "tree", &kernel.tree, &fuse.tree);
    }
}
