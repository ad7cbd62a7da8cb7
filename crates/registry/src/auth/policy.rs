//! Policies: rights of users on repositories.
//!
//! A pattern is a repository's name in which `*` matches any characters except `/`, and `**` any characters. Anything that no policy
//! allows is refused. Without policies, known users may do everything and others nothing.

use super::Action;
use crate::name::RepoName;

/// Every client, with or without a name.
pub const ANYBODY: &str = "@anybody";
/// Every client with a proven name.
pub const KNOWN: &str = "@known";

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Names, or [`ANYBODY`], or [`KNOWN`].
    pub users: Vec<String>,
    /// Patterns of names of repositories.
    pub repositories: Vec<String>,
    /// What the users may do there.
    pub actions: Vec<Action>,
}

/// All policies.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// Combines policies.
    pub fn new(policies: Vec<Policy>) -> Self {
        Self(policies)
    }

    /// Whether `user`, or a client without a name, may do `action` on the repository.
    pub fn may(&self, user: Option<&str>, name: &RepoName, action: Action) -> bool {
        if self.0.is_empty() {
            return user.is_some();
        }
        self.0.iter().any(|policy| {
            policy.actions.contains(&action)
                && policy.users.iter().any(|known| match known.as_str() {
                    ANYBODY => true,
                    KNOWN => user.is_some(),
                    known => user == Some(known),
                })
                && policy.repositories.iter().any(|pattern| matches(pattern.as_bytes(), name.as_str().as_bytes()))
        })
    }

    /// Whether a client without a name has any right.
    pub fn has_anonymous(&self) -> bool {
        self.0.iter().any(|policy| policy.users.iter().any(|user| user == ANYBODY))
    }
}

/// Whether `name` matches `pattern`, in time proportional to the product of their lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // `reachable[p]`: the pattern's first p bytes match the bytes of the name read so far.
    let mut reachable = vec![false; pattern.len() + 1];
    reachable[0] = true;
    let skip_stars = |reachable: &mut [bool]| {
        for at in 0..pattern.len() {
            if reachable[at] && pattern[at] == b'*' {
                reachable[at + 1] = true;
            }
        }
    };
    skip_stars(&mut reachable);
    for &byte in name {
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if !reachable[at] {
                continue;
            }
            let is_double =
                pattern[at] == b'*' && (pattern.get(at + 1) == Some(&b'*') || at > 0 && pattern[at - 1] == b'*');
            if pattern[at] == b'*' {
                next[at] |= is_double || byte != b'/';
            } else if pattern[at] == byte {
                next[at + 1] = true;
            }
        }
        skip_stars(&mut next);
        reachable = next;
    }
    reachable[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("team/*", "team/a", true),
            ("team/*", "team/a/b", false),
            ("team/*", "team", false),
            ("team/**", "team/a/b", true),
            ("team/**", "teams/a", false),
            ("**", "a/b/c", true),
            ("*", "a/b", false),
            ("*/x", "a/x", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("**/x", "a/b/x", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
        let hostile = "*a".repeat(100);
        assert!(!matches(hostile.as_bytes(), "a".repeat(99).as_bytes()));
    }

    #[test]
    fn rights_by_user_pattern_and_action() {
        let policy = |users: &str, repositories: &str, actions: &[Action]| Policy {
            users: users.split(' ').map(str::to_owned).collect(),
            repositories: vec![repositories.to_owned()],
            actions: actions.to_vec(),
        };
        let policies = Policies::new(vec![
            policy(ANYBODY, "public/**", &[Action::Pull]),
            policy(KNOWN, "shared/*", &[Action::Pull, Action::Push]),
            policy("ann bob", "**", &Action::ALL),
        ]);
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        for (user, repository, action, may) in [
            (None, "public/a", Action::Pull, true),
            (None, "public/a", Action::Push, false),
            (None, "shared/a", Action::Pull, false),
            (Some("eve"), "shared/a", Action::Push, true),
            (Some("eve"), "shared/a", Action::Delete, false),
            (Some("eve"), "other", Action::Pull, false),
            (Some("ann"), "other", Action::Delete, true),
            (Some("@anybody"), "other", Action::Pull, false),
        ] {
            assert_eq!(policies.may(user, &name(repository), action), may, "{user:?} {action} {repository}");
        }
        assert!(policies.has_anonymous());
        let none = Policies::default();
        assert!(none.may(Some("x"), &name("a"), Action::Delete) && !none.may(None, &name("a"), Action::Pull));
    }
}
