//! `cargo test`, with a closing line that counts skipped tests as skipped.
//!
//! A test that the machine cannot run reports `skip: <test>: <reason>` on standard error and returns; the test harness counts it as passed.
//! This chore reads the output of `cargo test` as it passes it along, and takes every test that reported a skip, whole or in part, out of
//! the passed ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How many test programs the summary lists, slowest first.
const SLOWEST: usize = 10;

/// Runs the tests of the workspace, with `arguments` passed to `cargo test`; returns the summary. Fails if a test or the build fails.
pub fn run(arguments: &[&str]) -> Result<String> {
    let begun = Instant::now();
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    let counted = thread::spawn(move || {
        let mut counts = Counts::default();
        each_line(stdout, std::io::stdout(), |line| counts.read(line)).map(|()| counts)
    });
    let mut programs = Programs::default();
    each_line(stderr, std::io::stderr(), |line| programs.read(line, begun.elapsed()))?;
    let counts = counted.join().expect("the reader of standard output does not panic")?;
    let status = child.wait().context("cannot wait for cargo")?;
    programs.end(begun.elapsed());
    let summary = summary(&counts, &programs);
    match status.success() {
        true => Ok(summary),
        false => {
            println!("{summary}");
            bail!("cargo test: {status}")
        }
    }
}

/// Copies `from` to `to` and shows each line to `read`.
fn each_line(from: impl std::io::Read, mut to: impl Write, mut read: impl FnMut(&str)) -> Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).context("cannot read the output of cargo")? > 0 {
        to.write_all(&line).context("cannot pass the output of cargo along")?;
        read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

/// What the test harness counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    /// Adds a line like `test result: ok. 9 passed; 0 failed; 1 ignored; …`; passes others over.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// What the test programs report themselves, and how long they take.
#[derive(Debug, Default)]
struct Programs {
    /// The program that runs, and since when.
    current: Option<(String, Duration)>,
    /// When the first program began: all before it is the build.
    built: Option<Duration>,
    times: Vec<(Duration, String)>,
    /// Test (with its program) to the reasons why it is skipped.
    skips: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Programs {
    /// Takes a line of standard error, which came `at` after the beginning.
    fn read(&mut self, line: &str, at: Duration) {
        let line = line.trim_start();
        if let Some(program) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            self.end(at);
            self.built.get_or_insert(at);
            self.current = Some((name(program), at));
        } else if let Some((test, reason)) = line.strip_prefix("skip: ").and_then(|rest| rest.split_once(": ")) {
            let program = self.current.as_ref().map_or_else(String::new, |(program, _)| program.clone());
            self.skips.entry((program, test.to_owned())).or_default().insert(reason.to_owned());
        }
    }

    /// The current program, if any, ended `at`.
    fn end(&mut self, at: Duration) {
        if let Some((program, since)) = self.current.take() {
            self.times.push((at.saturating_sub(since), program));
        }
    }
}

/// `durable tests/crash.rs` for `tests/crash.rs (target/debug/deps/crash-0123456789abcdef)`, whose path says no crate: the program's name.
fn name(running: &str) -> String {
    match running.split_once(" (") {
        Some((source, program)) => {
            let program = program.trim_end_matches(')').rsplit('/').next().unwrap_or(program);
            let program = program.rsplit_once('-').map_or(program, |(name, _)| name);
            match source.strip_prefix("unittests ") {
                Some(_) => format!("{program} (unit tests)"),
                None => program.to_owned(),
            }
        }
        None => format!("{running} (documentation)"),
    }
}

/// Where the time went, what was skipped and why, and the closing line.
fn summary(counts: &Counts, programs: &Programs) -> String {
    let mut lines = vec![format!("\nbuild: {} s", programs.built.unwrap_or_default().as_secs())];
    let mut times = programs.times.clone();
    times.sort_by(|a, b| b.cmp(a));
    let tests: Duration = times.iter().map(|(time, _)| *time).sum();
    lines.push(format!("tests: {} s in {} programs; the slowest:", tests.as_secs(), times.len()));
    lines.extend(times.iter().take(SLOWEST).map(|(time, name)| format!("  {:>5} s  {name}", time.as_secs())));
    for ((program, test), reasons) in &programs.skips {
        let reasons = reasons.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        lines.push(format!("skipped: {program} {test}: {reasons}"));
    }
    let skipped = programs.skips.len();
    let passed = counts.passed.saturating_sub(skipped);
    lines.push(format!("{passed} passed, {} failed, {} skipped", counts.failed, skipped + counts.ignored));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_reports_a_skip_is_not_passed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 7, failed: 2, ignored: 1 });
        let mut programs = Programs::default();
        let second = Duration::from_secs(1);
        for (n, line) in [
            "   Compiling strata-spec v0.1.0",
            "     Running unittests src/lib.rs (target/debug/deps/strata_spec-0123456789abcdef)",
            "skip: one: needs root",
            "skip: one: needs root",
            "skip: one: needs the program zsh",
            "     Running tests/crash.rs (target/debug/deps/crash-0123456789abcdef)",
            "skip: one: needs root",
            "   Doc-tests strata_spec",
        ]
        .iter()
        .enumerate()
        {
            programs.read(line, second * n as u32);
        }
        programs.end(second * 8);
        let summary = summary(&counts, &programs);
        assert_eq!(
            summary,
            "\nbuild: 1 s\n\
             tests: 7 s in 3 programs; the slowest:\n\
             \u{20}     4 s  strata_spec (unit tests)\n\
             \u{20}     2 s  crash\n\
             \u{20}     1 s  strata_spec (documentation)\n\
             skipped: crash one: needs root\n\
             skipped: strata_spec (unit tests) one: needs root; needs the program zsh\n\
             5 passed, 2 failed, 3 skipped"
        );
    }
}
