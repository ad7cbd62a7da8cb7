//! Small filesystems of one's own, loop-mounted.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Scratch, require, scratch};

/// A filesystem in a file; unmounted and removed when this drops.
#[derive(Debug)]
pub struct LoopFs {
    device: String,
    mounted: PathBuf,
    /// Last: what the others lie in.
    _scratch: Scratch,
}

impl LoopFs {
    /// Makes and mounts an ext4 of `bytes` (at least 1 MiB), no block kept for root. Skips where loop devices cannot be had.
    pub fn ext4(bytes: u64) -> Option<Self> {
        Self::make(bytes, "ext4", &["-q", "-F", "-m", "0"])
    }

    /// Makes and mounts an ext2 of `bytes` whose directories do not tell the kind of what lies in them, as of an xfs made with `ftype=0`.
    pub fn ext2_without_d_type(bytes: u64) -> Option<Self> {
        Self::make(bytes, "ext2", &["-q", "-F", "-m", "0", "-O", "^filetype"])
    }

    /// Makes and mounts a btrfs of `bytes` (at least 128 MiB). Skips where loop devices or btrfs cannot be had.
    pub fn btrfs(bytes: u64) -> Option<Self> {
        Self::make(bytes, "btrfs", &["-q"])
    }

    fn make(bytes: u64, kind: &str, options: &[&str]) -> Option<Self> {
        require::root()?;
        let mkfs = format!("mkfs.{kind}");
        for name in [mkfs.as_str(), "losetup", "mount", "umount"] {
            require::program(name)?;
        }
        let scratch = scratch();
        let image = scratch.join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a file for the filesystem");
        run(&mkfs, options, &[&image]).expect("a filesystem on it");
        let device = match run("losetup", &["--find", "--show"], &[&image]) {
            Ok(output) => output.trim().to_owned(),
            Err(reason) => {
                require::report_skip(&format!("no loop device: {reason}"));
                return None;
            }
        };
        let mounted = scratch.join("mounted");
        std::fs::create_dir(&mounted).expect("a folder to mount on");
        let fs = Self { device, mounted, _scratch: scratch };
        match run("mount", &["-t", kind], &[Path::new(&fs.device), &fs.mounted]) {
            Ok(_) => Some(fs),
            Err(reason) => {
                require::report_skip(&format!("cannot mount {kind}: {reason}"));
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mounted.join(name)
    }

    /// Makes the whole filesystem read-only; no file in it may be open for writing.
    pub fn remount_read_only(&self) {
        run("mount", &["-o", "remount,ro"], &[&self.mounted]).expect("read-only");
    }

    pub fn remount_read_write(&self) {
        run("mount", &["-o", "remount,rw"], &[&self.mounted]).expect("writable again");
    }

    /// Unmounts it and mounts it again, as after a restart; nothing in it may be open, but for what a process holds for a moment that another test is starting.
    pub fn remount_anew(&mut self) {
        let unmounted = (0..500).any(|_| {
            let done = run("umount", &[], &[&self.mounted]).is_ok();
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            done
        });
        assert!(unmounted, "{} stays in use", self.mounted.display());
        run("mount", &[], &[Path::new(&self.device), &self.mounted]).expect("mounted again");
    }

    /// Bytes that may still be written.
    pub fn free_bytes(&self) -> u64 {
        strata_sys::fs::info(&self.mounted).expect("it is mounted").free_bytes
    }

    /// Fills the filesystem with one file, `filler`, until `left` bytes are free, or a little less.
    pub fn fill(&self, left: u64) {
        use std::io::Write;
        let mut filler =
            File::options().create(true).append(true).open(self.join("filler")).expect("a file to fill with");
        let zeros = vec![0; 1 << 20];
        loop {
            let piece = match self.free_bytes().saturating_sub(left) {
                0 => break,
                // Near the end by blocks: what the file itself needs of the filesystem counts too.
                much if much > 4 << 20 => &zeros[..],
                _ => &zeros[..4096],
            };
            // Allocated at once, so that what is free shows what was written.
            if filler.write_all(piece).and_then(|()| filler.sync_data()).is_err() {
                break;
            }
        }
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        if strata_sys::mount::is_mounted(&self.mounted).unwrap_or(false) {
            // Not detached: a lazy unmount would keep the loop device.
            if let Err(reason) = run("umount", &[], &[&self.mounted]) {
                let _ = strata_sys::mount::unmount(&self.mounted);
                eprintln!("{} was still in use: {reason}", self.mounted.display());
            }
        }
        if let Err(reason) = run("losetup", &["--detach", &self.device], &[]) {
            eprintln!("{} stays: {reason}", self.device);
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<String, String> {
    let program = require::program(program).ok_or_else(|| format!("no {program}"))?;
    let output = Command::new(&program).args(options).args(paths).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_turns_read_only_and_goes() {
        let Some(fs) = LoopFs::ext4(8 << 20) else { return };
        fs.fill(64 << 10);
        assert!(fs.free_bytes() <= 64 << 10, "{}", fs.free_bytes());
        let error = std::fs::write(fs.join("more"), vec![1; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        fs.remount_read_only();
        let error = std::fs::write(fs.join("x"), b"").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        fs.remount_read_write();
        std::fs::remove_file(fs.join("filler")).unwrap();
        let (device, path) = (fs.device.clone(), fs.path().to_owned());
        drop(fs);
        assert!(!path.exists());
        assert!(
            !run("losetup", &["--list", "--noheadings", "--output", "NAME"], &[])
                .unwrap()
                .lines()
                .any(|line| line == device)
        );
    }
}
