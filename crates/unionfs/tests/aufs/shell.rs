//! The recorded commands, done on a union.

use std::path::Path;

use strata_sys::tree::Time;
use strata_unionfs::*;

use crate::{
    access_of, branch_names,
    common::{View, join},
};

/// As much of a shell, and of the programs it runs, as the recorded commands need.
pub struct Shell<'a> {
    pub view: &'a View,
    pub base: &'a Path,
}

pub type Lines = Result<Vec<String>>;

impl Shell<'_> {
    pub fn run(&mut self, command: &str) -> Lines {
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
