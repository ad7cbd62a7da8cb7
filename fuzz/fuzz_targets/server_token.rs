//! Any bytes as a bearer token, as the keys of an issuer (JWKS, PEM) and as a file of users: nothing unsigned is taken.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use strata_registry::auth::{
    htpasswd,
    token::{self, DEFAULT_ALGORITHMS, Verifier},
};

/// A key whose private half nobody has: the x and y of the curve's generator are those of the private key 1, so the tag on any token
/// that is taken would have been made on purpose.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","use":"sig",
"x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}]}"#;

fn verifier() -> &'static Verifier {
    static VERIFIER: OnceLock<Verifier> = OnceLock::new();
    VERIFIER.get_or_init(|| {
        let keys = token::jwks(KEYS.as_bytes()).expect("a good set of keys");
        Verifier::with_keys("issuer", "service", DEFAULT_ALGORITHMS.to_vec(), keys)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let _ = (token::jwks(bytes).is_ok(), token::bundle(bytes).is_ok());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = htpasswd::parse(text);
    assert!(verifier().verify(text).is_err(), "{text}");
});
