//! What each command does, over `engine` and `doctor`.

mod archive;
mod containers;
mod cp;
mod df;
mod explain;
mod images;
mod inspect;
mod login;
pub mod mount;
mod pull;
mod push;
mod registry;
mod run;
mod shell;
mod system;
mod umount;

use crate::{
    args::{Command, container::ContainerCommand, image::ImageCommand, system::SystemCommand},
    context::Context,
    hints,
};

/// Runs one command; returns the exit status where it is not 0 and no error either.
pub fn run(context: &Context, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) | Command::Container(ContainerCommand::Run(args)) => return run::run(context, args),
        Command::Start(args) | Command::Container(ContainerCommand::Start(args)) => return run::start(context, args),
        Command::Fsck(args) => return explain::fsck(context, args),
        Command::Create(args) | Command::Container(ContainerCommand::Create(args)) => run::create(context, args),
        Command::Ps(args) | Command::Container(ContainerCommand::Ls(args)) => containers::list(context, args),
        Command::Rm(args) | Command::Container(ContainerCommand::Rm(args)) => containers::remove(context, args),
        Command::Commit(args) | Command::Container(ContainerCommand::Commit(args)) => containers::commit(context, args),
        Command::Diff(args) | Command::Container(ContainerCommand::Diff(args)) => containers::diff(context, args),
        Command::Cp(args) | Command::Container(ContainerCommand::Cp(args)) => cp::cp(context, args),
        Command::Export(args) | Command::Container(ContainerCommand::Export(args)) => containers::export(context, args),
        Command::Container(ContainerCommand::Inspect(args)) => inspect::containers(context, args),
        Command::Container(ContainerCommand::Prune(args)) => containers::prune(context, args),

        Command::Images(args) | Command::Image(ImageCommand::Ls(args)) => images::list(context, args),
        Command::Load(args) | Command::Image(ImageCommand::Load(args)) => archive::load(context, args),
        Command::Save(args) | Command::Image(ImageCommand::Save(args)) => archive::save(context, args),
        Command::Import(args) | Command::Image(ImageCommand::Import(args)) => archive::import(context, args),
        Command::History(args) | Command::Image(ImageCommand::History(args)) => images::history(context, args),
        Command::Tag(args) | Command::Image(ImageCommand::Tag(args)) => images::tag(context, args),
        Command::Rmi(args) | Command::Image(ImageCommand::Rm(args)) => images::remove(context, args),
        Command::Image(ImageCommand::Inspect(args)) => inspect::images(context, args),
        Command::Image(ImageCommand::Prune(args)) => images::prune(context, args),

        Command::Pull(args) | Command::Image(ImageCommand::Pull(args)) => pull::pull(context, args),
        Command::Push(args) | Command::Image(ImageCommand::Push(args)) => push::push(context, args),
        Command::Login(args) => login::login(args),
        Command::Logout(args) => login::logout(args),
        Command::Search(args) => login::search(args),
        Command::Registry(command) => registry::registry(command),

        Command::Inspect(args) => inspect::any(context, args),
        Command::Explain(args) => explain::explain(context, args),
        Command::Info(args) | Command::System(SystemCommand::Info(args)) => system::info(context, args),
        Command::Version(args) => system::version(args),
        Command::System(SystemCommand::Df(args)) => df::df(context, args),
        Command::System(SystemCommand::Prune(args)) => system::prune(context, args),
        Command::Mount(args) => mount::mount(args),
        Command::Umount(args) => umount::umount(args),

        Command::Completion(args) => shell::completion(args),
        Command::Man(args) => shell::man(args),
    }?;
    Ok(0)
}

/// Failures of one object among several: each is said, and the command goes on with the next.
#[derive(Default)]
pub struct Failures(usize);

impl Failures {
    /// The failures of a command that has printed the rest.
    pub fn of(errors: Vec<strata_engine::Error>) -> Self {
        let mut failures = Self::default();
        errors.into_iter().for_each(|error| failures.add(error.into()));
        failures
    }

    pub fn add(&mut self, error: anyhow::Error) {
        eprintln!("Error: {}", hints::text(&error));
        self.0 += 1;
    }

    /// Fails if there was a failure; each has been said already.
    pub fn end(self) -> anyhow::Result<()> {
        if self.0 == 0 { Ok(()) } else { Err(Said.into()) }
    }
}

/// An error whose text stands on standard error already.
#[derive(Debug)]
pub struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("see above")
    }
}

impl std::error::Error for Said {}
