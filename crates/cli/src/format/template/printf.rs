//! `printf` with Go's verbs.

use serde_json::Value;

use super::{Error, error, value::Typed};

/// Formats `arguments[1..]` with the verbs of `arguments[0]`: `%s %v %d %q %t %x %f %g %%`, with `-`, `0`, width and precision.
pub fn printf(arguments: &[Typed]) -> Result<String, Error> {
    let Some((Value::String(format), mut values)) = arguments.split_first().map(|(first, rest)| (first.plain(), rest))
    else {
        return error("wrong type for printf: the format must be a string");
    };
    let mut out = String::new();
    let mut rest = format.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (verb, flags, after) = verb(&rest[at + 1..]);
        rest = after;
        match verb {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.split_first() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some((value, others)) => {
                    values = others;
                    out.push_str(&flags.pad(&one(verb, value, &flags)));
                }
            },
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Flags {
    fn pad(&self, text: &str) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero) {
            (true, _) => format!("{text}{}", " ".repeat(missing)),
            (false, true) => format!("{}{text}", "0".repeat(missing)),
            (false, false) => format!("{}{text}", " ".repeat(missing)),
        }
    }
}

fn verb(text: &str) -> (Option<char>, Flags, &str) {
    let mut flags = Flags::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '-' => flags.left = true,
            '0' => flags.zero = true,
            '+' | '#' | ' ' => {}
            _ => break,
        }
        rest = &rest[1..];
    }
    let (width, after) = digits(rest);
    flags.width = width.unwrap_or(0);
    rest = after;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after);
        flags.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    let mut chars = rest.chars();
    (chars.next(), flags, chars.as_str())
}

/// Reads a number of at most four digits, so that a width cannot ask for gigabytes of spaces.
fn digits(text: &str) -> (Option<usize>, &str) {
    let end = text.bytes().take(4).take_while(u8::is_ascii_digit).count();
    (text[..end].parse().ok(), &text[end..])
}

fn one(verb: char, typed: &Typed, flags: &Flags) -> String {
    let cut = |text: String| match flags.precision {
        Some(limit) => text.chars().take(limit).collect(),
        None => text,
    };
    let value = &typed.plain();
    match (verb, value) {
        ('s' | 'v', _) => cut(typed.print()),
        ('q', _) => format!("{:?}", typed.print()),
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('x', Value::Number(number)) if number.is_i64() || number.is_u64() => {
            format!("{:x}", number.as_i64().unwrap_or_default())
        }
        ('f', Value::Number(number)) => {
            format!("{:.*}", flags.precision.unwrap_or(6), number.as_f64().unwrap_or_default())
        }
        ('g', Value::Number(number)) => number.to_string(),
        (verb, _) => format!("%!{verb}({})", typed.print()),
    }
}
