//! The `strata` command line, over `engine` and `doctor`.
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
    // The process of a container is this program, executed again. It must not have started a thread.
    strata_runtime::init();
    // So is the server of a union.
    strata_unionfs::mount::init();
    let mut command = Cli::command();
    command.build();
    let arguments = match args::flags::normalise(&command, commands::mount::arguments()) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.status);
        }
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // The configuration of a registry sets its own log level.
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

/// Prints help if the user asked for it, else the error. Returns Docker's status: 125 for a flag, 1 for an argument.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    // A group without a command prints its help.
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

/// Returns the command that the arguments name, if they hold nothing else.
fn named_command(mut command: clap::Command) -> Option<clap::Command> {
    command.build();
    std::env::args_os().skip(1).try_fold(command, |group, name| group.find_subcommand(name).cloned())
}

/// Prints the error and returns Docker's exit status: 125, 126 or 127 for `run`, 64 for a template that does not parse, else 1.
fn report(command: &Command, error: &anyhow::Error) -> u8 {
    let runs = matches!(command, Command::Run(_) | Command::Container(ContainerCommand::Run(_)));
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
        _ if error.is::<format::template::ParseError>() => 64,
        _ => 1,
    }
}
