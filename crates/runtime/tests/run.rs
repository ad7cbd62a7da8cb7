//! Containers that run: what they see, how they end, and that nothing is left of them.

mod harness;

use std::{
    fs,
    io::{Read, Write},
    time::Duration,
};

use harness::{Bench, Outcome, wait_until};

const PLAIN: &[&str] = &[];
const RUNC: &[&str] = &["--runtime", "runc"];

/// Runs `check` with the built-in runtime, and with runc where it is installed.
fn with_each_runtime(check: impl Fn(&Bench, &[&str])) {
    let Some(bench) = Bench::new() else { return };
    check(&bench, PLAIN);
    if bench.has_program("runc") {
        check(&bench, RUNC);
    } else {
        strata_testkit::require::report_skip("runc is not installed");
    }
}

#[test]
fn exit_codes_pass_through() {
    with_each_runtime(|bench, runtime| {
        for (command, code) in [
            ("true", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("sh -c 'kill -9 $$'; exit $?", 137),
            // A signal that the first process sends itself is one it does not get: it is process 1.
            ("kill -TERM $$; exit 3", 3),
        ] {
            let outcome = bench.run(runtime, &["sh", "-c", command]);
            assert_eq!(outcome.code, code, "{command} with {runtime:?}: {outcome:?}");
        }
    });
}

#[test]
fn a_first_process_that_is_killed_is_128_and_the_signal() {
    with_each_runtime(|bench, runtime| {
        let (mut child, _, pid) = bench.start_sleeping(runtime);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        assert_eq!(child.wait().expect("wait").code(), Some(137));
        bench.assert_clean();
    });
}

#[test]
fn commands_that_cannot_run_have_dockers_words_and_codes() {
    with_each_runtime(|bench, runtime| {
        fs::write(bench.rootfs().join("data"), "").expect("write");
        for (command, code, text) in [
            ("foo", 127, "exec: \"foo\": executable file not found in $PATH: unknown"),
            ("/nope", 127, "exec: \"/nope\": stat /nope: no such file or directory: unknown"),
            ("/etc", 126, "exec: \"/etc\": permission denied: unknown"),
            ("/data", 126, "exec: \"/data\": permission denied: unknown"),
        ] {
            let outcome = bench.run(runtime, &[command]);
            assert_eq!(outcome.code, code, "{command} with {runtime:?}: {outcome:?}");
            assert!(outcome.stderr.contains(text), "{command} with {runtime:?}: {outcome:?}");
        }
    });
}

#[test]
fn what_the_kernel_refuses_to_execute_ends_as_with_dockerd() {
    let Some(bench) = Bench::new() else { return };
    for (name, content, text) in [
        ("/garbage", "garbage", "exec /garbage: exec format error\n"),
        ("/script", "#!/no/such\n", "exec /script: no such file or directory\n"),
    ] {
        bench.program(name, content);
        let outcome = bench.run(PLAIN, &[name]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (1, text));
    }
}

#[test]
fn a_set_up_that_fails_says_where_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let outcome = bench.run(&["--bind", "/no/such/source:/mnt"], &["true"]);
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("/no/such/source"), "{outcome:?}");
    let outcome = bench.run(&["--cwd", "/no/such/folder"], &["true"]);
    assert_eq!(outcome.code, 125, "{outcome:?}");
    let outcome = bench.run(&["--runtime", "/no/such/runtime"], &["true"]);
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("/no/such/runtime"), "{outcome:?}");
}

#[test]
fn stdin_is_passed_and_half_closed_or_is_dev_null() {
    with_each_runtime(|bench, runtime| {
        let piped = bench.run_with_input(&[runtime, &["-i"]].concat(), &["sh", "-c", "cat; echo end"], b"hello\n");
        assert_eq!(piped.stdout, "hello\nend\n", "{piped:?}");
        let closed = bench.run_with_input(runtime, &["sh", "-c", "cat; echo end"], b"hello\n");
        assert_eq!(closed.stdout, "end\n", "{closed:?}");
    });
}

#[test]
fn large_output_arrives_whole() {
    let Some(bench) = Bench::new() else { return };
    let outcome = bench.run(PLAIN, &["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2"]);
    assert_eq!((outcome.stdout.len(), outcome.stderr.as_str()), (3_000_000, "done\n"));
}

