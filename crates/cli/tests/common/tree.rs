//! A tree of files as it is, all that can be told of it, to be compared.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use strata_sys::xattr;

/// Every entry below `root`, itself too, by path: kind, mode, owner, size, time, device, links, attributes, content.
///
/// Of a file with several names the path of the first stands for what the others share. Times of folders and of links count too.
pub fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut tree = BTreeMap::new();
    collect(root, Path::new("."), &mut tree);
    let mut first: HashMap<u64, String> = HashMap::new();
    tree.into_iter()
        .map(|(path, (inode, links, text))| {
            let shown = String::from_utf8_lossy(&path).into_owned();
            let same = if links > 1 { first.entry(inode).or_insert(shown).clone() } else { String::new() };
            (path, format!("{text} {same}"))
        })
        .collect()
}

type Found = BTreeMap<Vec<u8>, (u64, u64, String)>;

fn collect(root: &Path, at: &Path, tree: &mut Found) {
    let path = root.join(at);
    let stat = path.symlink_metadata().expect("stat");
    let kind = stat.file_type();
    let mut text = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
    write!(text, " {}.{:09}", stat.mtime(), stat.mtime_nsec()).expect("a string");
    if kind.is_char_device() || kind.is_block_device() {
        write!(text, " device {}", stat.rdev()).expect("a string");
    }
    if kind.is_symlink() {
        write!(text, " -> {:?}", fs::read_link(&path).expect("read a link")).expect("a string");
    }
    let mut attributes = xattr::list(&path).expect("list attributes");
    attributes.sort();
    for name in attributes {
        let value = xattr::get(&path, &name).expect("read an attribute").unwrap_or_default();
        write!(text, " {}={value:?}", name.display()).expect("a string");
    }
    if kind.is_file() {
        let content = fs::read(&path).expect("read");
        write!(text, " {} {}", stat.len(), strata_spec::Digest::sha256(&content).hex()).expect("a string");
    }
    let links = if kind.is_dir() { 1 } else { stat.nlink() };
    tree.insert(at.as_os_str().as_bytes().to_vec(), (stat.ino(), links, text));
    if kind.is_dir() {
        for entry in fs::read_dir(&path).expect("read a folder") {
            collect(root, &at.join(entry.expect("an entry").file_name()), tree);
        }
    }
}

/// Fails with the entries that differ, each as it is in both.
#[track_caller]
pub fn assert_same(one: &BTreeMap<Vec<u8>, String>, other: &BTreeMap<Vec<u8>, String>, when: &str) {
    let mut differ = String::new();
    for path in one.keys().chain(other.keys().filter(|path| !one.contains_key(*path))) {
        if one.get(path) != other.get(path) {
            let show = |side: Option<&String>| side.map_or("nothing", |text| text.as_str()).to_owned();
            let name = String::from_utf8_lossy(path);
            writeln!(differ, "{name}:\n  {}\n  {}", show(one.get(path)), show(other.get(path))).expect("a string");
        }
    }
    assert!(differ.is_empty(), "{when}:\n{differ}");
}
