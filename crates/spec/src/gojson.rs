//! JSON as Go's `encoding/json` writes and reads it.
//!
//! Written: `<`, `>`, `&`, U+2028 and U+2029 escaped, floats in Go's shape. Read: the last of several equal keys wins,
//! and what is no Unicode becomes U+FFFD.
//!
//! Image IDs are hashes of such bytes, so what Strata writes must be what Docker would write.
//! Go sorts the keys of maps and keeps the order of struct fields: use a `BTreeMap` for the one, a struct for the other.
//!
//! Source: Go 1.19, `encoding/json/encode.go` and `indent.go`.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{
    Map, Value,
    ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer},
};

/// Returns `value` as Go's `json.Marshal` would write it.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut out, Go(CompactFormatter, Html::Escaped)))?;
    Ok(out)
}

/// The same without escapes of `<`, `>` and `&`, as Docker's client shows values to people.
pub fn to_text<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut Serializer::with_formatter(&mut out, Go(CompactFormatter, Html::Plain)))?;
    Ok(String::from_utf8(out).expect("JSON of strings is UTF-8"))
}

/// As [`to_text`], over several lines.
pub fn to_text_indent<T: Serialize + ?Sized>(value: &T, indent: &str) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    let layout = PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut Serializer::with_formatter(&mut out, Go(layout, Html::Plain)))?;
    Ok(String::from_utf8(out).expect("JSON of strings is UTF-8"))
}

/// Returns `value` as Go's `json.MarshalIndent(value, "", indent)` would write it.
pub fn to_vec_indent<T: Serialize + ?Sized>(value: &T, indent: &str) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    let layout = PrettyFormatter::with_indent(indent.as_bytes());
    value.serialize(&mut Serializer::with_formatter(&mut out, Go(layout, Html::Escaped)))?;
    Ok(out)
}

/// Returns `value` as Go's `json.NewEncoder(w).Encode(value)` would write it: `json.Marshal` and a line feed.
pub fn to_line<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = to_vec(value)?;
    out.push(b'\n');
    Ok(out)
}

/// Reads JSON that Go would accept: strings that hold bytes outside UTF-8, or half a surrogate pair, are no error.
pub fn from_slice(json: &[u8]) -> Result<Value, serde_json::Error> {
    // Almost all JSON is good; only what is refused is looked at again.
    serde_json::from_slice(json).or_else(|error| match mend(json) {
        Cow::Owned(mended) => serde_json::from_str(&mended),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Gives each key of `fields` that differs from one of `names` in case alone that name: Go's decoder matches names so.
///
/// Fails with the key if two keys are the same but for their case: one reader takes the first of them, another the last.
pub fn fold_keys(fields: &mut Map<String, Value>, names: &[&'static str]) -> Result<(), String> {
    let folded = |key: &str| names.iter().find(|name| name.eq_ignore_ascii_case(key)).copied();
    if !fields.keys().any(|key| folded(key).is_some_and(|name| name != key)) {
        return Ok(());
    }
    for (key, value) in std::mem::take(fields) {
        let name = folded(&key).map_or_else(|| key.clone(), str::to_owned);
        if fields.insert(name, value).is_some() {
            return Err(key);
        }
    }
    Ok(())
}

/// Puts U+FFFD for bytes outside UTF-8 and for escapes of half a surrogate pair; borrowed if there is none.
fn mend(json: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(json);
    let mut mended = String::new();
    let (mut copied, mut at) = (0, 0);
    // Byte by byte is safe: no byte of a longer UTF-8 sequence is a backslash.
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        let Some(unit) = surrogate(&text, escape) else {
            // Skip the escaped character, however long.
            at = escape + 1 + text[escape + 1..].chars().next().map_or(0, char::len_utf8);
            continue;
        };
        let pair = unit < 0xdc00 && surrogate(&text, escape + 6).is_some_and(|low| low >= 0xdc00);
        at = escape + if pair { 12 } else { 6 };
        if !pair {
            mended.push_str(&text[copied..escape]);
            mended.push('\u{fffd}');
            copied = at;
        }
    }
    if copied == 0 {
        return text;
    }
    mended.push_str(&text[copied..]);
    Cow::Owned(mended)
}

/// Returns the half of a surrogate pair whose escape `\uXXXX` starts at `at`, if one does.
fn surrogate(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    (0xd800..0xe000).contains(&unit).then_some(unit)
}

/// Go's text of strings and numbers over the white space of `F`.
struct Go<F>(F, Html);

/// What becomes of the characters that HTML would trip over: Go's `SetEscapeHTML`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Html {
    Escaped,
    Plain,
}

/// Forwards the structural methods, which only place white space.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for Go<F> {
    forward! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        let exponent = size != 0.0 && !(1e-6..1e21).contains(&size);
        write_float(writer, if exponent { format!("{value:e}") } else { format!("{value}") })
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        let size = value.abs();
        let exponent = size != 0.0 && !(1e-6..1e21).contains(&size);
        write_float(writer, if exponent { format!("{value:e}") } else { format!("{value}") })
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_fragment(writer, fragment, self.1)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            // Go has short forms for the three above alone.
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }

    /// A raw value, which Go compacts and escapes like any other (`json.RawMessage`).
    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let (mut quoted, mut escaped, mut kept) = (false, false, String::with_capacity(fragment.len()));
        for c in fragment.chars() {
            match (quoted, escaped, c) {
                (false, _, ' ' | '\t' | '\n' | '\r') => continue,
                (false, _, '"') => quoted = true,
                (true, true, _) => escaped = false,
                (true, false, '\\') => escaped = true,
                (true, false, '"') => quoted = false,
                _ => {}
            }
            kept.push(c);
        }
        write_fragment(writer, &kept, self.1)
    }
}

