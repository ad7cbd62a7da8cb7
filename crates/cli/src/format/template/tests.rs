use serde_json::json;

use super::{Template, types::Type};

fn render(template: &str, value: &serde_json::Value) -> Result<String, String> {
    Template::parse(template).and_then(|t| t.render(value)).map_err(|e| e.to_string())
}

#[test]
fn templates_render_as_in_go() {
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
        ("{{\"a\\x41\\u00e9\\\"\"}}", "aA\u{e9}\""),
        ("{{0x1F}} {{-3}} {{1e3}} {{1.5}} {{1e21}} {{0.00001}}", "31 -3 1000 1.5 1e+21 1e-05"),
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
        ("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .ID}}{{template \"x\"}}", "<abc><<no value>>"),
        ("{{block \"x\" .State}}{{.Pid}}{{end}}", "7"),
        ("{{define \"x\"}}{{$.Pid}}{{end}}{{range .Names}}{{template \"x\" $.State}}{{end}}", "77"),
        ("{{js \"<'\"}}", "\\u003C\\'"),
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
fn a_field_that_is_not_set_reads_as_the_zero_value_of_its_type() {
    let container = json!({
        "Id": "abc", "State": {"Running": true, "Pid": 0}, "Config": {"Cmd": ["sh"], "Labels": {"a": "1"}},
        "HostConfig": {"NanoCpus": 5, "PidsLimit": 9}, "GraphDriver": {"Name": "overlay2"}, "Mounts": [{"Type": "bind"}],
    });
    let inspect = |text: &str| {
        Template::parse(text).and_then(|t| t.inspect(&container, Type::CONTAINER)).map_err(|e| e.to_string())
    };
    for (template, expected) in [
        ("{{.ID}}", "abc"),
        ("{{.Id}}", "abc"),
        ("{{.HostConfig.NanoCPUs}} {{.HostConfig.PidsLimit}}", "5 9"),
        ("{{.HostConfig.NanoCpus}}", "5"),
        ("{{.HostConfig.OomKillDisable}} {{.State.Health}}", "<nil> <nil>"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{end}}none", "none"),
        ("{{.Config.ExposedPorts}} {{.Config.Env}} [{{.Config.StopSignal}}]", "map[] [] []"),
        ("{{len .HostConfig.Tmpfs}} {{len .Config.Env}} {{.HostConfig.Privileged}}", "0 0 false"),
        ("{{json .HostConfig.Tmpfs}} {{json .HostConfig.CapAdd}} {{json .Config.User}}", "null null \"\""),
        ("{{json .State}}", "{\"Running\":true,\"Pid\":0}"),
        ("{{index .Config.Labels \"a\"}}{{index .Config.Labels \"b\"}}{{.Config.Labels.b}}", "1<no value>"),
        ("{{with .Config}}{{.Image}}x{{else}}none{{end}}", "x"),
        ("{{range .Config.Volumes}}v{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{.Type}}{{.Destination}}{{.RW}}{{end}}", "bindfalse"),
        ("{{printf \"%s|%d|%v\" .Config.User .RestartCount .HostConfig.Init}}", "|0|<nil>"),
        ("{{eq .Config.User \"\"}} {{not .HostConfig.Binds}} {{or .Config.User \"root\"}}", "true true root"),
        ("{{.GraphDriver}}", "{map[] overlay2}"),
        ("{{join .Config.Env \",\"}}{{upper .Path}}", ""),
    ] {
        assert_eq!(inspect(template).as_deref(), Ok(expected), "{template}");
    }
    for template in
        ["{{.Nosuch}}", "{{.State.Nosuch}}", "{{.State.Health.Status}}", "{{.ID}}{{.Id}}", "{{index .Config.Env 0}}"]
    {
        inspect(template).expect_err(template);
    }
}

#[test]
fn errors_name_the_cause() {
    let value = json!({"ID": "abc"});
    let cases = [
        ("{{.Nope}}", "map has no entry for key \"Nope\""),
        ("{{.ID.X}}", "can't evaluate field X"),
        ("{{nope .ID}}", "function \"nope\" not defined"),
        ("{{.ID", "unclosed action"),
        ("{{if .ID}}x", ":1: unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{$y}}", "undefined variable \"$y\""),
        ("{{break}}", "outside {{range}}"),
        ("{{index .ID \"x\"}}", "cannot index slice/array with type string"),
        ("{{}}", "missing value"),
        ("{{template \"x\"}}", "template \"x\" not defined"),
        ("{{define \"x\"}}a", ":1: unexpected EOF"),
        ("{{if .ID}}{{define \"x\"}}{{end}}{{end}}", "unexpected {{define}}"),
        ("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "maximum template depth"),
        ("{{.ID \"x\"}}", "has arguments but cannot be invoked as function"),
        ("{{call .ID}}", "non-function of type string"),
    ];
    for (template, expected) in cases {
        let got = render(template, &value).expect_err(template);
        assert!(got.contains(expected), "{template}: {got}");
    }
    assert!(render(&"{{if 1}}".repeat(5000), &value).is_err());
    assert!(render(&format!("{{{{{}", "(".repeat(100_000)), &value).is_err());
}

/// Messages of docker 28.2 (Go 1.23).
#[test]
fn parse_errors_have_gos_words_and_lines() {
    for (template, expected) in [
        ("{{", ":1: unclosed action"),
        ("a\nb{{.x", ":2: unclosed action"),
        ("{{if .x}}", ":1: unexpected EOF"),
        ("{{if .x}}{{else}}", ":1: unexpected EOF"),
        ("{{.}}\n\n{{end}}", ":3: unexpected {{end}}"),
        ("{{else}}", ":1: unexpected {{else}}"),
        ("{{nosuch .x}}", ":1: function \"nosuch\" not defined"),
        ("{{\"abc}}", ":1: unterminated quoted string"),
        ("{{`abc", ":1: unterminated raw quoted string"),
        ("{{$x}}", ":1: undefined variable \"$x\""),
        ("{{range $x}}{{end}}", ":1: undefined variable \"$x\""),
        ("{{with $x := .ID}}{{end}}{{$x}}", ":1: undefined variable \"$x\""),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{if}}{{end}}", ":1: missing value for if"),
        ("{{ }}", ":1: missing value for command"),
        ("{{/* x}}", ":1: unclosed comment"),
        ("{{define x}}{{end}}", ":1: unexpected \"x\" in define clause"),
        ("{{(.x}}", ":1: unclosed left paren"),
        ("{{#}}", ":1: unexpected \"#\" in command"),
        ("{{1x}}", ":1: bad number syntax: \"1x\""),
        ("{{'ab'}}", ":1: malformed character constant: 'ab'"),
        ("{{\"\\z\"}}", ":1: invalid syntax"),
        ("{{.x,}}", ":1: unexpected \",\" in operand"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", ":1: expected end; found {{else}}"),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert_eq!(error.to_string(), format!("template: {expected}"), "{template}");
    }
}

#[test]
fn no_text_panics_the_parser() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(2000), |(text in r#"(\{\{|\}\}|[.$|()"`, :=\-+%a-z0-9é]|if |range |end|else |json |index |printf ){0,30}"#)| {
        let _ = render(&text, &json!({"a": [1, "x", null], "b": {"c": 1.5}}));
    });
}
