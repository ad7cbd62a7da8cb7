//! Bearer tokens: JSON Web Tokens signed by an issuer that the configuration names.
//!
//! A token must be signed by a key of the issuer with an asymmetric algorithm, name its issuer (`iss`) and this service (`aud`), and be
//! valid now (`nbf`, `exp`). `none` and secrets shared between issuer and registry are no signatures. The key may be one that a
//! certificate in the token's header (`x5c`) proves by a chain to a root of the configured bundle; it must be an end-entity
//! certificate of X.509 version 3, or stand in the bundle itself.
//!
//! Source: distribution, `docs/spec/auth/jwt.md`; RFC 7519.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, jwk::JwkSet};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::Grant;

/// Tolerated difference of clocks, in seconds.
const LEEWAY: u64 = 60;
/// Maximum size of a token in bytes. Ours have some hundred.
const TOKEN_MAX: usize = 64 << 10;
/// Certificates in a token's header.
const CHAIN_MAX: usize = 10;

/// Algorithms that are accepted if the configuration lists none.
pub const DEFAULT_ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The claims of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Name of the issuer.
    pub iss: String,
    #[serde(default)]
    /// Name of the user.
    pub sub: Option<String>,
    /// The services that the token is for.
    pub aud: Audience,
    /// End of validity, in seconds since 1970.
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// Start of validity, in seconds since 1970.
    pub nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// Time of issue, in seconds since 1970.
    pub iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// ID of the token.
    pub jti: Option<String>,
    #[serde(default)]
    /// Rights of the token.
    pub access: Vec<Grant>,
}

impl Claims {
    /// The user's name, unless it is empty.
    pub fn subject(&self) -> Option<String> {
        self.sub.clone().filter(|subject| !subject.is_empty())
    }
}

/// One service, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One service.
    One(String),
    /// Any of several services.
    Several(Vec<String>),
}

/// A key that may sign tokens.
pub struct Key {
    /// Key ID, if the source names one.
    pub id: Option<String>,
    /// The public key.
    pub key: DecodingKey,
    /// Algorithms of the key.
    pub algorithms: Vec<Algorithm>,
}

/// Files with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Certificates in PEM.
    Bundle(PathBuf),
    /// A JSON Web Key Set.
    Jwks(PathBuf),
}

/// Checks tokens.
pub struct Verifier {
    issuer: String,
    service: String,
    algorithms: Vec<Algorithm>,
    sources: Vec<Keys>,
    trusted: Mutex<Arc<Trusted>>,
}

/// What vouches for tokens.
#[derive(Default)]
struct Trusted {
    keys: Vec<Key>,
    /// Certificates of the bundles.
    roots: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Reads the keys. Fails with the first invalid file.
    pub fn open(issuer: &str, service: &str, algorithms: Vec<Algorithm>, sources: Vec<Keys>) -> Result<Self, String> {
        let trusted = Mutex::new(Arc::new(load(&sources)?));
        let (issuer, service) = (issuer.to_owned(), service.to_owned());
        Ok(Self { issuer, service, algorithms, sources, trusted })
    }

    /// Returns a verifier of tokens that `keys` sign, such as those of this process.
    pub fn with_keys(issuer: &str, service: &str, algorithms: Vec<Algorithm>, keys: Vec<Key>) -> Self {
        let trusted = Mutex::new(Arc::new(Trusted { keys, roots: Vec::new() }));
        Self { issuer: issuer.to_owned(), service: service.to_owned(), algorithms, sources: Vec::new(), trusted }
    }

    /// Reads the keys again; invalid ones change nothing.
    pub fn reload(&self) {
        if self.sources.is_empty() {
            return;
        }
        match load(&self.sources) {
            Ok(trusted) => *self.trusted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(trusted),
            Err(problem) => tracing::error!(problem, "the keys of the token issuer stay as they were"),
        }
    }

