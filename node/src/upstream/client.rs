use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use troupe_proto::id::ProviderId;

use super::connect::{ConnectError, Version, connect};
use super::lookup::Lookups;
use super::one::One;
use super::shared::{Place, Shared};
use super::{Endpoint, UpstreamBody};
use crate::clock;
use crate::telemetry::metrics::{Connect, Metrics, Present};

type Body = Full<Bytes>;

/// Idle connections kept for one endpoint by one data thread.
const IDLE_MAX: usize = 512;
/// So many stay as long as may be; what a burst left beyond them closes soon, and its memory is free again. More are
/// kept where more are used: nothing that had a call within [`IDLE_BEYOND_FOR`] is closed.
const IDLE_WARM: usize = 4;
const IDLE_BEYOND_FOR: Duration = Duration::from_secs(10);
/// Below the idle timeouts of the balancers in front of common providers (60 s), so that we close first.
pub(super) const IDLE_FOR: Duration = Duration::from_secs(50);
/// Connections that are always busy are replaced too: a provider that moved is found within this time.
pub(super) const AGE_MAX: Duration = Duration::from_secs(300);
/// A stream that its reader leaves lying holds at most this much of the connection's window.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
const PING_EVERY: Duration = Duration::from_secs(15);

/// The connections of one data thread to all endpoints.
pub struct Client {
    metrics: Arc<Metrics>,
    lookups: Lookups,
    /// Only its own thread locks it, and never across an await; the lock is there because futures must be `Send`.
    hosts: Mutex<HashMap<usize, Host>>,
}

struct Host {
    /// Keeps the endpoint alive, so that its address stays a valid key.
    endpoint: Arc<Endpoint>,
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// What its last connection spoke.
    version: Option<Version>,
    /// Held while a connection is opened that others may share.
    opening: Arc<Turn>,
}

/// Whose turn it is to open a connection.
type Turn = tokio::sync::Mutex<()>;

/// An HTTP/1.1 connection between calls. The last one back is the first one out: few stay warm, the rest can close.
struct Idle {
    connection: One,
    since: Instant,
}

impl Idle {
    fn is_fit(&self, now: Instant) -> bool {
        self.connection.is_fit(now) && now.saturating_duration_since(self.since) < IDLE_FOR
    }
}

