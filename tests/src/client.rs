//! A client that hides nothing: no retries, no pools, no opinions about status or body.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use troupe_node::clock;

use crate::events::{Event, Events};
use crate::eventually::LONG;

/// A client of one node.
#[derive(Clone)]
pub struct Client {
    addr: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// `None`: every call opens a connection of its own, HTTP/1.1, which ends with the call.
    shared: Option<Shared>,
    headers: HeaderMap,
}

#[derive(Clone)]
struct Shared {
    link: Link,
    _open: Arc<Open>,
}

#[derive(Clone)]
enum Link {
    H1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// A connection's task; dropped, the socket closes.
struct Open(tokio::task::AbortHandle);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

impl Client {
    /// A client without a key.
    pub fn new(addr: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { addr, tls, shared: None, headers: HeaderMap::new() }
    }

    /// The same client with another key, as Bearer; "" for none.
    #[must_use]
    pub fn key(mut self, secret: &str) -> Self {
        self.headers.remove("authorization");
        if secret.is_empty() { self } else { self.header("authorization", &format!("Bearer {secret}")) }
    }

    /// The same client, sending one header more.
    ///
    /// # Panics
    /// When it is no header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same client on one HTTP/1.1 connection that it keeps; calls wait for each other.
    ///
    /// # Panics
    /// When there is no connection to be had.
    pub async fn kept(mut self) -> Self {
        let (sender, open) = self.h1().await;
        self.shared = Some(Shared { link: Link::H1(Arc::new(sender.into())), _open: Arc::new(open) });
        self
    }

    /// The same client on one HTTP/2 connection that all its clones share; over TCP with prior knowledge.
    ///
    /// # Panics
    /// When there is no connection to be had.
    pub async fn http2(mut self) -> Self {
        let io = TokioIo::new(self.socket(b"h2").await);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_header_list_size(1 << 20);
        let (sender, connection) = builder.handshake(io).await.unwrap();
        let open = Open(tokio::spawn(connection).abort_handle());
        self.shared = Some(Shared { link: Link::H2(sender), _open: Arc::new(open) });
        self
    }

    /// Sends JSON and reads the whole reply. Dropped, it hangs up.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.stream(path, body).await.reply().await
    }

    /// Sends bytes as they are and reads the whole reply.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.call(Method::POST, path, body).await.reply().await
    }

    /// Gets a page.
    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Bytes::new()).await.reply().await
    }

    /// Sends JSON and gives the reply as it arrives. Dropped, it hangs up.
    pub async fn stream(&self, path: &str, body: Value) -> Stream {
        self.call(Method::POST, path, body.to_string()).await
    }

    /// Any call at all; gives the reply as it arrives.
    ///
    /// # Panics
    /// When no reply comes, as [`Client::try_call`] says.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Stream {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("no reply from {path}: {error:?}"))
    }

    /// Any call at all.
    ///
    /// # Errors
    /// When the connection ends without a reply.
    ///
    /// # Panics
    /// When nothing happens for [`LONG`] and as long again, or the call cannot be written.
    pub async fn try_call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Stream, hyper::Error> {
        let body = body.into();
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method;
        *request.headers_mut() = self.headers.clone();
        if !body.is_empty() && !request.headers().contains_key("content-type") {
            request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        }
        let authority = self.addr.to_string();
        let (response, open) = match self.shared.as_ref().map(|shared| shared.link.clone()) {
            None => {
                let (mut sender, open) = self.h1().await;
                (within(sender.send_request(h1(request, path, &authority))).await?, Some(open))
            }
            Some(Link::H1(sender)) => {
                let mut sender = sender.lock().await;
                within(sender.ready()).await?;
                (within(sender.send_request(h1(request, path, &authority))).await?, None)
            }
            Some(Link::H2(mut sender)) => {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                *request.uri_mut() = format!("{scheme}://{authority}{path}").parse().unwrap();
                within(sender.ready()).await?;
                (within(sender.send_request(request)).await?, None)
            }
        };
        Ok(Stream::new(response, open))
    }

    async fn h1(&self) -> (http1::SendRequest<Full<Bytes>>, Open) {
        let io = TokioIo::new(self.socket(b"http/1.1").await);
        let (sender, connection) = http1::Builder::new().max_buf_size(1 << 20).handshake(io).await.unwrap();
        (sender, Open(tokio::spawn(connection).abort_handle()))
    }

    async fn socket(&self, protocol: &[u8]) -> Box<dyn Socket> {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else { return Box::new(tcp) };
        let mut tls = rustls::ClientConfig::clone(tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        Box::new(TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap())
    }
}

fn h1(mut request: Request<Full<Bytes>>, path: &str, authority: &str) -> Request<Full<Bytes>> {
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("host", HeaderValue::from_str(authority).unwrap());
    request
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    match timeout(LONG + LONG, work).await {
        Ok(done) => done,
        Err(_) => panic!("nothing happened for {:?}", LONG + LONG),
    }
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it came.
    pub body: Bytes,
    /// Whether the connection (or the h2 stream) was cut before the body's end.
    pub is_cut: bool,
}

impl Reply {
    /// A header's text, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A reply as it arrives. Dropped before its end, it hangs up.
pub struct Stream {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// When its head was read.
    pub began: Instant,
    /// Everything that came so far.
    pub raw: Vec<u8>,
    /// Whether the connection (or the h2 stream) was cut before the body's end; known once [`Stream::next`] gave `None`.
    pub is_cut: bool,
    body: Incoming,
    events: Events,
    ready: std::collections::VecDeque<Event>,
    _open: Option<Open>,
}

impl Stream {
    fn new(response: Response<Incoming>, open: Option<Open>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            began: clock::now(),
            raw: Vec::new(),
            is_cut: false,
            body,
            events: Events::default(),
            ready: std::collections::VecDeque::new(),
            _open: open,
        }
    }

    /// The next piece of the body, as the connection hands it over.
    pub async fn piece(&mut self) -> Option<Bytes> {
        loop {
            match within(self.body.frame()).await? {
                Ok(frame) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    self.raw.extend_from_slice(&piece);
                    return Some(piece);
                }
                Err(_) => {
                    self.is_cut = true;
                    return None;
                }
            }
        }
    }

    /// The next event; `None` at the body's end.
    pub async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() && !self.is_cut {
            let piece = self.piece().await?;
            self.ready.extend(self.events.push(&piece, clock::now()));
        }
        self.ready.pop_front()
    }

    /// All the events that are still to come.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Comment lines seen so far, and bytes that no blank line has ended.
    pub fn between(&self) -> (usize, &[u8]) {
        (self.events.comments(), self.events.left())
    }

    /// Reads the rest as a whole reply.
    pub async fn reply(mut self) -> Reply {
        while self.piece().await.is_some() {}
        Reply { status: self.status, headers: self.headers, body: self.raw.into(), is_cut: self.is_cut }
    }
}
