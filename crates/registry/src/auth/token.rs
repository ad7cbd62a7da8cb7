//! Bearer tokens: JSON Web Tokens signed by an issuer that the configuration names.
//!
//! A token must be signed by a key of the issuer with an asymmetric algorithm, say who issued it (`iss`), that it is for this service
//! (`aud`), and be valid now (`nbf`, `exp`). `none` and secrets shared between issuer and registry are no signatures.
//!
//! Source: distribution, `docs/spec/auth/jwt.md`; RFC 7519.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use super::Grant;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 60;
/// Bytes of a token. Ours are some hundred.
const TOKEN_MAX: usize = 64 << 10;

/// Algorithms that are taken if the configuration names none.
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

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    #[serde(default)]
    pub sub: Option<String>,
    pub aud: Audience,
    pub exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(default)]
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
    One(String),
    Several(Vec<String>),
}

/// A key by which tokens may be signed.
pub struct Key {
    pub id: Option<String>,
    pub key: DecodingKey,
    /// What it signs with.
    pub algorithms: Vec<Algorithm>,
}

/// Where keys come from.
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
    keys: Mutex<Arc<Vec<Key>>>,
}

impl Verifier {
    /// Reads the keys, which must be good now. Fails with every source that is not.
    pub fn open(issuer: &str, service: &str, algorithms: Vec<Algorithm>, sources: Vec<Keys>) -> Result<Self, String> {
        let keys = load(&sources)?;
        Ok(Self::with_keys(issuer, service, algorithms, sources, keys))
    }

    /// A verifier of tokens that this process signs.
    pub fn with_keys(
        issuer: &str,
        service: &str,
        algorithms: Vec<Algorithm>,
        sources: Vec<Keys>,
        keys: Vec<Key>,
    ) -> Self {
        let (issuer, service) = (issuer.to_owned(), service.to_owned());
        Self { issuer, service, algorithms, sources, keys: Mutex::new(Arc::new(keys)) }
    }

    /// Reads the keys again; bad ones leave them as they were.
    pub fn reload(&self) {
        if self.sources.is_empty() {
            return;
        }
        match load(&self.sources) {
            Ok(keys) => *self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(keys),
            Err(problem) => tracing::error!(problem, "the keys of the token issuer stay as they were"),
        }
    }

    /// Checks a token; says what is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Claims, String> {
        if token.len() > TOKEN_MAX {
            return Err(format!("the token is longer than {TOKEN_MAX} bytes"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| format!("no token: {error}"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(format!("tokens signed with {:?} are not taken", header.alg));
        }
        let keys = self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let fits = |key: &&Key| key.algorithms.contains(&header.alg);
        let named = keys.iter().filter(fits).filter(|key| key.id.is_some() && key.id == header.kid);
        // Issuers name certificates' keys in ways of their own; then each is tried.
        let others = keys.iter().filter(fits).filter(|key| key.id.is_none() || header.kid.is_none());
        let mut problem = "no key of the issuer is for this token".to_owned();
        for key in named.chain(others) {
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

fn load(sources: &[Keys]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for source in sources {
        let path = match source {
            Keys::Bundle(path) | Keys::Jwks(path) => path,
        };
        let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let found = match source {
            Keys::Bundle(_) => bundle(&bytes),
            Keys::Jwks(_) => jwks(&bytes),
        };
        keys.extend(found.map_err(|problem| format!("{}: {problem}", shown(path)))?);
    }
    Ok(keys)
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The keys of a bundle of certificates in PEM.
pub fn bundle(pem: &[u8]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("no PEM: {error:?}"))?;
        let text = one_pem(&certificate);
        let found = [
            (DecodingKey::from_rsa_pem(text.as_bytes()), RSA.to_vec()),
            (DecodingKey::from_ec_pem(text.as_bytes()), vec![Algorithm::ES256, Algorithm::ES384]),
            (DecodingKey::from_ed_pem(text.as_bytes()), vec![Algorithm::EdDSA]),
        ];
        let key = found.into_iter().find_map(|(key, algorithms)| Some(Key { id: None, key: key.ok()?, algorithms }));
        keys.push(key.ok_or("a certificate's key is neither RSA nor EC nor Ed25519")?);
    }
    if keys.is_empty() { Err("there is no certificate in it".into()) } else { Ok(keys) }
}

fn one_pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The keys of a JSON Web Key Set. Those of kinds that sign nothing here are passed over.
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