#[test]
fn environment_directory_user_and_host_name_are_set() {
    with_each_runtime(|bench, runtime| {
        let flags: &[&str] =
            &["--id", "namedbox", "--user", "1000:1001", "--cwd", "/tmp", "--env", "B=2", "--env", "A=x y"];
        let script = "pwd; id -u; id -g; hostname; umask; cat /proc/self/environ | tr '\\0' '\\n'";
        let outcome = bench.run(&[runtime, flags].concat(), &["sh", "-c", script]);
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[..5], ["/tmp", "1000", "1001", "namedbox", "0022"], "{outcome:?}");
        for variable in ["B=2", "A=x y", "HOSTNAME=namedbox", "HOME=/home/user"] {
            assert!(lines.contains(&variable), "{variable} with {runtime:?}: {outcome:?}");
        }
    });
}

#[test]
fn a_user_can_open_the_streams_by_name() {
    with_each_runtime(|bench, runtime| {
        let script = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr";
        let flags = [runtime, &["-i", "--user", "1000:1001"]].concat();
        let outcome = bench.run_with_input(&flags, &["sh", "-c", script], b"in");
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("in", "err\n"), "{outcome:?}");
    });
}

#[test]
fn the_environment_keeps_its_order_and_holds_nothing_of_the_callers() {
    let Some(bench) = Bench::new() else { return };
    let mut command = bench.command(&["--env", "Z=1", "--env", "A=2"], &["env"]);
    command.env("SECRET_OF_THE_CALLER", "1").env("LISTEN_FDS", "1");
    let outcome = Outcome::of(command.output().expect("run"));
    let names: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["PATH", "HOSTNAME", "Z", "A", "HOME"], "{outcome:?}");
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    with_each_runtime(|bench, runtime| {
        let script =
            "touch /x 2>/dev/null && echo root; touch /scratch/x && echo scratch; touch /dev/shm/x && echo shm";
        let flags = ["--read-only", "--tmpfs", "/scratch"];
        let outcome = bench.run(&[runtime, &flags].concat(), &["sh", "-c", script]);
        assert_eq!(outcome.stdout, "scratch\nshm\n", "{outcome:?}");
    });
}

