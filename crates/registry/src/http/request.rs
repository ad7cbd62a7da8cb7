//! A request as endpoints see it.

use std::sync::Arc;

use hyper::{HeaderMap, header};
use strata_spec::Digest;

use super::{
    handle::{Connection, Service},
    header as header_text,
    route::param,
};
use crate::{auth::Identity, error::Error, name::parse_digest};

/// An authorized request, without its body.
pub struct Request<'a> {
    /// The server's state.
    pub service: &'a Arc<Service>,
    /// The client's connection.
    pub connection: &'a Connection,
    /// The client's identity and rights.
    pub identity: &'a Identity,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Decoded parameters.
    pub query: &'a [(String, String)],
}

impl Request<'_> {
    /// Returns the first parameter `key`.
    pub fn param(&self, key: &str) -> Option<&str> {
        param(self.query, key)
    }

    /// Returns the digest in the parameter `digest`. Fails if it is malformed.
    pub fn digest(&self) -> Result<Option<Digest>, Error> {
        self.param("digest").map(parse_digest).transpose()
    }

    /// Returns the length of the body in bytes, if the client states it.
    pub fn content_length(&self) -> Option<u64> {
        header_text(self.headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }

    /// Returns the value of a `Location` header for `path`.
    pub fn location(&self, path: &str) -> String {
        self.service.url(self.connection, self.headers, path)
    }
}
