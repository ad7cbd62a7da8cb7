//! The POSIX tests of the program `pjdfstest` on a mounted union: none fails that the filesystem below it does not fail.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what it could not do")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use strata_testkit::{LoopFs, require, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_strata-unions");

/// First of the 65,536 users that a namespace's own are outside.
const OUTSIDE: u32 = 200_000;

const FOLDERS: [&str; 9] = ["plain", "lower", "lower/merged", "upper", "work", "mnt", "upper2", "work2", "kernel"];

/// Two users that every Debian has, each with a group that is its own: the tests change to them.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Tests with a character device, which they give the number 0/0: in overlayfs that is a whiteout, and nobody may make one.
const WHITEOUT: &str = "::char";

/// The kernel has a file cut by `O_RDONLY | O_TRUNC` before it looks whether a program runs from it, and the program may have died
/// of that when it looks. To have it look first would take a request more for each `O_TRUNC`, and copies of data that is to be cut.
const LATE: [&str; 1] = ["open::etxtbsy"];

/// Skipped on a union, as on any FUSE filesystem: the C library has the limit from a list of filesystems.
const NOT_TOLD: [&str; 1] = ["link::link_count_max"];

/// Where the programs run.
enum Place {
    Here,
    /// A user namespace with many users, kept by a process that sleeps.
    Namespace(Child),
}

impl Place {
    fn namespace() -> Option<Self> {
        let keeper = Command::new("unshare").args(["--user", "sleep", "600"]).spawn().ok()?;
        let process = PathBuf::from(format!("/proc/{}", keeper.id()));
        let place = Self::Namespace(keeper);
        let own = fs::read_link("/proc/self/ns/user").ok()?;
        for _ in 0..500 {
            if fs::read_link(process.join("ns/user")).is_ok_and(|other| other != own) {
                let map = format!("0 {OUTSIDE} 65536");
                return ["uid_map", "gid_map"]
                    .iter()
                    .all(|name| fs::write(process.join(name), &map).is_ok())
                    .then_some(place);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        None
    }

    /// Runs a script; returns what it printed.
    fn run(&self, script: &str) -> String {
        let mut command = match self {
            Self::Here => Command::new("sh"),
            Self::Namespace(keeper) => {
                let mut command = Command::new("nsenter");
                command.args(["--user", "--target", &keeper.id().to_string(), "-S", "0", "-G", "0"]);
                command.args(["unshare", "--mount", "sh"]);
                command
            }
        };
        let done = command.args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Namespace(keeper) = self {
            _ = keeper.kill();
            _ = keeper.wait();
        }
    }
}

/// The program: what `STRATA_PJDFSTEST` names, the one in `PATH`, or the one that `make test` installed.
fn pjdfstest() -> Option<PathBuf> {
    let named = std::env::var_os("STRATA_PJDFSTEST").map(PathBuf::from);
    let installed = Path::new(PROGRAM).ancestors().nth(2).map(|target| target.join("tools/bin/pjdfstest"));
    let found = named.into_iter().chain(installed).find(|path| path.is_file());
    found.or_else(|| require::program("pjdfstest"))
}

type Results = BTreeMap<String, (String, String)>;

/// What each test came to, from lines like `rename::eloop_to    ok`; why it failed or was skipped is on the lines after.
fn results(output: &str) -> Results {
    let mut results = Results::new();
    let mut last = String::new();
    for line in output.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, result @ ("ok" | "FAILED" | "skipped")] => {
                last = name.to_owned();
                results.insert(name.to_owned(), (result.to_owned(), String::new()));
            }
            _ => {
                if let Some((_, why)) = results.get_mut(&last) {
                    why.push_str(line);
                    why.push('\n');
                }
            }
        }
    }
    results
}

