//! Capabilities by name: Docker's default set, and `--cap-add` and `--cap-drop` on top of it.

use crate::error::Error;

/// What a container has by default, in the order in which Docker lists it.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability of Linux by its number, up to 6.18.
///
/// Source: capabilities(7) and include/uapi/linux/capability.h.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Returns Docker's default set with `add` put in and `drop` taken out; `ALL` in either stands for every one.
///
/// Names are as users write them: any case, with or without `CAP_`. As in Docker, `--cap-add ALL --cap-drop X` is all
/// but `X`, `--cap-drop ALL --cap-add X` is `X` alone, and else what is both added and dropped is added.
///
/// Fails with [`Error::Capability`] on a name that Linux does not know.
pub fn tweak(add: &[String], drop: &[String]) -> Result<Vec<&'static str>, Error> {
    let (all_added, add) = parse(add)?;
    let (all_dropped, drop) = parse(drop)?;
    let kept = |base: &[&'static str]| base.iter().copied().filter(|name| !drop.contains(name)).collect::<Vec<_>>();
    if all_added {
        return Ok(kept(&ALL));
    }
    let mut set = if all_dropped { Vec::new() } else { kept(&DEFAULT) };
    for name in add {
        if !set.contains(&name) {
            set.push(name);
        }
    }
    Ok(set)
}

fn parse(names: &[String]) -> Result<(bool, Vec<&'static str>), Error> {
    let mut all = false;
    let mut known = Vec::new();
    for name in names {
        let upper = name.trim().to_ascii_uppercase();
        if upper == "ALL" {
            all = true;
            continue;
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match ALL.iter().find(|known| **known == full) {
            Some(name) => known.push(*name),
            None => return Err(Error::Capability { name: name.clone() }),
        }
    }
    Ok((all, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn add_and_drop_act_as_dockers() {
        let all_but_chown: Vec<_> = ALL.iter().copied().filter(|name| *name != "CAP_CHOWN").collect();
        let mut with_admin = DEFAULT.to_vec();
        with_admin.push("CAP_SYS_ADMIN");
        let no_raw: Vec<_> = DEFAULT.iter().copied().filter(|name| *name != "CAP_NET_RAW").collect();
        let cases: [(&[&str], &[&str], Vec<&str>); 7] = [
            (&[], &[], DEFAULT.to_vec()),
            (&["sys_admin"], &[], with_admin),
            (&["CAP_CHOWN"], &[], DEFAULT.to_vec()),
            (&[], &["net_raw"], no_raw),
            (&[], &["ALL"], vec![]),
            (&["Net_Admin"], &["all"], vec!["CAP_NET_ADMIN"]),
            (&["ALL"], &["chown"], all_but_chown),
        ];
        for (add, drop, expected) in cases {
            assert_eq!(tweak(&names(add), &names(drop)).expect("known names"), expected, "+{add:?} -{drop:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_text() {
        let error = tweak(&names(&["fly"]), &[]).expect_err("no such capability");
        assert!(error.to_string().contains("\"fly\""), "{error}");
    }
}
