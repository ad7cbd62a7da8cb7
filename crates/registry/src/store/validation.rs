//! Rules for what a pushed manifest may name.
//!
//! Source: distribution, `docs/content/about/configuration.md`, "validation".

use regex::RegexSet;
use strata_spec::Platform;

use crate::error::{Code, Error};

/// Which entries of an index must be in the repository when the index is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indexes {
    /// None; the answer to the push warns of missing entries.
    MayBeSparse,
    /// The images of these platforms, by operating system and architecture.
    MustHave(Vec<(String, String)>),
    /// All.
    MustBeWhole,
}

impl Indexes {
    /// Whether an index may lack an entry of `platform`.
    pub(super) fn may_lack(&self, platform: Option<&Platform>) -> bool {
        match self {
            Self::MayBeSparse => true,
            Self::MustBeWhole => false,
            Self::MustHave(list) => !platform
                .is_some_and(|found| list.iter().any(|(os, arch)| *os == found.os && *arch == found.architecture)),
        }
    }
}

/// Whether config and layers of an image must be in the repository when its manifest is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// They may be missing; the answer to the push warns of it.
    MayBeSparse,
    /// They must be there, except for foreign layers.
    MustBeWhole,
}

/// Which URLs the descriptors of a pushed manifest may carry.
#[derive(Clone, Debug, Default)]
pub struct UrlPolicy(Option<Lists>);

#[derive(Clone, Debug)]
struct Lists {
    /// `None` allows every URL that `deny` does not match.
    allow: Option<RegexSet>,
    deny: RegexSet,
}

impl UrlPolicy {
    /// Builds a policy of regular expressions. With neither list, no URL is allowed; with `deny` alone, all others are.
    ///
    /// Fails with the expression that is none.
    pub fn new(allow: &[String], deny: &[String]) -> Result<Self, String> {
        let set = |list: &[String]| RegexSet::new(list).map_err(|error| error.to_string());
        let any_allowed = allow.is_empty() && !deny.is_empty();
        let allow = if any_allowed { None } else { Some(set(allow)?) };
        Ok(Self(Some(Lists { allow, deny: set(deny)? })))
    }

    /// Fails with `MANIFEST_INVALID` if one of `urls` is not allowed.
    pub(super) fn check(&self, urls: &[String]) -> Result<(), Error> {
        let Some(lists) = &self.0 else { return Ok(()) };
        let refused = urls.iter().find(|url| {
            let is_web = reqwest::Url::parse(url)
                .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.fragment().is_none());
            !is_web || lists.allow.as_ref().is_some_and(|allow| !allow.is_match(url)) || lists.deny.is_match(url)
        });
        refused.map_or(Ok(()), |url| {
            let message =
                format!("the manifest names the URL {url:.200?}, which validation.manifests.urls does not allow");
            Err(Error::new(Code::ManifestInvalid, message).with_detail(serde_json::json!({ "url": url })))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_lists_combine_as_in_distribution() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (good, evil) = ("https://good.example/l", "https://evil.good.example/l");
        for (allow, deny, [takes_good, takes_evil]) in [
            (&[][..], &[][..], [false, false]),
            (&["good"], &[], [true, true]),
            (&["^https://good"], &[], [true, false]),
            (&["good"], &["evil"], [true, false]),
            (&[], &["evil"], [true, false]),
        ] {
            let policy = UrlPolicy::new(&texts(allow), &texts(deny)).unwrap();
            assert_eq!(policy.check(&texts(&[good])).is_ok(), takes_good, "{allow:?} {deny:?}");
            assert_eq!(policy.check(&texts(&[good, evil])).is_ok(), takes_evil, "{allow:?} {deny:?}");
            assert!(policy.check(&[]).is_ok());
            assert!(
                policy.check(&texts(&["file:///good"])).is_err() && policy.check(&texts(&["https://good/#x"])).is_err()
            );
        }
        assert!(UrlPolicy::default().check(&texts(&["file:///x"])).is_ok());
        assert!(UrlPolicy::new(&texts(&["("]), &[]).is_err());
    }
}
