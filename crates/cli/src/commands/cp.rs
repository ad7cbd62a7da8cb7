//! `cp`.

use crate::{args::container::Cp, context::Context};

pub fn cp(_context: &Context, _args: &Cp) -> anyhow::Result<()> {
    anyhow::bail!("cp")
}
