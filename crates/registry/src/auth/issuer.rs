//! Tokens of the registry itself: `GET /token?service=…&scope=repository:NAME:pull,push`, with or without name and password.
//!
//! A token grants the requested rights that policies allow, which may be none.
//!
//! Source: distribution, `docs/spec/auth/token.md`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::json;

use super::{
    Action, Grant, Verifier, basic,
    htpasswd::Htpasswd,
    policy::Policies,
    token::{Audience, Claims, Key},
};
use crate::{
    error::{Code, Error},
    http::header as header_text,
    name::RepoName,
};

/// Maximum number of scopes in a request for a token.
const SCOPES_MAX: usize = 100;

/// Signs tokens.
pub struct Issuer {
    name: String,
    service: String,
    lifetime: Duration,
    key: EncodingKey,
    users: Htpasswd,
    policies: Arc<Policies>,
}

/// A key to sign and to verify with.
pub struct Pair {
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Pair {
    /// Reads an EC P-256 key in PKCS#8 PEM, or generates one for the life of the process.
    pub fn load(path: Option<&Path>) -> Result<Self, String> {
        let random = SystemRandom::new();
        let pkcs8 = match path {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes)
                    .map_err(|error| format!("{}: no PKCS#8 key: {error:?}", path.display()))?;
                key.secret_pkcs8_der().to_vec()
            }
            None => {
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
                made.map_err(|_| "cannot make a key")?.as_ref().to_vec()
            }
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random)
            .map_err(|error| format!("the key is not one of EC P-256 in PKCS#8: {error}"))?;
        // The point: a byte 4, then x and y.
        let point = pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let verifying = DecodingKey::from_ec_components(&x, &y).map_err(|error| error.to_string())?;
        Ok(Self { signing: EncodingKey::from_ec_der(&pkcs8), verifying })
    }
}

impl Issuer {
    /// Returns an issuer and the verifier of its tokens.
    pub fn new(
        name: &str,
        service: &str,
        lifetime: Duration,
        pair: Pair,
        users: Htpasswd,
        policies: Arc<Policies>,
    ) -> (Self, Verifier) {
        let key = Key { id: None, key: pair.verifying, algorithms: vec![Algorithm::ES256] };
        let verifier = Verifier::with_keys(name, service, vec![Algorithm::ES256], vec![key]);
        let (name, service) = (name.to_owned(), service.to_owned());
        (Self { name, service, lifetime, key: pair.signing, users, policies }, verifier)
    }

    /// Returns the document that answers a request for a token.
    pub async fn issue(&self, headers: &HeaderMap, query: &[(String, String)]) -> Result<Vec<u8>, Error> {
        let unauthorized = || {
            let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.service);
            Error::new(Code::Unauthorized, "name or password is wrong").with_header("www-authenticate", challenge)
        };
        let user = match header_text(headers, header::AUTHORIZATION) {
            None => None,
            Some(given) => {
                let (user, password) = basic(given).ok_or_else(unauthorized)?;
                if !self.users.verify(&user, &password).await? {
                    return Err(unauthorized());
                }
                Some(user)
            }
        };
        if let Some((_, wanted)) = query.iter().find(|(key, _)| key == "service")
            && *wanted != self.service
        {
            let message = format!("tokens are issued for the service {:?} alone", self.service);
            return Err(Error::new(Code::Denied, message).with_status(400));
        }
        let scopes = query.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
        let access = scopes.take(SCOPES_MAX).filter_map(|scope| self.grant(user.as_deref(), scope)).collect();
        self.sign(user, access)
    }

    /// Returns the part of `type:name:action,action` that policies allow; `None` if that is nothing.
    fn grant(&self, user: Option<&str>, scope: &str) -> Option<Grant> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let wants = |word: &str| actions.split(',').any(|wanted| wanted == word || wanted == "*");
        let actions: Vec<String> = match kind {
            "repository" => {
                let name: RepoName = name.parse().ok()?;
                let may = |action: &Action| wants(action.word()) && self.policies.may(user, &name, *action);
                Action::ALL.iter().filter(|action| may(action)).map(|action| action.word().to_owned()).collect()
            }
            "registry" if name == "catalog" && user.is_some() => vec!["*".to_owned()],
            _ => Vec::new(),
        };
        (!actions.is_empty()).then(|| Grant { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    fn sign(&self, user: Option<String>, access: Vec<Grant>) -> Result<Vec<u8>, Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: self.name.clone(),
            sub: Some(user.unwrap_or_default()),
            aud: Audience::One(self.service.clone()),
            exp: now + self.lifetime.as_secs(),
            nbf: Some(now.saturating_sub(10)),
            iat: Some(now),
            jti: Some(crate::upload::new_id()),
            access,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key)
            .map_err(|error| Error::new(Code::Unknown, "the token cannot be signed").because(error))?;
        let document = json!({
            "token": token,
            "access_token": token,
            "expires_in": self.lifetime.as_secs(),
            "issued_at": strata_spec::time::now_rfc3339(),
        });
        Ok(document.to_string().into_bytes())
    }
}
