//! Reads flags by the rules of pflag, which Docker's command line uses, and counts arguments as Docker does.
//!
//! pflag's rules differ from clap's:
//!
//! - A boolean flag takes a value after `=`: `--rm=true`, `-i=false`, `--rm=0`.
//! - The value of a flag is the next word, even if it begins with a dash: `commit -m '- fix'`.
//! - If a flag is repeated, the last value wins.
//! - Every word after the image of `run` and `create` belongs to the container: `run IMAGE --help`.
//!
//! [`normalise`] rewrites a command line for clap: it spells each flag `--name` or `--name=value` and puts `--` before the arguments.
//!
//! Source: spf13/pflag `flag.go`; docker/cli `cli/cobra.go` and `cli/required.go` for the error messages.

use std::{
    ffi::OsString,
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::{Arg, ArgAction, Command, builder::ValueParser};

/// A command line with a wrong flag or the wrong number of arguments.
#[derive(Debug)]
pub struct FlagError {
    message: String,
    /// The command with its groups: `strata image ls`.
    command: String,
    usage: String,
    /// Exit status: 125 for a flag, 1 for an argument.
    pub status: u8,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, command, usage, .. } = self;
        write!(f, "{message}\n\nUsage:  {usage}\n\nRun '{command} --help' for more information")
    }
}

/// Commands whose options follow the rules of mount(8).
const OTHER_RULES: [&str; 2] = ["mount", "umount"];

/// Rewrites `arguments`, the program's name included, for `root`, the built command.
pub fn normalise(root: &Command, arguments: Vec<OsString>) -> Result<Vec<OsString>, FlagError> {
    let mut rest = arguments.into_iter();
    let mut line = Line {
        command: root,
        path: root.get_name().to_owned(),
        out: Vec::new(),
        flags: Vec::new(),
        arguments: Vec::new(),
    };
    line.out.extend(rest.next());
    while let Some(word) = rest.next() {
        if word == "--" {
            line.arguments.extend(rest.by_ref());
        } else if let Some(flag) = word.as_bytes().strip_prefix(b"--") {
            line.long(flag, &mut rest)?;
        } else if word.len() > 1 && word.as_bytes()[0] == b'-' {
            line.short(&word.as_bytes()[1..], &mut rest)?;
        } else if line.command.has_subcommands() {
            match word.to_str().and_then(|name| line.command.find_subcommand(name)) {
                Some(sub) if !OTHER_RULES.contains(&sub.get_name()) => line.enter(sub, word),
                // clap reads these, and reports an unknown command.
                _ => return Ok(line.unread(word, rest)),
            }
        } else {
            line.arguments.push(word);
            if line.runs_a_program() {
                line.arguments.extend(rest.by_ref());
            }
        }
    }
    line.end()
}

/// The state of reading a command line.
struct Line<'a> {
    /// The current command.
    command: &'a Command,
    /// Its name with its groups: `strata image ls`.
    path: String,
    /// Rewritten words of the commands above `command`.
    out: Vec<OsString>,
    /// Flags of `command`, each with its rewritten word; `None` for a boolean that is false.
    flags: Vec<(&'a Arg, Option<OsString>)>,
    /// Arguments of `command`.
    arguments: Vec<OsString>,
}

impl<'a> Line<'a> {
    fn enter(&mut self, sub: &'a Command, name: OsString) {
        self.put_flags();
        self.out.push(name);
        self.path = format!("{} {}", self.path, sub.get_name());
        self.command = sub;
    }

    /// Whether the words after the first argument are the command line of a container.
    fn runs_a_program(&self) -> bool {
        self.command.get_positionals().any(Arg::is_trailing_var_arg_set)
    }

    fn put_flags(&mut self) {
        self.out.extend(self.flags.drain(..).filter_map(|(_, text)| text));
    }

    fn end(mut self) -> Result<Vec<OsString>, FlagError> {
        let asks = |(arg, _): &(&Arg, _)| matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
        if !self.flags.iter().any(asks) && !self.command.has_subcommands() {
            self.count_arguments()?;
        }
        self.put_flags();
        if !self.arguments.is_empty() {
            self.out.push("--".into());
        }
        self.out.append(&mut self.arguments);
        Ok(self.out)
    }

