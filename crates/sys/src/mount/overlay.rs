//! Overlay mounts.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{self as raw, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags},
};

use crate::{StepContext, tree::proc_path};

/// An overlay mount to make.
#[derive(Clone, Debug, Default)]
pub struct Overlay<'a> {
    /// From the topmost down; absolute, or relative to `base`.
    pub lower: Vec<&'a Path>,
    /// Upper and work directory, absolute or relative to `base`; absent for a read-only mount.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Further options, `name` or `name=value`: `redirect_dir=off`, `metacopy=off`, `index=off`, `userxattr`, `volatile`.
    pub options: Vec<&'a str>,
    /// What relative paths are relative to. Where `mount(2)` is all there is, relative paths keep many layers within its one page.
    pub base: Option<&'a Path>,
}

/// The longest string that `fsconfig(2)` takes.
const LONGEST_VALUE: usize = 255;

/// The most bytes of options that `mount(2)` takes: a page with its NUL.
const LONGEST_OPTIONS: usize = 4095;

/// Mounts an overlay on `target`. At most 500 lower layers with the new API.
///
/// Without an upper directory there must be two lower ones: the kernel refuses to union one with nothing.
pub fn overlay(target: &Path, overlay: &Overlay<'_>) -> io::Result<()> {
    if overlay.lower.len() + usize::from(overlay.upper.is_some()) < 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("mount overlay on {}: two directories are needed to make a union", target.display()),
        ));
    }
    match has_lowerdir_plus() {
        true => overlay.mount_by_context(target),
        false => overlay.mount_by_string(target),
    }
    .step(|| format!("mount overlay on {}", target.display()))
}

/// Whether the kernel takes overlay layers one by one (`lowerdir+`, Linux 6.8): then up to 500 of them, of any length.
pub fn has_lowerdir_plus() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let context = raw::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC);
        context.is_ok_and(|context| raw::fsconfig_set_string(&context, "lowerdir+", "/").is_ok())
    })
}

impl Overlay<'_> {
    fn absolute(&self, path: &Path) -> PathBuf {
        self.base.map_or_else(|| path.to_owned(), |base| base.join(path))
    }

    pub(super) fn mount_by_context(&self, target: &Path) -> io::Result<()> {
        let context = raw::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step(|| "fsopen overlay".into())?;
        let set = |key: &str, value: &OsStr| {
            raw::fsconfig_set_string(&context, key, value)
                .map_err(|errno| with_log(&context, errno))
                .step(|| format!("option {key}={}", value.display()))
        };
        let mut held = Vec::new();
        let mut set_path = |key: &str, path: &Path| {
            let path = self.absolute(path);
            // Some kernels take a backslash in upper and work directories for the start of an escape.
            if path.as_os_str().len() <= LONGEST_VALUE && !path.as_os_str().as_bytes().contains(&b'\\') {
                return set(key, path.as_os_str());
            }
            set(key, OsStr::new(&hold(&mut held, &path).step(|| format!("option {key}"))?))
        };
        set("source", OsStr::new("overlay"))?;
        for lower in &self.lower {
            set_path("lowerdir+", lower)?;
        }
        if let Some((upper, work)) = self.upper {
            set_path("upperdir", upper)?;
            set_path("workdir", work)?;
        }
        for option in &self.options {
            match option.split_once('=') {
                Some((name, value)) => set(name, OsStr::new(value))?,
                None => raw::fsconfig_set_flag(&context, *option)
                    .map_err(|errno| with_log(&context, errno))
                    .step(|| format!("option {option}"))?,
            }
        }
        raw::fsconfig_create(&context).map_err(|errno| with_log(&context, errno)).step(|| "create".into())?;
        let mount = raw::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(|errno| with_log(&context, errno))
            .step(|| "fsmount".into())?;
        raw::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(|| "attach".into())
    }

    /// `mount(2)` with one string of at most a page, by the first spelling of the layers that fits: absolute; relative to
    /// `base`, as the mount table then shows them; or as descriptors.
    pub(super) fn mount_by_string(&self, target: &Path) -> io::Result<()> {
        let plain = |path: &Path| !path.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte));
        let mut paths = self.lower.iter().copied().chain(self.upper.iter().flat_map(|&(upper, work)| [upper, work]));
        let is_plain = paths.all(|path| plain(&self.absolute(path)));
        let absolute = self.option_string(|path| Ok(self.absolute(path).into()))?;
        if is_plain && absolute.len() <= LONGEST_OPTIONS {
            return mount_string(target, absolute);
        }
        let relative = self.option_string(|path| Ok(path.into()))?;
        if let Some(base) = self.base.filter(|_| is_plain && relative.len() <= LONGEST_OPTIONS) {
            let target = std::path::absolute(target)?;
            return in_directory(base, move || mount_string(&target, relative));
        }
        let mut held = Vec::new();
        let by_descriptor = self.option_string(|path| hold(&mut held, &self.absolute(path)).map(OsString::from))?;
        if by_descriptor.len() > LONGEST_OPTIONS {
            return Err(io::Error::new(
                io::ErrorKind::ArgumentListTooLong,
                format!("{} layers take more than a page of mount options; Linux 6.8 lifts this", self.lower.len()),
            ));
        }
        mount_string(target, by_descriptor)
    }

    fn option_string(&self, mut spell: impl FnMut(&Path) -> io::Result<OsString>) -> io::Result<OsString> {
        let mut text = OsString::from("lowerdir=");
        for (n, lower) in self.lower.iter().enumerate() {
            if n > 0 {
                text.push(":");
            }
            text.push(spell(lower)?);
        }
        if let Some((upper, work)) = self.upper {
            text.push(",upperdir=");
            text.push(spell(upper)?);
            text.push(",workdir=");
            text.push(spell(work)?);
        }
        for option in &self.options {
            text.push(",");
            text.push(option);
        }
        Ok(text)
    }
}

