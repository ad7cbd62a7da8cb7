//! The process behind a request.

use crate::{Caller, NodeId, Privileges, Result, SetAttr};

use super::Front;

/// The set-group-ID bit, which a caller outside a file's group may not set, and its combination with group execution.
const GROUP_ID: u32 = 0o2000;
const GROUP_ID_EXEC: u32 = 0o2010;

impl Front {
    /// Returns the caller that creates a file with `mode`.
    pub(super) fn caller(request: &fuser::Request, umask: u32, mode: u32) -> Caller {
        // Groups matter for set-group-ID alone, and reading them takes time.
        let groups = if mode & GROUP_ID_EXEC == GROUP_ID_EXEC { groups(request.pid()) } else { Vec::new() };
        Caller { uid: request.uid(), gid: request.gid(), umask, groups }
    }

    /// Whether a write clears set-ID bits. The kernel does not pass capabilities, so root keeps them and nobody else does.
    pub(super) fn privileges(request: &fuser::Request) -> Privileges {
        if request.uid() == 0 { Privileges::Keep } else { Privileges::Clear }
    }

    /// Clears set-group-ID on a file after a caller outside its group has set an access list, as the kernel's filesystems do. The
    /// kernel requests it only in a form of SETXATTR that fuser does not support.
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

/// Returns the supplementary groups of a process; none if it is in another PID namespace.
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