    /// Checks the number of arguments.
    fn count_arguments(&self) -> Result<(), FlagError> {
        let (mut least, mut most) = (0, 0_usize);
        for arg in self.command.get_positionals() {
            let (min, max) = arg.get_num_args().map_or((1, 1), |count| (count.min_values(), count.max_values()));
            least += if arg.is_required_set() { min.max(1) } else { 0 };
            most = most.saturating_add(max);
        }
        let count = self.arguments.len();
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let plural = |count| if count == 1 { "" } else { "s" };
        let takes = match (least, most) {
            (_, 0) => "accepts no arguments".to_owned(),
            _ if least == most => format!("requires {least} argument{}", plural(least)),
            (_, usize::MAX) => format!("requires at least {least} argument{}", plural(least)),
            (0, _) => format!("requires at most {most} argument{}", plural(most)),
            _ => format!("requires at least {least} and at most {most} arguments"),
        };
        let root = self.path.split(' ').next().unwrap_or_default();
        Err(self.error(format!("{root}: '{}' {takes}", self.path), 1))
    }

    /// Copies `next` and `rest` unchanged.
    fn unread(mut self, next: OsString, rest: impl Iterator<Item = OsString>) -> Vec<OsString> {
        self.put_flags();
        self.out.push(next);
        self.out.extend(rest);
        self.out
    }

    /// Reads `NAME` or `NAME=VALUE`, without the dashes.
    fn long(&mut self, flag: &[u8], rest: &mut impl Iterator<Item = OsString>) -> Result<(), FlagError> {
        let (name, value) = match flag.iter().position(|&byte| byte == b'=') {
            Some(at) => (&flag[..at], Some(&flag[at + 1..])),
            None => (flag, None),
        };
        let name = String::from_utf8_lossy(name);
        let is_it = |arg: &&Arg| {
            arg.get_long() == Some(&*name) || arg.get_all_aliases().is_some_and(|all| all.contains(&&*name))
        };
        let Some(arg) = self.command.get_arguments().find(is_it) else {
            return self.refuse(format!("unknown flag: --{name}"));
        };
        let shown = format!("--{name}");
        let value = value.map(<[u8]>::to_vec);
        match (needs_value(arg), value) {
            (true, None) => match rest.next() {
                Some(value) => self.set(arg, Some(value.into_vec()), &shown),
                None => self.refuse(format!("flag needs an argument: {shown}")),
            },
            (_, value) => self.set(arg, value, &shown),
        }
    }

    /// Reads a cluster of one-letter flags, without the dash: `it`, `eA=1`, `n5`, `i=false`.
    fn short(&mut self, mut cluster: &[u8], rest: &mut impl Iterator<Item = OsString>) -> Result<(), FlagError> {
        let whole = String::from_utf8_lossy(cluster).into_owned();
        while let Some((&letter, after)) = cluster.split_first() {
            let letter = char::from(letter);
            let is_it = |arg: &&Arg| {
                arg.get_short() == Some(letter) || arg.get_all_short_aliases().is_some_and(|all| all.contains(&letter))
            };
            let Some(arg) = self.command.get_arguments().find(is_it) else {
                return self.refuse(format!("unknown shorthand flag: '{letter}' in -{whole}"));
            };
            let shown = match arg.get_long() {
                Some(long) => format!("-{letter}, --{long}"),
                None => format!("-{letter}"),
            };
            if let [b'=', value @ ..] = after {
                return self.set(arg, Some(value.to_vec()), &shown);
            }
            if !needs_value(arg) {
                self.set(arg, None, &shown)?;
                cluster = after;
                continue;
            }
            let value = match after {
                [] => rest.next().map(OsString::into_vec),
                value => Some(value.to_vec()),
            };
            return match value {
                Some(value) => self.set(arg, Some(value), &shown),
                None => self.refuse(format!("flag needs an argument: '{letter}' in -{whole}")),
            };
        }
        Ok(())
    }

    /// Sets the flag `arg`; an error calls it `shown`.
    fn set(&mut self, arg: &'a Arg, value: Option<Vec<u8>>, shown: &str) -> Result<(), FlagError> {
        let is_flag =
            matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count | ArgAction::Help | ArgAction::Version);
        let text = if is_flag || is_boolean(arg) {
            let text = value.map_or_else(|| "true".into(), |value| String::from_utf8_lossy(&value).into_owned());
            let Some(value) = boolean(&text) else {
                return self.refuse(format!(
                    "invalid argument {text:?} for {shown:?} flag: strconv.ParseBool: parsing {text:?}: invalid syntax"
                ));
            };
            match is_flag {
                true => value.then(|| spelled(arg, None)),
                false => Some(spelled(arg, Some(if value { b"true" } else { b"false" }))),
            }
        } else {
            Some(spelled(arg, value.as_deref()))
        };
        // A list takes every value, any other flag the last one.
        if !matches!(arg.get_action(), ArgAction::Append | ArgAction::Count) {
            self.flags.retain(|(known, _)| known.get_id() != arg.get_id());
        }
        self.flags.push((arg, text));
        Ok(())
    }

    fn refuse(&self, message: String) -> Result<(), FlagError> {
        Err(self.error(message, 125))
    }

    fn error(&self, message: String, status: u8) -> FlagError {
        let usage = self.command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim().to_owned();
        FlagError { message, command: self.path.clone(), usage, status }
    }
}

