//! Chores of the project: `cargo xtask <chore>`.
//!
//! | chore | does |
//! | --- | --- |
//! | `deps` | checks that no crate depends on one below it in the order |
//! | `flags` | checks that no library names a flag of the command line |
//! | `licences` | checks that every package we build with may be used, by its licence |
//! | `test` | runs the tests, and counts those skipped |
//! | `unused` | checks that every dependency is used |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod deps;
mod flags;
mod licences;
mod metadata;
mod spdx;
mod test;
mod unused;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <deps | flags | licences | test | unused>

  deps       check the direction of every dependency between the workspace's crates
  flags      check that no library crate names a flag of the command line in what it says
  licences   check the licence of every package that the workspace builds with
  test       run the tests of the workspace; what follows is passed to `cargo test`
  unused     check that every dependency in a manifest is used";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["deps"] => deps::run(),
        ["flags"] => flags::run(),
        ["licences"] => licences::run(),
        ["unused"] => unused::run(),
        ["test", ref arguments @ ..] => test::run(arguments),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
