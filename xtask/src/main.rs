//! Chores of the project: `cargo xtask <chore>`.
//!
//! | chore | checks |
//! | --- | --- |
//! | `deps` | that no crate depends on one below it in the order |
//! | `licences` | that every package we build with may be used, by its licence |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod deps;
mod licences;
mod metadata;
mod spdx;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <deps | licences>

  deps       check the direction of every dependency between the workspace's crates
  licences   check the licence of every package that the workspace builds with";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["deps"] => deps::run(),
        ["licences"] => licences::run(),
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
