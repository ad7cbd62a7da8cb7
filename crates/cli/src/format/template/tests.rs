use serde_json::json;

use super::Template;

fn render(template: &str, value: &serde_json::Value) -> Result<String, String> {
    Template::parse(template).and_then(|t| t.render(value)).map_err(|e| e.to_string())
}

#[test]
fn templates_give_what_go_gives() {
    let value = json!({
        "ID": "abc", "Size": 12, "Names": ["a", "b"], "State": {"Running": true, "Pid": 7},
        "Labels": {"z": "1", "a": "2"}, "None": null, "Empty": [], "Zero": 0, "Html": "<a&b>",
    });
    let cases = [
        ("{{.ID}}", "abc"),
        ("{{ .ID }}: {{.Size}}\\t{{.State.Pid}}", "abc: 12\t7"),
        ("{{.}}x{{$.ID}}", ""),
        ("{{json .Names}}", r#"["a","b"]"#),
        ("{{json .Html}}", r#""<a&b>""#),
        ("{{.Names}} {{.Labels}}", "[a b] map[a:2 z:1]"),
        ("{{join .Names \", \"}}", "a, b"),
        ("{{.Names | json}}", r#"["a","b"]"#),
        ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}", "0=a;1=b;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=2 z=1 "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Names}}{{.}}{{break}}{{end}}", "a"),
        ("{{range .Names}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Zero}}a{{else if .Size}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ("{{with $x := .Size}}{{$x}}{{end}}", "12"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{index .Names 1}} {{index .Labels \"a\"}}", "b 2"),
        ("{{len .Names}} {{len .ID}}", "2 3"),
        ("{{printf \"%-5s|%4d|%q\" .ID .Size .ID}}", "abc  |  12|\"abc\""),
        ("{{upper .ID}} {{title \"foo bar\"}} {{pad .ID 1 2}}|", "ABC Foo Bar  abc  |"),
        ("{{truncate .ID 2}}", "ab"),
        (
            "{{eq .ID \"x\" \"abc\"}} {{ne .Size 12}} {{lt .Size 13}} {{and .Size .Zero}} {{or .Zero .Size}} {{not .Zero}}",
            "true false true 0 12 true",
        ),
        ("{{(index .Names 0)}}", "a"),
        ("{{/* nothing */}}x", "x"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{slice .ID 1 2}}", "b"),
        ("{{.None}}", "<no value>"),
        ("{{split \"a:b\" \":\"}}", "[a b]"),
        ("{{println .ID .Size}}", "abc 12\n"),
    ];
    for (template, expected) in cases {
        let got = render(template, &value);
        if template.starts_with("{{.}}") {
            assert!(got.is_ok_and(|text| text.starts_with("map[Empty:[] Html:<a&b> ID:abc")), "{template}");
        } else {
            assert_eq!(got.as_deref(), Ok(expected), "{template}");
        }
    }
}

#[test]
fn mistakes_are_named() {
    let value = json!({"ID": "abc"});
    let cases = [
        ("{{.Nope}}", "map has no entry for key \"Nope\""),
        ("{{.ID.X}}", "can't evaluate field X"),
        ("{{nope .ID}}", "function \"nope\" not defined"),
        ("{{.ID", "unclosed action"),
        ("{{if .ID}}x", "has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{$y}}", "undefined variable \"$y\""),
        ("{{break}}", "outside {{range}}"),
        ("{{index .ID 1}}", "can't index"),
        ("{{}}", "missing value"),
        ("{{define \"x\"}}{{end}}", "not supported"),
    ];
    for (template, expected) in cases {
        let got = render(template, &value).expect_err(template);
        assert!(got.contains(expected), "{template}: {got}");
    }
    assert!(render(&"{{if 1}}".repeat(5000), &value).is_err());
    assert!(render(&format!("{{{{{}", "(".repeat(100_000)), &value).is_err());
}

#[test]
fn no_text_panics_the_parser() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(2000), |(text in r#"(\{\{|\}\}|[.$|()"`, :=\-+%a-z0-9é]|if |range |end|else |json |index |printf ){0,30}"#)| {
        let _ = render(&text, &json!({"a": [1, "x", null], "b": {"c": 1.5}}));
    });
}
