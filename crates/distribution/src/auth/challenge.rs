//! `WWW-Authenticate`: what a registry wants to see before it answers.
//!
//! ```text
//! challenge   scheme [1*SP param *("," param)]      Bearer realm="https://auth/token",service="registry",scope="repository:a:pull"
//! param       token "=" (token | quoted-string)
//! ```
//!
//! Several challenges may stand in one header, with commas between, or in several headers.
//!
//! Source: RFC 9110, section 11; distribution, `docs/spec/auth/token.md`.

/// One challenge: its scheme in lower case, and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub scheme: String,
    params: Vec<(String, String)>,
}

/// Parameters of one challenge; more are not believed.
const PARAMS_MAX: usize = 32;
/// Challenges in one header.
const CHALLENGES_MAX: usize = 8;

impl Challenge {
    /// The parameter `name`, which is written in lower case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the challenges of one header; what cannot be read ends the list.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (token, after) = token(rest);
        if token.is_empty() {
            return found;
        }
        let full = found.len() == CHALLENGES_MAX;
        let spaced = after.trim_start_matches([' ', '\t']);
        // `name=` is a parameter of the challenge before, anything else begins one.
        match (spaced.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) if !value.starts_with('=') => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { return found };
                if challenge.params.len() < PARAMS_MAX {
                    challenge.params.push((token.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            (Some(_), None) => return found,
            _ if full => return found,
            _ => {
                found.push(Challenge { scheme: token.to_ascii_lowercase(), params: Vec::new() });
                rest = token68(after);
            }
        }
    }
}

/// Steps over the one word that some schemes have instead of parameters (`Negotiate dGVzdA==`).
fn token68(after: &str) -> &str {
    let word = after.trim_start_matches([' ', '\t']);
    let end = word.find([',', ' ', '\t', '"']).unwrap_or(word.len());
    let is_word = end > 0 && (word[..end].ends_with('=') || !word[..end].contains('='));
    let stands_alone = word[end..].trim_start_matches([' ', '\t']);
    if is_word && after.len() > word.len() && (stands_alone.is_empty() || stands_alone.starts_with(',')) {
        &word[end..]
    } else {
        after
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave the quotes out where they are needed.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let text = r#"Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push", Basic realm="x \"y\"""#;
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].param("realm"), Some("https://auth.test/token"));
        assert_eq!(found[0].param("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(found[1].scheme, "basic");
        assert_eq!(found[1].param("realm"), Some("x \"y\""));
    }

    #[test]
    fn odd_ones_are_read_as_far_as_they_go() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("realm=\"x\""), [], "a parameter of nothing");
        assert_eq!(parse("Bearer realm=\"cut"), [Challenge { scheme: "bearer".into(), params: vec![] }]);
        assert_eq!(parse("BASIC")[0].scheme, "basic");
        assert_eq!(parse("Bearer realm=http://a/b , service = x")[0].param("service"), Some("x"));
        let found = parse("Negotiate dGVzdA==, Basic realm=y");
        assert_eq!((found.len(), found[1].param("realm")), (2, Some("y")));
        assert_eq!(parse(&"Basic, ".repeat(100)).len(), CHALLENGES_MAX);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_quoted_comes_back(value in any::<String>()) {
            let quoted: String = value.chars().flat_map(|c| if c == '"' || c == '\\' { vec!['\\', c] } else { vec![c] }).collect();
            let header = format!("Bearer realm=\"{quoted}\",service=\"s\"");
            let found = parse(&header);
            prop_assert_eq!(found[0].param("realm"), Some(value.as_str()));
            prop_assert_eq!(found[0].param("service"), Some("s"));
        }
    }
}
