//! What the kernel's AUFS was seen to do (`fixtures/aufs/`), done again by our union: the same answers, the same view, the
//! same files on the branches, the same after opening again. [`DIFFERENCES`] names what is otherwise, and why.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

#[path = "../common/mod.rs"]
mod common;
mod shell;

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::Command,
};

use common::{View, join};
use shell::Shell;
use strata_unionfs::*;

const CASES: &str = include_str!("../fixtures/aufs/cases.txt");

/// Case, line as recorded (empty: none), line as ours is (empty: none), in the section of that name.
/// The reasons are in docs/adr/0014-aufs-in-user-space.md.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    // AUFS set whole seconds.
    ("chmod-lower", "operations", "  both 644 0:0 1000000000.000000000", "  both 644 0:0 1000000000.500000000"),
    // Opening for writing copies up; AUFS waited for the first write.
    ("lock-across-copy-up", "branch up", "", "f1\tf\t644\t0:0\t1\t5"),
    ("lock-across-copy-up", "branch up", "", "f1: low1|"),
    // A file without a name can get one.
    ("o-tmpfile", "operations", "  OSError: [Errno 18] Invalid cross-device link: '/proc/self/fd/3' -> 'linked'", ""),
    ("o-tmpfile", "operations", "", "  linked"),
    ("o-tmpfile", "seen after", "", "linked\tf\t600\t0:0\t1\t1"),
    ("o-tmpfile", "seen after a remount", "", "linked\tf\t600\t0:0\t1\t1"),
    ("o-tmpfile", "branch up", "", "linked\tf\t600\t0:0\t1\t1"),
    ("o-tmpfile", "content", "", "linked: t|"),
];

struct Case {
    name: String,
    sections: Vec<(String, Vec<String>)>,
}

impl Case {
    fn section(&self, start: &str) -> Vec<String> {
        let found = self.sections.iter().find(|(title, _)| title.starts_with(start));
        let mut lines = found.map(|(_, lines)| lines.clone()).unwrap_or_default();
        for (_, _, recorded, ours) in
            DIFFERENCES.iter().filter(|(case, section, ..)| *case == self.name && is_section(section, start))
        {
            match lines.iter().position(|line| !recorded.is_empty() && line.trim_end() == *recorded) {
                Some(at) if ours.is_empty() => drop(lines.remove(at)),
                Some(at) => lines[at] = (*ours).to_owned(),
                None if recorded.is_empty() => lines.push((*ours).to_owned()),
                None => panic!("{}: no line {recorded:?} in {start}", self.name),
            }
        }
        lines
    }
}

fn is_section(section: &str, start: &str) -> bool {
    section == start.trim_end_matches(" (")
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CASES.lines() {
        if let Some(name) = line.strip_prefix("# case ") {
            cases.push(Case { name: name.into(), sections: Vec::new() });
        } else if let Some(title) = line.strip_prefix("## ") {
            cases.last_mut().unwrap().sections.push((title.into(), Vec::new()));
        } else {
            cases.last_mut().unwrap().sections.last_mut().unwrap().1.push(line.to_owned());
        }
    }
    cases
}

