//! What a container sees under the built-in runtime is what it sees under runc, flag by flag.

#[allow(dead_code, reason = "shared with the other tests")]
mod harness;

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use harness::{Bench, Terminal};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Prints all that a process can see of how it was set up, a fact a line.
const PROBE: &str = r#"
cat /proc/self/mountinfo | while read -r line; do echo "mount $line"; done
for fd in 0 1 2 3 4 5 6 7 8 9; do
  [ -e /proc/$$/fd/$fd ] && echo "fd $fd $(readlink /proc/$$/fd/$fd | tr -d '0-9') $(grep flags /proc/$$/fdinfo/$fd)"
done
grep -E '^(Umask|Uid|Gid|Groups|Sig(Q|Pnd|Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp)' /proc/$$/status | grep -v SigQ | while read -r line; do echo "status $line"; done
while read -r line; do echo "limit $line"; done < /proc/$$/limits
env | while read -r line; do echo "env $line"; done
echo "oom $(cat /proc/$$/oom_score_adj)"
echo "pwd $(pwd)"
echo "id $(id)"
echo "host $(hostname)"
echo "session $(cut -d ' ' -f 5-8 /proc/$$/stat)"
ls -ln /dev /dev/pts | grep -v ^total | while read -r line; do echo "dev $line"; done
for path in /proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/scsi /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger /sys/firmware; do
  [ -e $path ] && echo "path $(ls -ldn $path | cut -c 1-10) $path $(head -c 8 $path 2>&1 | tr -dc 'a-zA-Z ')"
done
echo "sysctl $(cat /proc/sys/net/ipv4/ping_group_range) $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "root $( (echo x > /written) 2>&1 )"
ls -ldn / /mnt /scratch /tmp /proc /sys /dev/shm /dev/mqueue | cut -c 1-10 | while read -r line; do echo "mode $line"; done
echo "link $(ip -o link 2>/dev/null | tr -d '0-9')"
echo written || true
"#;

/// A filesystem of the host that mounts spread from and to, gone when dropped.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        rustix::mount::mount("probe", dir.path(), "tmpfs", MountFlags::empty(), None).expect("mount");
        rustix::mount::mount_change(dir.path(), MountPropagationFlags::SHARED).expect("share");
        std::fs::create_dir(dir.path().join("below")).expect("a directory");
        rustix::mount::mount("below", dir.path().join("below"), "tmpfs", MountFlags::empty(), None).expect("mount");
        rustix::mount::mount_change(dir.path().join("below"), MountPropagationFlags::SHARED).expect("share");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for path in [self.path().join("below"), self.path().to_owned()] {
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
        }
    }
}

/// A line without what differs from one container to the next: numbers of mounts and peer groups, the container's ID, times.
fn masked(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["mount", _, _, dev, root, at, options, rest @ ..] => {
            let dash = rest.iter().position(|word| *word == "-").unwrap_or(0);
            let tags: Vec<_> = rest[..dash].iter().map(|tag| tag.split(':').next().unwrap_or_default()).collect();
            // libcontainer makes the mount read-only and leaves the new filesystem below it writable, which nobody can reach.
            let filesystem = rest[dash..].join(" ").replace(" ro", " rw");
            format!(
                "mount {at} root={root} dev={} {options} {tags:?} {}",
                dev.split(':').next().unwrap_or_default(),
                filesystem
            )
        }
        ["fd", number, target, "flags:", flags] => {
            let largefile = 0o100_000;
            let flags = u32::from_str_radix(flags, 8).expect("flags") & !largefile;
            format!("fd {number} {target} {flags:o}")
        }
        ["status", "SigIgn:", mask] => {
            // Whoever runs the test may ignore the two signals of the C library, which nobody but it can change.
            let mask = u64::from_str_radix(mask, 16).expect("a mask") & !0x1_8000_0000;
            format!("status SigIgn: {mask:x}")
        }
        ["dev", mode, links, uid, gid, rest @ ..] => {
            // Links have no time of their own to speak of.
            let name = rest.iter().skip_while(|word| !word.contains(':')).skip(1).copied().collect::<Vec<_>>();
            let numbers =
                rest.iter().take_while(|word| !word.chars().all(char::is_alphabetic)).copied().collect::<Vec<_>>();
            format!(
                "dev {mode} {links} {uid} {gid} {} {}",
                if mode.starts_with('d') { String::new() } else { numbers.join(" ") },
                name.join(" ")
            )
        }
        _ => words.join(" "),
    }
}

