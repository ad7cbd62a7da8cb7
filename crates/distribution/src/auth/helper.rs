//! Credential helpers: programs `docker-credential-<suffix>` that keep logins elsewhere.
//!
//! ```text
//! get     stdin: registry                                     stdout: {"ServerURL":…,"Username":…,"Secret":…}
//! store   stdin: {"ServerURL":…,"Username":…,"Secret":…}
//! erase   stdin: registry
//! ```
//!
//! Source: docker/docker-credential-helpers, `client/client.go`, `credentials/error.go`.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Error, error::shorten};

/// Bytes of the longest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// One helper.
#[derive(Clone, Debug)]
pub struct Helper {
    program: String,
}

impl Helper {
    /// The helper `docker-credential-<suffix>`, looked for in `PATH`.
    pub fn new(suffix: &str) -> Self {
        Self { program: format!("docker-credential-{suffix}") }
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    /// Name and secret for `registry`; `None` if the helper has none.
    pub fn get(&self, registry: &str) -> Result<Option<(String, String)>, Error> {
        let (worked, answer) = self.run("get", registry.as_bytes())?;
        if !worked {
            return match answer.contains("credentials not found") {
                true => Ok(None),
                false => Err(self.error(&answer)),
            };
        }
        let answer: Value = serde_json::from_str(&answer).map_err(|error| self.error(&error.to_string()))?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Some((text("Username"), text("Secret"))).filter(|(_, secret)| !secret.is_empty()))
    }

    pub fn store(&self, registry: &str, user: &str, secret: &str) -> Result<(), Error> {
        let input = json!({"ServerURL": registry, "Username": user, "Secret": secret}).to_string();
        match self.run("store", input.as_bytes())? {
            (true, _) => Ok(()),
            // What a helper says may hold what it was given.
            (false, answer) => Err(self.error(&answer.replace(secret, "…"))),
        }
    }

    pub fn erase(&self, registry: &str) -> Result<(), Error> {
        match self.run("erase", registry.as_bytes())? {
            (false, answer) if !answer.contains("credentials not found") => Err(self.error(&answer)),
            _ => Ok(()),
        }
    }

    /// Runs one command; returns whether it succeeded, and what it printed.
    fn run(&self, command: &str, input: &[u8]) -> Result<(bool, String), Error> {
        let failed = |error: std::io::Error| self.error(&error.to_string());
        let mut child = Command::new(&self.program)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut answer = Vec::new();
        std::thread::scope(|scope| {
            // One that ends early does not want the rest.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            stdout.map(|stdout| stdout.take(ANSWER_MAX).read_to_end(&mut answer))
        })
        .transpose()
        .map_err(failed)?;
        let status = child.wait().map_err(failed)?;
        Ok((status.success(), String::from_utf8_lossy(&answer).trim().to_owned()))
    }

    fn error(&self, reason: &str) -> Error {
        Error::Helper { program: self.program.clone(), reason: shorten(reason) }
    }
}
