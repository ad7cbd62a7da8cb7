//! `strata umount`.

use strata_graphdriver::unmount_union;

use super::Failures;
use crate::args::mount::Umount;

pub fn umount(args: &Umount) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for target in &args.targets {
        if let Err(error) = unmount_union(target) {
            failures.add(error.into());
        }
    }
    failures.end()
}
