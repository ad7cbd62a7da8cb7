//! `--change` of `commit` and `import`: Dockerfile instructions that alter a config, and nothing else.
//!
//! Known are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR. They mean
//! what they mean in a Dockerfile: several lines, `\` at a line's end, `#` comments, quotes and `$VARIABLES` included.
//!
//! Source: moby `builder/dockerfile/builder.go` (`BuildFromConfig`), `dispatchers.go`, version 20.10; buildkit
//! `frontend/dockerfile/parser`, `shell`.

mod health;
mod words;

use std::collections::BTreeMap;

use strata_spec::config::{Empty, RunConfig};

use crate::{Error, env, mounts, signal};

/// What a command in shell form is given to.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies `changes` to `config`, in order. `config` is left as it is when one of them is refused.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), Error> {
    let mut changed = config.clone();
    let mut cmd_set = false;
    for line in lines(&changes.join("\n")) {
        let instruction = Instruction::parse(&line)?;
        dispatch(&mut changed, &instruction, &mut cmd_set)?;
    }
    *config = changed;
    Ok(())
}

/// The logical lines: continued ones joined, comments and blank ones left out.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for part in text.lines() {
        if part.trim_start().starts_with('#') || (part.trim().is_empty() && !line.is_empty()) {
            continue;
        }
        let trimmed = part.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix('\\') {
            Some(more) => line.push_str(more),
            None => {
                line.push_str(part);
                lines.push(std::mem::take(&mut line));
            }
        }
    }
    lines.push(line);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

struct Instruction<'a> {
    name: String,
    /// `--name=value` between the name and the arguments.
    flags: Vec<&'a str>,
    rest: &'a str,
}

impl<'a> Instruction<'a> {
    fn parse(line: &'a str) -> Result<Self, Error> {
        let line = line.trim();
        let (name, mut rest) = split_word(line);
        let mut flags = Vec::new();
        while rest.starts_with("--") {
            let (flag, after) = split_word(rest);
            rest = after;
            if flag == "--" {
                break;
            }
            flags.push(&flag[2..]);
        }
        let this = Self { name: name.to_ascii_uppercase(), flags, rest };
        match this.flags.first() {
            Some(flag) if this.name != "HEALTHCHECK" => {
                Err(Error::invalid(format!("Unknown flag: {}", flag.split('=').next().unwrap_or(flag))))
            }
            _ => Ok(this),
        }
    }

    /// The one argument that the instruction takes.
    fn single(&self) -> Result<&'a str, Error> {
        match self.rest {
            "" => Err(Error::invalid(format!("{} requires exactly one argument", self.name))),
            rest => Ok(rest),
        }
    }

    fn some(&self) -> Result<&'a str, Error> {
        match self.rest {
            "" => Err(Error::invalid(format!("{} requires at least one argument", self.name))),
            rest => Ok(rest),
        }
    }
}

