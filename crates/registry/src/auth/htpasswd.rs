//! A file of names and bcrypt hashes, as `htpasswd -B` writes it.
//!
//! bcrypt takes a tenth of a second by design. A verified password is remembered for a while, by a keyed hash whose key never leaves the
//! process, and few passwords are verified at once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use ring::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

use crate::{
    error::{Code, Error},
    http::blocking,
};

/// Time for which a verified password is accepted without bcrypt.
const REMEMBERED: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: usize = 10_000;
/// Bytes of a password that bcrypt uses.
const PASSWORD_MAX: usize = 72;

/// The users of a file. The file is read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    users: Mutex<Loaded>,
    key: hmac::Key,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    at_once: Arc<Semaphore>,
}

struct Loaded {
    modified: Option<SystemTime>,
    hashes: Arc<HashMap<String, String>>,
}

/// Reads the lines of an htpasswd file. Fails at the first invalid line.
pub fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = at + 1;
        let (user, hash) = line.split_once(':').ok_or_else(|| format!("line {place} is not NAME:HASH"))?;
        if !["$2y$", "$2a$", "$2b$"].iter().any(|prefix| hash.starts_with(prefix)) || hash.len() != 60 {
            return Err(format!("line {place}: the hash of {user:.100?} is not bcrypt's; make it with `htpasswd -B`"));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

impl Htpasswd {
    /// Reads the file. If a later change makes it invalid, the users stay as they are.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let hashes = parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))?;
        let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            path: path.to_owned(),
            users: Mutex::new(Loaded { modified, hashes: Arc::new(hashes) }),
            key: key.map_err(|_| "the kernel gives no random bytes".to_owned())?,
            remembered: Mutex::default(),
            at_once: Arc::new(Semaphore::new(2)),
        })
    }

    fn hashes(&self) -> Arc<HashMap<String, String>> {
        let modified = std::fs::metadata(&self.path).and_then(|found| found.modified()).ok();
        let mut loaded = self.users.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if modified != loaded.modified {
            match std::fs::read_to_string(&self.path).map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
                Ok(hashes) => {
                    loaded.hashes = Arc::new(hashes);
                    self.remembered.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
                    tracing::info!(path = %self.path.display(), "users read again");
                }
                Err(problem) => tracing::warn!(path = %self.path.display(), problem, "the users stay as they were"),
            }
            loaded.modified = modified;
        }
        loaded.hashes.clone()
    }

    /// Whether `password` is that of `user`.
    pub async fn verify(&self, user: &str, password: &str) -> Result<bool, Error> {
        let hashes = self.hashes();
        let hash = hashes.get(user).cloned();
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.as_deref().unwrap_or_default(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        if hash.is_some() && self.is_remembered(&tag) {
            return Ok(true);
        }
        let permit = self.at_once.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| Error::new(Code::Unavailable, "the server stops").because(closed))?;
        let password = password.to_owned();
        let is_right = blocking(move || {
            let _permit = permit;
            // An unknown user takes as long as a known one.
            let (hash, is_known) = match &hash {
                Some(hash) => (hash.as_str(), true),
                None => ("$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", false),
            };
            let password: Vec<u8> = password.into_bytes().into_iter().take(PASSWORD_MAX).collect();
            Ok(bcrypt::verify(&password, hash).unwrap_or(false) && is_known)
        })
        .await?;
        if is_right {
            let mut remembered = self.remembered.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(tag, Instant::now());
        }
        Ok(is_right)
    }

    fn is_remembered(&self, tag: &[u8; 32]) -> bool {
        let mut remembered = self.remembered.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match remembered.get(tag) {
            Some(at) if at.elapsed() < REMEMBERED => true,
            Some(_) => {
                remembered.remove(tag);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_named() {
        let good = format!("# users\n\nann:$2y$05${}\n", "a".repeat(53));
        assert_eq!(parse(&good).unwrap().len(), 1);
        for (text, word) in [
            ("ann", "line 1 is not NAME:HASH"),
            ("\nann:$apr1$x$y", "line 2: the hash of \"ann\" is not bcrypt's"),
            ("ann:$2y$05$short", "not bcrypt's"),
        ] {
            assert!(parse(text).unwrap_err().contains(word), "{text}");
        }
    }

    #[tokio::test]
    async fn passwords_are_verified_once_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        std::fs::write(&path, format!("ann:{}\n", hash("secret"))).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        for _ in 0..2 {
            assert!(users.verify("ann", "secret").await.unwrap());
            assert!(!users.verify("ann", "wrong").await.unwrap());
            assert!(!users.verify("bob", "secret").await.unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, format!("bob:{}\n", hash("other"))).unwrap();
        assert!(!users.verify("ann", "secret").await.unwrap(), "a user who is gone is not remembered");
        assert!(users.verify("bob", "other").await.unwrap());
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, "damaged").unwrap();
        assert!(users.verify("bob", "other").await.unwrap(), "a bad file changes nothing");
    }
}
