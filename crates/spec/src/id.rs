//! What names a layer, an image, a layer's folder and a container.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError};

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            pub fn new(digest: Digest) -> Self {
                Self(digest)
            }

            pub fn digest(&self) -> Digest {
                self.0
            }

            /// The hash in hexadecimal, without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }

            /// The first twelve hexadecimal digits, as Docker abbreviates.
            pub fn short(&self) -> String {
                self.0.hex()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_id! {
    /// Digest of a layer's uncompressed tar; an entry of `rootfs.diff_ids` in the image config.
    DiffId
}
digest_id! {
    /// Names a layer together with all layers below it; its folder in layerdb.
    ChainId
}
digest_id! {
    /// Digest of an image's config, byte for byte; the image's ID.
    ImageId
}

/// Returns the ChainID of `diffs`, which run from the base layer up; `None` if there are none.
///
/// A base layer's ChainID is its DiffID. Above it, `ChainID(n) = sha256("ChainID(n-1) DiffID(n)")`,
/// both written `sha256:<64 hex digits>`, one space between.
///
/// Source: OCI image-spec, config.md, "Layer ChainID".
pub fn chain_id(diffs: &[DiffId]) -> Option<ChainId> {
    chain_ids(diffs).last()
}

/// Returns the ChainID of each layer of `diffs`, from the base layer up.
pub fn chain_ids(diffs: &[DiffId]) -> impl Iterator<Item = ChainId> + '_ {
    let mut below: Option<ChainId> = None;
    diffs.iter().map(move |diff| {
        let id = match below {
            None => ChainId(diff.0),
            Some(below) => ChainId(Digest::sha256(format!("{below} {diff}"))),
        };
        below = Some(id);
        id
    })
}

/// A text that is not an ID of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}: must be {form}")]
pub struct IdError {
    pub what: &'static str,
    pub text: String,
    /// What it must look like.
    pub form: &'static str,
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is a random ID of BuildKit: 25 digits of base 36.
///
/// Source: buildkit, `identity/randomid.go`.
fn is_buildkit(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { what: $what, text: text.chars().take(160).collect(), form: $form })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A layer's folder under its graph driver: 64 hexadecimal digits, and `-init` behind them for a
    /// container's init layer; or the 25 letters and digits that BuildKit gives the layers it makes.
    /// Parsed once, at the edge: inside, it is safe to join to a path.
    CacheId, "cache ID", "64 lower-case hexadecimal digits, or 25 lower-case letters and digits", |text| {
        let id = text.strip_suffix("-init").unwrap_or(text);
        is_hex64(id) || is_buildkit(id)
    }
}
text_id! {
    /// Names a container; its folder under `containers/`.
    ContainerId, "container ID", "64 lower-case hexadecimal digits", is_hex64
}

impl CacheId {
    /// Returns the ID for 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(hex::encode(random))
    }

    /// Returns the ID of the init layer below the read-write layer `self`.
    pub fn init(&self) -> Self {
        Self(format!("{}-init", self.0.trim_end_matches("-init")))
    }

    pub fn is_init(&self) -> bool {
        self.0.ends_with("-init")
    }
}

impl ContainerId {
    /// Returns the ID for 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(hex::encode(random))
    }

    /// The first twelve digits, as Docker abbreviates.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chain_ids_follow_the_specification() {
        let diffs: Vec<DiffId> = ["a", "b", "c"].map(|text| DiffId::new(Digest::sha256(text))).to_vec();
        assert_eq!(chain_id(&[]), None);
        let chain: Vec<ChainId> = chain_ids(&diffs).collect();
        assert_eq!(chain[0].digest(), diffs[0].digest());
        // printf 'sha256:%s sha256:%s' "$(printf a | sha256sum)" "$(printf b | sha256sum)" | sha256sum, hashes alone
        assert_eq!(chain[1].to_string(), "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676");
        assert_eq!(chain[2].to_string(), "sha256:2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106");
        assert_eq!(chain_id(&diffs), Some(chain[2]));
        assert_eq!(chain[1].short(), chain[1].hex()[..12]);
    }

    #[test]
    fn cache_ids_are_safe_to_join_to_a_path() {
        let hex = "0a".repeat(32);
        for text in [&hex, &format!("{hex}-init"), "0h5zqj5m1vq8o6gbkkp4mkzjy"] {
            assert_eq!(text.parse::<CacheId>().unwrap().as_str(), text);
        }
        for text in [
            "",
            "-init",
            "..",
            "l",
            "a/b",
            &hex.to_uppercase(),
            &hex[1..],
            &format!("{hex}-init-init"),
            &format!("{hex}/"),
        ] {
            let error = text.parse::<CacheId>().unwrap_err().to_string();
            assert!(error.contains(&format!("invalid cache ID {text:?}")), "{error}");
        }
        assert!(format!("{hex}-init").parse::<ContainerId>().is_err());
    }

    #[test]
    fn init_layers() {
        let id = CacheId::from_random([7; 32]);
        assert!(!id.is_init() && id.init().is_init());
        assert_eq!(id.init().as_str(), format!("{}-init", "07".repeat(32)));
        assert_eq!(id.init().init(), id.init());
        assert_eq!(ContainerId::from_random([0xab; 32]).short(), "abababababab");
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_shows_what_it_read(text in any::<String>(), hash in any::<[u8; 32]>()) {
            let _ = (text.parse::<CacheId>(), text.parse::<ContainerId>(), text.parse::<ImageId>());
            let id = ImageId::new(Digest::from_value(crate::Algorithm::Sha256, &hash));
            prop_assert_eq!(id.to_string().parse::<ImageId>().unwrap(), id);
            prop_assert_eq!(serde_json::from_str::<ImageId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
    }
}