/// Splits off the first word.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn dispatch(config: &mut RunConfig, instruction: &Instruction<'_>, cmd_set: &mut bool) -> Result<(), Error> {
    let variables = config.env.clone().unwrap_or_default();
    let expand = |word: &str| words::expand(word, &variables);
    match instruction.name.as_str() {
        "CMD" => {
            config.cmd = Some(command(instruction.rest, config)?);
            config.args_escaped = false;
            *cmd_set = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(instruction.rest, config)?);
            if !*cmd_set {
                // The command was meant as arguments of the former entrypoint.
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs(instruction, &expand)? {
                set_variable(config.env.get_or_insert_default(), &name, &value);
            }
        }
        "LABEL" => {
            let new = pairs(instruction, &expand)?;
            config.labels.get_or_insert_with(BTreeMap::new).extend(new);
        }
        "EXPOSE" => {
            for word in instruction.some()?.split_whitespace() {
                for port in ports(&expand(word)?)? {
                    config.exposed_ports.insert(port, Empty {});
                }
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(health::parse(instruction)?),
        "ONBUILD" => {
            let trigger = on_build(instruction.some()?)?;
            config.on_build.get_or_insert_default().push(trigger);
        }
        "STOPSIGNAL" => {
            let name = expand(instruction.single()?)?;
            signal::parse(&name)?;
            config.stop_signal = name;
        }
        "USER" => config.user = expand(instruction.single()?)?,
        "VOLUME" => {
            for path in list(instruction.some()?)? {
                let path = expand(&path)?;
                if path.trim().is_empty() {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.get_or_insert_default().insert(path.trim().to_owned(), Empty {});
            }
        }
        "WORKDIR" => config.working_dir = working_dir(&config.working_dir, &expand(instruction.single()?)?),
        other => {
            let other = other.to_ascii_lowercase();
            return Err(Error::invalid(format!("{other} is not a valid change command")));
        }
    }
    Ok(())
}

/// A command in JSON form as it stands, one in shell form behind the shell.
fn command(rest: &str, config: &RunConfig) -> Result<Vec<String>, Error> {
    if let Some(list) = json_list(rest)? {
        return Ok(list);
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let mut line: Vec<String> = match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => SHELL.map(str::to_owned).to_vec(),
    };
    line.push(rest.to_owned());
    Ok(line)
}

/// Reads `["a", "b"]`; `None` if it is no JSON list.
fn json_list(rest: &str) -> Result<Option<Vec<String>>, Error> {
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Error::invalid("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// A JSON list, or words.
fn list(rest: &str) -> Result<Vec<String>, Error> {
    Ok(json_list(rest)?.unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect()))
}

/// Reads `name=value …`, or `name value`.
fn pairs(
    instruction: &Instruction<'_>,
    expand: &impl Fn(&str) -> Result<String, Error>,
) -> Result<Vec<(String, String)>, Error> {
    let (kind, rest) = (&instruction.name, instruction.some()?);
    let words = words::split(rest);
    let raw = if words.first().is_some_and(|word| word.contains('=')) {
        let missing = |word: &str| {
            Error::invalid(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))
        };
        words.iter().map(|word| word.split_once('=').ok_or_else(|| missing(word))).collect::<Result<Vec<_>, _>>()?
    } else {
        match split_word(rest) {
            (_, "") => return Err(Error::invalid(format!("{kind} must have two arguments"))),
            pair => vec![pair],
        }
    };
    raw.into_iter().map(|(name, value)| named(kind, expand(name)?, expand(value)?)).collect()
}

fn named(kind: &str, name: String, value: String) -> Result<(String, String), Error> {
    if name.is_empty() { Err(Error::invalid(format!("{kind} names can not be blank"))) } else { Ok((name, value)) }
}

/// Sets a variable where it stands, or at the end.
fn set_variable(variables: &mut Vec<String>, name: &str, value: &str) {
    let text = format!("{name}={value}");
    match variables.iter_mut().find(|variable| env::key(variable) == name) {
        Some(variable) => *variable = text,
        None => variables.push(text),
    }
}

/// Reads `port[-port][/protocol]`, also behind an address and host port, which do not count.
fn ports(word: &str) -> Result<Vec<String>, Error> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    let range = range.rsplit(':').next().unwrap_or(range);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let bad = |_| Error::invalid(format!("invalid containerPort: {range}"));
    let (first, last): (u16, u16) = (first.parse().map_err(bad)?, last.parse().map_err(bad)?);
    if first > last {
        return Err(Error::invalid(format!("invalid range specified for containerPort: {range}")));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn on_build(trigger: &str) -> Result<String, Error> {
    match split_word(trigger).0.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        name @ ("FROM" | "MAINTAINER") => Err(Error::invalid(format!("{name} isn't allowed as an ONBUILD trigger"))),
        _ => Ok(trigger.to_owned()),
    }
}

fn working_dir(current: &str, asked: &str) -> String {
    if asked.starts_with('/') { mounts::clean(asked) } else { mounts::clean(&format!("/{current}/{asked}")) }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
