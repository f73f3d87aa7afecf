//! Idle upstream connections, last in first out.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::uri::Authority;
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections kept; more are closed.
const IDLE_MAX: usize = 1024;

/// Connections to one upstream.
pub(super) struct Pool {
    upstream: Authority,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    pub(super) fn new(upstream: Authority) -> Self {
        Self { upstream, idle: Mutex::new(Vec::new()) }
    }

    /// Takes the warmest idle connection, or opens one.
    pub(super) async fn take(&self) -> io::Result<SendRequest<Incoming>> {
        while let Some(mut sender) = self.pop() {
            // A connection comes back with the last byte of its body, a moment before hyper calls it ready.
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = TcpStream::connect(self.upstream.as_str()).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn pop(&self) -> Option<SendRequest<Incoming>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, sender: SendRequest<Incoming>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        }
    }
}

/// A response body that gives its connection back when it ends, and closes it when dropped before.
pub(super) struct Returning {
    body: Incoming,
    held: Option<(SendRequest<Incoming>, Arc<Pool>)>,
}

impl Returning {
    pub(super) fn new(body: Incoming, sender: SendRequest<Incoming>, pool: Arc<Pool>) -> Self {
        let mut returning = Self { body, held: Some((sender, pool)) };
        returning.give_back_at_end();
        returning
    }

    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((sender, pool)) = self.held.take() {
            pool.put(sender);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => this.give_back(),
            // With a known length the server side never polls for the end.
            Poll::Ready(Some(Ok(_))) => this.give_back_at_end(),
            Poll::Ready(Some(Err(_))) => this.held = None,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
