//! The section `storage`: where the bytes lie and what may be done to them.
//!
//! A key that would have content stored or sent in another way than it is here is a mistake. A key that only says how fast or how often
//! something is done is a warning.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Place, Purging,
    section::{Mistakes, Section},
};
use crate::{
    gc::Run,
    http::handle::{Deletes, Writes},
    storage::{
        object::DEFAULT_PART,
        services::{Azure, Encryption, Gcs, GcsCredentials, Oss, S3, Service, Style, Swift},
        swift::{Login, Named, Version},
    },
};

/// Reasons why a key has no effect.
const THREADS: &str = "the number of threads is fixed";
const AGENT: &str = "the HTTP library names itself";
const LOG: &str = "log.level is that of the whole server";

/// Names of storage drivers, distribution's too.
pub const DRIVERS: [&str; 8] = ["filesystem", "s3", "azure", "gcs", "swift", "oss", "inmemory", "cos"];

/// Where, whether deletes and writes are allowed, whether clients are sent to the store, when uploads are purged.
type Storage = (Place, Deletes, Writes, bool, Option<Purging>);

pub fn storage(root: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Storage> {
    let mut storage = root.section("storage", mistakes);
    let cache = "manifests are kept in memory, which needs no further cache";
    storage.without_effect(&[("cache", cache), ("tag", "tags are looked up one after another")], mistakes);
    let mut place = None;
    let mut found = 0;
    for driver in DRIVERS {
        if !storage.has(driver) {
            continue;
        }
        found += 1;
        match driver {
            "filesystem" => place = directory(storage.section(driver, mistakes), mistakes),
            "inmemory" | "cos" => {
                mistakes.add(
                    &storage.place(driver),
                    format!("this storage is not one of those here: {}", DRIVERS[..6].join(", ")),
                );
            }
            service => place = objects(service, storage.section(driver, mistakes), mistakes),
        }
    }
    if found > 1 {
        mistakes.add("storage", "several drivers are given; one alone may be");
    }
    let mut delete = storage.section("delete", mistakes);
    let deletes = if delete.flag("enabled", false, mistakes) { Deletes::Allowed } else { Deletes::Refused };
    delete.end(mistakes);
    let mut redirect = storage.section("redirect", mistakes);
    let is_off = redirect.flag("disable", false, mistakes);
    redirect.end(mistakes);
    let mut maintenance = storage.section("maintenance", mistakes);
    let mut purge = maintenance.section("uploadpurging", mistakes);
    let is_on = purge.flag("enabled", true, mistakes);
    let age = purge.duration("age", mistakes).unwrap_or(Duration::from_secs(7 * 86_400));
    let interval = purge.duration("interval", mistakes).unwrap_or(Duration::from_secs(86_400));
    let run = if purge.flag("dryrun", false, mistakes) { Run::Dry } else { Run::ForReal };
    if is_on && interval < Duration::from_secs(1) {
        mistakes.add(&purge.place("interval"), "must be a second at least");
    }
    purge.end(mistakes);
    let mut readonly = maintenance.section("readonly", mistakes);
    let writes = if readonly.flag("enabled", false, mistakes) { Writes::Refused } else { Writes::Allowed };
    readonly.end(mistakes);
    maintenance.end(mistakes);
    storage.end(mistakes);
    Some((place?, deletes, writes, !is_off, is_on.then_some(Purging { age, interval, run })))
}

fn directory(mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<Place> {
    section.without_effect(&[("maxthreads", THREADS)], mistakes);
    let root = section.text("rootdirectory", mistakes).unwrap_or_else(|| super::DEFAULT_ROOT.into());
    let place = section.place("rootdirectory");
    section.end(mistakes);
    if root.is_empty() {
        mistakes.add(&place, "names no directory");
        return None;
    }
    Some(Place::Directory(root.into()))
}

/// A driver that is an object store.
fn objects(driver: &str, mut section: Section<'_>, mistakes: &mut Mistakes) -> Option<Place> {
    let part =
        section.bytes("chunksize", mistakes).map_or(DEFAULT_PART, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if !(5 << 20..=1 << 30).contains(&part) {
        mistakes.add(&section.place("chunksize"), "must be from 5MiB to 1GiB");
    }
    let service = match driver {
        "s3" => Some(s3(&mut section, mistakes)),
        "azure" => azure(&mut section, mistakes),
        "gcs" => gcs(&mut section, mistakes),
        "swift" => swift(&mut section, mistakes),
        _ => oss(&mut section, mistakes),
    };
    section.end(mistakes);
    Some(Place::Objects { service: Box::new(service?), part })
}

/// Refuses what would have content stored or sent in another way than it is here: all that is taken is distribution's default.
fn only(
    section: &mut Section<'_>,
    flags: &[(&'static str, bool)],
    texts: &[(&'static str, &str)],
    mistakes: &mut Mistakes,
) {
    const WHY: &str = "cannot be had here, and would change how content is stored or sent: leave it out";
    for (key, default) in flags {
        if section.flag(key, *default, mistakes) != *default {
            mistakes.add(&section.place(key), WHY);
        }
    }
    for (key, default) in texts {
        if section.text(key, mistakes).is_some_and(|text| !text.is_empty() && text != *default) {
            mistakes.add(&section.place(key), WHY);
        }
    }
}

/// A text that must be there.
fn need(section: &mut Section<'_>, key: &'static str, what: &str, mistakes: &mut Mistakes) -> String {
    let text = section.text(key, mistakes).unwrap_or_default();
    if text.is_empty() {
        mistakes.add(&section.place(key), format!("names no {what}"));
    }
    text
}

/// Two texts that are given together or not at all.
fn pair(
    section: &mut Section<'_>,
    (first, second): (&'static str, &'static str),
    mistakes: &mut Mistakes,
) -> Option<(String, String)> {
    let (one, two) = (filled(section, first, mistakes), filled(section, second, mistakes));
    if one.is_some() != two.is_some() {
        mistakes.add(&section.place(first), format!("{first} and {second} must be given together"));
    }
    one.zip(two)
}

fn filled(section: &mut Section<'_>, key: &'static str, mistakes: &mut Mistakes) -> Option<String> {
    section.text(key, mistakes).filter(|text| !text.is_empty())
}

/// A server's address, with `scheme` if it has none of its own.
fn endpoint(section: &mut Section<'_>, key: &'static str, scheme: &str, mistakes: &mut Mistakes) -> Option<String> {
    let text = filled(section, key, mistakes)?;
    let text = if text.contains("://") { text } else { format!("{scheme}://{text}") };
    let is_good = reqwest::Url::parse(&text).is_ok_and(|url| url.has_host() && url.scheme().starts_with("http"));
    if !is_good {
        mistakes.add(&section.place(key), format!("{text:?} is not a URL that begins with http:// or https://"));
    }
    Some(text)
}

fn s3(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Service {
    let copies = "a blob is not copied within the store";
    section.without_effect(
        &[
            ("multipartcopychunksize", copies),
            ("multipartcopymaxconcurrency", copies),
            ("multipartcopythresholdsize", copies),
            ("useragent", AGENT),
            ("loglevel", LOG),
        ],
        mistakes,
    );
    let texts = [("keyid", ""), ("storageclass", "STANDARD"), ("objectacl", "private")];
    let flags =
        [("encrypt", false), ("skipverify", false), ("v4auth", true), ("usedualstack", false), ("accelerate", false)];
    only(section, &flags, &texts, mistakes);
    let scheme = if section.flag("secure", true, mistakes) { "https" } else { "http" };
    let style = if section.flag("forcepathstyle", true, mistakes) { Style::Path } else { Style::Host };
    Service::S3(S3 {
        bucket: need(section, "bucket", "bucket", mistakes),
        region: section.text("region", mistakes).unwrap_or_else(|| "us-east-1".into()),
        endpoint: endpoint(section, "regionendpoint", scheme, mistakes),
        root: section.text("rootdirectory", mistakes).unwrap_or_default(),
        keys: pair(section, ("accesskey", "secretkey"), mistakes),
        style,
    })
}

fn azure(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Service> {
    let retries = "a request that fails is sent again up to four times";
    section.without_effect(
        &[
            ("maxretries", retries),
            ("max_retries", retries),
            ("retrydelay", retries),
            ("retry_delay", retries),
            ("debuglog", LOG),
        ],
        mistakes,
    );
    only(section, &[("skipverify", false)], &[("connectionstring", "")], mistakes);
    let account = need(section, "accountname", "account", mistakes);
    let mut key = filled(section, "accountkey", mistakes);
    if key.as_ref().is_some_and(|key| STANDARD.decode(key).is_err()) {
        mistakes.add(&section.place("accountkey"), "is not in base64");
    }
    let mut credentials = section.section("credentials", mistakes);
    let kind = filled(&mut credentials, "type", mistakes);
    let place = credentials.place("type");
    match kind.as_deref() {
        None | Some("shared_key") => {}
        Some("default_credentials") => key = None,
        Some("client_secret") => {
            for key in ["clientid", "tenantid", "secret"] {
                credentials.has(key);
            }
            let way = "say default_credentials, and give the environment AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET";
            mistakes.add(&place, way);
        }
        Some(other) => mistakes.add(&place, format!("{other:?} is neither shared_key nor default_credentials")),
    }
    credentials.end(mistakes);
    if key.is_none() && kind.as_deref() != Some("default_credentials") {
        mistakes.add(
            &section.place("accountkey"),
            "is not given; without one, say credentials: {type: default_credentials}",
        );
    }
    let realm = filled(section, "realm", mistakes).unwrap_or_else(|| "core.windows.net".into());
    let own = endpoint(section, "serviceurl", "https", mistakes);
    let azure = Azure {
        endpoint: own.unwrap_or_else(|| format!("https://{account}.blob.{realm}")),
        account,
        key,
        container: need(section, "container", "container", mistakes),
        root: section.text("rootdirectory", mistakes).unwrap_or_default(),
    };
    Some(Service::Azure(azure))
}

fn gcs(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Service> {
    section.without_effect(&[("maxconcurrency", THREADS), ("useragent", AGENT)], mistakes);
    let file = filled(section, "keyfile", mistakes);
    let inline = section.get("credentials").filter(|value| value.as_object().is_none_or(|map| !map.is_empty()));
    let credentials = match (file, inline) {
        (Some(_), Some(_)) => {
            mistakes.add(&section.place("credentials"), "stand beside keyfile; one alone may be");
            return None;
        }
        (Some(path), None) => {
            let read = std::fs::read(&path).map_err(|error| error.to_string());
            let parsed =
                read.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()));
            match parsed {
                Ok(Value::Object(_)) => GcsCredentials::File(path),
                Ok(_) => {
                    mistakes.add(&section.place("keyfile"), format!("{path} is not a map of keys in JSON"));
                    return None;
                }
                Err(problem) => {
                    mistakes.add(&section.place("keyfile"), format!("cannot read {path}: {problem}"));
                    return None;
                }
            }
        }
        (None, Some(json @ Value::Object(_))) => GcsCredentials::Inline(STANDARD.encode(json.to_string())),
        (None, Some(_)) => {
            mistakes.add(&section.place("credentials"), "is not a map of keys");
            return None;
        }
        (None, None) => GcsCredentials::Environment,
    };
    Some(Service::Gcs(Gcs {
        bucket: need(section, "bucket", "bucket", mistakes),
        credentials,
        endpoint: endpoint(section, "endpoint", "https", mistakes),
        root: section.text("rootdirectory", mistakes).unwrap_or_default(),
    }))
}

fn swift(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Service> {
    let methods = "a temporary URL is for GET, or for HEAD";
    section.without_effect(&[("tempurlmethods", methods), ("secretkey", "tempurlcontainerkey is the key")], mistakes);
    only(section, &[("insecureskipverify", false)], &[("accesskey", "")], mistakes);
    let url = endpoint(section, "authurl", "https", mistakes);
    if url.is_none() {
        mistakes.add(&section.place("authurl"), "names no identity service, such as https://keystone:5000/v3");
    }
    let given = section.parsed("authversion", mistakes, |text| match text {
        "1" => Ok(Some(Version::V1)),
        "2" => Ok(Some(Version::V2)),
        "3" => Ok(Some(Version::V3)),
        "0" => Ok(None),
        other => Err(format!("{other:?} is none of 1, 2 and 3")),
    });
    let version = given.flatten().or_else(|| url.as_deref().and_then(Version::of_url));
    if version.is_none() && url.is_some() {
        mistakes.add(&section.place("authversion"), "is not told by authurl: say 1, 2 or 3");
    }
    let mut named = |id: &'static str, name: &'static str| {
        let (id, name) = (filled(section, id, mistakes), filled(section, name, mistakes));
        id.map(Named::Id).or(name.map(Named::Name))
    };
    let (project, domain) = (named("tenantid", "tenant"), named("domainid", "domain"));
    let interface = filled(section, "endpointtype", mistakes).unwrap_or_else(|| "public".into());
    let interface = interface.trim_end_matches("URL").to_lowercase();
    if !["public", "internal", "admin"].contains(&interface.as_str()) {
        mistakes.add(&section.place("endpointtype"), format!("{interface:?} is none of public, internal and admin"));
    }
    let login = Login {
        user: need(section, "username", "user", mistakes),
        password: need(section, "password", "password", mistakes),
        trust: filled(section, "trustid", mistakes),
        region: filled(section, "region", mistakes),
        url: url?,
        version: version?,
        domain,
        project,
        interface,
    };
    // `prefix` is distribution's word for it.
    let (prefix, root) = (section.text("prefix", mistakes), section.text("rootdirectory", mistakes));
    if prefix.is_some() && root.is_some() {
        mistakes.add(&section.place("rootdirectory"), "stands beside prefix, which means the same");
    }
    Some(Service::Swift(Swift {
        login,
        container: need(section, "container", "container", mistakes),
        root: prefix.or(root).unwrap_or_default(),
        url_key: filled(section, "tempurlcontainerkey", mistakes).filter(|text| text != "false"),
    }))
}

fn oss(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<Service> {
    let scheme = if section.flag("secure", true, mistakes) { "https" } else { "http" };
    let bucket = need(section, "bucket", "bucket", mistakes);
    let is_internal = section.flag("internal", false, mistakes);
    let region = filled(section, "region", mistakes);
    let given = endpoint(section, "endpoint", scheme, mistakes);
    let endpoint = match (given, region) {
        // distribution's stands with the bucket before it.
        (Some(given), _) => given.replacen(&format!("://{bucket}."), "://", 1),
        (None, Some(region)) => {
            format!("{scheme}://{region}{}.aliyuncs.com", if is_internal { "-internal" } else { "" })
        }
        (None, None) => {
            mistakes.add(&section.place("region"), "names no region, such as oss-cn-beijing");
            return None;
        }
    };
    let key = filled(section, "encryptionkeyid", mistakes);
    let encryption = match (section.flag("encrypt", false, mistakes), key) {
        (true, Some(key)) => Encryption::Key(key),
        (true, None) => Encryption::Aes256,
        (false, None) => Encryption::Bucket,
        (false, Some(_)) => {
            mistakes.add(&section.place("encryptionkeyid"), "means nothing without encrypt: true");
            return None;
        }
    };
    Some(Service::Oss(Oss {
        bucket,
        endpoint,
        root: section.text("rootdirectory", mistakes).unwrap_or_default(),
        keys: pair(section, ("accesskeyid", "accesskeysecret"), mistakes),
        style: if section.flag("forcepathstyle", false, mistakes) { Style::Path } else { Style::Host },
        encryption,
    }))
}
