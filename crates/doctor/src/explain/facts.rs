//! What is known of one layer, one file, one mount; each value on its own, so that one damaged file hides no other.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use strata_graphdriver::{
    Access, Term,
    names::{aufs, overlay, overlay2},
};
use strata_spec::{CacheId, ChainId, DiffId};
use strata_sys::tree::{Kind, Stat};

use crate::{
    Stores,
    text::Rows,
    value::{Problem, Sourced, read_small},
};

/// What the stores say of one read-only layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerFacts {
    pub chain_id: Sourced<ChainId>,
    pub diff_id: Sourced<DiffId>,
    /// ChainID of the layer below; no value on a base layer.
    pub parent: Sourced<ChainId>,
    pub cache_id: Sourced<CacheId>,
    /// Its name in `l/`.
    pub link: Sourced<String>,
    /// Bytes of its files.
    pub size: Sourced<u64>,
    /// Where its files lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// What is wrong that is no value's own problem.
    #[serde(skip)]
    pub(crate) damage: Vec<Problem>,
}

impl LayerFacts {
    /// Reads everything about the layer `chain`, whether there is one or not.
    pub(crate) fn of(stores: &Stores<'_>, chain: ChainId) -> Self {
        let dir = stores.layers.layout().layer(chain);
        let chain_of = |diff: &Sourced<DiffId>, parent: &Sourced<ChainId>| match (diff.value, parent.value) {
            (Some(diff), parent) => Some(strata_layer::layout::chain(parent, diff)),
            (None, _) => None,
        };
        let mut damage = Vec::new();
        let there = dir.is_dir();
        if !there {
            damage.push(Problem {
                path: stores.show(&dir),
                reason: format!("the layer {chain} is not in the store; load the image again"),
            });
        }
        let (diff_id, parent) = (
            Sourced::of_file(stores, &dir.join("diff")),
            Sourced::of_file_if_there(stores, &dir.join("parent"), "no file: a base layer"),
        );
        let how = match parent.value {
            _ if !there => "computed from the image's config".to_owned(),
            None if parent.problem.is_none() => "= DiffID: a base layer".to_owned(),
            None => "unknown: the parent is not known".to_owned(),
            Some(parent) => format!("sha256 of \"{parent} DiffID\""),
        };
        if let Some(found) = chain_of(&diff_id, &parent).filter(|found| *found != chain && parent.problem.is_none()) {
            damage.push(Problem {
                path: stores.show(&dir),
                reason: format!("its diff and parent make the layer {found}; load the image again"),
            });
        }
        let cache_id: Sourced<CacheId> = Sourced::of_file(stores, &dir.join("cache-id"));
        let (link, folder) = folder_facts(stores, cache_id.value.as_ref(), &mut damage);
        let chain_id = Sourced::read(chain, stores, &dir, how);
        let size = Sourced::of_file(stores, &dir.join("size"));
        let mut facts = Self { chain_id, diff_id, parent, cache_id, link, size, folder, damage };
        if !there {
            facts.forget();
        }
        facts
    }

    /// Of a layer that is not there every file is missing: that is said once.
    fn forget(&mut self) {
        self.diff_id.problem = None;
        self.parent.problem = None;
        self.cache_id.problem = None;
        self.size.problem = None;
    }

    /// All that is wrong.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let own = [
            self.chain_id.problem(),
            self.diff_id.problem(),
            self.parent.problem(),
            self.cache_id.problem(),
            self.link.problem(),
            self.size.problem(),
        ];
        own.into_iter().flatten().chain(self.damage.iter().cloned()).collect()
    }
}

/// The short name of a driver's folder, and where its files lie.
pub(crate) fn folder_facts(
    stores: &Stores<'_>,
    id: Option<&CacheId>,
    damage: &mut Vec<Problem>,
) -> (Sourced<String>, Option<String>) {
    let Some(id) = id else { return (Sourced::unknown("the cache ID is not known"), None) };
    let dir = folder_of(stores, id);
    match stores.layers.driver().folder(id) {
        Ok(folder) => {
            if !folder.path.is_dir() {
                damage
                    .push(Problem { path: stores.show(&folder.path), reason: "the layer's files are missing".into() });
            }
            (link_of(stores, id), Some(stores.show(&folder.path)))
        }
        Err(_) => {
            damage.push(Problem { path: stores.show(&dir), reason: "the layer's folder is missing".into() });
            (Sourced::unknown("the folder is missing"), None)
        }
    }
}

/// A folder under the driver.
pub(crate) fn folder_of(stores: &Stores<'_>, id: &CacheId) -> PathBuf {
    stores.layers.driver().place(id)
}

