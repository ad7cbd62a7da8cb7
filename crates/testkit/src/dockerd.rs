//! A real dockerd, to hold a data root against.
//!
//! ```no_run
//! # fn test() {
//! # let scratch = strata_testkit::scratch();
//! let Some(dockerd) = strata_testkit::Dockerd::start(&scratch.join("root")) else { return };
//! assert_eq!(dockerd.docker(&["images", "-q"]), "");
//! # }
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::require;

/// How long a dockerd may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A dockerd at work on a data root, without iptables and a bridge: its containers need `--network none` or `host`.
///
/// Its socket, its state and its log lie in a folder of its own. Stopped when this drops, and what it left mounted is unmounted.
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    docker: PathBuf,
    data_root: PathBuf,
    /// `sock`, `pid`, `exec/`, `log`, `daemon.json`; short, as a socket's path may have no more than 107 bytes.
    run: PathBuf,
}

impl Dockerd {
    /// Starts it on `data_root`, which is made where it is missing. Skips where there is no dockerd, or it does not come up.
    pub fn start(data_root: &Path) -> Option<Self> {
        Self::start_with(data_root, "overlay2")
    }

    /// As [`Dockerd::start`], with another storage driver.
    pub fn start_with(data_root: &Path, driver: &str) -> Option<Self> {
        require::root()?;
        let (dockerd, docker) = (require::program("dockerd")?, require::program("docker")?);
        let run = tempfile::Builder::new().prefix("strata-dockerd-").tempdir().expect("a folder for dockerd").keep();
        // A file of our own: the machine's may say anything. Later versions would take containerd's store on a new root.
        let config = run.join("daemon.json");
        fs::write(&config, r#"{"features":{"containerd-snapshotter":false}}"#).expect("a configuration");
        let log = File::create(run.join("log")).expect("a log");
        let child = Command::new(dockerd)
            .args(["--iptables=false", "--bridge=none", "--storage-driver", driver])
            .args(["--host".into(), host(&run)])
            .args([Path::new("--config-file"), &config, Path::new("--data-root"), data_root])
            .args([Path::new("--exec-root"), &run.join("exec"), Path::new("--pidfile"), &run.join("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let mut dockerd = Self { child, docker, data_root: data_root.to_owned(), run };
        let begun = Instant::now();
        while !dockerd.output(&["info"]).status.success() {
            let ended = dockerd.child.try_wait().expect("its status").is_some();
            if ended || begun.elapsed() > PATIENCE {
                let log = dockerd.log();
                require::report_skip(&format!(
                    "dockerd does not come up here: {}",
                    log.lines().last().unwrap_or_default()
                ));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(dockerd)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A `docker` that talks to it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        // The classic builder: the other needs a plugin.
        command.env("DOCKER_BUILDKIT", "0").env("DOCKER_CONFIG", &self.run);
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.arg("--host").arg(host(&self.run)).args(args);
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("docker runs")
    }

    /// Runs `docker ARGS…`, which must succeed; returns what it prints, without white space at the ends.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "docker {args:?}: {out}{err}");
        out.trim().to_owned()
    }

    /// What it logged up to now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.run.join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for place in [&self.run, &self.data_root] {
            let Ok(place) = place.canonicalize() else { continue };
            for mounted in strata_sys::mount::mounts_under(&place).unwrap_or_default().iter().rev() {
                let _ = strata_sys::mount::unmount(&mounted.target);
            }
        }
        let _ = fs::remove_dir_all(&self.run);
    }
}

fn host(run: &Path) -> String {
    format!("unix://{}", run.join("sock").display())
}