#[test]
fn privileges_are_dockers_defaults() {
    with_each_runtime(|bench, runtime| {
        let status = bench.run(runtime, &["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]);
        let fields: Vec<String> = status.stdout.lines().map(|line| line.replace('\t', "")).collect();
        let held = "00000000a80425fb";
        let expected = [
            "CapInh:0000000000000000".to_owned(),
            format!("CapPrm:{held}"),
            format!("CapEff:{held}"),
            format!("CapBnd:{held}"),
            "CapAmb:0000000000000000".to_owned(),
            "NoNewPrivs:0".to_owned(),
            "Seccomp:2".to_owned(),
        ];
        assert_eq!(fields, expected, "{runtime:?}");

        let user = bench.run(&[runtime, &["--user", "1000:1000"]].concat(), &["grep", "CapEff", "/proc/self/status"]);
        assert_eq!(user.stdout.trim(), "CapEff:\t0000000000000000", "{user:?}");
        let flags = [runtime, &["--no-new-privileges"]].concat();
        let bound = bench.run(&flags, &["grep", "-E", "^(NoNewPrivs|Seccomp:)", "/proc/self/status"]);
        assert_eq!(bound.stdout, "NoNewPrivs:\t1\nSeccomp:\t2\n", "{bound:?}");
        let none = bench.run(&[runtime, &["--cap-drop", "ALL"]].concat(), &["grep", "CapBnd", "/proc/self/status"]);
        assert_eq!(none.stdout.trim(), "CapBnd:\t0000000000000000", "{none:?}");
    });
}

#[test]
fn seccomp_denies_what_docker_denies() {
    with_each_runtime(|bench, runtime| {
        for (denied, text) in [
            ("unshare -U true", "Operation not permitted"),
            ("unshare -m true", "Operation not permitted"),
            ("mount -t tmpfs x /mnt", "permission denied"),
        ] {
            let outcome = bench.run(runtime, &["sh", "-c", denied]);
            assert!(outcome.code != 0 && outcome.stderr.contains(text), "{denied}: {outcome:?}");
        }
    });
    let Some(bench) = Bench::new() else { return };
    let outcome = bench.run(&["--unconfined"], &["grep", "Seccomp:", "/proc/self/status"]);
    assert_eq!(outcome.stdout.trim(), "Seccomp:\t0");
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    with_each_runtime(|bench, runtime| {
        let script = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
                      echo x > /proc/sys/kernel/hostname || echo refused; \
                      for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do \
                      test -e $f && { echo 1 > $f && echo joined $f; }; done; \
                      grep ' /sys/fs/cgroup/' /proc/mounts | grep -cv ' ro,'";
        let outcome = bench.run(runtime, &["sh", "-c", script]);
        assert_eq!(outcome.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "0", "refused", "0"], "{outcome:?}");
    });
}

#[test]
fn devices_are_the_harmless_ones() {
    with_each_runtime(|bench, runtime| {
        let script = "ls /dev; test -c /dev/null && echo ok > /dev/null; head -c 4 /dev/urandom | wc -c; \
                      mknod /dev/disk b 8 0 && cat /dev/disk";
        let outcome = bench.run(runtime, &["sh", "-c", script]);
        let mut seen: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(seen.pop(), Some("4"));
        let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert_eq!(seen.join(" "), expected, "{outcome:?}");
        assert!(outcome.stderr.contains("not permitted"), "a disk could be opened: {outcome:?}");
    });
}

#[test]
fn network_none_has_lo_alone_and_host_is_the_callers() {
    let Some(bench) = Bench::new() else { return };
    let none = bench.run(PLAIN, &["sh", "-c", "ls /sys/class/net; ip address show lo; readlink /proc/self/ns/net"]);
    assert!(none.stdout.starts_with("lo\n1: lo:"), "{none:?}");
    assert!(none.stdout.contains("UP") && none.stdout.contains("127.0.0.1/8"), "{none:?}");
    let own = fs::read_link("/proc/self/ns/net").expect("read");
    assert!(!none.stdout.contains(own.to_str().expect("ascii")), "{none:?}");
    with_each_runtime(|bench, runtime| {
        let host = bench.run(&[runtime, &["--net", "host"]].concat(), &["readlink", "/proc/self/ns/net"]);
        assert_eq!(host.stdout.trim(), own.to_str().expect("ascii"), "{host:?}");
    });
}

#[test]
fn signals_are_passed_to_the_container() {
    with_each_runtime(|bench, runtime| {
        for (name, signal, code) in [
            ("TERM", rustix::process::Signal::TERM, 41),
            ("HUP", rustix::process::Signal::HUP, 42),
            ("INT", rustix::process::Signal::INT, 43),
            ("USR1", rustix::process::Signal::USR1, 44),
        ] {
            let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.05; done");
            let mut child = bench.command(runtime, &["sh", "-c", &script]).spawn().expect("start");
            let mut ready = [0; 6];
            child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("the container speaks");
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, signal).expect("signal");
            assert_eq!(child.wait().expect("wait").code(), Some(code), "{name} with {runtime:?}");
            bench.assert_clean();
        }
    });
}

#[test]
fn programs_in_the_container_have_default_signals() {
    let Some(bench) = Bench::new() else { return };
    // A shell may start us with SIGINT and SIGHUP ignored, and Rust ignores SIGPIPE.
    let mut command = std::process::Command::new("sh");
    let script = format!("trap '' INT HUP PIPE; exec {} \"$@\"", bench.program_path().display());
    command.args(["-c", &script, "sh"]).args(bench.arguments(PLAIN, &["grep", "SigIgn", "/proc/self/status"]));
    let outcome = Outcome::of(command.output().expect("run"));
    let bits = outcome.stdout.trim().rsplit('\t').next().and_then(|bits| u64::from_str_radix(bits, 16).ok());
    assert_eq!(bits.map(|bits| bits & 0x7fff_ffff), Some(0), "{outcome:?}");
}