/// Why no reply's head came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: nothing was written.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke after the request may have been written.
    #[error("connection broke before the reply's head")]
    Broken(#[source] hyper::Error),
    /// A new connection was closed before it took the request.
    #[error("connection closed at once")]
    Refused,
    /// The request cannot be put into words.
    #[error("the request's URL is malformed")]
    Url(#[from] http::Error),
}

/// Whether a request that was not answered may have reached the provider.
enum Unsent {
    /// Nothing was written: here it is again.
    Not(Box<Request<Body>>),
    /// It may have.
    Perhaps(SendError),
}

/// A connection in use, and the way home.
pub(super) struct Lease {
    client: Arc<Client>,
    endpoint: Arc<Endpoint>,
    connection: Connection,
}

enum Connection {
    One(One),
    Many(Place),
}

impl Lease {
    /// Gives the connection back after a reply was read to its end.
    pub(super) fn give_back(self) {
        match self.connection {
            Connection::One(one) => self.client.put_idle(&self.endpoint, one),
            Connection::Many(place) => drop(place),
        }
    }
}

impl Client {
    /// A client without connections.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, lookups: Lookups::of_system(), hosts: Mutex::default() }
    }

    /// Sends a request whose URI is path and query; answers with the reply's head and its body.
    ///
    /// A pooled connection that turns out closed before anything was written costs nothing but another try; once bytes
    /// may have left, the error is the caller's to judge, because the provider may have begun (and billed) the call.
    ///
    /// # Errors
    /// [`SendError`]; the connection is closed then.
    pub async fn send(
        self: &Arc<Self>,
        provider: &ProviderId,
        endpoint: &Arc<Endpoint>,
        mut request: Box<Request<Body>>,
        connect_limit: Duration,
    ) -> Result<Response<UpstreamBody>, SendError> {
        while let Some((shared, place)) = self.take_shared(endpoint) {
            match self.send_h2(endpoint, shared, place, request).await {
                Ok(response) => return Ok(response),
                Err(Unsent::Not(unsent)) => request = unsent,
                Err(Unsent::Perhaps(error)) => return Err(error),
            }
        }
        request.headers_mut().insert(header::HOST, endpoint.authority.clone());
        if endpoint.wants_absolute_form() {
            *request.uri_mut() = absolute(endpoint, request.uri())?;
        }
        while let Some(mut one) = self.take_idle(endpoint) {
            if !one.is_ready_soon().await {
                continue;
            }
            match one.sender.try_send_request(*request).await {
                Ok(response) => return Ok(self.lend(endpoint, response, Connection::One(one))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = Box::new(unsent),
                    None => return Err(SendError::Broken(error.into_error())),
                },
            }
        }
        // Boxed, because it is rare and large: every request would carry the room for its handshakes around.
        Box::pin(self.send_on_new(provider, endpoint, request, connect_limit)).await
    }

    /// Opens a connection, or waits for one that another call opens, and sends on it.
    async fn send_on_new(
        self: &Arc<Self>,
        provider: &ProviderId,
        endpoint: &Arc<Endpoint>,
        mut request: Box<Request<Body>>,
        connect_limit: Duration,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let began = clock::now();
        let turn = loop {
            let turn = self.turn(endpoint, connect_limit).await?;
            // Whoever had the turn before may have opened a connection with room for this call.
            let free = turn.as_ref().and_then(|_| self.take_shared(endpoint));
            let Some((shared, place)) = free else { break turn };
            drop(turn);
            match self.send_h2(endpoint, shared, place, request).await {
                Ok(response) => return Ok(response),
                Err(Unsent::Not(unsent)) => request = unsent,
                Err(Unsent::Perhaps(error)) => return Err(error),
            }
        };
        let limit = connect_limit.saturating_sub(clock::now().saturating_duration_since(began));
        let connected = connect(endpoint, &self.lookups, limit).await;
        let open = self.metrics.upstream_connect(provider, outcome(&connected));
        let (stream, version) = connected?;
        self.lock(endpoint, |host| host.version = Some(version));
        match version {
            Version::H1 => {
                drop(turn);
                let (sender, connection) =
                    http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
                let task = tokio::spawn(drive(connection, open)).abort_handle();
                let mut one = One::new(sender, task, clock::now());
                let response = one.sender.send_request(*request).await.map_err(SendError::Broken)?;
                Ok(self.lend(endpoint, response, Connection::One(one)))
            }
            Version::H2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .keep_alive_interval(PING_EVERY)
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(ConnectError::Http)?;
                tokio::spawn(drive(connection, open));
                let shared = Shared::new(sender, clock::now());
                let place = shared.place().ok_or(SendError::Refused)?;
                self.lock(endpoint, |host| host.shared.push(shared.clone()));
                drop(turn);
                self.send_h2(endpoint, shared, place, request).await.map_err(|unsent| match unsent {
                    Unsent::Not(_) => SendError::Refused,
                    Unsent::Perhaps(error) => error,
                })
            }
        }
    }

    /// Waits while another call opens a connection that may carry this one too: a hundred calls at once would open a
    /// hundred of them. `None` where each call has a connection of its own.
    async fn turn(
        &self,
        endpoint: &Arc<Endpoint>,
        limit: Duration,
    ) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>, ConnectError> {
        let opening = |host: &mut Host| (host.version != Some(Version::H1)).then(|| host.opening.clone());
        let Some(opened) = endpoint.tls.as_ref().and_then(|_| self.lock(endpoint, opening)) else { return Ok(None) };
        let turn = tokio::time::timeout(limit, opened.lock_owned()).await.map_err(|_| ConnectError::Timeout(limit))?;
        // It may have turned out not to share while we waited.
        Ok(self.lock(endpoint, opening).map(|_| turn))
    }

    /// Sends on an h2 connection.
    async fn send_h2(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        mut shared: Shared,
        place: Place,
        mut request: Box<Request<Body>>,
    ) -> Result<Response<UpstreamBody>, Unsent> {
        let whole = absolute(endpoint, request.uri()).map_err(|error| Unsent::Perhaps(error.into()))?;
        let path = std::mem::replace(request.uri_mut(), whole);
        request.headers_mut().remove(header::HOST);
        match shared.sender.try_send_request(*request).await {
            Ok(response) => Ok(self.lend(endpoint, response, Connection::Many(place))),
            Err(mut error) => Err(match error.take_message() {
                Some(mut unsent) => {
                    // As it came: it may go out over HTTP/1.1 yet.
                    *unsent.uri_mut() = path;
                    unsent.headers_mut().insert(header::HOST, endpoint.authority.clone());
                    Unsent::Not(Box::new(unsent))
                }
                None => Unsent::Perhaps(SendError::Broken(error.into_error())),
            }),
        }
    }

    fn lend(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Response<UpstreamBody> {
        let lease = Lease { client: self.clone(), endpoint: endpoint.clone(), connection };
        response.map(|incoming| UpstreamBody::new(incoming, lease))
    }

    fn take_shared(&self, endpoint: &Arc<Endpoint>) -> Option<(Shared, Place)> {
        endpoint.tls.as_ref()?;
        let now = clock::now();
        self.lock(endpoint, |host| {
            host.shared.retain(|shared| shared.is_fit(now));
            host.shared.iter().find_map(|shared| shared.place().map(|place| (shared.clone(), place)))
        })
    }

    fn take_idle(&self, endpoint: &Arc<Endpoint>) -> Option<One> {
        let now = clock::now();
        self.lock(endpoint, |host| {
            while let Some(idle) = host.idle.pop() {
                if idle.is_fit(now) {
                    return Some(idle.connection);
                }
            }
            None
        })
    }

    fn put_idle(&self, endpoint: &Arc<Endpoint>, connection: One) {
        let since = clock::now();
        self.lock(endpoint, |host| {
            if host.idle.len() < IDLE_MAX && connection.is_fit(since) {
                host.idle.push(Idle { connection, since });
            }
        });
    }

    /// Closes what has been idle too long, lets what is too old end with its last call, and forgets endpoints that
    /// nobody else knows any more; gives how many connections it let go.
    pub fn sweep(&self) -> usize {
        self.sweep_at(clock::now())
    }

    pub(super) fn sweep_at(&self, now: Instant) -> usize {
        let mut hosts = self.hosts();
        let kept = |hosts: &HashMap<usize, Host>| {
            hosts.values().map(|host| host.idle.len() + host.shared.len()).sum::<usize>()
        };
        let before = kept(&hosts);
        hosts.retain(|_, host| {
            // Those opened first stay, and are used first: they lie together in memory. Any few of what a burst opened
            // would hold on to pages all over what it took.
            host.idle.sort_by_key(|idle| Reverse(idle.connection.opened()));
            let mut beyond = host.idle.len().saturating_sub(IDLE_WARM);
            host.idle.retain(|idle| {
                let is_spare = beyond > 0 && now.saturating_duration_since(idle.since) >= IDLE_BEYOND_FOR;
                beyond -= usize::from(is_spare);
                !is_spare && idle.is_fit(now)
            });
            host.idle.shrink_to(IDLE_WARM);
            host.shared.retain(|shared| shared.is_fit(now));
            Arc::strong_count(&host.endpoint) > 1
        });
        before.saturating_sub(kept(&hosts))
    }

    /// The connections that wait for a call.
    pub fn idle_connections(&self) -> usize {
        self.hosts().values().map(|host| host.idle.len()).sum()
    }

    fn lock<T>(&self, endpoint: &Arc<Endpoint>, act: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = self.hosts();
        let host = match hosts.entry(Arc::as_ptr(endpoint).addr()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (idle, shared) = (Vec::new(), Vec::new());
                entry.insert(Host { endpoint: endpoint.clone(), idle, shared, version: None, opening: Arc::default() })
            }
        };
        act(host)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<usize, Host>> {
        // A panic inside leaves at worst one connection fewer in the pool.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as a connection does; `open` counts it until then. Not an `async fn`: that would have room for the
/// connection twice.
fn drive(connection: impl Future<Output = hyper::Result<()>>, open: Option<Present>) -> impl Future<Output = ()> {
    connection.map(move |ended| {
        if let Err(error) = ended {
            tracing::debug!(%error, "an upstream connection ended early");
        }
        drop(open);
    })
}

fn outcome<T>(connected: &Result<T, ConnectError>) -> Connect {
    match connected {
        Ok(_) => Connect::Connected,
        Err(ConnectError::Timeout(_)) => Connect::TimedOut,
        Err(ConnectError::Tcp(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Connect::Refused,
        Err(ConnectError::Tls(_)) => Connect::Tls,
        Err(ConnectError::Tcp(_) | ConnectError::Lookup(..) | ConnectError::Proxy(_) | ConnectError::Http(_)) => {
            Connect::Failed
        }
    }
}

/// The whole URL of a call, as h2 and plain proxies want it.
fn absolute(endpoint: &Endpoint, path: &Uri) -> Result<Uri, http::Error> {
    let scheme = endpoint.url().scheme.as_str();
    Uri::builder()
        .scheme(scheme)
        .authority(endpoint.authority.as_bytes())
        .path_and_query(path.path_and_query().map_or("/", |path| path.as_str()))
        .build()
}
