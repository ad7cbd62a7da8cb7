//! No library crate names a flag of the command line in what it says: `cli` alone does (`crates/cli/src/hints.rs`).
//!
//! The search is for `--word` in the middle of a string literal. A literal that is a flag alone, as a library passes one to another program,
//! is none in a sentence; comments and tests may name flags.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// Crates that speak to users by flags, or to nobody.
const EXEMPT: &[&str] = &[
    "cli", "testkit", // Its remedies are commands, as `fsck` prints them.
    "doctor",
];

/// Checks the sources of every library crate; returns what to print.
pub fn run() -> Result<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.join("crates");
    let (mut files, mut found) = (0, Vec::new());
    for entry in fs::read_dir(&crates).with_context(|| format!("cannot list {}", crates.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if EXEMPT.contains(&name.as_ref()) {
            continue;
        }
        for file in sources(&path.join("src"))? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            files += 1;
            let shown = file.strip_prefix(&crates).unwrap_or(&file).display().to_string();
            found.extend(flags(&text).into_iter().map(|(line, flag)| format!("{shown}:{line}: names the flag {flag}")));
        }
    }
    if !found.is_empty() {
        bail!("{}\nsay what is wrong; what the user can type belongs in crates/cli/src/hints.rs", found.join("\n"));
    }
    Ok(format!("flags: none of {files} library sources names a flag"))
}

/// The Rust files at and below `path`, without programs (`bin/`) and files of tests.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(path) else { return Ok(files) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "bin" && name != "tests" {
            files.extend(sources(&path)?);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The flags in sentences of `text`, each with its line, up to the tests at its end.
fn flags(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for (at, _) in line.match_indices("--") {
            let word: String = line[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let before = line[..at].chars().next_back();
            let in_sentence = matches!(before, Some(' ' | '(' | '`' | '\''));
            let is_quoted = line[..at].matches('"').count() % 2 == 1;
            if in_sentence && is_quoted && word.len() > 1 && word.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.push((n + 1, format!("--{word}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_in_sentences_are_found_and_arguments_of_programs_are_not() {
        let found = |text: &str| flags(text).into_iter().map(|(_, flag)| flag).collect::<Vec<_>>();
        assert_eq!(found(r#"    #[error("{0}: give another --data-root")]"#), ["--data-root"]);
        assert_eq!(found(r#"    let why = "try (--storage-driver vfs)";"#), ["--storage-driver"]);
        assert_eq!(found(r#"    command.args(["delete", "--force"]).arg("--root");"#), [""; 0]);
        assert_eq!(found("    // As `rm --force` does.\n    /// As --rm."), [""; 0]);
        assert_eq!(found("#[cfg(test)]\nmod tests { \"a --flag\" }"), [""; 0]);
        assert_eq!(found(r#"    let x = y--z; "a -- b""#), [""; 0]);
    }
}
