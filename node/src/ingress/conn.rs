//! One client's connection: which HTTP it speaks, how long it may live, how it ends.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::body::Held;
use super::guard::{Busy, Guarded, Patience, TooLarge, begun, idle_for, left_unheard};
use super::proxied;
use super::rare::Rare;
use super::readers::Readers;
use super::seat::Seat;
use super::serve::{refuse_head, serve};
use super::socket::Socket;
use super::worker::WorkerOptions;
use crate::clock;
use crate::flow::{Flow, reached};
use crate::house::Thread;

/// Between two looks at a preface that comes in pieces: clients send it in one.
const SNIFF_PAUSE_MAX: Duration = Duration::from_millis(200);
/// What every h2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An HTTP/1.1 connection without a request is closed after this: beyond the idle time of common clients and balancers.
const IDLE: Duration = Duration::from_secs(360);
const H2_STREAM_WINDOW: u32 = 256 << 10;
const H2_CONNECTION_WINDOW: u32 = 4 << 20;
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_ANSWER: Duration = Duration::from_secs(20);
/// Requests hyper reads ahead and replies it holds back for one connection.
const H2_SEND_BUFFER: usize = 64 << 10;
/// What the last replies of a connection may take after it was asked to end.
const FAREWELL: Duration = Duration::from_secs(15 * 60);
/// A connection that was opened just before a drain, or during it, has this long to bring its request.
const LAST_CALL: Duration = Duration::from_secs(1);
/// A connection whose time is up says so in its next reply. Without another request it is closed once it is idle for so long,
/// when nobody is likely to be writing one.
const LAST_WORD: Duration = Duration::from_secs(5);
/// hyper's own bound on a head; ours is smaller, and says so in the caller's dialect.
const HEAD_BUFFER_MIN: usize = 64 << 10;

/// Serves a connection until it ends, its time is up, or the node drains.
pub(super) async fn run(
    mut tcp: TcpStream,
    (mut peer, seat): (SocketAddr, Seat),
    thread: Arc<Thread>,
    options: Arc<WorkerOptions>,
    mut flow: watch::Receiver<Flow>,
) {
    // What a drain waits for. Whoever connects later found no balancer that would have sent them elsewhere.
    let _elder = (*flow.borrow() == Flow::Serving).then(|| thread.house.elders.enter());
    if options.is_proxied {
        match spoken(proxied::take(&mut tcp, thread.house.limits.header_timeout), &mut flow).await {
            Some(Ok(client)) => peer = client.unwrap_or(peer),
            Some(Err(error)) => return tracing::debug!(%peer, %error, "a connection that no balancer announced"),
            None => return,
        }
    }
    let ended = match &options.tls {
        None => match spoken(sniff(&tcp, thread.house.limits.header_timeout), &mut flow).await {
            Some(Ok(Some(version))) => {
                let socket = Socket::new(tcp);
                http(socket.clone(), &socket, version, (peer, seat), thread, &options, flow).await
            }
            Some(Ok(None)) | None => Ok(()),
            Some(Err(error)) => Err(Ended::Io(error)),
        },
        // Boxed, or a plain connection would carry the room for it around.
        Some(config) => Box::pin(encrypted(tcp, config.clone(), (peer, seat), thread, &options, flow)).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a client's connection ended early");
    }
}

/// Shakes hands, and serves what is said behind that.
async fn encrypted(
    tcp: TcpStream,
    config: Arc<rustls::ServerConfig>,
    (peer, seat): (SocketAddr, Seat),
    thread: Arc<Thread>,
    options: &WorkerOptions,
    mut flow: watch::Receiver<Flow>,
) -> Result<(), Ended> {
    let socket = Socket::new(tcp);
    let accept = TlsAcceptor::from(config).accept(socket.clone());
    match spoken(timeout(thread.house.limits.header_timeout, accept), &mut flow).await {
        Some(Ok(Ok(tls))) => {
            let version = match tls.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::H2,
                Some(_) | None => Version::H1,
            };
            http(tls, &socket, version, (peer, seat), thread, options, flow).await
        }
        Some(Ok(Err(error))) => Err(Ended::Io(error)),
        Some(Err(_)) => Err(Ended::Io(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))),
        None => Ok(()),
    }
}

