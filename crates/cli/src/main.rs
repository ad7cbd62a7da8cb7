//! `strata`: one front door on `engine` and `doctor`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod context;
mod format;
mod hints;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, container::ContainerCommand, registry::RegistryCommand};
use context::Context;

fn main() -> ExitCode {
    // A container's watcher is this program again; it must come to that before any thread is started.
    strata_runtime::init();
    // So is the process behind a mounted union.
    strata_unionfs::mount::init();
    let mut command = Cli::command();
    command.build();
    let arguments = match args::flags::normalise(&command, commands::mount::arguments()) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(125);
        }
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A registry's configuration says what it logs.
    if !matches!(cli.command, Command::Registry(RegistryCommand::Serve(_))) {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(tracing_subscriber::EnvFilter::new(&cli.global.log_level))
            .with_target(false)
            .init();
    }
    match commands::run(&Context::new(&cli.global), &cli.command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => ExitCode::from(report(&cli.command, &error)),
    }
}

/// Shows help where it was asked for, else what is wrong with the command line: 125 for a flag, 1 for an argument, as Docker has it.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    // `strata` or `strata image` alone asks what there is.
    if error.kind() == ErrorKind::MissingSubcommand
        && let Some(mut group) = named_command(Cli::command())
    {
        let _ = group.print_help();
        return ExitCode::SUCCESS;
    }
    let _ = error.print();
    let is_flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.starts_with('-'),
        _ => true,
    };
    ExitCode::from(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::TooManyValues
        | ErrorKind::TooFewValues => 1,
        ErrorKind::UnknownArgument if !is_flag => 1,
        _ => 125,
    })
}

/// The command that the arguments name, if they do nothing else.
fn named_command(mut command: clap::Command) -> Option<clap::Command> {
    command.build();
    std::env::args_os().skip(1).try_fold(command, |group, name| group.find_subcommand(name).cloned())
}

/// Says what went wrong and returns the exit status: Docker's 125, 126 and 127 where a container was to run.
fn report(command: &Command, error: &anyhow::Error) -> u8 {
    let runs = matches!(
        command,
        Command::Run(_) | Command::Start(_) | Command::Container(ContainerCommand::Run(_) | ContainerCommand::Start(_))
    );
    if error.downcast_ref::<commands::Said>().is_none() {
        eprintln!("strata: {}", hints::text(error));
    }
    let container = match error.downcast_ref::<strata_engine::Error>() {
        Some(strata_engine::Error::Container(error)) => Some(error),
        _ => error.downcast_ref::<strata_container::Error>(),
    };
    match container {
        Some(error) if runs => error.exit_code(),
        _ if runs => 125,
        _ => 1,
    }
}
