use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Configs that dockerd wrote; `make_configs.sh` beside them tells how.
macro_rules! fixture {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../tests/fixtures/configs/", $name, ".json")))),*]
    };
}

const DOCKER: [(&str, &str); 8] = fixture![
    "import-plain",
    "import-changed",
    "commit-plain",
    "commit-changed",
    "commit-odd",
    "build",
    "build-no-layers",
    "build-child",
];

const ROOTFS: &str = r#""rootfs":{"type":"layers","diff_ids":[]}"#;

fn parse(fields: &str) -> Result<ImageConfig, ConfigError> {
    ImageConfig::parse(format!("{{{ROOTFS},{fields}}}"))
}

fn run_config(fields: &str) -> RunConfig {
    let config = parse(&format!(r#""config":{{{fields}}}"#)).unwrap();
    config.document().config.clone().expect("there is a config")
}

#[test]
fn what_docker_wrote_is_written_again_byte_for_byte() {
    for (name, raw) in DOCKER {
        let config = ImageConfig::parse(raw).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config.raw(), raw.as_bytes());
        assert!(config.document().extra.is_empty(), "{name} has a field we do not know");
        assert!(config.document().config.as_ref().is_some_and(|c| c.extra.is_empty()), "{name}");
        let again = ImageConfig::from_document(config.document().clone());
        assert_eq!(String::from_utf8_lossy(again.raw()), raw, "{name}");
        assert_eq!(again.id(), config.id());
    }
}

#[test]
fn fields_of_a_built_image() {
    let config = ImageConfig::parse(DOCKER[5].1).unwrap();
    let document = config.document();
    assert_eq!((document.os.as_str(), document.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(config.diff_ids().len(), 3);
    assert_eq!(document.history.iter().filter(|step| !step.empty_layer).count(), 3);
    assert_eq!(time::format(document.created_at().unwrap()), document.created.clone().unwrap());
    let run = document.config.as_ref().unwrap();
    assert_eq!(run.env.as_ref().unwrap()[2], "Q=<c>");
    assert_eq!(run.healthcheck.as_ref().unwrap().start_period, 3_000_000_000);
    assert_eq!(run.on_build, Some(vec!["RUN echo built".to_owned()]));
}

#[test]
fn null_is_taken_wherever_go_takes_it() {
    let nulls = |names: &[&str]| names.iter().map(|n| format!("{n:?}:null")).collect::<Vec<_>>().join(",");
    let top = nulls(&[
        "architecture",
        "author",
        "comment",
        "config",
        "container",
        "container_config",
        "created",
        "docker_version",
        "history",
        "os",
        "os.features",
        "os.version",
        "variant",
    ]);
    assert_eq!(*parse(&top).unwrap().document(), Document { rootfs: RootFs::layers(vec![]), ..Document::default() });
    let run = nulls(&[
        "Hostname",
        "Domainname",
        "User",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "ExposedPorts",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Env",
        "Cmd",
        "Healthcheck",
        "ArgsEscaped",
        "Image",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "NetworkDisabled",
        "MacAddress",
        "OnBuild",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ]);
    assert_eq!(run_config(&run), RunConfig::default());
    assert_eq!(run_config(""), RunConfig::default());
    let check = nulls(&["Test", "Interval", "Timeout", "StartPeriod", "Retries"]);
    let check = run_config(&format!(r#""Healthcheck":{{{check}}}"#)).healthcheck;
    assert_eq!(check, Some(Healthcheck::default()));
    let history = nulls(&["created", "author", "created_by", "comment", "empty_layer"]);
    let history = parse(&format!(r#""history":[{{{history}}}]"#)).unwrap().document().history.clone();
    assert_eq!(history, [History::default()]);
    let inner =
        run_config(r#""Env":[null,"a"],"Labels":{"k":null},"ExposedPorts":{"1/tcp":null},"Volumes":{"/v":{"x":1}}"#);
    assert_eq!(inner.env, Some(vec![String::new(), "a".to_owned()]));
    assert_eq!(inner.labels, Some(BTreeMap::from([("k".to_owned(), String::new())])));
    assert_eq!(serde_json::to_value(&inner.exposed_ports).unwrap(), json!({"1/tcp": {}}));
    assert_eq!(serde_json::to_value(&inner.volumes).unwrap(), json!({"/v": {}}));
    assert!(ImageConfig::parse(r#"{"rootfs":{"type":null,"diff_ids":null}}"#).unwrap().diff_ids().is_empty());
}

#[test]
fn null_and_empty_stay_what_they_are() {
    let empty = run_config(r#""Env":[],"Cmd":[],"Volumes":{},"Entrypoint":[],"OnBuild":[],"Labels":{},"Shell":[]"#);
    let written = serde_json::to_value(&empty).unwrap();
    for (field, value) in [
        ("Env", json!([])),
        ("Cmd", json!([])),
        ("Volumes", json!({})),
        ("Entrypoint", json!([])),
        ("OnBuild", json!([])),
        ("Labels", json!({})),
    ] {
        assert_eq!(written[field], value, "{field}");
        assert_eq!(serde_json::to_value(RunConfig::default()).unwrap()[field], Value::Null, "{field}");
    }
    assert_eq!(written.get("Shell"), None, "Docker leaves out an empty shell");
}

#[test]
fn a_command_may_be_one_string() {
    let config = run_config(r#""Cmd":"true","Entrypoint":"a b","Shell":"sh""#);
    assert_eq!(config.cmd, Some(vec!["true".to_owned()]));
    assert_eq!(config.entrypoint, Some(vec!["a b".to_owned()]));
    assert_eq!(config.shell, Some(vec!["sh".to_owned()]));
}

#[test]
fn unknown_fields_survive_in_their_place() {
    let raw = format!(
        r#"{{"aaa":1.5,"config":{{"Hostname":"h","New":{{"z":1,"a":[null]}}}},"history":[{{"x":1}}],{ROOTFS},"zzz":"\u003c"}}"#
    );
    let document = ImageConfig::parse(raw).unwrap().document().clone();
    assert_eq!(document.config.as_ref().unwrap().extra["New"], json!({"z": 1, "a": [null]}));
    let again = ImageConfig::from_document(document.clone());
    let text = String::from_utf8(again.raw().to_vec()).unwrap();
    assert!(text.starts_with(r#"{"aaa":1.5,"config":{"Hostname":"h","#), "{text}");
    assert!(text.contains(r#""New":{"z":1,"a":[null]}"#) && text.contains(r#""history":[{"x":1}]"#), "{text}");
    assert!(text.ends_with(r#""rootfs":{"type":"layers"},"zzz":"\u003c"}"#), "{text}");
    assert_eq!(*ImageConfig::parse(text).unwrap().document(), document);
}

#[test]
fn what_go_reads_is_read() {
    let odd = parse(r#""config":{"Env":["\ud800"],"User":"a","User":"b"}"#).unwrap();
    let run = odd.document().config.clone().unwrap();
    assert_eq!((run.env.unwrap()[0].as_str(), run.user.as_str()), ("\u{fffd}", "b"));
    let mut latin = format!("{{{ROOTFS},\"author\":\"Ren@\"}}").into_bytes();
    let at = latin.iter().position(|b| *b == b'@').unwrap();
    latin[at] = 0xe9;
    let config = ImageConfig::parse(latin.clone()).unwrap();
    assert_eq!((config.raw(), config.document().author.as_str()), (&latin[..], "Ren\u{fffd}"));
}

#[test]
fn what_cannot_be_used_is_named() {
    for (raw, named) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("null", "is null, not a JSON object"),
        ("[]", "is an array"),
        ("{}", "has no rootfs key"),
        (r#"{"rootfs":null}"#, "has no rootfs key"),
        (r#"{"rootfs":[1]}"#, r#"has a bad "rootfs""#),
        (r#"{"rootfs":{"type":"clouds"}}"#, "clouds"),
        (r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc"]}}"#, "invalid digest"),
        (r#"{"rootfs":{"type":"layers","diff_ids":"x"}}"#, r#"has a bad "rootfs""#),
        (r#"{"rootfs":{},"config":{"Env":"x"}}"#, r#"has a bad "config""#),
        (r#"{"rootfs":{},"config":{"Cmd":[1]}}"#, "neither a string nor a list of strings"),
        (r#"{"rootfs":{},"config":{"ExposedPorts":{"80":[]}}}"#, r#"has a bad "config""#),
        (r#"{"rootfs":{},"config":{"StopTimeout":1.5}}"#, r#"has a bad "config""#),
        (r#"{"rootfs":{},"os":7}"#, r#"has a bad "os""#),
    ] {
        let error = ImageConfig::parse(raw).unwrap_err().to_string();
        assert!(error.contains(named), "{raw}: {error}");
    }
    let deep = format!(r#"{{{ROOTFS},"x":{}}}"#, "[".repeat(100_000));
    assert!(ImageConfig::parse(deep).is_err(), "nesting is bounded");
}

#[test]
fn an_unknown_time_is_none() {
    for created in ["", "soon", time::ZERO] {
        let document = Document { created: Some(created.to_owned()), ..Document::default() };
        assert_eq!(document.created_at(), None);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("layers")),
        Just(Value::from(format!("sha256:{}", "0".repeat(64)))),
    ];
    let key = prop_oneof![
        Just("rootfs".to_owned()),
        Just("type".to_owned()),
        Just("diff_ids".to_owned()),
        Just("config".to_owned()),
        Just("history".to_owned()),
        Just("Env".to_owned()),
        Just("Labels".to_owned()),
        Just("Healthcheck".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parse_never_panics(bytes in any::<Vec<u8>>(), value in any_json()) {
        let _ = ImageConfig::parse(bytes);
        let _ = ImageConfig::parse(value.to_string());
    }

    #[test]
    fn writing_settles_after_the_first_time(
        mut value in any_json().prop_filter("an object", Value::is_object),
        run in any_json(),
    ) {
        value["rootfs"] = json!({"type": "layers"});
        if run.is_object() {
            value["config"] = run;
        }
        let Ok(config) = ImageConfig::parse(value.to_string()) else { return Ok(()) };
        let once = ImageConfig::from_document(config.document().clone());
        let twice = ImageConfig::parse(once.raw()).unwrap();
        prop_assert_eq!(twice.document(), config.document());
        let again = ImageConfig::from_document(twice.document().clone());
        prop_assert_eq!(again.raw(), once.raw());
    }
}

#[test]
fn keys_count_in_any_case_and_once() {
    let config = ImageConfig::parse(
        r#"{"OS":"linux","RootFS":{"Type":"layers","Diff_IDs":[]},"History":[{"Created_By":"x","Empty_Layer":true}],
            "Config":{"env":["A=1"],"cmd":["sh"],"labels":{"Env":"kept"},"healthcheck":{"test":["NONE"]}}}"#,
    )
    .unwrap();
    let document = config.document();
    let run = document.config.as_ref().unwrap();
    assert_eq!((document.os.as_str(), document.history[0].created_by.as_str()), ("linux", "x"));
    assert_eq!(
        (run.env.as_deref().unwrap(), run.cmd.as_deref().unwrap()),
        (&["A=1".to_owned()][..], &["sh".to_owned()][..])
    );
    assert_eq!(run.labels.as_ref().unwrap()["Env"], "kept");
    assert_eq!(run.healthcheck.as_ref().unwrap().test.as_deref(), Some(&["NONE".to_owned()][..]));
    let twice = r#"{"rootfs":{"type":"layers"},"config":{"Env":[],"env":["A=1"]}}"#;
    assert!(ImageConfig::parse(twice).unwrap_err().to_string().contains("\"env\" twice"));
}
