//! `explain` and `fsck`.

use crate::{
    args::system::{Explain, Fsck},
    context::Context,
};

pub fn explain(_context: &Context, _args: &Explain) -> anyhow::Result<()> {
    anyhow::bail!("explain")
}

pub fn fsck(_context: &Context, _args: &Fsck) -> anyhow::Result<u8> {
    anyhow::bail!("fsck")
}