/// Whether the driver gives its folders short names in `l/`.
pub(crate) fn has_links(stores: &Stores<'_>) -> bool {
    matches!(stores.layers.driver().name(), "overlay2" | "fuse-overlayfs")
}

/// What the driver itself tells of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverFact {
    pub name: String,
    pub value: String,
    /// What was counted: marks, links, bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<&'static str, u64>,
}

/// What the driver tells of the folder `id`, a layer's or a container's, over the folder `parent`. What is wrong with its own files goes to `found`.
pub(crate) fn driver_facts(
    stores: &Stores<'_>,
    id: Option<&CacheId>,
    parent: Option<&CacheId>,
    access: Access,
    found: &mut Vec<Problem>,
) -> Vec<DriverFact> {
    let driver = stores.layers.driver();
    // That it is missing is told elsewhere.
    let Some(id) = id.filter(|id| driver.exists(id)) else { return Vec::new() };
    // The links of overlay2 are read, and doubted, value by value.
    if !has_links(stores) {
        let faults = driver.check(id, parent).into_iter();
        found.extend(faults.map(|fault| Problem { path: stores.show(&fault.path), reason: fault.reason }));
    }
    let fact = |term: Term| DriverFact {
        name: term.name.to_owned(),
        value: term.value,
        counts: term.counts.into_iter().collect(),
    };
    driver.describe(id, parent, access).into_iter().map(fact).collect()
}

impl DriverFact {
    /// What was counted, in words: marks where there are some, and always how much is shared.
    fn counted(&self) -> String {
        let counts = self.counts.iter().filter(|(name, count)| **count > 0 || name.contains("shared"));
        counts.map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn add_to(&self, rows: &mut Rows) {
        rows.add(&self.name, [&self.value, &self.counted()]);
    }
}

/// A folder's short name in `l/`.
fn link_of(stores: &Stores<'_>, id: &CacheId) -> Sourced<String> {
    if !has_links(stores) {
        return Sourced::unknown(format!("{} has no short names", stores.layers.driver().name()));
    }
    let mut link: Sourced<String> = Sourced::of_file(stores, &folder_of(stores, id).join(overlay2::LINK));
    let Some(name) = &link.value else { return link };
    if !is_link(name) {
        link.problem = Some(format!("does not hold a name in l/, but {}", crate::value::quote(name)));
        link.value = None;
        return link;
    }
    let path = stores.layers.driver().home().join(overlay2::LINKS).join(name);
    match link_owner(&path) {
        Ok(owner) if owner == *id => {}
        Ok(owner) => link.problem = Some(format!("{} leads to {owner}, another folder", stores.show(&path))),
        Err(reason) => link.problem = Some(format!("{}: {reason}", stores.show(&path))),
    }
    link
}

/// Whether `text` is a name in `l/`: 26 letters and digits of base 32.
pub(crate) fn is_link(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

/// The folder that a link in `l/` leads to.
pub(crate) fn link_owner(path: &Path) -> Result<CacheId, String> {
    let target = fs::read_link(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the link is missing".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let id = target.to_str().and_then(|text| text.strip_prefix("../")?.strip_suffix("/diff")?.parse().ok());
    id.ok_or_else(|| format!("leads to {}, not to ../<folder>/diff", target.display()))
}

/// What `lower` of a folder holds, from the topmost down: names in `l/`. No file: none.
pub(crate) fn lower_of(stores: &Stores<'_>, id: &CacheId) -> Sourced<Vec<String>> {
    let path = folder_of(stores, id).join(overlay2::LOWER);
    let mut lower =
        Sourced { value: None, file: Some(stores.show(&path)), how: "the file's text".into(), problem: None };
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        // Only a folder with a parent has a work directory.
        match folder_of(stores, id).join(overlay2::WORK).is_dir() {
            true => lower.problem = Some("the file is missing".into()),
            false => {
                lower.value = Some(Vec::new());
                lower.how = "no file: a base layer".into();
            }
        }
        return lower;
    }
    let read = read_small(&path).and_then(|text| {
        let links: Option<Vec<_>> = text
            .split(':')
            .map(|part| part.strip_prefix("l/").filter(|name| is_link(name)).map(str::to_owned))
            .collect();
        links.ok_or_else(|| format!("does not hold l/NAME:l/NAME…, but {}", crate::value::quote(&text)))
    });
    match read {
        Ok(links) => lower.value = Some(links),
        Err(reason) => lower.problem = Some(reason),
    }
    lower
}

/// What the kernel is told to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountLine {
    /// Whether it is mounted now; else this is what would be mounted.
    pub mounted: bool,
    /// The folder that relative paths start from.
    pub base: String,
    /// From the topmost down.
    pub lowerdir: Vec<String>,
    pub upperdir: String,
    pub workdir: String,
    pub target: String,
    /// As the mount table has it, if mounted; the command that would mount it, else.
    pub line: String,
}

impl MountLine {
    /// What would be mounted for the folder `id`, called so, over folders by their names, topmost first; `None` where nothing is mounted.
    pub(crate) fn by_names(stores: &Stores<'_>, id: &str, below: &[String]) -> Option<Self> {
        let base = stores.layers.driver().home().display().to_string();
        match stores.layers.driver().name() {
            "aufs" => {
                let lowerdir: Vec<String> = below.iter().map(|id| format!("{}/{id}", aufs::DIFF)).collect();
                let (upperdir, target) = (format!("{}/{id}", aufs::DIFF), format!("{}/{id}", aufs::MNT));
                let branches: String = lowerdir.iter().map(|dir| format!(":{dir}=ro+wh")).collect();
                let line = format!("mount -t aufs -o br={upperdir}=rw{branches} none {target}");
                Some(Self { mounted: false, base, lowerdir, upperdir, workdir: String::new(), target, line })
            }
            "overlay" => {
                let lowerdir = vec![format!("{}/{}", below.last()?, overlay::ROOT)];
                let [upperdir, workdir, target] =
                    [overlay::UPPER, overlay::WORK, overlay::MERGED].map(|name| format!("{id}/{name}"));
                let line = format!(
                    "mount -t overlay overlay -o lowerdir={},upperdir={upperdir},workdir={workdir} {target}",
                    lowerdir[0]
                );
                Some(Self { mounted: false, base, lowerdir, upperdir, workdir, target, line })
            }
            _ => None,
        }
    }

