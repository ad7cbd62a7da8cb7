//! `strata mount` and `strata umount`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata mount -t aufs -o dirs=./container-layer:./image-layer2:./image-layer1 none ./mnt
  strata mount -t overlay -o lowerdir=lower1:lower2,upperdir=upper,workdir=work overlay ./merged
  strata mount -t overlay --fuse -o lowerdir=lower,upperdir=upper,workdir=work overlay ./merged
  strata mount -o remount,append:/more-layers=ro ./mnt
  strata mount --list

AUFS: each branch may end in =rw, =ro or =ro+wh (read-only, with whiteouts). The first branch defaults to =rw, others to
=ro. With remount: add:INDEX:DIR, append:DIR, prepend:DIR, del:DIR, mod:DIR=rw.
Overlay: lowerdir lowerdir+ upperdir workdir redirect_dir metacopy index xino userxattr volatile.
Both: the common mount options (ro nodev nosuid noexec noatime sync …) and those of fstab (noauto, nofail, x-…), also
with remount.
In user space: passthrough=off awake=on|off threads=N log=FILE. Write \\, \\: and \\= for these characters in a path.

Under the name mount.strata or mount.fuse.strata (links to strata in /sbin) the program is a mount helper:
  mount -t fuse.strata none ./mnt -o lowerdir=lower,upperdir=upper,workdir=work")]
pub struct Mount {
    /// Format of whiteouts: `aufs`, `overlay`, or `fuse.strata` (derived from the options)
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub kind: Option<Kind>,
    /// Mount options, separated by commas
    #[arg(short, long = "options", value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// Serve the union in user space even if the kernel could mount it
    #[arg(long)]
    pub fuse: bool,
    /// Serve the union in user space, in the foreground, until it is unmounted; log to standard error
    #[arg(long)]
    pub foreground: bool,
    /// List the mounted unions and their branches
    #[arg(long, conflicts_with_all = ["kind", "options", "fuse", "foreground", "places"])]
    pub list: bool,
    /// With --list: `table` or `json`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table", requires = "list")]
    pub format: ListFormat,
    /// Source to show in the mount table (any word), and the directory to mount on
    #[arg(value_names = ["SOURCE", "TARGET"], num_args = 1..=2)]
    pub places: Vec<PathBuf>,
    /// Ignored: there is no mtab file to write
    #[arg(short = 'n', hide = true)]
    pub no_table: bool,
    /// Ignored: unknown options are refused
    #[arg(short = 's', hide = true)]
    pub sloppy: bool,
    /// Print what is done
    #[arg(short = 'v', hide = true)]
    pub verbose: bool,
    /// Do everything except mounting
    #[arg(short = 'f', hide = true)]
    pub fake: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Aufs,
    Overlay,
    #[value(name = "fuse.strata", alias = "strata", alias = "fuse")]
    Strata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strata umount ./mnt
  strata umount ./a ./b

If the server of a union was killed, its files fail with \"transport endpoint is not connected\"; unmounting clears that.
Synced data is on the branches, which can be mounted again at once.")]
pub struct Umount {
    /// Mount points of unions
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<PathBuf>,
}
