//! Metrics and health on their own address, without rights.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::{Response, Stop, failure, finish, handle::Service, reply};
use crate::error::{Code, Error};

/// Serves `/metrics`, `/healthz` and `/debug/health` until `stop`; returns the address.
pub async fn serve(address: SocketAddr, service: Arc<Service>, mut stop: Stop) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (service, mut stop) = (service.clone(), stop.clone());
            tokio::spawn(async move {
                let answering = service_fn(move |request: Request<Incoming>| {
                    let response = answer(&service, request.uri().path());
                    async move { Ok::<_, Infallible>(response.unwrap_or_else(|error| failure(&error))) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(30))
                    .serve_connection(TokioIo::new(stream), answering);
                tokio::select! {
                    _ = serving => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
    });
    Ok(address)
}

fn answer(service: &Service, path: &str) -> Result<Response, Error> {
    match path {
        "/metrics" if service.settings.metrics_debug => service.metrics(),
        "/healthz" | "/debug/health" => finish(reply(200).header("content-type", "application/json"), b"{}\n".to_vec()),
        _ => Err(Error::new(Code::Unsupported, "there is no such endpoint").with_status(404)),
    }
}
