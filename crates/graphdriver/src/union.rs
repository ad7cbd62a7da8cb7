//! The union in user space, as drivers mount it.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use strata_sys::{fs::Feature, mount::Overlay};
use strata_unionfs::{
    Access as Writable, Branch, Config, Dialect,
    mount::{self, Mount},
};

use crate::Access;

/// How many folders may lie below one that is mounted. The union itself has no limit; Docker's layer store has 125.
pub(crate) const MAX_DEPTH: usize = 500;

/// Whether a union in user space can be had here.
pub(crate) fn feature() -> Feature {
    let (works, why) = match available() {
        Ok(()) => (true, "by FUSE".to_owned()),
        Err(why) => (false, why),
    };
    Feature { name: "union in user space", works, why }
}

/// Why there is none, if there is none.
pub(crate) fn available() -> Result<(), String> {
    match Path::new("/dev/fuse").exists() {
        true => Ok(()),
        false => Err("there is no /dev/fuse; try: modprobe fuse".to_owned()),
    }
}

/// Mounts `branches`, topmost first, with AUFS's marks on `target`; with `ReadWrite` the topmost is written to. The process behind it is
/// this program again.
pub(crate) fn aufs(branches: &[PathBuf], access: Access, target: &Path) -> io::Result<()> {
    let branches = branches.iter().enumerate().map(|(n, path)| Branch {
        path: path.clone(),
        access: match (n, access) {
            (0, Access::ReadWrite) => Writable::ReadWrite,
            _ => Writable::ReadOnlyWhiteouts,
        },
    });
    let config = Config {
        branches: branches.collect(),
        dialect: Dialect::Aufs,
        work: None,
        options: strata_unionfs::Options::default(),
    };
    mount::spawn(&Mount::new(config), target).map(drop).map_err(io::Error::other)
}

/// Unmounts what is at `target` and waits for the process behind it, if that is a union of ours; else does nothing and says so.
pub(crate) fn unmount(target: &Path) -> bool {
    let is_fuse = strata_sys::fs::info(target).is_ok_and(|info| info.type_name == "fuse");
    is_fuse && matches!(mount::find(target), Ok(Some(_))) && mount::unmount(target).is_ok()
}

/// The program that makes unions with overlay's marks, where the kernel's overlayfs cannot.
const PROGRAM: &str = "fuse-overlayfs";

/// Whether the program can be used here.
pub(crate) fn program_feature() -> Feature {
    let (works, why) = match program() {
        Ok(path) => (true, format!("by {}", path.display())),
        Err(why) => (false, why),
    };
    Feature { name: "union in user space", works, why }
}

/// Where the program is, or why it cannot be used.
pub(crate) fn program() -> Result<PathBuf, String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse; try: modprobe fuse".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(PROGRAM)).find(|program| program.is_file());
    found.ok_or_else(|| format!("the program {PROGRAM} is not installed"))
}

/// Mounts `overlay` on `target` by the program, which stays behind the mount until it is unmounted.
pub(crate) fn by_program(overlay: &Overlay<'_>, target: &Path) -> io::Result<()> {
    let program = program().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
    let lower: Vec<String> = overlay.lower.iter().map(|dir| dir.display().to_string()).collect();
    let mut options = format!("lowerdir={}", lower.join(":"));
    if let Some((upper, work)) = overlay.upper {
        options.push_str(&format!(",upperdir={},workdir={}", upper.display(), work.display()));
    }
    // Not a pipe: the process that stays would keep it open.
    let mut said = File::from(rustix::fs::memfd_create("stderr", rustix::fs::MemfdFlags::CLOEXEC)?);
    let mut command = Command::new(program);
    command.arg("-o").arg(options).arg(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    if let Some(base) = overlay.base {
        command.current_dir(base);
    }
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    Err(io::Error::other(format!("{PROGRAM} ended with {status}: {}", text.trim())))
}
