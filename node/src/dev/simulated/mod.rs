//! A provider that lives inside `troupe dev`: it speaks both wires like a small, pleasant model, and needs no key.
//!
//! The same request always gets the same reply: no clock, no chance, no memory between requests. It quotes what it was
//! told, calls a tool when it is made to, fills in JSON schemas, and counts tokens consistently: four bytes in are one,
//! one piece of the answer is one. Streams come word by word.

mod answer;
mod ask;
mod chat;
mod completions;
mod embeddings;
#[cfg(test)]
pub(super) mod harness;
mod messages;
mod reply;
mod responses;
mod routes;
mod schema;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::debug;

use crate::annex;

/// Connections at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;
/// The largest body of a request.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request's head may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves HTTP/1.1 until `shutdown` says true (or its sender is gone), then lets answers under way finish, for a few
/// seconds at most.
pub async fn serve(listener: TcpListener, shutdown: watch::Receiver<bool>) {
    annex::run(listener, CONNECTIONS_MAX, shutdown, "simulated provider", connection).await;
}

async fn connection(stream: TcpStream, mut stop: watch::Receiver<bool>) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(routes::route(request).await) });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = annex::asked(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection to the simulated provider ended early");
    }
}
