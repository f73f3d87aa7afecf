//! Accepts the admin listener's connections, within bounds.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{AdminState, routes};

/// Connections at a time; further ones wait in the kernel.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send its first byte, its handshake, or a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live; scrapers open another.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// The largest head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long answers under way may take once a shutdown was asked for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The rest after a failure to accept: with no descriptors left, asking again at once only burns the core.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until `shutdown` says true (or its sender is gone), then lets answers under way finish, for 2 s at most.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, mut shutdown: watch::Receiver<bool>) {
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
                let (state, stop) = (Arc::clone(&state), stop.clone());
                connections.spawn(async move {
                    if timeout(CONNECTION_AGE_MAX, open(stream, state, stop)).await.is_err() {
                        debug!("admin connection reached its age and was closed");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
        debug!("admin connections were cut at shutdown");
    }
}

/// Waits for the shutdown; a sender that is gone asks for it too.
async fn asked(shutdown: &mut watch::Receiver<bool>) {
    shutdown.wait_for(|is_down| *is_down).await.ok();
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn open(stream: TcpStream, state: Arc<AdminState>, stop: watch::Receiver<bool>) {
    // hyper's own timer starts with the first byte only.
    let is_speaking = timeout(HEAD_TIMEOUT, stream.readable()).await;
    if !matches!(is_speaking, Ok(Ok(()))) {
        return;
    }
    match state.tls.clone() {
        None => connection(stream, state, stop).await,
        Some(tls) => match timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => connection(stream, state, stop).await,
            Ok(Err(error)) => debug!(%error, "admin TLS handshake failed"),
            Err(_) => debug!("admin TLS handshake took too long"),
        },
    }
}

async fn connection<S>(stream: S, state: Arc<AdminState>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let reply = routes::answer(&state, &request);
        async move { Ok::<_, Infallible>(reply) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(32 * 1024).max_concurrent_streams(64);
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
        debug!(%error, "admin connection ended early");
    }
}
