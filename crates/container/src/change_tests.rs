use proptest::prelude::*;

use super::*;

fn changed(changes: &[&str]) -> Result<RunConfig, String> {
    let mut config = RunConfig {
        env: Some(vec!["PATH=/bin".into(), "A=1".into()]),
        cmd: Some(vec!["sh".into()]),
        working_dir: "/w".into(),
        ..RunConfig::default()
    };
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
    apply(&mut config, &changes).map_err(|e| e.to_string())?;
    Ok(config)
}

fn strings(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn commands_in_both_forms() {
    for (text, cmd) in [
        (r#"CMD ["a", "b c"]"#, strings(&["a", "b c"])),
        ("cmd a 'b c'", strings(&["/bin/sh", "-c", "a 'b c'"])),
        ("CMD []", strings(&[])),
        ("CMD [not json", strings(&["/bin/sh", "-c", "[not json"])),
    ] {
        assert_eq!(changed(&[text]).unwrap().cmd, cmd, "{text}");
    }
    let config = changed(&["ENTRYPOINT x"]).unwrap();
    assert_eq!((config.entrypoint, config.cmd), (strings(&["/bin/sh", "-c", "x"]), None));
    let config = changed(&["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"]).unwrap();
    assert_eq!((config.entrypoint, config.cmd), (strings(&["e"]), strings(&["c"])));
    assert!(changed(&["CMD [1]"]).unwrap_err().contains("strings only"));
}

#[test]
fn variables_are_set_and_put_in() {
    for (text, env) in [
        ("ENV B=2", &["PATH=/bin", "A=1", "B=2"][..]),
        ("ENV A=2 B=$A", &["PATH=/bin", "A=2", "B=1"]),
        ("ENV B two words", &["PATH=/bin", "A=1", "B=two words"]),
        ("ENV B=\"two words\" C='$A' D=\\$A E=x\\ y", &["PATH=/bin", "A=1", "B=two words", "C=$A", "D=$A", "E=x y"]),
        ("ENV PATH=/x:$PATH", &["PATH=/x:/bin", "A=1"]),
        ("ENV B=${A:+set}${N:-un${A}set}$N", &["PATH=/bin", "A=1", "B=setun1set"]),
        ("ENV B=a\\\nb \\\n# comment\n C=d", &["PATH=/bin", "A=1", "B=ab", "C=d"]),
        ("ENV B=", &["PATH=/bin", "A=1", "B="]),
    ] {
        assert_eq!(changed(&[text]).unwrap().env, strings(env), "{text}");
    }
}

#[test]
fn the_other_instructions() {
    let config = changed(&[
        "LABEL a=b c=\"d e\"",
        "EXPOSE 80 53/udp 8000-8001 9:90",
        "VOLUME /a /b",
        "VOLUME [\"/c d\"]",
        "WORKDIR sub",
        "USER ${NOBODY:-bob}:staff",
        "STOPSIGNAL SIGTERM",
        "ONBUILD RUN x",
        "HEALTHCHECK --interval=5s --retries=3 CMD curl x",
    ])
    .unwrap();
    assert_eq!(config.labels.unwrap()["c"], "d e");
    let ports: Vec<_> = config.exposed_ports.into_keys().collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "90/tcp"]);
    let volumes: Vec<_> = config.volumes.unwrap().into_keys().collect();
    assert_eq!(volumes, ["/a", "/b", "/c d"]);
    assert_eq!(config.working_dir, "/w/sub");
    assert_eq!(config.user, "bob:staff");
    assert_eq!(config.stop_signal, "SIGTERM");
    assert_eq!(config.on_build, strings(&["RUN x"]));
    let health = config.healthcheck.unwrap();
    assert_eq!((health.test, health.interval, health.retries), (strings(&["CMD-SHELL", "curl x"]), 5_000_000_000, 3));
    assert_eq!(changed(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap().test, strings(&["NONE"]));
}

#[test]
fn what_is_refused_is_said_in_dockers_words() {
    for (text, why) in [
        ("RUN x", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("SHELL [\"x\"]", "shell is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in \"B\""),
        ("ENV =x", "ENV names can not be blank"),
        ("ENV A=${", "bad substitution"),
        ("ENV A=${B", "missing '}'"),
        ("ENV A=${B:?gone}", "gone"),
        ("ENV A='x", "single-quote"),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 80/x", "invalid proto: x"),
        ("EXPOSE 9-8", "invalid range"),
        ("EXPOSE 65536", "invalid containerPort"),
        ("STOPSIGNAL SIGNOPE", "Invalid signal: SIGNOPE"),
        ("ONBUILD ONBUILD x", "Chaining ONBUILD"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK BAD x", "Unknown type \"BAD\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --retries=0 CMD x", "--retries must be at least 1"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("CMD --flag x", "Unknown flag: flag"),
    ] {
        let error = changed(&[text]).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_refused_change_leaves_the_config() {
    let mut config = RunConfig::default();
    apply(&mut config, &["USER bob".into(), "NOPE".into()]).unwrap_err();
    assert_eq!(config, RunConfig::default());
    apply(&mut config, &["# nothing".into(), "  ".into()]).unwrap();
    assert_eq!(config, RunConfig::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(
        name in "(CMD|ENV|LABEL|EXPOSE|HEALTHCHECK|VOLUME|WORKDIR|USER|STOPSIGNAL|ONBUILD)",
        rest in r#"[a-z0-9 ='"\\${}:+?\[\],/#\n-]{0,40}"#,
    ) {
        let _ = changed(&[&format!("{name} {rest}")]);
    }

    #[test]
    fn what_is_quoted_comes_out_as_it_went_in(value in r#"[a-zA-Z0-9 ='\\${}é]{0,30}"#) {
        let quoted = value.replace('\\', "\\\\").replace('$', "\\$").replace('"', "\\\"");
        let config = changed(&[&format!("ENV X=\"{quoted}\"")]);
        prop_assert_eq!(config.unwrap().env.unwrap().pop().unwrap(), format!("X={value}"));
    }
}
