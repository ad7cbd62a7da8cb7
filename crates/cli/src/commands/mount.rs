//! `strata mount`: unions by hand.

use std::{
    ffi::{CString, OsStr, OsString},
    fmt::Write as _,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::json;
use strata_sys::process::{Capability, has_capability};
use strata_unionfs::{
    Access, Branch, Dialect, Durability, Metacopy, Options, RedirectDir, Switch, Xattrs,
    mount::{self, MountFlags, MountInfo, State, options, options::Request, options::Words},
};

use crate::{
    args::mount::{Kind, ListFormat, Mount},
    context::print,
};

/// Names under which the program is a mount helper.
const HELPERS: [&str; 2] = ["mount.strata", "mount.fuse.strata"];

/// Bytes of options that `mount(2)` takes.
const PAGE: usize = 4096;

/// The command line: under a helper's name, as if `strata mount` had been given.
pub fn arguments() -> Vec<OsString> {
    let mut all: Vec<OsString> = std::env::args_os().collect();
    let name = all.first().and_then(|name| Path::new(name).file_name()).and_then(OsStr::to_str);
    if name.is_some_and(|name| HELPERS.contains(&name)) {
        all[0] = "strata".into();
        all.insert(1, "mount".into());
    }
    all
}

pub fn mount(args: &Mount) -> anyhow::Result<()> {
    if args.list {
        return list(args.format);
    }
    let (source, target) = match args.places.as_slice() {
        [source, target] => (source.as_os_str(), target),
        [target] => (OsStr::new("strata"), target),
        _ => bail!("name what to mount on: strata mount -t aufs|overlay -o OPTIONS SOURCE TARGET"),
    };
    let mut text = OsString::new();
    for part in &args.options {
        if !text.is_empty() {
            text.push(",");
        }
        text.push(part);
    }
    let remount = options::is_remount(&text);
    let words = match args.kind {
        Some(Kind::Aufs) => Some(Words::Aufs),
        Some(Kind::Overlay) => Some(Words::Overlay),
        Some(Kind::Strata) | None if remount => words_of(target)?,
        Some(Kind::Strata) | None => None,
    };
    let refusal = if wants_kernel(args) && !remount {
        // Before our own reading of the options: the kernel may know more than we do.
        match by_kernel(source, target, &text) {
            Ok(()) => {
                eprintln!("{}: mounted by the kernel's overlayfs", target.display());
                return Ok(());
            }
            Err(refusal) => Some(refusal),
        }
    } else {
        None
    };
    let request = options::parse(words, &text, source);
    let request = match (request, &refusal) {
        (Ok(request), _) => request,
        (Err(error), Some(refusal)) => bail!("{error}; nor does the kernel's overlayfs take it: {refusal}"),
        (Err(error), None) => return Err(error.into()),
    };
    if args.fake {
        return Ok(());
    }
    // Else the first thing that fails says it, in its own words.
    if matches!(request, Request::Mount(_)) && !has_capability(Capability::SysAdmin) {
        bail!(
            "cannot mount on {}: only root may mount, or the owner of a user namespace (`unshare -Urm`)",
            target.display()
        );
    }
    match request {
        Request::Remount(wanted) => mount::remount(target, &wanted)?,
        Request::Mount(mut union) if args.foreground => {
            union.log = None;
            mount::serve(*union, target, || {})?;
        }
        Request::Mount(mut union) => {
            let log = log_file();
            union.log.get_or_insert(log);
            match (mount::spawn(&union, target), &refusal) {
                (Ok(_), None) => {}
                (Ok(_), Some(refusal)) => {
                    eprintln!(
                        "{}: mounted by strata in user space: the kernel's overlayfs did not: {refusal}",
                        target.display()
                    );
                }
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(refusal)) => {
                    bail!("{error} (and the kernel's overlayfs did not mount it: {refusal})")
                }
            }
        }
    }
    Ok(())
}

/// What the options of a remount are read as: as those of what is mounted there.
fn words_of(target: &Path) -> anyhow::Result<Option<Words>> {
    Ok(match mount::find(target)?.map(|found| found.state) {
        Some(State::Alive { dialect: Dialect::Aufs, .. }) => Some(Words::Aufs),
        Some(State::Alive { .. }) => Some(Words::Overlay),
        Some(State::Dead | State::Unknown) => None,
        None => mount::is_kernel_overlay(target)?.then_some(Words::Overlay),
    })
}

fn wants_kernel(args: &Mount) -> bool {
    args.kind == Some(Kind::Overlay) && !args.fuse && !args.foreground && !args.fake
}

