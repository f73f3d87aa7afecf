//! The system's sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::{Accept, BoxedIo, Net};

/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// A silent connection is probed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Net for Tcp {
    fn dial(&self, address: &str) -> BoxFuture<'_, io::Result<BoxedIo>> {
        let address = address.to_owned();
        async move { tuned(TcpStream::connect(address).await?) }.boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Accept>>> {
        async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Accept>) }.boxed()
    }
}

impl Accept for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedIo, SocketAddr)>> {
        async move {
            let (stream, from) = Self::accept(self).await?;
            Ok((tuned(stream)?, from))
        }
        .boxed()
    }
}

fn tuned(stream: TcpStream) -> io::Result<BoxedIo> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(&stream, u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX))?;
    Ok(Box::new(stream))
}