#[test]
fn our_union_does_what_aufs_did() {
    if !rustix::process::geteuid().is_root() {
        strata_testkit::require::report_skip("owners and devices need root");
        return;
    }
    rustix::process::umask(rustix::fs::Mode::from(0o022));
    let cases = cases();
    assert_eq!(cases.len(), 51);
    let mut failures = Vec::new();
    for case in &cases {
        let temp = tempfile::tempdir().unwrap();
        if let Err(why) = play(case, temp.path()) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

type Outcome = std::result::Result<(), String>;

fn config(base: &Path, line: &str) -> Config {
    let branch = |text: &str| {
        let (name, access) = text.split_once('=').unwrap();
        Branch { path: base.join(name), access: access_of(access) }
    };
    Config {
        branches: line.split(',').next().unwrap().split(':').map(branch).collect(),
        dialect: Dialect::Aufs,
        work: None,
        options: Options::default(),
    }
}

fn access_of(text: &str) -> Access {
    match text {
        "rw" => Access::ReadWrite,
        "ro" => Access::ReadOnly,
        "ro+wh" => Access::ReadOnlyWhiteouts,
        other => panic!("{other}"),
    }
}

fn play(case: &Case, base: &Path) -> Outcome {
    for dir in ["up", "r1", "r2", "r3"] {
        std::fs::create_dir(base.join(dir)).unwrap();
    }
    let setup = case.section("setup").join("\n");
    // The binary that is given a capability there does nothing here but be large enough.
    let status = Command::new("bash").args(["-c", &setup]).current_dir(base).status().unwrap();
    if !status.success() {
        return Err(format!("skip: setup failed: {setup}"));
    }
    let branches = case.section("branches").join("");
    let view = View::open(config(base, &branches));
    same("seen before", &case.section("seen before"), &seen(&view))?;
    let mut shell = Shell { view: &view, base };
    let mut lines = case.section("operations").into_iter().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").ok_or_else(|| format!("not a command: {line}"))?.to_owned();
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(line.strip_prefix("  ").unwrap_or(&line).to_owned());
        }
        // What a difference adds may stand after the exit status.
        expected.sort_by_key(|line| line.starts_with("rc="));
        let status = expected.pop().unwrap_or_default();
        answer(&command, &shell.run(&command), &expected, &status)?;
    }
    same("seen after", &case.section("seen after ("), &seen(&view))?;
    contents(case, &view)?;
    let branch_lines: Vec<String> = case.section("/sys/fs/aufs");
    same(
        "branches",
        &branch_lines,
        &branch_names(&view).iter().enumerate().map(|(n, line)| format!("br{n}: {line}")).collect::<Vec<_>>(),
    )?;
    drop(view);
    for name in ["up", "r1", "r2", "r3"] {
        let recorded = case.section(&format!("branch {name}"));
        if case.sections.iter().any(|(title, _)| title.starts_with(&format!("branch {name}"))) {
            on_disk(&base.join(name), &recorded).map_err(|why| format!("branch {name}: {why}"))?;
        }
    }
    let view = View::open(config(base, &branches));
    same("seen after a remount", &case.section("seen after a remount"), &seen(&view))
}

/// Compares what a command printed. Where ours failed, the recorded text must name the same error.
fn answer(command: &str, got: &Result<Vec<String>>, expected: &[String], status: &str) -> Outcome {
    let ok = match got {
        // Times that were "now" are not compared.
        Ok(lines) if command.contains("%Y") => lines.len() == expected.len(),
        Ok(lines) if command.contains("%.Y") => lines.last() == expected.last(),
        Ok(lines) if command.contains("/sys/fs/aufs") => {
            *lines == expected.iter().filter(|line| line.contains('=')).cloned().collect::<Vec<_>>()
        }
        Ok(lines) => lines == expected && (status == "rc=0"),
        Err(errno) => {
            let text = std::io::Error::from(*errno).to_string();
            let text = text.split(" (os error").next().unwrap();
            expected.iter().any(|line| line.contains(text))
        }
    };
    if ok { Ok(()) } else { Err(format!("{command}: ours {got:?}, recorded {expected:?} {status}")) }
}

fn same(what: &str, recorded: &[String], ours: &[String]) -> Outcome {
    let clean = |lines: &[String]| groups(lines);
    let (recorded, ours) = (clean(recorded), clean(ours));
    if recorded == ours { Ok(()) } else { Err(format!("{what}:\n  ours     {ours:?}\n  recorded {recorded:?}")) }
}

/// Sorts lines, and replaces group numbers by the group's first name; names of pseudo-links hold inode numbers.
fn groups(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = lines
        .iter()
        .map(|line| match line.strip_prefix(".wh..wh.plnk/") {
            Some(rest) => {
                let end = rest.find(['\t', ':']).unwrap_or(rest.len());
                format!(".wh..wh.plnk/*{}", &rest[end..])
            }
            None => line.trim_end().to_owned(),
        })
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for line in &mut lines {
        if let Some(at) = line.find("\tino#") {
            let name = line.split('\t').next().unwrap().to_owned();
            let group = first.entry(line[at..].to_owned()).or_insert(name).clone();
            *line = format!("{} same as {group}", line[..at].trim_end());
        }
    }
    lines
}

