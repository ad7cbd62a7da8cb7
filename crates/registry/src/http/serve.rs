//! Listens, serves HTTP/1.1 and HTTP/2, and stops without breaking requests under way.
//!
//! Under TLS the client chooses the protocol by ALPN. Without TLS a client that speaks HTTP/2 at once is served where the configuration
//! allows it (`http.h2c`).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::{
    handle::{CleartextHttp2, Connection, Service},
    splice::{Spans, SpliceStream},
    tls::Tls,
};

/// Time limit for the head of a request, in HTTP/2 for the next request.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes read ahead of a connection.
const BUFFER: usize = 256 << 10;
const HEADERS_MAX: usize = 100;
/// First bytes of an HTTP/2 connection.
const HTTP2_START: &[u8; 14] = b"PRI * HTTP/2.0";
/// Bytes that a client may send ahead on one stream of HTTP/2.
const WINDOW: u32 = 256 << 10;
/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 100;
/// Bytes of all headers of a request in HTTP/2; a token may have 64 KiB.
const HEAD_MAX: u32 = 128 << 10;

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    connections: Arc<Semaphore>,
}

/// Says when to stop; dropped, it stops the server too.
pub type Stop = watch::Receiver<bool>;

impl Server {
    /// Listens on `address`, for at most `connections` at once.
    pub async fn bind(
        address: SocketAddr,
        service: Arc<Service>,
        tls: Option<Arc<Tls>>,
        connections: usize,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, service, tls, connections: Arc::new(Semaphore::new(connections)) })
    }

    /// The address that it listens on, with the port that was free if none was given.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then finishes the requests under way, for `drain` at most.
    pub async fn run(self, mut stop: Stop, drain: Duration) {
        let all = self.connections.available_permits();
        loop {
            let permit = tokio::select! {
                permit = self.connections.clone().acquire_owned() => permit,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (service, tls, stop) = (self.service.clone(), self.tls.clone(), stop.clone());
                    tokio::spawn(async move {
                        service.metrics.connections.fetch_add(1, Relaxed);
                        connection(&service, tls, stream, peer, stop).await;
                        service.metrics.connections.fetch_sub(1, Relaxed);
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Most often: too many open files. Some will be closed.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        let waiting = u32::try_from(all).unwrap_or(u32::MAX);
        if tokio::time::timeout(drain, self.connections.acquire_many(waiting)).await.is_err() {
            let left = all - self.connections.available_permits();
            tracing::warn!(left, "connections are cut off");
        }
        self.service.notify.drain(Duration::from_secs(5)).await;
    }
}

async fn connection(service: &Arc<Service>, tls: Option<Arc<Tls>>, stream: TcpStream, peer: SocketAddr, stop: Stop) {
    // Only a hint.
    let _ = stream.set_nodelay(true);
    let about = |is_tls, spans| Connection { peer, is_tls, spans };
    let result = match tls {
        None => match protocol(service, &stream).await {
            Protocol::Http1 => {
                let spans = Spans::default();
                http1(service, about(false, Some(spans.clone())), SpliceStream::new(stream, spans), stop).await
            }
            Protocol::Http2 => http2(service, about(false, None), stream, stop).await,
        },
        Some(tls) => match tokio::time::timeout(HANDSHAKE_LIMIT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                http2(service, about(true, None), stream, stop).await
            }
            Ok(Ok(stream)) => http1(service, about(true, None), stream, stop).await,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
            Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
        },
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

enum Protocol {
    Http1,
    Http2,
}

/// The protocol of a connection without TLS, by its first bytes: no method of HTTP/1 begins as the preface of HTTP/2 does.
async fn protocol(service: &Service, stream: &TcpStream) -> Protocol {
    if service.settings.cleartext_http2 == CleartextHttp2::Refused {
        return Protocol::Http1;
    }
    let looked = tokio::time::timeout(HEAD_LIMIT, async {
        let mut first = [0; HTTP2_START.len()];
        loop {
            match stream.peek(&mut first).await {
                Ok(len) if len > 0 && HTTP2_START.starts_with(&first[..len]) => {}
                // Another protocol, a closed connection or an error: the HTTP/1 code deals with each.
                _ => return Protocol::Http1,
            }
            if first == *HTTP2_START {
                return Protocol::Http2;
            }
            // The bytes stay readable, so that waiting for more of them cannot wait for readiness.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    looked.await.unwrap_or(Protocol::Http1)
}

async fn http1<S>(service: &Arc<Service>, about: Connection, stream: S, mut stop: Stop) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let about = Arc::new(about);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, about) = (service.clone(), about.clone());
        async move { Ok::<_, Infallible>(service.handle(about, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS_MAX)
        // Pieces must come to the stream as they are, not copied together: some stand for files.
        .writev(true);
    let serving = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    tokio::select! {
        result = serving.as_mut() => return result,
        _ = stop.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}

/// Serves HTTP/2. A connection that makes no request for [`HEAD_LIMIT`] is closed, as one of HTTP/1 is; answers under way end first.
async fn http2<S>(service: &Arc<Service>, about: Connection, stream: S, mut stop: Stop) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (about, requests) = (Arc::new(about), Arc::new(AtomicU64::new(0)));
    let (service, shared, counted) = (service.clone(), about.clone(), requests.clone());
    let answer = service_fn(move |request: Request<Incoming>| {
        counted.fetch_add(1, Relaxed);
        let (service, about) = (service.clone(), shared.clone());
        async move { Ok::<_, Infallible>(service.handle(about, request).await) }
    });
    // Each request under way holds the connection's facts, beside this function and the one that answers.
    let is_idle = || Arc::strong_count(&about) <= 2;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_LIMIT)
        .keep_alive_timeout(HEAD_LIMIT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(serving);
    loop {
        let before = requests.load(Relaxed);
        tokio::select! {
            result = serving.as_mut() => return result,
            _ = stop.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(HEAD_LIMIT) => match requests.load(Relaxed) {
                // The client has perhaps not even begun the handshake, whose end nobody need wait for.
                0 => return Ok(()),
                now if now == before && is_idle() => break,
                _ => {}
            },
        }
    }
    serving.as_mut().graceful_shutdown();
    serving.await
}
