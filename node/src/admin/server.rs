//! Accepts the admin listener's connections, within bounds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{AdminState, routes};
use crate::annex;

/// Connections at a time; further ones wait in the kernel.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send its first byte, its handshake, or a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live; scrapers open another.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// The largest head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Serves until `shutdown` says true (or its sender is gone), then lets answers under way finish, for a few seconds at most.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, shutdown: watch::Receiver<bool>) {
    annex::run(listener, CONNECTIONS_MAX, shutdown, "admin", |stream, stop| {
        let state = Arc::clone(&state);
        async move {
            if timeout(CONNECTION_AGE_MAX, open(stream, state, stop)).await.is_err() {
                debug!("admin connection reached its age and was closed");
            }
        }
    })
    .await;
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
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(routes::answer(&state, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(32 * 1024).max_concurrent_streams(64);
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
        debug!(%error, "admin connection ended early");
    }
}
