//! `completion` and `man`: made from the command line's own description.

use anyhow::Context as _;
use clap::CommandFactory;

use crate::{
    args::{Cli, system},
    context::print,
};

pub fn completion(args: &system::Completion) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strata", &mut script);
    print(&String::from_utf8(script)?)
}

pub fn man(args: &system::Man) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("cannot write into {}", args.dir.display()))?;
    Ok(())
}