#[test]
fn a_killed_caller_takes_its_container_along() {
    with_each_runtime(|bench, runtime| {
        let (mut child, _, first) = bench.start_sleeping(runtime);
        child.kill().expect("kill");
        child.wait().expect("wait");
        wait_until("the container has ended", || rustix::process::test_kill_process(first).is_err());
        wait_until("its watcher has cleaned up", || bench.is_clean());
    });
}

#[test]
fn a_killed_watcher_takes_its_container_along_and_the_caller_says_so() {
    let Some(bench) = Bench::new() else { return };
    let (child, id, first) = bench.start_sleeping(PLAIN);
    rustix::process::kill_process(bench.watcher(&id), rustix::process::Signal::KILL).expect("kill");
    let outcome = Outcome::of(child.wait_with_output().expect("wait"));
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains(&id), "{outcome:?}");
    wait_until("the container has ended", || rustix::process::test_kill_process(first).is_err());
    bench.assert_clean();
}

#[test]
fn what_a_killed_pair_left_is_cleaned_up_later() {
    with_each_runtime(|bench, runtime| {
        let (mut child, id, first) = bench.start_sleeping(runtime);
        let watcher = bench.watcher(&id);
        assert!(!strata_runtime::cleanup(&bench.state(), &id).expect("cleanup"), "it is watched");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::STOP)
            .expect("stop");
        rustix::process::kill_process(watcher, rustix::process::Signal::KILL).expect("kill");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let unwatched = [strata_runtime::Known { id: id.clone(), watched: false }];
        wait_until("nobody watches it", || strata_runtime::list(&bench.state()).expect("list") == unwatched);
        assert!(strata_runtime::cleanup(&bench.state(), &id).expect("cleanup"));
        wait_until("the container has ended", || rustix::process::test_kill_process(first).is_err());
        bench.assert_clean();
    });
}

#[test]
fn one_id_is_one_container() {
    let Some(bench) = Bench::new() else { return };
    let mut first = bench.command(&["--id", "twice", "-i"], &["cat"]).spawn().expect("start");
    bench.first_process("twice");
    let second = bench.run_unchecked(&["--id", "twice"], &["true"]);
    assert_eq!(second.code, 125, "{second:?}");
    assert!(second.stderr.contains("twice"), "{second:?}");
    // The first one is not touched by that.
    let mut stdin = first.stdin.take().expect("piped");
    stdin.write_all(b"alive").expect("write");
    drop(stdin);
    let outcome = Outcome::of(first.wait_with_output().expect("wait"));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "alive"), "{outcome:?}");
    bench.assert_clean();
}

#[test]
fn many_at_once_leave_nothing() {
    let Some(bench) = Bench::new() else { return };
    let children: Vec<_> =
        (0..8).map(|n| bench.command(PLAIN, &["sh", "-c", &format!("exit {n}")]).spawn().expect("start")).collect();
    for (n, mut child) in children.into_iter().enumerate() {
        assert_eq!(child.wait().expect("wait").code(), Some(n as i32));
    }
    wait_until("all is clean", || bench.is_clean());
}

#[test]
fn a_terminal_has_size_keys_and_is_restored() {
    with_each_runtime(|bench, runtime| {
        let mut terminal = harness::Terminal::open(33, 101);
        let before = terminal.settings();
        let script =
            "test -t 0 && test -t 1 && stty size; tty; read line; echo \"got $line\"; read again; stty size; exit 5";
        let flags = [runtime, &["-i", "-t"]].concat();
        let mut child = terminal.attach(bench.bare_command(&flags, &["sh", "-c", script])).spawn().expect("start");
        terminal.wait_for("33 101");
        terminal.wait_for("/dev/pts/0");
        assert_ne!(terminal.settings(), before, "not in raw mode");
        terminal.type_keys(b"hello\r");
        terminal.wait_for("got hello");
        terminal.resize(50, 120);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::WINCH)
            .expect("signal");
        std::thread::sleep(Duration::from_millis(100));
        terminal.type_keys(b"\r");
        terminal.wait_for("50 120");
        assert_eq!(child.wait().expect("wait").code(), Some(5));
        assert_eq!(terminal.settings(), before, "not restored");
        bench.assert_clean();
    });
}