#[expect(clippy::too_many_arguments, reason = "the columns of a line")]
fn line_of(
    path: &str,
    kind: char,
    mode: u32,
    owner: (u32, u32),
    links: u32,
    size: u64,
    target: &str,
    group: &str,
) -> String {
    let (links, size) = if kind == 'd' { ("-".into(), "-".into()) } else { (links.to_string(), size.to_string()) };
    format!("{path}\t{kind}\t{mode:o}\t{}:{}\t{links}\t{size}\t{target}\t{group}", owner.0, owner.1)
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => 'f',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    }
}

fn seen(view: &View) -> Vec<String> {
    let tree = view.tree().unwrap();
    let shared = |first: &str| tree.values().filter(|item| item.same_as == first && item.kind != Kind::Dir).count() > 1;
    tree.iter()
        .map(|(path, item)| {
            let target = if item.kind == Kind::Symlink { String::from_utf8_lossy(&item.content) } else { "".into() };
            let group = if shared(&item.same_as) { format!("ino#{}", item.same_as) } else { String::new() };
            let size = item.content.len() as u64;
            line_of(path, letter(item.kind), item.mode, item.owner, item.nlink, size, &target, &group)
        })
        .collect()
}

fn shown(content: &[u8]) -> String {
    String::from_utf8_lossy(content).replace('\n', "|")
}

fn contents(case: &Case, view: &View) -> Outcome {
    for line in case.section("content") {
        let (path, text) = line.split_once(": ").unwrap();
        let ours = shown(&view.read(path).map_err(|errno| format!("read {path}: {errno}"))?);
        if ours.trim_end_matches('|') != text.trim_end_matches('|') {
            return Err(format!("content of {path}: ours {ours:?}, recorded {text:?}"));
        }
    }
    Ok(())
}

fn branch_names(view: &View) -> Vec<String> {
    view.union
        .branches()
        .iter()
        .map(|branch| {
            let access = match branch.access {
                Access::ReadWrite => "rw",
                Access::ReadOnly => "ro",
                Access::ReadOnlyWhiteouts => "ro+wh",
            };
            format!("{}={access}", branch.path.file_name().unwrap().to_string_lossy())
        })
        .collect()
}

/// Compares a branch with what was recorded of it: names, contents, extended attributes.
fn on_disk(root: &Path, recorded: &[String]) -> Outcome {
    let mut items = Vec::new();
    walk(root, "", &mut items);
    let count = |ino: u64| items.iter().filter(|(_, _, other)| *other == ino).count();
    let lines: Vec<String> = items
        .iter()
        .map(|(path, line, ino)| {
            let shared = count(*ino) > 1 && !line.contains("\td\t");
            if shared { format!("{}\tino#{ino}", line.trim_end()) } else { line.clone() }.replace('\0', path)
        })
        .collect();
    let listing: Vec<String> = recorded.iter().filter(|line| line.contains('\t')).cloned().collect();
    same("on disk", &listing, &lines)?;
    let mut file = String::new();
    for line in recorded.iter().filter(|line| !line.contains('\t') && !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# file: ") {
            file = name.to_owned();
        } else if let Some((path, text)) = line.split_once(": ").filter(|_| !line.contains("=0s")) {
            let Ok(content) = std::fs::read(root.join(path)) else { continue };
            if shown(&content).trim_end_matches('|') != text.trim_end_matches('|') {
                return Err(format!("{path} holds {:?}, recorded {text:?}", shown(&content)));
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let ours = strata_sys::xattr::get(root.join(&file), key).unwrap().unwrap_or_default();
            let known =
                value.starts_with("0s") && !ours.is_empty() || value == format!("{:?}", String::from_utf8_lossy(&ours));
            if !known {
                return Err(format!("{key} of {file} is {ours:?}, recorded {value}"));
            }
        }
    }
    Ok(())
}

fn walk(root: &Path, folder: &str, items: &mut Vec<(String, String, u64)>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = join(folder, &entry.file_name().to_string_lossy());
        let meta = entry.metadata().unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_fifo() => 'p',
            kind if kind.is_socket() => 's',
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => 'f',
        };
        let target = std::fs::read_link(entry.path()).map(|path| path.display().to_string()).unwrap_or_default();
        let owner = (meta.uid(), meta.gid());
        let line = line_of(&path, kind, meta.mode() & 0o7777, owner, meta.nlink() as u32, meta.size(), &target, "");
        items.push((path.clone(), line, meta.ino()));
        if kind == 'd' {
            walk(root, &path, items);
        }
    }
}