/// Writes a float that Rust has printed: Go puts a `+` before an exponent that is not negative.
fn write_float<W: ?Sized + Write>(writer: &mut W, text: String) -> io::Result<()> {
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => write!(writer, "{digits}e+{exponent}"),
        _ => writer.write_all(text.as_bytes()),
    }
}

/// Writes text that needs no quotes escaped, with the characters escaped that HTML or JavaScript would trip over.
fn write_fragment<W: ?Sized + Write>(writer: &mut W, text: &str, html: Html) -> io::Result<()> {
    let mut rest = text;
    let escaped =
        |c: char| matches!(c, '\u{2028}' | '\u{2029}') || (html == Html::Escaped && matches!(c, '<' | '>' | '&'));
    while let Some(at) = rest.find(escaped) {
        let (before, from) = rest.split_at(at);
        let c = from.chars().next().expect("find returned the start of a character");
        writer.write_all(before.as_bytes())?;
        write!(writer, "\\u{:04x}", u32::from(c))?;
        rest = &from[c.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{json, value::RawValue};

    use super::*;

    fn text(value: impl Serialize) -> String {
        String::from_utf8(to_vec(&value).unwrap()).unwrap()
    }

    #[test]
    fn for_people_html_stays_as_it_is() {
        let value = json!({"a": "<&>\u{2028}", "b": ["\""]});
        assert_eq!(to_text(&value).unwrap(), r#"{"a":"<&>\u2028","b":["\""]}"#);
        assert_eq!(to_text_indent(&json!(["<"]), "    ").unwrap(), "[\n    \"<\"\n]");
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        for (raw, go) in [
            ("plain é 漢 🦀", r#""plain é 漢 🦀""#),
            ("<a href=\"x\">&</a>", r#""\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e""#),
            ("\u{2028}\u{2029}\u{2027}", "\"\\u2028\\u2029\u{2027}\""),
            ("\n\r\t", r#""\n\r\t""#),
            ("\u{8}\u{c}\0\u{1f}", r#""\u0008\u000c\u0000\u001f""#),
            ("\u{7f}\\/", "\"\u{7f}\\\\/\""),
        ] {
            assert_eq!(text(raw), go);
        }
        assert_eq!(text(json!({"a&b": 1})), r#"{"a\u0026b":1}"#, "keys are escaped too");
    }

    #[test]
    fn floats_have_gos_shape() {
        for (value, go) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-2.5e-9, "-2.5e-9"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(text(value), go);
        }
        assert_eq!(text(0.1f32), "0.1");
        assert_eq!(text(u64::MAX), "18446744073709551615");
        assert_eq!(text(i64::MIN), "-9223372036854775808");
    }

    #[test]
    fn indent_leaves_empty_containers_closed() {
        let value = json!({"a": [], "b": {}, "c": [1, {"d": "<"}]});
        let go = "{\n\t\"a\": [],\n\t\"b\": {},\n\t\"c\": [\n\t\t1,\n\t\t{\n\t\t\t\"d\": \"\\u003c\"\n\t\t}\n\t]\n}";
        assert_eq!(String::from_utf8(to_vec_indent(&value, "\t").unwrap()).unwrap(), go);
        assert_eq!(to_line(&json!({})).unwrap(), b"{}\n");
    }

    #[test]
    fn raw_values_are_compacted_and_escaped() {
        let raw = RawValue::from_string("{ \"a b\" : [ 1.0 , \"<\\\" \\\\\" ] }".to_owned()).unwrap();
        assert_eq!(text(&raw), r#"{"a b":[1.0,"\u003c\" \\"]}"#);
    }

    #[test]
    fn what_is_no_unicode_is_read_as_go_reads_it() {
        for (json, read) in [
            (&br#""\ud800""#[..], "\u{fffd}"),
            (br#""\udc00\ud800x""#, "\u{fffd}\u{fffd}x"),
            (br#""\ud83e\udd80 \ud83e\ud83e\udd80""#, "🦀 \u{fffd}🦀"),
            (br#""\\ud800 \"\ud8zz\"""#, ""),
            (br#""\\ud800 \udfff""#, "\\ud800 \u{fffd}"),
            (b"\"\xff\xe9\"", "\u{fffd}\u{fffd}"),
        ] {
            match from_slice(json) {
                Ok(value) => assert_eq!(value, Value::String(read.to_owned())),
                Err(_) => assert_eq!(read, "", "{}", String::from_utf8_lossy(json)),
            }
        }
        assert_eq!(from_slice(br#"{"a":1,"b":2,"a":3}"#).unwrap(), json!({"a": 3, "b": 2}));
    }

    proptest! {
        #[test]
        fn reading_never_panics(json in any::<Vec<u8>>(), text in r#"("|\\|u|d8|00|dc|é|\{|:){0,40}"#) {
            let _ = from_slice(&json);
            let _ = from_slice(text.as_bytes());
            let _ = from_slice(format!("\"{text}\"").as_bytes());
        }

        #[test]
        fn any_text_reads_back_and_holds_no_bare_special(raw in any::<String>()) {
            let go = text(&raw);
            prop_assert!(!go.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{}", go);
            prop_assert!(go.bytes().all(|b| b >= 0x20));
            prop_assert_eq!(serde_json::from_str::<Value>(&go).unwrap(), Value::String(raw));
        }

        #[test]
        fn any_float_reads_back(value in any::<f64>().prop_filter("JSON has no such number", |v| v.is_finite())) {
            prop_assert_eq!(text(value).parse::<f64>().unwrap(), value);
        }
    }
}
