//! The container's own seccomp filter, put on its first process by us.
//!
//! libcontainer compiles a profile in that process, each time; we give it a configuration without one, and load the
//! program that [`crate::filter`] keeps where libcontainer would have: once all is set up, before it waits for its start.
//!
//! Loading takes `CAP_SYS_ADMIN`, or `no_new_privs`. Where the container has neither, the configuration that libcontainer gets
//! lends `CAP_SYS_ADMIN` to the effective and permitted sets, and [`Confinement::apply`] takes it back right after
//! loading. Nothing of the container runs in between. The other sets are the container's own from the first: the bounding set
//! never holds what was lent, so no program regains it. A filter that is not loaded, or a capability that stays, ends the
//! process before its command.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::spec::Spec;

const ADMIN: &str = "CAP_SYS_ADMIN";

/// What libcontainer leaves to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    /// `CAP_SYS_ADMIN` is in the effective set, and not the container's.
    effective: bool,
    /// The same of the permitted set.
    permitted: bool,
}

/// The filter, and what was lent to load it.
#[derive(Clone, Debug)]
pub(super) struct Confinement {
    pub program: Vec<u8>,
    pub lent: Lent,
}

impl Lent {
    /// Takes the profile out of `spec`, and puts in what loading it will need.
    pub fn to(spec: &mut Spec) -> Self {
        spec.linux.seccomp = None;
        if spec.process.no_new_privileges {
            return Self::default();
        }
        let sets = &mut spec.process.capabilities;
        Self { effective: lend(&mut sets.effective), permitted: lend(&mut sets.permitted) }
    }
}

fn lend(set: &mut Vec<String>) -> bool {
    let is_missing = !set.iter().any(|name| name == ADMIN);
    if is_missing {
        set.push(ADMIN.to_owned());
    }
    is_missing
}

impl Confinement {
    /// Confines the calling process, for good.
    pub fn apply(&self) -> io::Result<()> {
        strata_sys::seccomp::load(&self.program)?;
        if self.lent == Lent::default() {
            return Ok(());
        }
        let mut sets = capabilities(None)?;
        sets.effective
            .set(CapabilitySet::SYS_ADMIN, sets.effective.contains(CapabilitySet::SYS_ADMIN) && !self.lent.effective);
        sets.permitted
            .set(CapabilitySet::SYS_ADMIN, sets.permitted.contains(CapabilitySet::SYS_ADMIN) && !self.lent.permitted);
        set_capabilities(None, sets)?;
        if capabilities(None)? != sets {
            return Err(io::Error::other("CAP_SYS_ADMIN could not be given back"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SpecBuilder;

    #[test]
    fn the_capability_is_lent_where_it_is_missing_and_nowhere_else() {
        let spec = |add: &[&str]| {
            let add: Vec<String> = add.iter().map(|name| (*name).to_owned()).collect();
            SpecBuilder::new("x", "/x").capabilities(&add, &[])
        };
        let count = |list: &[String]| list.iter().filter(|name| *name == ADMIN).count();
        for (builder, lent, held) in [
            (spec(&[]), true, 1),
            (spec(&[]).user(1000, 1000, &[]), true, 1),
            (spec(&["SYS_ADMIN"]), false, 1),
            (spec(&[]).no_new_privileges(true), false, 0),
        ] {
            let own = builder.build().expect("known capabilities");
            let mut given = own.clone();
            assert_eq!(Lent::to(&mut given), Lent { effective: lent, permitted: lent });
            assert_eq!(given.linux.seccomp, None);
            let (given, own) = (given.process.capabilities, own.process.capabilities);
            assert_eq!(given.bounding, own.bounding);
            assert_eq!((count(&given.effective), count(&given.permitted)), (held, held));
        }
    }
}
