//! The server: connections, requests, answers.
//!
//! | module | owns |
//! | --- | --- |
//! | [`serve`] | listening, TLS, limits on connections, the graceful stop |
//! | [`route`] | which endpoint a path means |
//! | [`handle`] | one request: rights, limits, endpoint, log |
//! | [`blobs`], [`manifests`], [`uploads`], [`lists`] | the endpoints |
//! | [`request`] | a request as endpoints see it |
//! | [`origin`] | the URL by which a client reaches the server, also through proxies |
//! | [`range`] | `Range` and `Content-Range` |
//! | [`body`], [`splice`] | bodies of responses, and files by `sendfile` |
//! | [`debug`] | metrics and health on their own address |
//! | [`rate`] | the rate limit |
//! | [`warn`] | `Warning` headers |
//! | [`tls`] | certificates, reloaded on demand |

pub mod blobs;
pub mod body;
pub mod debug;
pub mod handle;
pub mod lists;
pub mod manifests;
pub mod origin;
pub mod range;
pub mod rate;
pub mod request;
pub mod route;
pub mod serve;
pub mod splice;
pub mod tls;
pub mod uploads;
pub mod warn;

use hyper::{HeaderMap, header::HeaderName, http::response};

pub use body::Body;
pub use serve::{Server, Stop};

use crate::error::{Code, Error};

/// A response of this server.
pub type Response = hyper::Response<Body>;

/// Header with the digest of the content that a response carries or that the request created.
pub const CONTENT_DIGEST: &str = "docker-content-digest";

/// Runs a blocking function on a thread for blocking work.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|failed| Err(Error::new(Code::Unknown, "the request failed within").because(failed)))
}

/// Starts a response.
pub fn reply(status: u16) -> response::Builder {
    hyper::Response::builder().status(status)
}

/// Finishes a response. An invalid header is an internal error.
pub fn finish(builder: response::Builder, body: impl Into<Body>) -> Result<Response, Error> {
    builder.body(body.into()).map_err(|error| Error::new(Code::Unknown, "the answer cannot be written").because(error))
}

/// Returns a header's text; `None` if it is missing or not ASCII.
pub fn header(headers: &HeaderMap, name: impl Into<Name>) -> Option<&str> {
    headers.get(name.into().0)?.to_str().ok()
}

/// A header's name, as a constant or a text.
pub struct Name(HeaderName);

impl From<HeaderName> for Name {
    fn from(name: HeaderName) -> Self {
        Self(name)
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self(HeaderName::from_static(name))
    }
}

/// The response to a failed request.
pub fn failure(error: &Error) -> Response {
    let mut builder = reply(error.status()).header("content-type", "application/json");
    for (name, value) in error.headers() {
        builder = builder.header(name, value);
    }
    finish(builder, error.document()).unwrap_or_else(|_| hyper::Response::new(Body::empty()))
}
