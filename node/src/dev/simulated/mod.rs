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
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

/// Connections at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;
/// The largest body of a request.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request's head may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take once a shutdown was asked for; the longest stream takes 3 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);
/// The rest after a failure to accept: with no descriptors left, asking again at once only burns the core.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 until `shutdown` says true (or its sender is gone), then lets answers under way finish, for 4 s at
/// most.
pub async fn serve(listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = asked(&mut shutdown) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let stop = stop.clone();
                connections.spawn(async move {
                    connection(stream, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "simulated provider cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
        debug!("connections of the simulated provider were cut at shutdown");
    }
}

/// Waits for the shutdown; a sender that is gone asks for it too.
async fn asked(shutdown: &mut watch::Receiver<bool>) {
    shutdown.wait_for(|is_down| *is_down).await.ok();
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, mut stop: watch::Receiver<bool>) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(routes::route(request).await) });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = asked(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection to the simulated provider ended early");
    }
}
