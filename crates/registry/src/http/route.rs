//! Endpoints by path.
//!
//! A repository's name may contain the words of endpoints (`a/blobs/uploads`), so a path is parsed from its end. It is decoded once and
//! must then match the grammar: no `..`, no empty part, nothing encoded twice.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};
use strata_spec::Digest;

use crate::{
    error::{Code, Error},
    name::{RepoName, Target, parse_digest},
};

/// An endpoint of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`, which says that the server is alive.
    Root,
    /// end-1
    Base,
    /// The list of repositories.
    Catalog,
    /// end-8
    Tags(RepoName),
    /// end-3, end-7, end-9
    Manifest(RepoName, Target),
    /// end-2, end-10
    Blob(RepoName, Digest),
    /// end-4, end-11
    Uploads(RepoName),
    /// end-5, end-6, end-13, end-14
    Upload(RepoName, String),
    /// end-12
    Referrers(RepoName, Digest),
    /// Our own tokens.
    Token,
    /// Whether the server runs.
    Health,
    /// Metrics for Prometheus.
    Metrics,
}

impl Route {
    /// Finds the endpoint of a path of the request line, without its query.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let path = decode(path).ok_or_else(|| Error::new(Code::NameInvalid, "the path is not UTF-8 when decoded"))?;
        match path.as_ref() {
            "/" => return Ok(Self::Root),
            "/v2/" | "/v2" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            "/token" | "/token/" => return Ok(Self::Token),
            "/healthz" => return Ok(Self::Health),
            "/metrics" => return Ok(Self::Metrics),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/").ok_or_else(nowhere)?;
        // From the end: the last part, and those before it.
        let (before, last) = rest.rsplit_once('/').ok_or_else(nowhere)?;
        let (name, word) = before.rsplit_once('/').ok_or_else(nowhere)?;
        match word {
            "uploads" if let Some(name) = name.strip_suffix("/blobs") => {
                let name = name.parse()?;
                if last.is_empty() { Ok(Self::Uploads(name)) } else { Ok(Self::Upload(name, last.to_owned())) }
            }
            "tags" if last == "list" => Ok(Self::Tags(name.parse()?)),
            "manifests" => Ok(Self::Manifest(name.parse()?, last.parse()?)),
            "blobs" if last == "uploads" => Ok(Self::Uploads(name.parse()?)),
            "blobs" => Ok(Self::Blob(name.parse()?, parse_digest(last)?)),
            "referrers" => Ok(Self::Referrers(name.parse()?, parse_digest(last)?)),
            _ => Err(nowhere()),
        }
    }

    /// The endpoint's name in logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
            Self::Token => "token",
            Self::Health => "health",
            Self::Metrics => "metrics",
        }
    }
}

fn nowhere() -> Error {
    Error::new(Code::Unsupported, "there is no such endpoint").with_status(404)
}

/// Decodes `%XX` once. `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// The parameters of a query, decoded.
pub fn query(text: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// Returns the first parameter `key`.
pub fn param<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Characters that stand for themselves in the value of a parameter.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// Encodes the value of a parameter.
pub fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_endpoints() {
        let hex = "ab".repeat(32);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        for (path, route) in [
            ("/".to_owned(), Route::Root),
            ("/v2/".into(), Route::Base),
            ("/v2/_catalog".into(), Route::Catalog),
            ("/v2/a/b/tags/list".into(), Route::Tags(name("a/b"))),
            ("/v2/tags/list/tags/list".into(), Route::Tags(name("tags/list"))),
            (format!("/v2/a/blobs/sha256:{hex}"), Route::Blob(name("a"), digest)),
            (format!("/v2/a/blobs/sha256%3A{hex}"), Route::Blob(name("a"), digest)),
            ("/v2/a/blobs/uploads/".into(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".into(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/x".into(), Route::Upload(name("a"), "x".into())),
            ("/v2/a/blobs/uploads/blobs/uploads/".into(), Route::Uploads(name("a/blobs/uploads"))),
            (format!("/v2/a/referrers/sha256:{hex}"), Route::Referrers(name("a"), digest)),
            (
                "/v2/manifests/manifests/manifests".into(),
                Route::Manifest(name("manifests"), "manifests".parse().unwrap()),
            ),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn what_is_outside_is_refused() {
        for (path, status) in [
            ("//", 404),
            ("/v1/_ping", 404),
            ("/v2/x", 404),
            ("/v2/../etc/passwd/manifests/x", 400),
            ("/v2/a%2f..%2f..%2fb/manifests/x", 400),
            ("/v2/a%252f/manifests/x", 400),
            ("/v2/a//b/tags/list", 400),
            ("/v2/A/tags/list", 400),
            ("/v2/a/blobs/sha256:xyz", 400),
            ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400),
            ("/v2/a/manifests/%00", 400),
            ("/v2/a/manifests/%zz", 400),
            ("/v2/_layers/tags/list", 400),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().status(), status, "{path}");
        }
    }

    #[test]
    fn queries() {
        let all = query(Some("n=10&last=a%2Fb+c&flag&bad=%zz"));
        assert_eq!((param(&all, "n"), param(&all, "last")), (Some("10"), Some("a/b c")));
        assert_eq!((param(&all, "flag"), param(&all, "bad")), (Some(""), Some("%zz")));
        assert_eq!(encode("a b&c/d").to_string(), "a%20b%26c/d");
    }
}
