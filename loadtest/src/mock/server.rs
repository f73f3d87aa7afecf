//! Sockets of the mock: HTTP/1.1, h2c, TLS, and connections that can be reset.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::counts::Counts;
use super::routes;

/// Streams one HTTP/2 connection may have open; more than any test opens.
const STREAMS_MAX: u32 = 4096;
/// Pause after an accept that failed, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until `stop` says true, then drops every connection.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((socket, peer)) => {
                connections.spawn(connection(socket, peer, tls.clone(), Arc::clone(&counts)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(socket: TcpStream, _peer: SocketAddr, tls: Option<TlsAcceptor>, counts: Arc<Counts>) {
    let _open = counts.connection_opened();
    // Without it small events wait for acknowledgements; a socket that refuses it is gone already.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let reset = Reset::default();
    let socket = Resettable { socket, reset: reset.clone() };
    match tls {
        None => drive(socket, counts, reset).await,
        Some(tls) => {
            if let Ok(socket) = tls.accept(socket).await {
                drive(socket, counts, reset).await;
            }
        }
    }
}

async fn drive<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: I, counts: Arc<Counts>, reset: Reset) {
    let service = service_fn(move |request| routes::reply(request, Arc::clone(&counts), reset.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_MAX).enable_connect_protocol();
    // How a connection ends is counted where replies are dropped; the error itself says no more.
    drop(builder.serve_connection(TokioIo::new(io), service).await);
}

/// Turns the end of a connection into a TCP reset.
#[derive(Debug, Clone, Default)]
pub(super) struct Reset(Arc<AtomicBool>);

impl Reset {
    pub(super) fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_armed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket that says nothing more once its reset is armed, and resets when dropped.
struct Resettable {
    socket: TcpStream,
    reset: Reset,
}

impl Resettable {
    fn check(&self) -> io::Result<()> {
        if self.reset.is_armed() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.is_armed() {
            // No lingering means RST instead of FIN. If it fails the client sees a FIN, which its tests notice.
            drop(socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