/// Opens `path` for as long as `held` lives, and returns a short path that leads to it and holds no character with a meaning.
fn hold(held: &mut Vec<OwnedFd>, path: &Path) -> io::Result<String> {
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", path.display()))?;
    let short = proc_path(&handle);
    held.push(handle);
    Ok(short)
}

fn mount_string(target: &Path, options: OsString) -> io::Result<()> {
    let data = CString::new(options.into_vec()).map_err(|_| io::ErrorKind::InvalidInput)?;
    raw::mount("overlay", target, "overlay", MountFlags::empty(), data.as_c_str()).step(|| {
        let text = data.to_string_lossy();
        let shown: String = text.chars().take(300).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        format!("options {shown}{more} (the kernel's log may say more)")
    })
}

/// Runs `f` in a thread whose working directory is `dir`; the process keeps its own.
fn in_directory<T: Send>(dir: &Path, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let enter = move || {
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(|| format!("open {}", dir.display()))?;
        unshare_directory().step(|| "unshare the working directory".into())?;
        rustix::process::fchdir(dir)?;
        f()
    };
    thread::scope(|scope| scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

#[allow(unsafe_code)]
fn unshare_directory() -> Result<(), Errno> {
    // SAFETY: CLONE_FS gives this thread, made for one mount, its own working directory, root and umask; no memory or
    // descriptor is concerned, and the thread ends after the mount.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
}

/// Puts what the filesystem context has logged before its errno.
fn with_log(context: &OwnedFd, errno: Errno) -> io::Error {
    let mut messages = Vec::new();
    let mut buffer = [0_u8; 1024];
    // One message a read; ENODATA after the last.
    while let Ok(len) = rustix::io::read(context, &mut buffer) {
        if len == 0 {
            break;
        }
        let message = String::from_utf8_lossy(&buffer[..len]);
        // "e ", "w " or "i " in front tells how bad it is.
        let message = message.trim_end();
        messages.push(message.get(2..).unwrap_or(message).to_owned());
    }
    match messages.is_empty() {
        true => errno.into(),
        false => Err::<(), _>(errno).step(|| messages.join("; ")).expect_err("made of an error"),
    }
}
