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

AUFS: the first branch is writable unless it says =ro; =rw, =ro and =ro+wh (read-only, its whiteouts count) may follow
each. With remount: add:INDEX:DIR, append:DIR, prepend:DIR, del:DIR, mod:DIR=rw.
Overlay: lowerdir lowerdir+ upperdir workdir redirect_dir metacopy index xino userxattr volatile.
Both: what any mount takes (ro nodev nosuid noexec noatime sync … and fstab's noauto, nofail, x-…), also with remount.
In user space: passthrough=off awake=on|off threads=N log=FILE. \\, \\: and \\= stand for the characters.

Under the name mount.strata or mount.fuse.strata (links to strata in /sbin) the program is a mount helper:
  mount -t fuse.strata none ./mnt -o lowerdir=lower,upperdir=upper,workdir=work")]
pub struct Mount {
    /// The marks on disk: `aufs`, `overlay`, or `fuse.strata` (told by the options)
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub kind: Option<Kind>,
    /// Mount options, separated by commas
    #[arg(short, long = "options", value_name = "OPTIONS")]
    pub options: Vec<OsString>,
    /// Serve the union in user space even where the kernel could
    #[arg(long)]
    pub fuse: bool,
    /// Stay in the foreground until it is unmounted; the log goes to standard error. Always in user space
    #[arg(long)]
    pub foreground: bool,
    /// List every union of ours with its branches
    #[arg(long, conflicts_with_all = ["kind", "options", "fuse", "foreground", "places"])]
    pub list: bool,
    /// With --list: `table` or `json`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table", requires = "list")]
    pub format: ListFormat,
    /// What the mount table shows as the source (any word), and the directory to mount on
    #[arg(value_names = ["SOURCE", "TARGET"], num_args = 1..=2)]
    pub places: Vec<PathBuf>,
    /// Do not write to the table of mounts (there is none)
    #[arg(short = 'n', hide = true)]
    pub no_table: bool,
    /// Tolerate unknown options (they are refused still)
    #[arg(short = 's', hide = true)]
    pub sloppy: bool,
    /// Say what is done
    #[arg(short = 'v', hide = true)]
    pub verbose: bool,
    /// Everything but the mount
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

A union whose process was killed answers \"transport endpoint is not connected\"; this clears it. What was synced is on
the branches, which can be mounted again at once.")]
pub struct Umount {
    /// The directories that unions are mounted on
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<PathBuf>,
}