    /// What would be mounted for the folder `id` over the links `lower`.
    pub(crate) fn planned(stores: &Stores<'_>, id: &str, lower: Vec<String>) -> Self {
        let (upperdir, workdir, target) = (format!("{id}/diff"), format!("{id}/work"), format!("{id}/merged"));
        let options = format!("lowerdir={},upperdir={upperdir},workdir={workdir}", lower.join(":"));
        let line = match stores.layers.driver().name() {
            // As Docker has the program of that name do it; our union takes the same.
            "fuse-overlayfs" => format!("fuse-overlayfs -o {options} {target}"),
            _ => format!("mount -t overlay overlay -o {options} {target}"),
        };
        let base = stores.layers.driver().home().display().to_string();
        Self { mounted: false, base, lowerdir: lower, upperdir, workdir, target, line }
    }
}

impl fmt::Display for MountLine {
    /// The line of the mount table if mounted; else the options, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mounted {
            return writeln!(f, "Mounted now\n  {}", self.line);
        }
        if self.workdir.is_empty() {
            writeln!(f, "Branches, as the union is given them in {}", self.base)?;
            writeln!(f, "  {}=rw", self.upperdir)?;
            self.lowerdir.iter().try_for_each(|branch| writeln!(f, "  {branch}=ro+wh"))?;
            return writeln!(f, "  on {}", self.target);
        }
        let lower: Vec<String> = self.lowerdir.chunks(4).map(|chunk| chunk.join(":")).collect();
        let who = if self.line.starts_with("fuse-overlayfs ") { "the union in user space" } else { "the kernel" };
        writeln!(f, "Mount, as {who} is given it in {}", self.base)?;
        writeln!(f, "  lowerdir={}", lower.join(":\n           "))?;
        writeln!(f, "  upperdir={}\n  workdir={}\n  on {}", self.upperdir, self.workdir, self.target)
    }
}

/// What the kernel knows of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// `file`, `dir`, `symlink`, `fifo`, `socket`, `char device`, `block device`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub size: u64,
    /// Permission bits, four octal digits.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// RFC 3339, UTC.
    pub modified: String,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Of a directory: it hides what layers below have in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// Where layers below have the rest of a directory, or the content of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Of a file: it has owner, mode and times; the content lies in a layer below.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub metadata_only: bool,
}

impl FileFacts {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            kind: kind_name(stat.kind),
            size: stat.size,
            mode: format!("{:04o}", stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            modified: time_text(stat.modified),
            target: None,
            opaque: false,
            redirect: None,
            metadata_only: false,
        }
    }

    /// Of a path, a link itself; `None` if there is nothing.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        let mut facts = Self::of(&Stat::of_path(path).ok()?);
        facts.target = fs::read_link(path).ok().map(|target| lossy(target.as_os_str()));
        Some(facts)
    }
}

pub(crate) fn lossy(text: &std::ffi::OsStr) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char device",
        Kind::BlockDevice => "block device",
    }
}

fn time_text(time: strata_sys::tree::Time) -> String {
    match jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).unwrap_or(0)) {
        Ok(time) => strata_spec::time::format(time),
        Err(_) => format!("{} seconds after 1970", time.secs),
    }
}
