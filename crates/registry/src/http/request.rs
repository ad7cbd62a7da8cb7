//! What the endpoints need of one request.

use std::sync::Arc;

use hyper::{HeaderMap, header};
use strata_spec::Digest;

use super::{
    handle::{Connection, Service},
    header as header_text,
    route::param,
};
use crate::{auth::Identity, error::Error, name::parse_digest};

/// A request whose rights are checked, without its body.
pub struct Request<'a> {
    pub service: &'a Arc<Service>,
    pub connection: &'a Connection,
    pub identity: &'a Identity,
    pub headers: &'a HeaderMap,
    pub query: &'a [(String, String)],
}

impl Request<'_> {
    pub fn param(&self, key: &str) -> Option<&str> {
        param(self.query, key)
    }

    pub fn digest(&self) -> Result<Option<Digest>, Error> {
        self.param("digest").map(parse_digest).transpose()
    }

    pub fn content_length(&self) -> Option<u64> {
        header_text(self.headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }

    pub fn location(&self, path: &str) -> String {
        self.service.url(self.connection, self.headers, path)
    }
}
