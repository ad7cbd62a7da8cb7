//! Environment variables: `--env`, `--env-file`, and what a container's process gets.

use crate::Error;

/// `PATH` where the image says nothing.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Reads an env file: a `NAME=value` a line, the value as it stands; `NAME` alone is taken from `lookup`, and left out
/// if that has none; lines that are blank or begin with `#` do not count. `file` is for errors.
///
/// Source: docker/cli `opts/file.go`, version 20.10.
pub fn parse_file(file: &str, bytes: &[u8], lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let bad = |what: String| Error::invalid(format!("poorly formatted environment file {file}: {what}"));
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| bad(format!("invalid utf8 bytes at line {}", number + 1)))?
            .trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        let name = name.trim_start();
        if name.contains([' ', '\t']) {
            return Err(bad(format!("variable '{name}' contains whitespaces")));
        }
        if name.is_empty() {
            return Err(bad(format!("no variable name on line '{line}'")));
        }
        match value {
            Some(value) => variables.push(format!("{name}={value}")),
            None => variables.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(variables)
}

/// Reads one `--env`: `NAME=value`, or `NAME` alone, whose value `lookup` gives; without one, `NAME` stays as it is and
/// takes the image's variable away.
pub fn parse_flag(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Error> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid(format!("invalid environment variable: {text}")));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(lookup(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}")))
}

/// The name of a variable.
pub(crate) fn key(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

/// What the process of a container gets: Docker's defaults, then the container's own variables over them.
///
/// Source: moby `container/container.go`, `CreateDaemonEnvironment`, and `container/env.go`, version 20.10.
pub fn of_process(config: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for variable in config {
        let at = env.iter().position(|have| key(have) == key(variable));
        match (at, variable.contains('=')) {
            (Some(at), true) => env[at] = variable.clone(),
            (None, true) => env.push(variable.clone()),
            (Some(at), false) => drop(env.remove(at)),
            (None, false) => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str) -> Option<String> {
        (name == "HOST").then(|| "h=1".to_owned())
    }

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let text = "\u{feff}A=1\n  # no\n\n  B= two words \nHOST\nMISSING\nC=\"x\"\r\nD=a=b";
        let found = parse_file("f", text.as_bytes(), host).unwrap();
        assert_eq!(found, ["A=1", "B= two words ", "HOST=h=1", "C=\"x\"", "D=a=b"]);
        for (bad, why) in
            [("A B=1", "contains whitespaces"), ("=1", "no variable name"), ("a\nb c", "contains whitespaces")]
        {
            assert!(parse_file("f", bad.as_bytes(), host).unwrap_err().to_string().contains(why), "{bad:?}");
        }
        let error = parse_file("the.env", b"A=1\nB=\xff", host).unwrap_err().to_string();
        assert!(error.contains("the.env") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn flags() {
        assert_eq!(parse_flag("A=", host).unwrap(), "A=");
        assert_eq!(parse_flag("HOST", host).unwrap(), "HOST=h=1");
        assert_eq!(parse_flag("GONE", host).unwrap(), "GONE");
        assert!(parse_flag("=x", host).is_err());
        assert!(parse_flag("", host).is_err());
    }

    #[test]
    fn the_containers_own_variables_win() {
        let own = ["PATH=/bin".to_owned(), "A=1".to_owned(), "HOSTNAME".to_owned(), "A=2".to_owned()];
        assert_eq!(of_process(&own, "box", true), ["PATH=/bin", "TERM=xterm", "A=2"]);
        assert_eq!(of_process(&[], "box", false), [DEFAULT_PATH, "HOSTNAME=box"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(variables) = parse_file("f", &bytes, |_| None) {
                prop_assert!(variables.iter().all(|v| v.contains('=') && !v.starts_with('=')));
            }
        }
    }
}
