//! The URL by which a client reaches this server, for `Location` headers and for the realm of a token.
//!
//! A proxy in front of the server changes scheme and host and says so in `Forwarded`, or in `X-Forwarded-Proto` and
//! `X-Forwarded-Host`. Each proxy appends to the list, so the first entry is what the client used. `Forwarded` wins, as in
//! distribution. What a client puts there changes only its own answer.
//!
//! Source: RFC 7239; distribution, `internal/client/v2/urls.go`.

use hyper::{HeaderMap, header};

use super::header as header_text;

/// What the proxies say of the original request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Original<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

/// Returns `scheme://host` of this server as the client knows it; `own_scheme` is that of the connection. `None` without a usable host.
pub fn url(headers: &HeaderMap, own_scheme: &str) -> Option<String> {
    let original = original(headers);
    let host = original.host.or_else(|| header_text(headers, header::HOST).filter(|host| is_host(host)))?;
    Some(format!("{}://{host}", original.scheme.unwrap_or(own_scheme)))
}

fn original(headers: &HeaderMap) -> Original<'_> {
    if let Some(text) = header_text(headers, header::FORWARDED) {
        return Original {
            scheme: parameter(text, "proto").and_then(scheme),
            host: parameter(text, "host").filter(|text| is_host(text)),
        };
    }
    let first = |name: &'static str| header_text(headers, name)?.split(',').next().map(str::trim);
    Original {
        scheme: first("x-forwarded-proto").and_then(scheme),
        host: first("x-forwarded-host").filter(|text| is_host(text)),
    }
}

/// A parameter of the first element of a `Forwarded` header.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let first = header.split(',').next().unwrap_or_default();
    let pairs = first.split(';').filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(text))
}

/// Whether a text may stand in a URL as its host and port.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_tell_scheme_and_host() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "own:5000".parse().unwrap());
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            url(&headers, "http").unwrap()
        };
        for (headers, expected) in [
            (&[][..], "http://own:5000"),
            (&[("x-forwarded-proto", "https")], "https://own:5000"),
            (&[("x-forwarded-proto", "https, http")], "https://own:5000"),
            (&[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "a.example")], "https://a.example"),
            (&[("x-forwarded-host", "first.example:8443, second.example")], "http://first.example:8443"),
            (&[("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a/b")], "http://own:5000"),
            (&[("x-forwarded-host", "")], "http://own:5000"),
            (
                &[("forwarded", "for=1.2.3.4;proto=https;host=\"a.example:1\", for=5.6.7.8;host=b")],
                "https://a.example:1",
            ),
            (&[("forwarded", "Host=a.example"), ("x-forwarded-host", "b.example")], "http://a.example"),
            (&[("forwarded", "for=1.2.3.4"), ("x-forwarded-proto", "https")], "http://own:5000"),
            (&[("forwarded", "host=a\"b; proto")], "http://own:5000"),
        ] {
            assert_eq!(of(headers), expected, "{headers:?}");
        }
        assert_eq!(url(&HeaderMap::new(), "https"), None);
    }
}
