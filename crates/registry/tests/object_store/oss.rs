//! OSS in front of moto: the signature of each request is checked as the service would, which moto does not, and kept from moto, which takes
//! one with four slashes for another vendor's.
//!
//! Source: OSS, "Include signatures in the Authorization header" (version 1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use strata_testkit::server::{Reply, Request};

use crate::{common::Client, servers};

pub const ID: &str = "an-id";
pub const SECRET: &str = "a-secret";

/// Parts of a query that belong to what is signed, of those that a registry uses.
const SIGNED: [&str; 5] = ["continuation-token", "delete", "partNumber", "uploadId", "uploads"];

/// Answers with what `store` has, or refuses.
pub fn answer(store: &Client, request: &Request) -> Reply {
    let given = request.header("authorization").unwrap_or_default();
    if given != format!("OSS {ID}:{}", signature(request)) {
        let why = format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{given}</Message></Error>");
        return Reply::new(403).body(why);
    }
    let mut request = request.clone();
    request.headers.retain(|(name, _)| name != "authorization");
    request.headers.push(("authorization".to_owned(), "OSS anybody".to_owned()));
    servers::pass_on(store, &request)
}

fn signature(request: &Request) -> String {
    let header = |name| request.header(name).unwrap_or_default();
    let mut own: Vec<_> = request.headers.iter().filter(|(name, _)| name.starts_with("x-oss-")).collect();
    own.sort();
    let own: String = own.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut parts: Vec<&str> =
        query.split('&').filter(|part| SIGNED.contains(&part.split('=').next().unwrap())).collect();
    parts.sort_unstable();
    let mark = if parts.is_empty() { "" } else { "?" };
    let text = format!(
        "{}\n{}\n{}\n{}\n{own}{path}{mark}{}",
        request.method,
        header("content-md5"),
        header("content-type"),
        header("date"),
        parts.join("&")
    );
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}
