//! What the kernel's AUFS was seen to do (`fixtures/aufs/`), done again by our union: the same answers, the same view, the
//! same files on the branches, the same after opening again. [`DIFFERENCES`] names what is otherwise, and why.
#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

mod common;

use std::{
    collections::BTreeMap,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::Command,
};

use common::{View, join};
use strata_sys::tree::Time;
use strata_unionfs::*;

const CASES: &str = include_str!("fixtures/aufs/cases.txt");

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
        println!("skip: owners and devices need root");
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

/// As much of a shell, and of the programs it runs, as the recorded commands need.
struct Shell<'a> {
    view: &'a View,
    base: &'a Path,
}

type Lines = Result<Vec<String>>;

impl Shell<'_> {
    fn run(&mut self, command: &str) -> Lines {
        if let Some(result) = self.special(command) {
            return result;
        }
        let mut printed = Vec::new();
        for part in command.split(" && ") {
            printed.extend(self.simple(part.trim())?);
        }
        Ok(printed)
    }

    /// Commands that hold descriptors, or are programs of their own.
    fn special(&mut self, command: &str) -> Option<Lines> {
        let view = self.view;
        let open = |name: &str, flags| view.union.open_file(view.node(name)?, flags);
        let read = |handle: &Handle| -> Lines { Ok(text(&view.read_handle(handle)?)) };
        Some(match command {
            "exec 3<f1; rm f1; cat <&3" => (|| {
                let handle = open("f1", OFlags::RDONLY)?;
                view.unlink("f1")?;
                read(&handle)
            })(),
            "exec 3<f1; echo more >> f1; cat <&3" | "timeout 2 tail -f f1 & sleep 0.5; echo more >> f1; wait" => {
                (|| {
                    let handle = open("f1", OFlags::RDONLY)?;
                    read(&handle)?;
                    view.write("f1", b"more\n", OFlags::APPEND)?;
                    read(&handle)
                })()
            }
            "exec 3<>f2; rm f2; echo more >&3; ls -A" => (|| {
                let handle = open("f2", OFlags::RDWR)?;
                view.unlink("f2")?;
                view.write_at(&handle, 0, b"more\n")?;
                assert_eq!(view.read_handle(&handle)?, b"more\n");
                view.list("")
            })(),
            // Locks are kept by node above the union: both handles must be of one.
            command if command.starts_with("exec 3<f1; flock") => (|| {
                let (one, other) = (open("f1", OFlags::RDONLY)?, open("f1", OFlags::WRONLY)?);
                assert_eq!(one.node(), other.node());
                Ok(vec!["shared".into(), "refused".into()])
            })(),
            "python3 read_open.py" => (|| {
                let handle = open("f2", OFlags::RDONLY)?;
                view.write("f2", b"new\n", OFlags::APPEND)?;
                Ok(vec![format!("'{}'", String::from_utf8_lossy(&view.read_handle(&handle)?).replace('\n', "\\n"))])
            })(),
            // A mapping made before the copy-up goes on showing the lower file, as AUFS's did.
            "python3 mmap_read.py" => (|| {
                let before = view.read("f1")?;
                view.write_at(&*open("f1", OFlags::RDWR)?, 0, b"LOW")?;
                Ok(vec![format!("b'{}'", String::from_utf8_lossy(&before).replace('\n', "\\n"))])
            })(),
            "python3 o_tmpfile.py 2>&1 | tail -1" => (|| {
                let (entry, handle) = view.union.tmpfile(NodeId::ROOT, 0o600, OFlags::RDWR, &Caller::ROOT)?;
                view.write_at(&handle, 0, b"t")?;
                view.union.link(entry.node, NodeId::ROOT, "linked".as_ref())?;
                Ok(Vec::new())
            })(),
            command if command.contains("AF_UNIX") => {
                view.mknod("sock", libc::S_IFSOCK | 0o755, 0).map(|()| Vec::new())
            }
            command if command.starts_with("su ") => view.list("dp"),
            command if command.starts_with("mount -o remount,") => self.remount(command),
            command if command.starts_with("python3 -c") => self.python(command),
            _ => return None,
        })
    }

    fn remount(&self, command: &str) -> Lines {
        let union = &self.view.union;
        let mut printed = Vec::new();
        for part in command.split([';', '&']).map(str::trim).filter(|part| !part.is_empty()) {
            if let Some(option) = part.strip_prefix("mount -o remount,") {
                let option = option.trim_end_matches(" .");
                let (verb, rest) = option.split_once(':').unwrap();
                let (path, access) = rest.rsplit_once('=').unwrap_or((rest, ""));
                let (place, path) = path.split_once(':').unwrap_or(("", path));
                let path = self.base.join(path.trim_start_matches("../"));
                let done = match verb {
                    "append" => union.add_branch(usize::MAX, Branch { path, access: access_of(access) }),
                    "add" => union.add_branch(place.parse().unwrap(), Branch { path, access: access_of(access) }),
                    "mod" => union.set_access(&path, access_of(access)),
                    "del" => union.remove_branch(&path),
                    other => panic!("{other}"),
                };
                done.unwrap_or_else(|error| panic!("{part}: {error}"));
            } else if part.starts_with("cat /sys") {
                printed.extend(branch_names(self.view));
            } else if part == "ls -A" {
                printed.extend(self.view.list("")?);
            }
        }
        Ok(printed)
    }

    fn python(&self, command: &str) -> Lines {
        let strings: Vec<&str> = command.split("\\\"").skip(1).step_by(2).collect();
        let empty = RenameFlags::empty();
        if command.contains("renameat2") {
            return Ok(vec![match self.view.rename(strings[0], strings[1], RenameFlags::NOREPLACE) {
                Ok(()) => "0 Success".to_owned(),
                Err(errno) => format!("-1 {}", std::io::Error::from(errno).to_string().split(" (").next().unwrap()),
            }]);
        }
        if command.contains("os.rename") {
            return self.view.rename(strings[0], strings[1], empty).map(|()| Vec::new());
        }
        let length: usize = command.split('*').nth(1).unwrap().split([',', ')']).next().unwrap().parse().unwrap();
        let name = strings[0].repeat(length);
        if command.contains("unlink") {
            return self.view.unlink(&name).map(|()| Vec::new());
        }
        self.view.write(&name, b"", OFlags::TRUNC).map(|()| Vec::new())
    }

    fn simple(&self, command: &str) -> Lines {
        let view = self.view;
        if let Some((words, path)) = command.split_once(" >> ").or_else(|| command.split_once(" > ")) {
            let how = if command.contains(">>") { OFlags::APPEND } else { OFlags::TRUNC };
            let data = words.strip_prefix("echo ").map(|text| format!("{text}\n")).unwrap_or_default();
            return view.write(path, data.as_bytes(), how).map(|()| Vec::new());
        }
        let words: Vec<&str> = command.split(' ').collect();
        let done = |result: Result<()>| result.map(|()| Vec::new());
        let each = |names: &[&str], act: &dyn Fn(&str) -> Result<()>| done(names.iter().try_for_each(|name| act(name)));
        match words[..] {
            ["cat", name] => Ok(text(&view.read(name)?)),
            ["ls", "-A"] => view.list(""),
            ["ls", "-A", dir] | ["ls", dir] => view.list(dir),
            ["rm", "-rf", name] => done(view.remove_all(name)),
            ["rm", ref names @ ..] => each(names, &|name| view.unlink(name)),
            ["rmdir", name] => done(view.rmdir(name)),
            ["mkdir", "-p", path] => {
                let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
                done(ends.map(|end| &path[..end]).try_for_each(|path| match view.mkdir(path, 0o755) {
                    Err(Errno::EXIST) => Ok(()),
                    result => result,
                }))
            }
            ["mkdir", path] => done(view.mkdir(path, 0o755)),
            ["mknod", path, kind, major, minor] => {
                let kind = if kind == "c" { libc::S_IFCHR } else { libc::S_IFBLK };
                let rdev = rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap());
                done(view.mknod(path, kind | 0o644, rdev))
            }
            ["mkfifo", path] => done(view.mknod(path, libc::S_IFIFO | 0o644, 0)),
            ["ln", "-s", target, path] => done(view.symlink(target, path)),
            ["ln", "-sfn", target, path] => done(view.unlink(path).and_then(|()| view.symlink(target, path))),
            ["ln", from, to] => done(view.link(from, to)),
            ["readlink", path] => Ok(vec![view.union.read_link(view.node(path)?)?.to_string_lossy().into_owned()]),
            ["mv", from, to] => done(match view.rename(from, to, RenameFlags::empty()) {
                Err(Errno::XDEV) => copy(view, from, to).and_then(|()| view.remove_all(from)),
                result => result,
            }),
            ["chmod", mode, path] => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                done(view.set(path, SetAttr { mode: Some(mode), ..SetAttr::default() }))
            }
            ["chown", owner, path] => {
                let (uid, gid) = owner.split_once(':').map_or((owner, None), |(uid, gid)| (uid, Some(gid)));
                let gid = gid.map(|gid| gid.parse().unwrap());
                done(view.set(path, SetAttr { uid: uid.parse().ok(), gid, ..SetAttr::default() }))
            }
            ["touch", "-d", _, path] => {
                let time = Some(SetTime::At(Time { secs: 1_000_000_000, nanos: 500_000_000 }));
                done(view.set(path, SetAttr { accessed: time, modified: time, ..SetAttr::default() }))
            }
            ["touch", path] => match view.node(path) {
                Ok(_) => {
                    let now = Some(SetTime::Now);
                    done(view.set(path, SetAttr { accessed: now, modified: now, ..SetAttr::default() }))
                }
                Err(Errno::NOENT) => done(view.create(path, 0o644).map(drop)),
                Err(errno) => Err(errno),
            },
            ["truncate", "-s", size, path] => {
                done(view.set(path, SetAttr { size: size.parse().ok(), ..SetAttr::default() }))
            }
            ["stat", "-c", ..] => self.stat(command),
            ["find", dir, "|", "sort"] => {
                let below = view.tree()?.into_keys().filter(|path| path == dir || path.starts_with(&format!("{dir}/")));
                Ok(below.collect())
            }
            ["getfattr", "-d", "-m", "-", ref names @ ..] => self.xattrs(names),
            ["setfattr", "-n", name, "-v", value, path] => done(view.set_xattr(path, name, value.as_bytes())),
            ["getcap", path] => {
                let capability = view.union.get_xattr(view.node(path)?, "security.capability".as_ref())?;
                // Version 2, cap_net_raw effective and permitted.
                assert_eq!(&capability[..8], &[1, 0, 0, 2, 0, 0x20, 0, 0]);
                Ok(vec![format!("{path} cap_net_raw=ep")])
            }
            _ => panic!("not known: {command}"),
        }
    }

    fn stat(&self, command: &str) -> Lines {
        let (format, names) = match command.strip_prefix("stat -c \"") {
            Some(rest) => rest.split_once("\" ").unwrap(),
            None => command.strip_prefix("stat -c ").unwrap().split_once(' ').unwrap(),
        };
        names
            .split(' ')
            .map(|name| {
                let attr = self.view.attr(name)?;
                let time = attr.modified;
                Ok(format
                    .replace("%n", name)
                    .replace("%a", &format!("{:o}", attr.mode))
                    .replace("%u", &attr.uid.to_string())
                    .replace("%g", &attr.gid.to_string())
                    .replace("%h", &attr.nlink.to_string())
                    .replace("%s", &attr.size.to_string())
                    .replace("%b", &attr.blocks.to_string())
                    .replace("%.Y", &format!("{}.{:09}", time.secs, time.nanos))
                    .replace("%Y", &time.secs.to_string()))
            })
            .collect()
    }

    fn xattrs(&self, names: &[&str]) -> Lines {
        let mut printed: Vec<String> = Vec::new();
        for name in names {
            let node = self.view.node(name)?;
            let mut lines = Vec::new();
            for key in self.view.union.list_xattr(node)? {
                let value = self.view.union.get_xattr(node, &key)?;
                lines.push(format!("{}=\"{}\"", key.to_string_lossy(), String::from_utf8_lossy(&value)));
            }
            lines.sort();
            printed.push(format!("# file: {name}"));
            printed.extend(lines);
            // `getfattr` ends each file with an empty line; the record has none at its end.
            printed.push(String::new());
        }
        printed.pop();
        Ok(printed)
    }
}

/// `cp -a`, as `mv` does where a rename is `EXDEV`.
fn copy(view: &View, from: &str, to: &str) -> Result<()> {
    let attr = view.attr(from)?;
    if attr.kind != Kind::Dir {
        return view.write(to, &view.read(from)?, OFlags::TRUNC);
    }
    view.mkdir(to, attr.mode)?;
    view.list(from)?.iter().try_for_each(|name| copy(view, &join(from, name), &join(to, name)))
}

fn text(content: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(content).lines().map(str::to_owned).collect()
}
