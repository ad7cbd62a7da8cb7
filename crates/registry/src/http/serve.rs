//! Listening, and stopping without breaking what is under way.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::{
    handle::{Connection, Service},
    splice::{Spans, SpliceStream},
    tls::Tls,
};

/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes read ahead of a connection.
const BUFFER: usize = 256 << 10;
const HEADERS_MAX: usize = 100;

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
    let result = match tls {
        None => {
            let spans = Spans::default();
            let about = Connection { peer, is_tls: false, spans: Some(spans.clone()) };
            serve(service, about, SpliceStream::new(stream, spans), stop).await
        }
        Some(tls) => match tokio::time::timeout(HANDSHAKE_LIMIT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => serve(service, Connection { peer, is_tls: true, spans: None }, stream, stop).await,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
        },
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

async fn serve<S>(service: &Arc<Service>, about: Connection, stream: S, mut stop: Stop) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let about = Arc::new(about);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, about) = (service.clone(), about.clone());
        async move { Ok::<_, std::convert::Infallible>(service.handle(about, request).await) }
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
