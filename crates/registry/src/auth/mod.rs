//! Who may do what.
//!
//! | module | owns |
//! | --- | --- |
//! | [`policy`] | users × repository patterns × actions |
//! | [`htpasswd`] | names and passwords, hashed with bcrypt |
//! | [`token`] | bearer tokens of an issuer: what they must say |
//! | [`issuer`] | our own tokens, at `/token` |

pub mod htpasswd;
pub mod issuer;
pub mod policy;
pub mod token;

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Error},
    http::header as header_text,
    name::RepoName,
};
use htpasswd::Htpasswd;
use issuer::Issuer;
use policy::Policies;
use token::Verifier;

/// What may be done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading manifests and blobs.
    Pull,
    /// Writing manifests and blobs.
    Push,
    /// Deleting manifests, tags and blobs.
    Delete,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The action as scopes spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The rights that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A proven name, if the registry knows any.
    Known,
    /// Actions on a repository.
    Repository(RepoName, &'static [Action]),
    /// Pull and push on `into`. A token that also allows pull on `from` has the blob mounted; without it the client uploads the blob.
    Mount {
        /// The repository that gets the blob.
        into: RepoName,
        /// The repository that has it.
        from: RepoName,
    },
    /// The list of repositories.
    Catalog,
}

impl Need {
    /// The scopes to ask the issuer of tokens for, separated by spaces.
    fn scope(&self) -> Option<String> {
        match self {
            Self::Known => None,
            Self::Catalog => Some("registry:catalog:*".into()),
            Self::Repository(name, actions) => Some(scope_of(name, actions)),
            Self::Mount { into, from } => {
                Some(format!("{} {}", scope_of(into, UPLOAD), scope_of(from, &[Action::Pull])))
            }
        }
    }
}

/// The actions of an upload.
const UPLOAD: &[Action] = &[Action::Pull, Action::Push];

fn scope_of(name: &RepoName, actions: &[Action]) -> String {
    let actions: Vec<&str> = actions.iter().map(|action| action.word()).collect();
    format!("repository:{name}:{}", actions.join(","))
}

/// A right that a token gives.
///
/// Source: distribution, `docs/spec/auth/jwt.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    #[serde(rename = "type")]
    /// Type of the object: `repository` or `registry`.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    #[serde(default)]
    /// Allowed actions; `*` for all.
    pub actions: Vec<String>,
}

/// Who makes a request, and what they may do.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name, if the client gave one and proved it.
    pub user: Option<String>,
    /// When the token that proves it ends, in seconds since 1970.
    pub ends: Option<u64>,
    rights: Rights,
}

#[derive(Clone, Debug)]
enum Rights {
    All,
    Policies(Arc<Policies>),
    Token(Arc<Vec<Grant>>),
}

impl Identity {
    /// Somebody who may do everything.
    pub fn unlimited(user: Option<String>) -> Self {
        Self { user, ends: None, rights: Rights::All }
    }

    /// Whether the identity may do everything.
    pub fn is_unlimited(&self) -> bool {
        matches!(self.rights, Rights::All)
    }

    /// Whether the identity may do `action` on a repository.
    pub fn may(&self, name: &RepoName, action: Action) -> bool {
        match &self.rights {
            Rights::All => true,
            Rights::Policies(policies) => policies.may(self.user.as_deref(), name, action),
            Rights::Token(grants) => grants.iter().any(|grant| {
                grant.kind == "repository"
                    && grant.name == name.as_str()
                    && grant.actions.iter().any(|word| word == action.word() || word == "*")
            }),
        }
    }

    /// Whether a repository's name is shown: who may list the catalog by a token sees all of it.
    pub fn may_list(&self, name: &RepoName, action: Action) -> bool {
        matches!(self.rights, Rights::Token(_)) || self.may(name, action)
    }

    fn satisfies(&self, need: &Need) -> bool {
        match (need, &self.rights) {
            (_, Rights::All) => true,
            (Need::Repository(name, actions), _) => actions.iter().all(|action| self.may(name, *action)),
            (Need::Mount { into, .. }, _) => UPLOAD.iter().all(|action| self.may(into, *action)),
            (Need::Known, Rights::Token(_)) => true,
            (Need::Known, Rights::Policies(policies)) => self.user.is_some() || policies.has_anonymous(),
            (Need::Catalog, Rights::Policies(policies)) => self.user.is_some() || policies.has_anonymous(),
            (Need::Catalog, Rights::Token(grants)) => {
                grants.iter().any(|grant| grant.kind == "registry" && grant.name == "catalog")
            }
        }
    }
}