/// Asks the kernel's overlayfs; returns why not.
fn by_kernel(source: &OsStr, target: &Path, text: &OsStr) -> Result<(), String> {
    let (flags, rest) = options::divide(text.as_bytes());
    if let Some(option) = rest.iter().find(|option| options::is_of_ours(option)) {
        return Err(format!("`{}` is for a union in user space", String::from_utf8_lossy(option)));
    }
    let data = rest.join(&b',');
    if data.len() >= PAGE {
        return Err(format!("its options take {} bytes, more than the {PAGE} that it reads", data.len()));
    }
    let data = CString::new(data).map_err(|error| error.to_string())?;
    rustix::mount::mount(source, target, "overlay", flags.over(MountFlags::empty()), data.as_c_str())
        .map_err(|errno| std::io::Error::from(errno).to_string())
}

/// Where a union's process writes: a file for each mount, among what lives until the machine ends.
fn log_file() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    let base = if strata_sys::process::effective_uid() == 0 && !strata_sys::process::in_user_namespace() {
        PathBuf::from("/run")
    } else if base == Path::new("/run") {
        std::env::temp_dir()
    } else {
        base
    };
    base.join("strata/union.log")
}

fn list(format: ListFormat) -> anyhow::Result<()> {
    let unions = mount::list()?;
    match format {
        ListFormat::Json => {
            let all: Vec<_> = unions.iter().map(as_json).collect();
            print(&(serde_json::to_string_pretty(&all).context("write the list as JSON")? + "\n"))
        }
        ListFormat::Table => print(&as_text(&unions)?),
    }
}

fn as_text(unions: &[MountInfo]) -> anyhow::Result<String> {
    let mut out = String::new();
    for union in unions {
        let place = union.mountpoint.display();
        match &union.state {
            State::Alive { pid, dialect, branches, work, options, .. } => {
                writeln!(out, "{place}  {}  process {pid}", dialect_name(*dialect))?;
                for Branch { path, access } in branches {
                    writeln!(out, "  {}={}", path.display(), access_name(*access))?;
                }
                if *dialect != Dialect::Aufs {
                    let choices = choices(options).map(|(name, value)| format!("{name}={value}")).join(",");
                    writeln!(out, "  {choices}")?;
                }
                if let Some(work) = work {
                    writeln!(out, "  workdir={}", work.display())?;
                }
            }
            State::Dead => writeln!(out, "{place}  dead: its process is gone; clear it with `strata umount {place}`")?,
            State::Unknown => writeln!(out, "{place}  does not let us ask")?,
        }
    }
    Ok(out)
}

fn as_json(union: &MountInfo) -> serde_json::Value {
    let place = union.mountpoint.to_string_lossy();
    let source = union.source.to_string_lossy();
    match &union.state {
        State::Alive { pid, dialect, branches, work, options, passthrough } => {
            let branches: Vec<_> = branches
                .iter()
                .map(|branch| json!({ "path": branch.path.to_string_lossy(), "access": access_name(branch.access) }))
                .collect();
            let mut told = json!({
                "mountpoint": place, "source": source, "options": union.options, "state": "alive", "pid": pid,
                "dialect": dialect_name(*dialect), "passthrough": passthrough, "branches": branches,
            });
            if *dialect != Dialect::Aufs {
                told["choices"] = choices(options).into_iter().collect();
                told["workdir"] = json!(work.as_ref().map(|work| work.to_string_lossy()));
            }
            told
        }
        State::Dead => json!({ "mountpoint": place, "source": source, "options": union.options, "state": "dead" }),
        State::Unknown => {
            json!({ "mountpoint": place, "source": source, "options": union.options, "state": "unknown" })
        }
    }
}

/// What overlay's options came to, in its own words.
fn choices(options: &Options) -> [(&'static str, &'static str); 4] {
    let switch = |on| if on { "on" } else { "off" };
    [
        (
            "redirect_dir",
            match options.redirect_dir {
                RedirectDir::On => "on",
                RedirectDir::Follow => "follow",
                RedirectDir::NoFollow => "nofollow",
            },
        ),
        (
            "metacopy",
            match options.metacopy {
                Metacopy::Make => "on",
                Metacopy::Follow => "follow",
                Metacopy::Refuse => "off",
            },
        ),
        ("index", switch(options.index == Switch::On)),
        ("volatile", switch(options.durability == Durability::Volatile)),
    ]
}

fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Aufs => "aufs",
        Dialect::Overlay { xattrs: Xattrs::Trusted } => "overlay",
        Dialect::Overlay { xattrs: Xattrs::User } => "overlay,userxattr",
    }
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::ReadWrite => "rw",
        Access::ReadOnly => "ro",
        Access::ReadOnlyWhiteouts => "ro+wh",
    }
}
