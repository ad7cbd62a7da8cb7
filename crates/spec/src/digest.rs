//! `algorithm:hex`, the name of some bytes.
//!
//! Source: OCI image-spec, descriptor.md, "Digests".

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Hash functions a digest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no hash is empty")]
    pub fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// The name of some bytes: a hash function and its value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// The value, zero-padded to the longest.
    value: [u8; 64],
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {text:?}: {reason}")]
pub struct DigestError {
    pub text: String,
    pub reason: &'static str,
}

impl Digest {
    /// Returns the sha256 digest of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// Returns the digest of `bytes` under `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// Makes a digest of a hash value, whose length must be the algorithm's.
    pub fn from_value(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut value = [0; 64];
        value[..algorithm.len()].copy_from_slice(hash);
        Self { algorithm, value }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash value.
    pub fn value(&self) -> &[u8] {
        &self.value[..self.algorithm.len()]
    }

    /// The hash value in lower-case hexadecimal, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.value())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let fail = |reason| DigestError { text: text.chars().take(160).collect(), reason };
        let (name, hex) = text.split_once(':').ok_or_else(|| fail("no ':' between algorithm and hash"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(fail("the algorithm is neither sha256 nor sha512")),
        };
        if hex.len() != algorithm.len() * 2 {
            return Err(fail("the hash has the wrong length"));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(fail("the hash is not lower-case hexadecimal"));
        }
        let mut value = [0; 64];
        hex::decode_to_slice(hex, &mut value[..algorithm.len()]).map_err(|_| fail("the hash is not hexadecimal"))?;
        Ok(Self { algorithm, value })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: ring::digest::Context,
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        let function = match algorithm {
            Algorithm::Sha256 => &ring::digest::SHA256,
            Algorithm::Sha512 => &ring::digest::SHA512,
        };
        Self { algorithm, context: ring::digest::Context::new(function) }
    }

    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest::from_value(self.algorithm, self.context.finish().as_ref())
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_hashes() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256("").to_string(), empty);
        let abc = Digest::of(Algorithm::Sha512, "abc").to_string();
        assert!(abc.starts_with("sha512:ddaf35a193617abacc417349ae204131") && abc.len() == 7 + 128, "{abc}");
    }

    #[test]
    fn what_is_no_digest_is_named() {
        let hex = "ab".repeat(32);
        for (text, reason) in [
            ("", "no ':'"),
            (hex.as_str(), "no ':'"),
            (&format!("sha1:{hex}"), "neither sha256 nor sha512"),
            (&format!("SHA256:{hex}"), "neither sha256 nor sha512"),
            (&format!("sha256:{hex}a"), "wrong length"),
            (&format!("sha512:{hex}"), "wrong length"),
            (&format!("sha256:{}", hex.to_uppercase()), "not lower-case hexadecimal"),
            (&format!("sha256:{}", "é".repeat(32)), "not lower-case hexadecimal"),
            (&format!("sha256:../{}", &hex[3..]), "not lower-case hexadecimal"),
        ] {
            let error = text.parse::<Digest>().unwrap_err();
            assert!(error.reason.contains(reason) && error.to_string().contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_is_what_it_shows(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>(), long in any::<bool>()) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            prop_assert_eq!(digest.value().len(), algorithm.len());
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut hasher = Hasher::new(algorithm);
            hasher.write_all(head).unwrap();
            hasher.write_all(tail).unwrap();
            prop_assert_eq!(hasher.finish(), digest);
        }

        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = text.parse::<Digest>();
        }
    }
}
