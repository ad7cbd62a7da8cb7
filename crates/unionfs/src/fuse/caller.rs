//! Who asks, as far as the kernel tells.

use crate::{Caller, NodeId, Privileges, Result, SetAttr};

use super::Front;

/// On a file: the bit that a caller outside its group may not set, and that bit where the group may execute the file.
const GROUP_ID: u32 = 0o2000;
const GROUP_ID_EXEC: u32 = 0o2010;

impl Front {
    /// Who makes a file with `mode`.
    pub(super) fn caller(request: &fuser::Request, umask: u32, mode: u32) -> Caller {
        // They matter for set-group-ID alone, and looking them up takes time.
        let groups = if mode & GROUP_ID_EXEC == GROUP_ID_EXEC { groups(request.pid()) } else { Vec::new() };
        Caller { uid: request.uid(), gid: request.gid(), umask, groups }
    }

    /// Who has no right to keep set-user-ID bits when writing; an approximation where the kernel does not tell.
    pub(super) fn privileges(request: &fuser::Request) -> Privileges {
        if request.uid() == 0 { Privileges::Keep } else { Privileges::Clear }
    }

    /// Takes set-group-ID off a file whose access list was set by somebody outside its group, as the kernel's filesystems do. It
    /// asks for that only in a form of the request that the crate which speaks FUSE does not know.
    pub(super) fn settle_group_id(&self, request: &fuser::Request, node: NodeId) -> Result<()> {
        if request.uid() == 0 {
            return Ok(());
        }
        let attr = self.union.attr(node, None)?;
        if attr.mode & GROUP_ID == 0 || request.gid() == attr.gid || groups(request.pid()).contains(&attr.gid) {
            return Ok(());
        }
        let change = SetAttr { mode: Some(attr.mode & !GROUP_ID), ..SetAttr::default() };
        self.union.set_attr(node, None, &change).map(drop)
    }
}

/// The further groups of a process; none if it is not to be seen from here.
fn groups(process: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_of_a_process() {
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        let mut found = super::groups(std::process::id());
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
        assert!(super::groups(0).is_empty());
    }
}