/// Directories for unions on an ext4, the programs, and a directory of the filesystem itself.
fn directories(pjdfstest: &Path, owner: u32) -> Option<LoopFs> {
    let dir = LoopFs::ext4(128 << 20)?;
    fs::copy(PROGRAM, dir.join("strata-unions")).unwrap();
    fs::copy(pjdfstest, dir.join("pjdfstest")).unwrap();
    fs::write(dir.join("config"), CONFIG).unwrap();
    for name in FOLDERS {
        fs::create_dir(dir.join(name)).unwrap();
    }
    for name in FOLDERS.iter().chain(&[""]) {
        let path = dir.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
    }
    if owner != 0 {
        // A device of the namespace's own: the system's may be root's alone.
        let device = rustix::fs::makedev(10, 229);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("fuse"), rustix::fs::FileType::CharacterDevice, mode, device)
            .unwrap();
        chown(dir.join("fuse"), Some(owner), Some(owner)).unwrap();
    }
    Some(dir)
}

/// Runs the tests on the filesystem below, on the kernel's overlayfs and on a union, and compares.
fn compare(place: &Place, pjdfstest: &Path, owner: u32, dialect: &str, more: &str) {
    let Some(dir) = directories(pjdfstest, owner) else { return };
    let at = dir.path().display();
    let tests =
        |path: &str, other: &str| format!("NO_COLOR=1 ./pjdfstest -c config -p {path} -s {other} || test $? = 1");
    let overlay = |number| format!("lowerdir={at}/lower,upperdir={at}/upper{number},workdir={at}/work{number}");
    let (options, kernel) = if dialect == "aufs" {
        (format!("dirs={at}/upper:{at}/lower"), String::new())
    } else {
        let user = if more.contains("userxattr") { ",userxattr" } else { "" };
        let mount = format!("mount -t overlay -o {}{user} overlay kernel", overlay("2"));
        (overlay(""), format!("{mount}; {}; umount kernel", tests("kernel/merged", "plain")))
    };
    let output = place.run(&format!(
        "cd {at}; test ! -e fuse || mount --bind fuse /dev/fuse; ./strata-unions mount {dialect} {options}{more} mnt
         {}; echo ==; {kernel}
         echo ==; {}; ./strata-unions umount mnt",
        tests("plain", "mnt"),
        tests("mnt/merged", "plain")
    ));
    let mut parts = output.split("==\n").map(results);
    let (Some(below), Some(kernel), Some(union)) = (parts.next(), parts.next(), parts.next()) else {
        panic!("{output}");
    };
    let ok = |results: &Results, name: &str| results.get(name).is_some_and(|(result, _)| result == "ok");
    assert!(below.values().filter(|(result, _)| result == "ok").count() > 100, "too few tests ran: {below:?}");
    let worse: Vec<String> = below
        .keys()
        .filter(|name| ok(&below, name) && !ok(&union, name))
        .filter(|name| !NOT_TOLD.contains(&name.as_str()) || union[*name].0 != "skipped")
        .filter(|name| !LATE.contains(&name.as_str()))
        .filter(|name| !name.ends_with(WHITEOUT) || dialect == "aufs" || ok(&kernel, name))
        .map(|name| format!("{name}: {:?}", union.get(name).map(|(result, why)| (result, why.lines().next()))))
        .collect();
    assert!(worse.is_empty(), "{dialect}{more}: what the filesystem below does right:\n{}", worse.join("\n"));
}

#[test]
fn a_union_is_as_good_as_what_lies_below() {
    if require::root().is_none() || !Path::new("/dev/fuse").exists() {
        skip!("needs root and /dev/fuse");
    }
    let Some(pjdfstest) = pjdfstest() else { return };
    for dialect in ["aufs", "overlay"] {
        for more in ["", ",passthrough=off"] {
            compare(&Place::Here, &pjdfstest, 0, dialect, more);
        }
    }
}

#[test]
fn a_union_in_a_user_namespace_is_as_good_as_what_lies_below() {
    if require::device_nodes().is_none() || !Path::new("/dev/fuse").exists() {
        skip!("needs root and /dev/fuse");
    }
    let Some(pjdfstest) = pjdfstest() else { return };
    let Some(place) = Place::namespace() else { skip!("needs user namespaces") };
    for (dialect, more) in [("aufs", ""), ("overlay", ",userxattr")] {
        compare(&place, &pjdfstest, OUTSIDE, dialect, more);
    }
}