/// Waits for a client's first words; one that has none for a draining node holds it up no longer.
async fn spoken<T>(words: impl Future<Output = T>, flow: &mut watch::Receiver<Flow>) -> Option<T> {
    let mut words = pin!(words);
    tokio::select! {
        biased;
        said = words.as_mut() => Some(said),
        () = reached(flow, Flow::Draining) => timeout(LAST_CALL, words).await.ok(),
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    H1,
    H2,
}

/// Tells h2 (with prior knowledge) from HTTP/1.1 by the first bytes, which stay in the socket; `None` when the client
/// closed without a word.
async fn sniff(tcp: &TcpStream, limit: Duration) -> io::Result<Option<Version>> {
    let look = async {
        let mut first = [0; PREFACE.len()];
        let mut pause = Duration::from_millis(1);
        loop {
            let seen = tcp.peek(&mut first).await?;
            let Some(bytes) = first.get(..seen) else { return Ok(Some(Version::H1)) };
            match seen {
                0 => return Ok(None),
                _ if bytes == PREFACE => return Ok(Some(Version::H2)),
                _ if !PREFACE.starts_with(bytes) => return Ok(Some(Version::H1)),
                // A part of the preface: peeking does not wait for more than is there.
                _ => {
                    sleep(pause).await;
                    pause = (pause * 2).min(SNIFF_PAUSE_MAX);
                }
            }
        }
    };
    timeout(limit, look).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")))
}

async fn http<S>(
    stream: S,
    socket: &Socket,
    version: Version,
    (peer, seat): (SocketAddr, Seat),
    thread: Arc<Thread>,
    options: &WorkerOptions,
    mut flow: watch::Receiver<Flow>,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = thread.house.limits;
    let busy = Arc::new(Busy::new(seat));
    let head = (version == Version::H1).then_some(limits.header_timeout);
    let too_large = (version == Version::H1).then(|| {
        let thread = thread.clone();
        Box::new(move |first: &[u8]| refuse_head(&thread, peer.ip(), first)) as TooLarge
    });
    let (left, watched) = (left_unheard(busy.clone(), || socket.has_left()), busy.clone());
    let stream = Guarded::new(stream, busy.clone(), Patience { head, stall: limits.body_timeout }, too_large);
    let answer = move |request| {
        let guard = busy.enter();
        let leaving = thread.clone();
        // The request is in service until its reply's body is gone. No block around it: that would hold the work twice.
        serve(thread.clone(), peer.ip(), request).map_ok(move |mut response| {
            // hyper says so itself if it was told before; of a connection that came during a drain it hears too late.
            // And a balancer leaves an unready node's connections as they are: an error says to ask anew, at another node.
            let is_sent_away = || response.status().is_server_error() && leaving.house.health.sends_away();
            if version == Version::H1 && (leaving.is_leaving() || guard.is_last() || is_sent_away()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|body| Held { body, _guard: guard })
        })
    };
    let age = options.connection_max_age;
    // Connections that began together must not end together.
    let age = age.saturating_sub(age.mul_f64(f64::from(u8::try_from(clock::dice() % 100).unwrap_or(0)) / 1000.0));
    let mut called_away = Rare::new(async move {
        let idle = async {
            match version {
                Version::H1 => idle_for(&watched, IDLE).await,
                // Pings tell whether anybody is there.
                Version::H2 => idle_for(&watched, Duration::MAX).await,
            }
        };
        let aged = async {
            sleep(age).await;
            match version {
                // Closed under the next request, it would fail one that nobody answered: first a reply says that it ends.
                Version::H1 => {
                    watched.grow_old();
                    let _never_idle = timeout(FAREWELL, idle_for(&watched, LAST_WORD)).await;
                }
                // GOAWAY says it.
                Version::H2 => {}
            }
        };
        tokio::select! {
            () = aged => {}
            () = idle => {}
            () = async {
                reached(&mut flow, Flow::Draining).await;
                // One that came during the drain has brought something: the door is open so that this is answered.
                begun(&watched, LAST_CALL).await;
            } => {}
        }
    });
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            tokio::select! {
                biased;
                ended = connection.as_mut() => return Ok(ended?),
                () = &mut called_away => {}
            }
            connection.as_mut().graceful_shutdown();
            // A reply that never ends would hold it for ever.
            timeout(FAREWELL, connection).await.map_or(Ok(()), |ended| Ok(ended?))
        }};
    }
    match version {
        Version::H1 => {
            let life = async {
                drive!(
                    http1::Builder::new()
                        // Heads and bodies are small: copying them into one write costs less than a vectored one.
                        .writev(false)
                        // Timers for every head would cost a wake-up a request: see `guard`.
                        .header_read_timeout(None)
                        .max_buf_size(limits.header_bytes.saturating_mul(2).max(HEAD_BUFFER_MIN))
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                )
            };
            tokio::select! {
                biased;
                ended = life => ended,
                () = left => Ok(()),
            }
        }
        Version::H2 => {
            let readers = Arc::new(Readers::default());
            let watching = readers.clone();
            let service = service_fn(move |request| {
                let (work, readers) = (answer(request), readers.clone());
                work.map_ok(move |response| response.map(|body| readers.watch(body)))
            });
            let life = async {
                drive!(
                    http2::Builder::new(TokioExecutor::new())
                        .timer(TokioTimer::new())
                        .max_concurrent_streams(options.h2_streams)
                        .initial_stream_window_size(H2_STREAM_WINDOW)
                        .initial_connection_window_size(H2_CONNECTION_WINDOW)
                        .max_send_buf_size(H2_SEND_BUFFER)
                        // Beyond ours, so that what is a little too large is refused in the caller's dialect.
                        .max_header_list_size(u32::try_from(limits.header_bytes.saturating_mul(4)).unwrap_or(u32::MAX))
                        .keep_alive_interval(H2_PING_EVERY)
                        .keep_alive_timeout(H2_PING_ANSWER)
                        .serve_connection(TokioIo::new(stream), service)
                )
            };
            // Boxed: it is several times what an HTTP/1.1 connection is, of which there are many more.
            Box::pin(async move {
                tokio::select! {
                    ended = life => ended,
                    never = watching.run(limits.body_timeout) => match never {},
                }
            })
            .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{assert_within, future_bytes};

    #[test]
    fn a_connection_is_no_larger_than_it_was_made() {
        type Http<S> = (
            S,
            &'static Socket,
            Version,
            (SocketAddr, Seat),
            Arc<Thread>,
            &'static WorkerOptions,
            watch::Receiver<Flow>,
        );
        fn http_bytes<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>() -> usize {
            future_bytes(&|(stream, socket, version, from, thread, options, flow): Http<S>| {
                http(stream, socket, version, from, thread, options, flow)
            })
        }
        let run_bytes = future_bytes(&|(tcp, from, thread, options, flow)| run(tcp, from, thread, options, flow));

        assert_within(&[
            ("a connection", run_bytes, 2040),
            ("its HTTP", http_bytes::<Socket>(), 1760),
            ("its HTTP behind TLS", http_bytes::<tokio_rustls::server::TlsStream<Socket>>(), 5670),
        ]);
    }
}
