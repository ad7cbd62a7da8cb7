//! What a test needs of the machine. Each function returns `None`, and reports the skip, where the machine lacks it:
//!
//! ```
//! # use strata_testkit::require;
//! # fn test() {
//! let Some(()) = require::root() else { return };
//! # }
//! ```

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use strata_sys::process::{self, Capability};

/// Says that the running test is skipped. Goes around the test harness, which hides what passing tests print.
pub fn report_skip(reason: &str) {
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => crate::named::current().unwrap_or_else(|| "a test".to_owned()),
    };
    let _ = writeln!(std::io::stderr(), "skip: {test}: {reason}");
}

fn unless(works: bool, reason: impl FnOnce() -> String) -> Option<()> {
    if !works {
        report_skip(&reason());
    }
    works.then_some(())
}

/// Root with the right to mount.
pub fn root() -> Option<()> {
    let is_root = process::effective_uid() == 0 && process::has_capability(Capability::SysAdmin);
    unless(is_root, || "needs root with CAP_SYS_ADMIN".into())
}

/// Root that may make device nodes.
pub fn device_nodes() -> Option<()> {
    root()?;
    unless(process::has_capability(Capability::Mknod) && !process::in_user_namespace(), || "needs CAP_MKNOD".into())
}

/// Overlay mounts, tried in the temporary folder.
pub fn overlay() -> Option<()> {
    root()?;
    let scratch = crate::scratch();
    let features = match strata_sys::fs::overlay_features(scratch.path()) {
        Ok(features) => features,
        Err(error) => {
            report_skip(&format!("cannot probe for overlay: {error}"));
            return None;
        }
    };
    let mounts = features.iter().find(|feature| feature.name == "overlay mounts")?;
    unless(mounts.works, || format!("needs overlay: {}", mounts.why))
}

/// The program `name`, looked for in `PATH` and the folders of root's.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        report_skip(&format!("needs the program {name}"));
    }
    found
}

/// A filesystem at `path` with extended attributes of the `trusted` kind.
pub fn trusted_xattrs(path: &Path) -> Option<()> {
    root()?;
    let tried = strata_sys::xattr::set(path, "trusted.strata.probe", b"y")
        .and_then(|()| strata_sys::xattr::remove(path, "trusted.strata.probe"));
    unless(tried.is_ok(), || format!("needs trusted attributes on {}", path.display()))
}
