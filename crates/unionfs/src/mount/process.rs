//! The process behind a mount: this program, re-executed under another name.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use super::{Mount, MountError, MountInfo, decode, encode, fields::Fields, mounted, serve};

/// Its argument 0, by which it recognizes itself.
pub(super) const NAME: &str = "strata-union";

/// Runs the process of a union and never returns if the program was started as one; returns at once otherwise.
///
/// A program that calls [`spawn`] calls this at the start of `main`, before it starts threads or reads arguments.
pub fn init() {
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        std::process::exit(main());
    }
}

/// Mounts a union that a process of its own serves, and returns once it answers.
///
/// The process leaves the caller's session, works in `/`, and ends when the union is unmounted; see [`super::unmount`].
/// If the process is killed, the mount remains and answers `ENOTCONN` until `unmount` removes it. Synced data is on the branches.
pub fn spawn(mount: &Mount, mountpoint: &Path) -> Result<MountInfo, MountError> {
    let start = |source| MountError::Start { source };
    let target = mounted::resolve(mountpoint)?;
    let configuration = encode(mount, &target).map_err(start)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(NAME)
        .arg(&target)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log(mount)?)
        .spawn()
        .map_err(start)?;
    if let Some(mut input) = child.stdin.take() {
        // A process that has ended already has written its report.
        _ = input.write_all(&configuration);
    }
    let mut report = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_end(&mut report).map_err(start)?;
    }
    let report = Fields::decode(&report).unwrap_or_default();
    if report.get("ready").is_some() {
        // Reaps the process in a long-lived caller.
        std::thread::Builder::new().name("union".into()).spawn(move || child.wait()).map_err(start)?;
        return mounted::find(&target)?.ok_or(MountError::NotMounted { path: target });
    }
    let status = child.wait().map_err(start)?;
    let message = match report.text("error") {
        Some(message) => message.to_owned(),
        None => format!("the process of the union ended before it mounted anything ({status})"),
    };
    Err(MountError::Refused { message })
}

fn log(mount: &Mount) -> Result<Stdio, MountError> {
    let Some(path) = &mount.log else { return Ok(Stdio::null()) };
    let open = || {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        File::options().create(true).append(true).open(path)
    };
    open().map(Stdio::from).map_err(|source| MountError::Table { path: path.clone(), source })
}

fn main() -> i32 {
    _ = rustix::process::setsid();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false).init();
    let mut input = Vec::new();
    if io::stdin().read_to_end(&mut input).is_err() {
        return 1;
    }
    let Some((mount, mountpoint)) = decode(&input) else {
        say("error", "the process of the union was given no configuration that it understands");
        return 1;
    };
    drop(input);
    match serve(mount, &mountpoint, || say("ready", "")) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error);
            say("error", &error.to_string());
            1
        }
    }
}

/// Reports to the parent, once, and closes the pipe.
fn say(name: &str, text: &str) {
    let mut fields = Fields::default();
    fields.put(name, text);
    let mut out = io::stdout().lock();
    // The parent may have ended.
    _ = out.write_all(&fields.encode());
    _ = out.flush();
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        _ = rustix::stdio::dup2_stdin(&null);
        _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// Unmounts on `SIGTERM` and `SIGINT`.
pub(super) fn unmount_on_signal(target: &Path) -> Result<(), MountError> {
    let start = |source| MountError::Start { source };
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM, libc::SIGINT]).map_err(start)?;
    let target = target.to_path_buf();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                // Open files are served until they are closed.
                _ = rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH);
            }
        })
        .map_err(start)?;
    Ok(())
}
