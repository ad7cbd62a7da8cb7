use proptest::prelude::*;

use super::*;

const REFERENCES: &str = include_str!("../tests/fixtures/references.tsv");

#[test]
fn agrees_with_docker_on_every_reference_it_was_asked_about() {
    let mut seen = 0;
    for line in REFERENCES.lines() {
        let [text, verdict, docker] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("bad fixture line {line}")
        };
        // The daemon refuses this as a name for an image, not as a reference.
        if docker.contains("refusing to create an ambiguous tag") {
            continue;
        }
        let ours = Reference::parse(text).map(|r| r.with_default_tag().familiar());
        match verdict {
            "ok" => assert_eq!(ours.as_deref(), Ok(docker), "{text}"),
            _ => assert_eq!(format!("Error parsing reference: {}", ours.unwrap_err()), docker, "{text}"),
        }
        seen += 1;
    }
    assert!(seen > 60, "the fixture holds {seen} references");
}

#[test]
fn parts_of_a_reference() {
    let hash = "ab".repeat(32);
    for (text, domain, path, tag, digest, familiar_name) in [
        ("debian", "docker.io", "library/debian", None, false, "debian"),
        ("user/app:1", "docker.io", "user/app", Some("1"), false, "user/app"),
        ("localhost/a/b", "localhost", "a/b", None, false, "localhost/a/b"),
        ("h:5000/a:t", "h:5000", "a", Some("t"), false, "h:5000/a"),
        ("[::1]:5000/a:t", "[::1]:5000", "a", Some("t"), false, "[::1]:5000/a"),
        ("[fe80:a::1]/a", "[fe80:a::1]", "a", None, false, "[fe80:a::1]/a"),
        ("my_host.io/app", "", "my_host.io/app", None, false, "my_host.io/app"),
        (&format!("debian@sha256:{hash}"), "docker.io", "library/debian", None, true, "debian"),
        (&format!("r.io/a:t@sha256:{hash}"), "r.io", "a", Some("t"), true, "r.io/a"),
        (&format!("a@sha512:{hash}{hash}"), "docker.io", "library/a", None, true, "a"),
    ] {
        let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((reference.domain(), reference.path(), reference.tag()), (domain, path, tag), "{text}");
        assert_eq!(
            (reference.digest().is_some(), reference.familiar_name().as_str()),
            (digest, familiar_name),
            "{text}"
        );
        assert_eq!(reference.familiar(), text, "what was familiar stays so");
    }
}

#[test]
fn refused_with_its_reason() {
    let hash = "ab".repeat(32);
    for (text, reason) in [
        ("", Reason::Format),
        ("[::1/a", Reason::Format),
        ("[]:5/a", Reason::Format),
        ("[::g]/a", Reason::Format),
        ("[::1]x/a", Reason::Format),
        ("[::1]:/a", Reason::Format),
        ("a@", Reason::Format),
        ("a@sha256:abc", Reason::Format),
        ("a@@b", Reason::Format),
        (&format!("@sha256:{hash}"), Reason::Format),
        (&format!("a@sha256:{hash}@sha256:{hash}"), Reason::Format),
        (&format!("a@sha256:{hash}00"), Reason::DigestLength),
        (&format!("a@sha256:{}", hash.to_uppercase()), Reason::DigestFormat),
        (&format!("a:t@sha256:{}", hash.to_uppercase()), Reason::DigestFormat),
        (&format!("a@md5:{}", &hash[..32]), Reason::DigestAlgorithm),
        ("a\n", Reason::Format),
        ("a\0b", Reason::Format),
        ("\u{212a}", Reason::Uppercase),
    ] {
        assert_eq!(Reference::parse(text).unwrap_err().reason, reason, "{text:?}");
    }
    assert_eq!(Reference::parse_name("a:b").unwrap_err().reason, Reason::NotNameOnly);
    assert_eq!(Reference::parse_name("a").unwrap().to_string(), "docker.io/library/a");
    let long = Reference::parse(&"é".repeat(10_000)).unwrap_err();
    assert!(long.text.len() <= 600, "a message does not repeat all of a long text");
}

#[test]
fn tags_and_digests_are_exchanged() {
    let digest = Digest::sha256("x");
    let name = Reference::parse("r.io/a").unwrap();
    assert_eq!(name.clone().with_default_tag().to_string(), "r.io/a:latest");
    assert_eq!(name.with_tag("v1").unwrap().to_string(), "r.io/a:v1");
    assert_eq!(name.with_tag("v1").unwrap().with_default_tag().tag(), Some("v1"));
    assert_eq!(name.with_digest(digest).with_default_tag().tag(), None);
    assert_eq!(name.with_tag("v1").unwrap().with_digest(digest).to_string(), format!("r.io/a@{digest}"));
    assert_eq!(name.with_digest(digest).with_tag("v2").unwrap().to_string(), "r.io/a:v2");
    assert_eq!(name.with_tag("v1").unwrap().without_tag(), name);
    for tag in ["", ".a", "-a", "a b", "é", "a/b", &"a".repeat(129)] {
        assert_eq!(name.with_tag(tag).unwrap_err().reason, Reason::Tag, "{tag}");
    }
}

proptest! {
    #[test]
    fn parse_never_panics(text in any::<String>(), near in "[a-zA-Z0-9._:/@\\[\\]-]{0,40}") {
        let _ = Reference::parse(&text);
        let _ = Reference::parse(&near);
    }

    #[test]
    fn the_canonical_form_parses_to_the_same(
        text in "([a-z0-9.-]{1,8}(:[0-9]{1,4})?/|\\[[0-9a-f:]{1,9}\\](:[0-9])?/|[a-z]_[a-z].io/)?\
                 [a-z0-9]{1,5}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4}){0,2}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,5})?",
        digest in any::<Option<[u8; 32]>>(),
    ) {
        let suffix = digest.map(|value| format!("@{}", Digest::from_value(crate::Algorithm::Sha256, &value)));
        let Ok(reference) = Reference::parse(&format!("{text}{}", suffix.unwrap_or_default())) else { return Ok(()) };
        prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
        let json = serde_json::to_string(&reference).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Reference>(&json).unwrap(), &reference);
    }
}