    /// Checks a token; the error says what is wrong with it.
    ///
    /// The signature must be by a key of the issuer, or by the key of a certificate in the token's header that a root of the issuer's
    /// bundle vouches for.
    pub fn verify(&self, token: &str) -> Result<Claims, String> {
        if token.len() > TOKEN_MAX {
            return Err(format!("the token is longer than {TOKEN_MAX} bytes"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| format!("no token: {error}"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(format!("tokens signed with {:?} are not taken", header.alg));
        }
        let trusted = self.trusted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let fits = |key: &&Key| key.algorithms.contains(&header.alg);
        let named = trusted.keys.iter().filter(fits).filter(|key| key.id.is_some() && key.id == header.kid);
        // Issuers name the keys of certificates in ways of their own; then each is tried.
        let others = trusted.keys.iter().filter(fits).filter(|key| key.id.is_none() || header.kid.is_none());
        let mut problem = "no key of the issuer is for this token".to_owned();
        let embedded = match chain(&header) {
            Some(chain) => trusted.key_of(chain).map_err(|reason| problem = reason).ok(),
            None => None,
        };
        for key in embedded.iter().filter(fits).chain(named).chain(others) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(header.alg)) {
                Ok(data) => return Ok(data.claims),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(problem)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.service]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation
    }
}

fn load(sources: &[Keys]) -> Result<Trusted, String> {
    let mut trusted = Trusted::default();
    for source in sources {
        let (Keys::Bundle(path) | Keys::Jwks(path)) = source;
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let fail = |problem: String| format!("{}: {problem}", path.display());
        match source {
            Keys::Bundle(_) => {
                let certificates = certificates(&bytes).map_err(fail)?;
                for certificate in &certificates {
                    trusted.keys.push(certificate_key(certificate).map_err(fail)?);
                }
                trusted.roots.extend(certificates);
            }
            Keys::Jwks(_) => trusted.keys.extend(jwks(&bytes).map_err(fail)?),
        }
    }
    Ok(trusted)
}

/// The certificates that a token carries, its signer's first, in base64 of DER.
///
/// Source: RFC 7515, 4.1.6 (`x5c`); libtrust puts them into `jwk`.
fn chain(header: &Header) -> Option<&[String]> {
    let of_key = || header.jwk.as_ref().and_then(|jwk| jwk.common.x509_chain.as_deref());
    header.x5c.as_deref().or_else(of_key).filter(|chain| !chain.is_empty())
}

impl Trusted {
    /// Returns the key of the first certificate of `chain`, which must lead to a root.
    fn key_of(&self, chain: &[String]) -> Result<Key, String> {
        if chain.len() > CHAIN_MAX {
            return Err(format!("the token has {} certificates; at most {CHAIN_MAX} are allowed", chain.len()));
        }
        let decode = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
        let decoded: Result<Vec<_>, _> = chain.iter().map(decode).collect();
        let decoded = decoded.map_err(|error| format!("a certificate of the token is not in base64: {error}"))?;
        let (leaf, between) = decoded.split_first().ok_or("the token has no certificate")?;
        // A self-signed certificate may be both root and signer.
        if !self.roots.contains(leaf) {
            self.check(leaf, between).map_err(|error| format!("the token's certificate is not trusted: {error}"))?;
        }
        certificate_key(leaf)
    }

    fn check(&self, leaf: &CertificateDer<'_>, between: &[CertificateDer<'_>]) -> Result<(), webpki::Error> {
        let anchors = self.roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok());
        let anchors: Vec<_> = anchors.collect();
        let leaf = webpki::EndEntityCert::try_from(leaf)?;
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, between, UnixTime::now(), AnyUse, None, None)
            .map(drop)
    }
}

/// Takes a certificate whatever it is meant for: certificates that sign tokens have no usage of their own.
struct AnyUse;

impl webpki::ExtendedKeyUsageValidator for AnyUse {
    fn validate(&self, _: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The certificates of a bundle in PEM, of which there must be one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("no PEM: {error:?}"))?;
    if all.is_empty() { Err("there is no certificate in it".into()) } else { Ok(all) }
}

/// The keys of a bundle of certificates in PEM.
pub fn bundle(pem: &[u8]) -> Result<Vec<Key>, String> {
    certificates(pem)?.iter().map(certificate_key).collect()
}

fn certificate_key(certificate: &CertificateDer<'_>) -> Result<Key, String> {
    let text = one_pem(certificate);
    let found = [
        (DecodingKey::from_rsa_pem(text.as_bytes()), RSA.to_vec()),
        (DecodingKey::from_ec_pem(text.as_bytes()), vec![Algorithm::ES256, Algorithm::ES384]),
        (DecodingKey::from_ed_pem(text.as_bytes()), vec![Algorithm::EdDSA]),
    ];
    let key = found.into_iter().find_map(|(key, algorithms)| Some(Key { id: None, key: key.ok()?, algorithms }));
    key.ok_or_else(|| "a certificate's key is neither RSA nor EC nor Ed25519".into())
}

fn one_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The keys of a JSON Web Key Set. Keys of other kinds are ignored.
pub fn jwks(json: &[u8]) -> Result<Vec<Key>, String> {
    use jsonwebtoken::jwk::{AlgorithmParameters as P, EllipticCurve};
    let set: JwkSet = serde_json::from_slice(json).map_err(|error| format!("no JSON Web Key Set: {error}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let algorithms = match &jwk.algorithm {
            P::RSA(_) => RSA.to_vec(),
            P::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
            P::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
            P::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => continue,
        };
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("a key cannot be used: {error}"))?;
        keys.push(Key { id: jwk.common.key_id.clone(), key, algorithms });
    }
    if keys.is_empty() { Err("no key in it can sign".into()) } else { Ok(keys) }
}
