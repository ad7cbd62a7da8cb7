//! Plain text for people: rows of names and values, sizes, short forms.

use std::fmt::{self, Write};

use crate::{
    survey::ImageName,
    value::{Problem, Sourced},
};

/// Rows of a name, a value and where it comes from, in columns.
#[derive(Default)]
pub(crate) struct Rows(Vec<(String, Vec<String>)>);

impl Rows {
    pub fn add<const N: usize>(&mut self, name: &str, cells: [&str; N]) {
        self.0.push((name.to_owned(), cells.iter().map(|cell| (*cell).to_owned()).collect()));
    }

    /// A value with the file it was read from; `note` says it better where the file was named before.
    pub fn value<T: fmt::Display>(&mut self, name: &str, value: &Sourced<T>, note: Option<&str>) {
        let shown = match (&value.value, &value.problem) {
            (Some(value), None) => value.to_string(),
            (Some(value), Some(problem)) => format!("{value}  DAMAGED: {problem}"),
            (None, Some(problem)) => format!("DAMAGED: {problem}"),
            (None, None) => format!("none ({})", value.how),
        };
        let from = match (note, &value.file) {
            (Some(note), _) => format!("{} {note}", value.how),
            (None, Some(file)) if value.how == "the file's text" => file.clone(),
            (None, Some(file)) => format!("{}: {file}", value.how),
            (None, None) if value.value.is_some() => value.how.clone(),
            (None, None) => String::new(),
        };
        self.add(name, [&shown, &from]);
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        // One long value must not push the others' sources off the screen.
        let first = |cells: &Vec<String>| cells.first().map_or(0, |cell| cell.chars().count());
        let values = self.0.iter().map(|(_, cells)| first(cells)).filter(|len| *len <= 75).max().unwrap_or(0);
        for (name, cells) in &self.0 {
            let mut line = format!("  {name:<names$}  {:<values$}", cells.first().map_or("", String::as_str));
            for cell in cells.iter().skip(1).filter(|cell| !cell.is_empty()) {
                let _ = write!(line, "  {}", shorten_ids(cell));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A source with its IDs cut to twelve digits: they stand in full beside it.
fn shorten_ids(source: &str) -> String {
    let parts = source.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    parts
        .map(|part| {
            let id = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
            if id.len() == 64 { format!("{}…{}", &id[..12], &part[64..]) } else { part.to_owned() }
        })
        .collect()
}

/// What a terminal would obey is made visible: texts come from outside.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// Bytes in Docker's units: `12.3kB`, `210MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    while value >= 1000.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1000.0, next);
    }
    match (unit, value) {
        ("B", _) => format!("{bytes}B"),
        (_, value) if value < 10.0 => format!("{value:.2}{unit}"),
        (_, value) if value < 100.0 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

/// The first twelve characters.
pub(crate) fn short(text: Option<&str>) -> String {
    text.map_or_else(|| "?".to_owned(), |text| text.chars().take(12).collect())
}

/// `text` on one line, with at most `width` characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => text,
    }
}

/// Each line two columns further in.
pub(crate) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// How many images, and the first names.
pub(crate) fn uses(images: &[ImageName]) -> String {
    let names: Vec<String> = images.iter().take(5).map(ImageName::short).collect();
    let more = if images.len() > names.len() { ", …" } else { "" };
    match images.len() {
        0 => "no image".to_owned(),
        1 => format!("1 image: {}", names.join(", ")),
        n => format!("{n} images: {}{more}", names.join(", ")),
    }
}

/// The list of what is damaged, after an empty line; nothing if nothing is.
pub(crate) fn problems(f: &mut fmt::Formatter<'_>, problems: &[Problem]) -> fmt::Result {
    if problems.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nDamage")?;
    problems.iter().try_for_each(|problem| writeln!(f, "  {}: {}", problem.path, problem.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_dockers_units() {
        for (size, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (210_000_000, "210MB"),
            (1_500_000_000, "1.50GB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert!(bytes(u64::MAX).ends_with("PB"));
    }

    #[test]
    fn lines_are_cut_between_characters() {
        assert_eq!(one_line("a\n  b\tc", 10), "a b c");
        assert_eq!(one_line("äöüäöü", 4), "äöü…");
        assert_eq!(one_line("\x1b[31mred", 20), "?[31mred");
    }

    #[test]
    fn ids_in_sources_are_cut() {
        let id = "0123456789ab".to_owned() + &"c".repeat(52);
        let source = format!("layerdb/sha256/{id}/size of {id}-init");
        assert_eq!(shorten_ids(&source), "layerdb/sha256/0123456789ab…/size of 0123456789ab…-init");
        assert_eq!(shorten_ids("face/b é"), "face/b é");
        assert_eq!(printable("a\x1b[2J\nb"), "a?[2J\nb");
    }

    #[test]
    fn rows_stand_in_columns() {
        let mut rows = Rows::default();
        rows.add("a", ["1", "x"]);
        rows.add("long", ["22", ""]);
        assert_eq!(rows.to_string(), "  a     1   x\n  long  22\n");
    }
}