#[test]
fn a_terminal_is_restored_when_the_container_is_killed_or_cannot_run() {
    let Some(bench) = Bench::new() else { return };
    for (command, code) in [("/nope", 127), ("sh", 143)] {
        let mut terminal = harness::Terminal::open(24, 80);
        let before = terminal.settings();
        let script: &[&str] = &[command, "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"];
        let mut child = terminal.attach(bench.bare_command(&["-i", "-t"], script)).spawn().expect("start");
        if command == "sh" {
            terminal.wait_for("ready");
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
                .expect("signal");
        }
        assert_eq!(child.wait().expect("wait").code(), Some(code));
        assert_eq!(terminal.settings(), before, "after {command}");
    }
}

#[test]
fn a_terminal_needs_one_to_type_on() {
    let Some(bench) = Bench::new() else { return };
    let outcome = bench.run_with_input(&["-i", "-t"], &["true"], b"");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("the input device is not a TTY"), "{outcome:?}");
    let output_only = bench.run(&["-t"], &["sh", "-c", "test -t 1 && echo yes"]);
    assert_eq!(output_only.stdout, "yes\r\n", "{output_only:?}");
}

/// What the kernel says of the first process's rights, as the process itself sees it.
fn rights(bench: &Bench, flags: &[&str]) -> Vec<String> {
    let outcome = bench.run(flags, &["cat", "/proc/self/status"]);
    assert_eq!(outcome.code, 0, "{flags:?}: {outcome:?}");
    let wanted = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp"];
    let lines = outcome.stdout.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn capabilities_and_seccomp_are_what_runc_gives() {
    let Some(bench) = Bench::new() else { return };
    if !bench.has_program("runc") {
        strata_testkit::require::report_skip("runc is not installed");
        return;
    }
    let people: [&[&str]; 2] = [&[], &["--user", "1000:1001"]];
    let changes: [&[&str]; 7] = [
        &[],
        &["--no-new-privileges"],
        &["--unconfined"],
        &["--cap-add", "SYS_ADMIN"],
        &["--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN"],
        &["--cap-drop", "ALL"],
        &["--cap-drop", "ALL", "--no-new-privileges"],
    ];
    for flags in people.iter().flat_map(|who| changes.iter().map(|change| [*who, *change].concat())) {
        let ours = rights(&bench, &flags);
        assert!(ours.len() >= 9, "{ours:?}");
        assert_eq!(ours, rights(&bench, &[RUNC, &flags].concat()), "{flags:?}");
    }
}

#[test]
fn what_was_lent_to_load_the_filter_is_gone() {
    let Some(bench) = Bench::new() else { return };
    let people: [&[&str]; 2] = [&[], &["--user", "1000:1001"]];
    for (flags, admin) in
        people.into_iter().flat_map(|who| [(who.to_vec(), false), ([who, &["--cap-add", "SYS_ADMIN"]].concat(), true)])
    {
        let lines = rights(&bench, &flags);
        let bit = |set: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(set)).expect("listed");
            u64::from_str_radix(line.trim(), 16).expect("hex") >> 21 & 1 == 1
        };
        let held = admin && !flags.contains(&"--user");
        assert_eq!(["CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"].map(bit), [held, held, admin, false, false]);
        assert!(lines.contains(&"Seccomp:\t2".to_owned()), "{lines:?}");
        let outcome = bench.run(&flags, &["unshare", "-m", "true"]);
        assert_eq!(outcome.code == 0, held, "{flags:?}: {outcome:?}");
    }
}

#[test]
fn a_filter_that_cannot_be_loaded_keeps_the_command_from_running() {
    let Some(bench) = Bench::new() else { return };
    assert_eq!(bench.run(PLAIN, &["true"]).code, 0);
    let programs: Vec<_> = fs::read_dir(bench.state().with_extension("filters")).expect("kept").collect();
    assert_eq!(programs.len(), 1);
    // Whole by its digest, and no program to the kernel: it ends without a verdict.
    let path = programs[0].as_ref().expect("an entry").path();
    let nonsense = [0; 8];
    let digest = strata_spec::Digest::sha256(nonsense).hex();
    fs::write(path, [digest.as_bytes(), &nonsense].concat()).expect("write");
    let outcome = bench.run(PLAIN, &["echo", "ran"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (125, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("cannot load the seccomp filter"), "{outcome:?}");
}
