//! The section `auth`, with `strata.token`: how clients prove who they are.

use std::{path::PathBuf, time::Duration};

use super::{
    Auth,
    section::{Mistakes, Section},
};
use crate::auth::{
    Realm,
    htpasswd::Htpasswd,
    issuer::Pair,
    token::{DEFAULT_ALGORITHMS, Keys, Verifier},
};

/// Reads the section; `None` after a mistake.
pub(super) fn auth(root: &mut Section<'_>, ours: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Auth> {
    let mut section = root.section("auth", mistakes);
    let (htpasswd, token) = (section.section("htpasswd", mistakes), section.section("token", mistakes));
    let own = ours.section("token", mistakes);
    section.end(mistakes);
    match (htpasswd.is_there(), token.is_there(), own.is_there()) {
        (false, false, false) => Some(Auth::Open),
        (true, false, false) => {
            let (realm, path) = users(htpasswd, mistakes)?;
            Some(Auth::Htpasswd { realm, path })
        }
        (true, false, true) => {
            let (realm, path) = users(htpasswd, mistakes)?;
            own_token(own, realm, path, mistakes)
        }
        (false, true, false) => outside(token, mistakes),
        (_, true, _) => {
            mistakes.add("auth.token", "stands beside auth.htpasswd or strata.token; one alone may be");
            None
        }
        (false, false, true) => {
            mistakes.add("strata.token", "needs the names and passwords of auth.htpasswd");
            None
        }
    }
}

/// Realm and path of the file of users, which must be good.
fn users(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<(String, PathBuf)> {
    let realm = section.text("realm", mistakes).unwrap_or_else(|| "registry".into());
    check_word(&realm, &section.place("realm"), mistakes);
    let path = section.text("path", mistakes).map(PathBuf::from);
    let place = section.place("path");
    section.end(mistakes);
    let Some(path) = path else {
        mistakes.add(&place, "names no file; make one with `htpasswd -B`");
        return None;
    };
    match Htpasswd::open(&path) {
        Ok(_) => Some((realm, path)),
        Err(problem) => {
            mistakes.add(&place, problem);
            None
        }
    }
}

/// What stands in a challenge must not break out of its quotes.
fn check_word(text: &str, place: &str, mistakes: &mut Mistakes) {
    if text.is_empty() || text.bytes().any(|b| b == b'"' || b == b'\\' || !(0x20..0x7f).contains(&b)) {
        mistakes.add(place, "must be of ASCII characters but \" and \\, and not empty");
    }
}

fn own_token(mut section: Section<'_>, realm: String, path: PathBuf, mistakes: &mut Mistakes) -> Option<Auth> {
    let service = section.text("service", mistakes).unwrap_or(realm);
    check_word(&service, &section.place("service"), mistakes);
    let lifetime = section.duration("lifetime", mistakes).unwrap_or(Duration::from_secs(300));
    if lifetime < Duration::from_secs(60) {
        mistakes.add(&section.place("lifetime"), "must be a minute at least: clients take it for one");
    }
    let key = section.text("key", mistakes).map(PathBuf::from);
    if let Err(problem) = Pair::load(key.as_deref()) {
        mistakes.add(&section.place("key"), problem);
    }
    section.end(mistakes);
    Some(Auth::Own { path, service, lifetime, key })
}

fn outside(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<Auth> {
    let redirects = section.flag("autoredirect", false, mistakes);
    let path = section.text("autoredirectpath", mistakes).unwrap_or_else(|| "/auth/token/".into());
    check_word(&path, &section.place("autoredirectpath"), mistakes);
    let given = if redirects { None } else { Some(()) };
    let mut need = |key: &'static str| {
        let text = section.text(key, mistakes).unwrap_or_default();
        check_word(&text, &section.place(key), mistakes);
        text
    };
    let realm = match given {
        Some(()) => Realm::Url(need("realm")),
        None => Realm::Path(path),
    };
    let (service, issuer) = (need("service"), need("issuer"));
    let mut keys = Vec::new();
    keys.extend(
        section.text("rootcertbundle", mistakes).filter(|path| !path.is_empty()).map(|path| Keys::Bundle(path.into())),
    );
    keys.extend(section.text("jwks", mistakes).filter(|path| !path.is_empty()).map(|path| Keys::Jwks(path.into())));
    let mut algorithms: Vec<jsonwebtoken::Algorithm> = Vec::new();
    for word in section.texts("signingalgorithms", mistakes) {
        match word.parse() {
            Ok(algorithm) if DEFAULT_ALGORITHMS.contains(&algorithm) => algorithms.push(algorithm),
            _ => {
                mistakes.add(&section.place("signingalgorithms"), format!("{word:?} is not a signature that is taken"))
            }
        }
    }
    if algorithms.is_empty() {
        algorithms = DEFAULT_ALGORITHMS.to_vec();
    }
    section.end(mistakes);
    if keys.is_empty() {
        mistakes.add("auth.token", "needs the issuer's keys: rootcertbundle or jwks");
        return None;
    }
    match Verifier::open(&issuer, &service, algorithms.clone(), keys.clone()) {
        Ok(_) => Some(Auth::Outside { realm, service, issuer, algorithms, keys }),
        Err(problem) => {
            mistakes.add("auth.token", problem);
            None
        }
    }
}
