//! `login`, `logout`, `search`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use strata_distribution::auth::docker_config::Stored;

use super::pull::client;
use crate::{
    args::registry_client::{Connection, Login, Logout, Search},
    context::print,
    format::table::table,
};

/// Bytes of the longest password.
const PASSWORD_MAX: u64 = 64 << 10;

pub fn login(args: &Login) -> anyhow::Result<()> {
    let client = client(&args.connection)?;
    let (user, password) = match (&args.username, &args.password) {
        (None, _) if args.password_stdin => bail!("Must provide --username with --password-stdin"),
        (Some(user), None) if args.password_stdin => {
            let mut password = String::new();
            io::stdin().take(PASSWORD_MAX).read_to_string(&mut password).context("cannot read the password")?;
            (user.clone(), password.trim_end_matches(['\n', '\r']).to_owned())
        }
        (user, Some(password)) => {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            (named(user.as_deref())?, password.clone())
        }
        (user, None) => {
            let user = named(user.as_deref())?;
            let password = hidden("Password: ")?;
            (user, password)
        }
    };
    if user.is_empty() || password.is_empty() {
        bail!("a login needs a username and a password");
    }
    match client.login(args.server.as_deref(), &user, &password)? {
        Stored::File(path) => eprintln!(
            "WARNING! Your password will be stored unencrypted in {}.\nConfigure a credential helper to remove this warning.",
            path.display()
        ),
        Stored::Helper(_) => {}
    }
    print("Login Succeeded\n")
}

fn named(user: Option<&str>) -> anyhow::Result<String> {
    if let Some(user) = user {
        return Ok(user.to_owned());
    }
    if !io::stdin().is_terminal() {
        bail!("Cannot perform an interactive login from a non TTY device; give --username and --password-stdin");
    }
    print("Username: ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks without showing what is typed.
fn hidden(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("Cannot perform an interactive login from a non TTY device; give --username and --password-stdin");
    }
    eprint!("{question}");
    io::stderr().flush()?;
    let before = tcgetattr(&stdin)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

pub fn logout(args: &Logout) -> anyhow::Result<()> {
    let client = client(&Connection { insecure: false })?;
    let shown = args.server.as_deref().unwrap_or("Docker's registry");
    match client.logout(args.server.as_deref())? {
        true => print(&format!("Removing login credentials for {shown}\n")),
        false => print(&format!("Not logged in to {shown}\n")),
    }
}

pub fn search(args: &Search) -> anyhow::Result<()> {
    let found = client(&args.connection)?.search(&args.term, args.limit)?;
    let mark = |is: bool| if is { "[OK]" } else { "" }.to_owned();
    let rows = found.iter().map(|one| {
        let mut description: String = one.description.replace(['\n', '\r', '\t', '\x1b'], " ");
        if !args.no_trunc && description.chars().count() > 45 {
            description = description.chars().take(44).chain(['…']).collect();
        }
        vec![one.name.clone(), description, one.stars.to_string(), mark(one.is_official), mark(one.is_automated)]
    });
    let head = ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"].map(str::to_owned).to_vec();
    print(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}
