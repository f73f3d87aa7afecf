//! Opens a connection: name, TCP, proxy, TLS, and the HTTP version TLS agreed on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Endpoint;
use super::lookup::Lookups;

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took longer than allowed.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
    /// The name has no address, or too many names are being looked up.
    #[error("name {0:?} cannot be looked up")]
    Lookup(String, #[source] Arc<io::Error>),
    /// No address answered.
    #[error("connection refused or lost")]
    Tcp(#[source] io::Error),
    /// The proxy said no.
    #[error("the proxy refused to connect: {0}")]
    Proxy(String),
    /// TLS failed.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// HTTP did not begin.
    #[error("HTTP handshake failed")]
    Http(#[source] hyper::Error),
}

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    H1,
    H2,
}

/// A connection, plain or TLS.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a silent connection lives before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A proxy's answer to CONNECT is a line and a few headers.
const PROXY_ANSWER_BYTES: usize = 8 << 10;

/// Connects to `endpoint`, everything within `limit`.
pub(super) async fn connect(
    endpoint: &Endpoint,
    lookups: &Lookups,
    limit: Duration,
) -> Result<(Stream, Version), ConnectError> {
    tokio::time::timeout(limit, connect_steps(endpoint, lookups)).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn connect_steps(endpoint: &Endpoint, lookups: &Lookups) -> Result<(Stream, Version), ConnectError> {
    let url = endpoint.url();
    let hop = endpoint.proxy().unwrap_or(url);
    let mut tcp = open_tcp(&hop.host, hop.port, lookups).await?;
    let Some(tls) = &endpoint.tls else {
        return Ok((Stream::Plain(tcp), Version::H1));
    };
    if endpoint.proxy().is_some() {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        open_tunnel(&mut tcp, &format!("{host}:{}", url.port)).await?;
    }
    let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
    let stream = connector.connect(tls.name.clone(), tcp).await.map_err(ConnectError::Tls)?;
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::H2,
        Some(_) | None => Version::H1,
    };
    Ok((Stream::Tls(Box::new(stream)), version))
}

/// Looks the name up anew for every connection, and tries its addresses in turn.
async fn open_tcp(host: &str, port: u16, lookups: &Lookups) -> Result<TcpStream, ConnectError> {
    let found = lookups.find(host, port).await;
    let addresses = found.map_err(|error| ConnectError::Lookup(host.to_owned(), error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
                SockRef::from(&stream)
                    .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
                    .map_err(ConnectError::Tcp)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Tcp(last))
}

/// Asks an HTTP proxy for a tunnel.
async fn open_tunnel(tcp: &mut TcpStream, authority: &str) -> Result<(), ConnectError> {
    let ask = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    tcp.write_all(ask.as_bytes()).await.map_err(ConnectError::Tcp)?;
    let mut answer = Vec::with_capacity(256);
    // One byte at a time, so that nothing of what the tunnel carries is taken; it happens once a connection.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER_BYTES {
            return Err(ConnectError::Proxy("its answer is too long".to_owned()));
        }
        answer.push(tcp.read_u8().await.map_err(ConnectError::Tcp)?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let is_open = line.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    if is_open { Ok(()) } else { Err(ConnectError::Proxy(line.to_owned())) }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_providers_socket_holds_nothing_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();

        let stream = open_tcp("127.0.0.1", address.port(), &Lookups::of_system()).await.unwrap();

        assert!(stream.nodelay().unwrap());
    }
}
