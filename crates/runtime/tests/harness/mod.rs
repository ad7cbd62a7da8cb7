//! A root filesystem of busybox, a place for state, and a terminal.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    process::Pid,
    pty::OpenptFlags,
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

const APPLETS: &str = "cat cut echo env false grep head hostname id ip kill ls mknod mount pwd readlink sh sleep stty tail touch \
                       tr true tty umount unshare wc";
const LONGEST: Duration = Duration::from_secs(20);

pub struct Bench {
    dir: tempfile::TempDir,
    tag: String,
    count: AtomicU32,
}

#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bench {
    /// Makes a root filesystem; `None`, having said why, where containers cannot run.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            strata_testkit::require::report_skip("needs root");
            return None;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| is_static(path));
        let Some(busybox) = busybox else {
            strata_testkit::require::report_skip("needs a static busybox");
            return None;
        };
        if rustix::fs::access("/sys/fs/cgroup", rustix::fs::Access::WRITE_OK).is_err() {
            strata_testkit::require::report_skip("needs writable cgroups");
            return None;
        }
        static BENCHES: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("temp dir");
        let tag = format!("t{}n{}", std::process::id(), BENCHES.fetch_add(1, Ordering::Relaxed));
        let bench = Self { dir, tag, count: AtomicU32::new(0) };
        let root = bench.rootfs();
        for folder in ["bin", "dev", "etc", "mnt", "proc", "scratch", "sys", "tmp"] {
            fs::create_dir_all(root.join(folder)).expect("mkdir");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        fs::copy(busybox, root.join("bin/busybox")).expect("copy busybox");
        for applet in APPLETS.split_whitespace() {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("symlink");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n")
            .expect("write passwd");
        Some(bench)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn has_program(&self, name: &str) -> bool {
        Command::new(name).arg("--version").output().is_ok()
    }

    pub fn program_path(&self) -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_strata-run-bundle"))
    }

    /// Puts an executable file into the root filesystem.
    pub fn program(&self, name: &str, content: &str) {
        let path = self.rootfs().join(name.trim_start_matches('/'));
        fs::write(&path, content).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    pub fn arguments(&self, flags: &[&str], command: &[&str]) -> Vec<String> {
        let mut all = vec!["--state".to_owned(), self.state().display().to_string()];
        if !flags.contains(&"--id") {
            all.extend(["--id".to_owned(), format!("{}c{}", self.tag, self.count.fetch_add(1, Ordering::Relaxed))]);
        }
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        all.push(self.rootfs().display().to_string());
        all.extend(command.iter().map(|word| (*word).to_owned()));
        all
    }

    /// The program with its arguments and the caller's streams.
    pub fn bare_command(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut program = Command::new(self.program_path());
        program.args(self.arguments(flags, command));
        program
    }

    pub fn command(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut program = self.bare_command(flags, command);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    pub fn run(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.run_with_input(flags, command, b"")
    }

    pub fn run_with_input(&self, flags: &[&str], command: &[&str], input: &[u8]) -> Outcome {
        let mut child = self.command(flags, command).spawn().expect("start");
        // A container without -i may have ended by now.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let outcome = Outcome::of(child.wait_with_output().expect("wait"));
        self.assert_clean();
        outcome
    }

    /// Without looking for leftovers, while another container runs.
    pub fn run_unchecked(&self, flags: &[&str], command: &[&str]) -> Outcome {
        Outcome::of(self.command(flags, command).output().expect("run"))
    }

    /// Starts a container that sleeps; returns its caller, its ID and its first process.
    pub fn start_sleeping(&self, runtime: &[&str]) -> (Child, String, Pid) {
        let id = format!("{}s{}", self.tag, self.count.fetch_add(1, Ordering::Relaxed));
        let child = self.command(&[runtime, &["--id", &id]].concat(), &["sleep", "100"]).spawn().expect("start");
        let first = self.first_process(&id);
        (child, id, first)
    }

    /// The container's first process, once it executes its command.
    pub fn first_process(&self, id: &str) -> Pid {
        let mut found = None;
        wait_until("the container runs", || {
            let groups = ["pids/strata", "strata"].map(|parent| Path::new("/sys/fs/cgroup").join(parent).join(id));
            let members = groups.iter().find_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
            found = members.unwrap_or_default().lines().find_map(|line| {
                let name = fs::read_link(format!("/proc/{line}/exe")).ok()?;
                name.ends_with("busybox").then(|| Pid::from_raw(line.parse().ok()?))?
            });
            found.is_some()
        });
        found.expect("just found")
    }

    pub fn watcher(&self, id: &str) -> Pid {
        let text = fs::read(self.state().join(id).join("task.json")).expect("read");
        let record: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        Pid::from_raw(record["watcher"]["pid"].as_i64().expect("a number") as i32).expect("not zero")
    }

    pub fn is_clean(&self) -> bool {
        self.leftovers().is_empty()
    }

    pub fn assert_clean(&self) {
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }

    /// State folders, cgroups and mounts of this bench's containers.
    fn leftovers(&self) -> Vec<PathBuf> {
        let mut left: Vec<PathBuf> = entries(&self.state());
        for hierarchy in entries(Path::new("/sys/fs/cgroup")) {
            let ours =
                |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&self.tag));
            left.extend(entries(&hierarchy.join("strata")).into_iter().filter(ours));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let below = self.dir.path().display().to_string();
        left.extend(
            mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(1))
                .filter(|at| at.starts_with(&below))
                .map(Into::into),
        );
        left
    }
}

impl Drop for Bench {
    /// Ends what a failed test left.
    fn drop(&mut self) {
        for known in strata_runtime::list(&self.state()).unwrap_or_default() {
            if known.watched {
                let _ = rustix::process::kill_process(self.watcher(&known.id), rustix::process::Signal::KILL);
            }
            let start = Instant::now();
            while !strata_runtime::cleanup(&self.state(), &known.id).unwrap_or(false) && start.elapsed() < LONGEST {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A static program has no interpreter to be loaded by.
fn is_static(path: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        bytes.starts_with(b"\x7fELF") && !bytes[..bytes.len().min(4096)].windows(8).any(|part| part == b"ld-linux")
    })
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONGEST, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A pseudo-terminal whose other side the test is.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    seen: String,
}

impl Terminal {
    pub fn open(rows: u16, columns: u16) -> Self {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("ptmx");
        rustix::pty::grantpt(&master).expect("grantpt");
        rustix::pty::unlockpt(&master).expect("unlockpt");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("ptsname");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("open the slave");
        let flags = rustix::fs::fcntl_getfl(&master).expect("flags");
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK).expect("flags");
        let terminal = Self { master: master.into(), slave, seen: String::new() };
        terminal.resize(rows, columns);
        terminal
    }

    pub fn attach(&self, mut command: Command) -> Command {
        let end = || Stdio::from(self.slave.try_clone().expect("dup"));
        command.stdin(end()).stdout(end()).stderr(end());
        command
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("size");
    }

    pub fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.slave).expect("settings"))
    }

    pub fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("type");
    }

    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.seen.contains(text) {
            assert!(start.elapsed() < LONGEST, "waited in vain for {text:?}; seen {:?}", self.seen);
            let mut buffer = [0; 4096];
            match self.master.read(&mut buffer) {
                Ok(length) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