fn facts(output: &str) -> Vec<String> {
    let mut facts: Vec<String> = output.lines().map(masked).collect();
    // Mounts keep their order; the rest of the facts name themselves.
    facts.retain(|fact| !fact.is_empty());
    facts
}

/// Differences that have a reason.
fn is_known(fact: &str) -> bool {
    // runc leaves the hierarchies of control groups without controllers in, which libcontainer cannot.
    fact.starts_with("mount /sys/fs/cgroup")
        // runc 1.1 gives a tmpfs the mode of the directory below it, whatever `mode=` says; later ones do not.
        || fact == "mode drwxrwx--T"
}

fn compare(bench: &Bench, what: &str, run: impl Fn(&[&str]) -> String) {
    let [ours, theirs] = [&[][..], &["--runtime", "runc"]].map(|runtime| {
        let facts = facts(&run(runtime));
        assert!(facts.len() > 40, "{what} with {runtime:?}: the probe ran: {facts:#?}");
        facts.into_iter().filter(|fact| !is_known(fact)).collect::<Vec<_>>()
    });
    bench.assert_clean();
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|fact| !those.contains(fact)).cloned().collect()
    };
    let (ours_only, theirs_only) = (only(&ours, &theirs), only(&theirs, &ours));
    assert!(
        ours_only.is_empty() && theirs_only.is_empty(),
        "{what}:\nours only: {ours_only:#?}\nrunc only: {theirs_only:#?}"
    );
    let order = |facts: &[String]| facts.iter().filter(|fact| fact.starts_with("mount")).cloned().collect::<Vec<_>>();
    assert_eq!(order(&ours), order(&theirs), "{what}: the order of the mounts");
}

#[test]
fn a_container_looks_as_under_runc() {
    let Some(bench) = Bench::new() else { return };
    if !bench.has_program("runc") {
        println!("skip: runc is not installed");
        return;
    }
    let shared = Shared::new();
    let file = shared.path().join("file");
    std::fs::write(&file, "x").expect("write");
    let bind = |options: &str| format!("{}:/mnt{options}", shared.path().display());
    let one_file = format!("{}:/etc/one:ro,rprivate", file.display());
    let binds: Vec<String> = [
        "",
        ":rprivate",
        ":private",
        ":rslave",
        ":slave",
        ":rshared",
        ":shared",
        ":ro,rprivate",
        ":ro,rslave",
        ":nosuid,nodev,noexec,rprivate",
        ":noatime,rprivate",
    ]
    .map(bind)
    .into();
    let mut table: Vec<Vec<&str>> = vec![
        vec![],
        vec!["--read-only"],
        vec!["--user", "1000:1001"],
        vec!["--cwd", "/tmp"],
        vec!["--tmpfs", "/scratch"],
        vec!["--tmpfs", "/scratch:size=64k,mode=1770,exec"],
        vec!["--tmpfs", "/scratch:ro"],
        vec!["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"],
        vec!["--cap-drop", "ALL"],
        vec!["--cap-add", "SYS_ADMIN", "--user", "1000:1001"],
        vec!["--no-new-privileges"],
        vec!["--unconfined"],
        vec!["--net", "host"],
        vec!["--env", "A=b c", "--env", "HOME=/elsewhere"],
        vec!["--bind", &one_file],
        vec!["-i"],
    ];
    table.extend(binds.iter().map(|bind| vec!["--bind", bind.as_str()]));
    table.push(vec!["--bind", &binds[3], "--bind", &one_file, "--read-only"]);
    table.push(vec!["--bind", &binds[5], "--bind", &one_file, "--tmpfs", "/scratch"]);
    for flags in &table {
        compare(&bench, &flags.join(" "), |runtime| {
            let outcome = bench.run(&[runtime, &["--id", "probe"], flags].concat(), &["sh", "-c", PROBE]);
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{flags:?} {runtime:?}: {outcome:?}");
            outcome.stdout
        });
    }
}