/// Whether the flag takes the next word for its value.
fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && arg.get_num_args().is_none_or(|count| count.min_values() > 0)
}

/// Whether the flag's value is `true` or `false`.
fn is_boolean(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == ValueParser::bool().type_id()
}

/// Parses a boolean as Go's `strconv.ParseBool` does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Spells the flag so that clap takes any value.
fn spelled(arg: &Arg, value: Option<&[u8]>) -> OsString {
    let mut text = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}").into_bytes(),
        (None, Some(short)) => format!("-{short}").into_bytes(),
        (None, None) => unreachable!("a flag has a long or a short name"),
    };
    if let Some(value) = value {
        text.push(b'=');
        text.extend_from_slice(value);
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn normalised(line: &str) -> Result<String, String> {
        let mut command = super::super::Cli::command();
        command.build();
        let words = line.split(' ').map(OsString::from).collect();
        let show = |words: Vec<OsString>| {
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        normalise(&command, words).map(show).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_read_as_pflag_reads_them() {
        for (line, read) in [
            ("strata run -it bb sh", "strata run --interactive --tty -- bb sh"),
            ("strata run --rm=true -i=false bb", "strata run --rm -- bb"),
            ("strata run --rm --rm=0 bb", "strata run -- bb"),
            ("strata run bb --help", "strata run -- bb --help"),
            ("strata run bb -- x --rm", "strata run -- bb -- x --rm"),
            ("strata run -- bb --rm", "strata run -- bb --rm"),
            ("strata run -e -X=1 -eY=2 bb", "strata run --env=-X=1 --env=Y=2 -- bb"),
            ("strata run --name a --name=b bb", "strata run --name=b -- bb"),
            ("strata run --name= bb", "strata run --name= -- bb"),
            ("strata run --sig-proxy=F bb", "strata run --sig-proxy=false -- bb"),
            ("strata commit -m -x box", "strata commit --message=-x -- box"),
            ("strata tag --help", "strata tag --help"),
            ("strata tag a --help b c", "strata tag --help -- a b c"),
            ("strata image", "strata image"),
            ("strata --data-root /r ps -aq", "strata --data-root=/r ps --all --quiet"),
            ("strata rm box -f other", "strata rm --force -- box other"),
            ("strata ps -n5", "strata ps --last=5"),
            ("strata ps -n -1", "strata ps --last=-1"),
            ("strata container run -h name bb -h", "strata container run --hostname=name -- bb -h"),
            ("strata mount -t aufs -o dirs=a none m", "strata mount -t aufs -o dirs=a none m"),
            ("strata nonsense --x", "strata nonsense --x"),
            ("strata cp - box:/x", "strata cp -- - box:/x"),
        ] {
            assert_eq!(normalised(line).as_deref(), Ok(read), "{line}");
        }
    }

    #[test]
    fn arguments_are_counted_as_docker_counts_them() {
        for (line, says) in [
            ("strata history", "strata: 'strata history' requires 1 argument"),
            ("strata tag a", "strata: 'strata tag' requires 2 arguments"),
            ("strata image tag a b c", "strata: 'strata image tag' requires 2 arguments"),
            ("strata inspect", "strata: 'strata inspect' requires at least 1 argument"),
            ("strata create", "strata: 'strata create' requires at least 1 argument"),
            ("strata images a b", "strata: 'strata images' requires at most 1 argument"),
            ("strata commit", "strata: 'strata commit' requires at least 1 and at most 2 arguments"),
            ("strata ps a", "strata: 'strata ps' accepts no arguments"),
        ] {
            let error = normalised(line).expect_err(line);
            assert!(error.starts_with(&format!("{says}\n\nUsage:  strata ")), "{line}: {error}");
            assert!(error.ends_with(" --help' for more information"), "{error}");
        }
    }

    #[test]
    fn wrong_flags_are_refused_with_pflags_messages() {
        for (line, says) in [
            ("strata run --nosuch bb", "unknown flag: --nosuch\n\nUsage:  strata run "),
            ("strata image ls -z", "unknown shorthand flag: 'z' in -z"),
            ("strata ps -az", "unknown shorthand flag: 'z' in -az"),
            ("strata run --name", "flag needs an argument: --name"),
            ("strata run -e", "flag needs an argument: 'e' in -e"),
            (
                "strata run --rm=maybe bb",
                "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\"",
            ),
            ("strata run -i=2 bb", "invalid argument \"2\" for \"-i, --interactive\" flag"),
        ] {
            let error = normalised(line).expect_err(line);
            assert!(error.starts_with(says), "{line}: {error}");
            assert!(error.ends_with(" --help' for more information"), "{error}");
        }
    }
}