/// How clients say who they are.
pub enum Access {
    /// Everybody may do everything.
    Open,
    /// Name and password with each request.
    Basic {
        /// The realm of the challenge.
        realm: String,
        /// Users and passwords.
        users: Htpasswd,
        /// Rights of users.
        policies: Arc<Policies>,
    },
    /// Tokens, of somebody else or of [`Issuer`].
    Bearer {
        /// Where clients get tokens.
        realm: Realm,
        /// The audience of tokens.
        service: String,
        /// Checks tokens.
        verifier: Verifier,
        /// Issues tokens, if they are our own.
        issuer: Option<Box<Issuer>>,
    },
}

/// Where clients get tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Realm {
    /// At this URL.
    Url(String),
    /// At this path of the host that the client asks.
    Path(String),
}

impl Access {
    /// Finds out who makes a request, and whether they may do what they `need` to; `base` is the URL of this server.
    ///
    /// Fails with `UNAUTHORIZED` and a challenge where another name or token might do, with `DENIED` where it would not.
    pub async fn authorize(&self, headers: &HeaderMap, need: &Need, base: &str) -> Result<Identity, Error> {
        let given = header_text(headers, header::AUTHORIZATION);
        let identity = match self {
            Self::Open => return Ok(Identity::unlimited(None)),
            Self::Basic { users, policies, .. } => match given {
                None => Identity { user: None, ends: None, rights: Rights::Policies(policies.clone()) },
                Some(given) => {
                    let (user, password) = basic(given).ok_or_else(|| self.challenge(need, base, None))?;
                    if !users.verify(&user, &password).await? {
                        return Err(self.challenge(need, base, None));
                    }
                    Identity { user: Some(user), ends: None, rights: Rights::Policies(policies.clone()) }
                }
            },
            Self::Bearer { verifier, .. } => {
                let token = given.ok_or_else(|| self.challenge(need, base, None))?;
                let token = scheme(token, "bearer").ok_or_else(|| self.challenge(need, base, None))?;
                let claims = verifier
                    .verify(token.trim())
                    .map_err(|problem| self.challenge(need, base, Some("invalid_token")).because(problem))?;
                Identity {
                    user: claims.subject(),
                    ends: Some(claims.exp),
                    rights: Rights::Token(Arc::new(claims.access)),
                }
            }
        };
        if identity.satisfies(need) {
            return Ok(identity);
        }
        match (self, &identity.user) {
            (Self::Basic { .. }, Some(user)) => {
                let what = need.scope().unwrap_or_default();
                Err(Error::new(Code::Denied, format!("{user} may not: {what}")))
            }
            (Self::Bearer { .. }, _) => Err(self.challenge(need, base, Some("insufficient_scope"))),
            _ => Err(self.challenge(need, base, None)),
        }
    }

    fn challenge(&self, need: &Need, base: &str, error: Option<&str>) -> Error {
        let challenge = match self {
            Self::Open => String::new(),
            Self::Basic { realm, .. } => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            Self::Bearer { realm, service, .. } => {
                let realm = match realm {
                    Realm::Url(url) => url.clone(),
                    Realm::Path(path) => format!("{base}{path}"),
                };
                let scope = need.scope().map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
                let error = error.map(|error| format!(",error=\"{error}\"")).unwrap_or_default();
                format!("Bearer realm=\"{realm}\",service=\"{service}\"{scope}{error}")
            }
        };
        let message = match error {
            Some("invalid_token") => "the token is not one that this registry takes",
            Some(_) => "the token does not give this right",
            None => "authentication required",
        };
        Error::new(Code::Unauthorized, message).with_header("www-authenticate", challenge)
    }

    /// Reads passwords and keys again.
    pub fn reload(&self) {
        if let Self::Bearer { verifier, .. } = self {
            verifier.reload();
        }
    }
}

/// What follows the scheme of an `Authorization` header, if it is this one.
fn scheme<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then_some(rest)
}

/// Name and password of a `Basic` header.
pub(crate) fn basic(header: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(scheme(header, "basic")?.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