/// The standard streams of the caller, and where the probe's output is to be read.
#[test]
fn the_streams_are_as_under_runc() {
    let Some(bench) = Bench::new() else { return };
    if !bench.has_program("runc") {
        println!("skip: runc is not installed");
        return;
    }
    let out = bench.rootfs().join("scratch/out");
    let probe = format!("exec 9>&1; {{ {PROBE}\n }} >/scratch/out; echo out || exit 3; echo err >&2 || exit 4");
    for (what, stdout, stderr) in
        [("both", true, true), ("standard output", true, false), ("standard error", false, true)]
    {
        compare(&bench, &format!("/dev/null as {what}"), |runtime| {
            let stream = |null: bool| if null { Stdio::null() } else { Stdio::piped() };
            let mut command = bench.bare_command(&[runtime, &["--id", "streams"]].concat(), &["sh", "-c", &probe]);
            let output =
                command.stdin(Stdio::null()).stdout(stream(stdout)).stderr(stream(stderr)).output().expect("run");
            assert_eq!(output.status.code(), Some(0), "{what} {runtime:?}: {output:?}");
            std::fs::read_to_string(&out).expect("what the probe wrote")
        });
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    compare(&bench, "a file", |runtime| {
        let mut command = bench.bare_command(&[runtime, &["--id", "streams"]].concat(), &["sh", "-c", PROBE]);
        let end = || Stdio::from(File::create(file.path()).expect("create"));
        let status = command.stdin(Stdio::null()).stdout(end()).stderr(Stdio::null()).status().expect("run");
        assert!(status.success());
        let mut text = String::new();
        File::open(file.path()).and_then(|mut file| file.read_to_string(&mut text)).expect("read");
        text
    });
    compare(&bench, "a terminal", |runtime| {
        let terminal = Terminal::open(24, 80);
        let command = format!("{{ {PROBE}\n }} >/scratch/out");
        let bare: Command =
            bench.bare_command(&[runtime, &["-t", "-i", "--id", "streams"]].concat(), &["sh", "-c", &command]);
        let status = terminal.attach(bare).status().expect("run");
        assert!(status.success(), "{runtime:?}: {status:?}");
        std::fs::read_to_string(&out).expect("what the probe wrote")
    });
}

#[test]
fn text_with_a_nul_is_refused_before_anything_is_made() {
    let Some(bench) = Bench::new() else { return };
    type Change = fn(&mut strata_runtime::Spec);
    let spec = |change: Change| {
        let mut spec = strata_runtime::SpecBuilder::new("nul", bench.rootfs()).args(["true"]).build().expect("a spec");
        change(&mut spec);
        spec
    };
    let changes: [(&str, Change); 4] = [
        ("environment variable value can't contain null(\\x00): \"A=x\\x00y\"", |spec| {
            spec.process.env.push("A=x\0y".into())
        }),
        ("argument value can't contain null(\\x00)", |spec| spec.process.args.push("a\0".into())),
        ("working directory value can't contain null(\\x00)", |spec| spec.process.cwd = "/\0".into()),
        ("hostname value can't contain null(\\x00)", |spec| spec.hostname = "\0".into()),
    ];
    let bundle = tempfile::tempdir().expect("a directory");
    for (text, change) in changes {
        let spec = spec(change);
        let task = strata_runtime::Task {
            id: "nul",
            bundle: bundle.path(),
            state_root: &bench.state(),
            filters: &bench.state().with_extension("filters"),
            spec: &spec,
            stdin: strata_runtime::Stdin::Null,
            runtime: &strata_runtime::Runtime::BuiltIn,
        };
        let error = task.create().expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.exit_code(), 125);
        assert_eq!(std::fs::read_dir(bundle.path()).expect("list").count(), 0, "nothing is written");
    }
}
