use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use troupe_proto::id::ProviderId;
use troupe_proto::spec::{Auth, Provider, Rules, Wire};

use super::*;
use crate::clock;
use crate::telemetry::metrics::Metrics;

const LONG: Duration = Duration::from_secs(10);

/// A provider over TLS that counts its connections and sends half a reply, the rest when it is told to.
#[derive(Default)]
struct Seen {
    opened: AtomicUsize,
    closed: AtomicUsize,
    /// Of each call, in their order: lets the reply end.
    finish: Mutex<Vec<Arc<Notify>>>,
    /// Of each call, in their order: the connection it came on, counted from 0.
    came_on: Mutex<Vec<usize>>,
}

impl Seen {
    fn counts(&self) -> (usize, usize) {
        (self.opened.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed))
    }

    fn finish(&self, call: usize) {
        self.finish.lock().unwrap()[call].notify_one();
    }
}

struct World {
    client: Arc<Client>,
    endpoint: Arc<Endpoint>,
    seen: Arc<Seen>,
}

async fn world(alpn: &str) -> World {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
    let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![cert], key).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    tokio::spawn(provide(listener, TlsAcceptor::from(Arc::new(config)), seen.clone()));
    let provider = Provider {
        wire: Wire::OpenAi,
        base_url: format!("https://127.0.0.1:{port}").parse().unwrap(),
        auth: Auth::Bearer,
        credentials: [].into(),
        azure_api_version: None,
        headers: [].into(),
        ca_pem: Some(cert_pem),
        proxy: None,
        rules: Rules::default(),
    };
    let endpoint = Arc::new(Endpoint::of(&provider).unwrap());
    World { client: Arc::new(Client::new(Metrics::new())), endpoint, seen }
}

async fn provide(listener: TcpListener, tls: TlsAcceptor, seen: Arc<Seen>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), seen.clone());
        tokio::spawn(async move {
            let stream = TokioIo::new(tls.accept(tcp).await.unwrap());
            let connection = seen.opened.fetch_add(1, Ordering::Relaxed);
            let told = seen.clone();
            let reply = hyper::service::service_fn(move |_: Request<Incoming>| {
                let finish = Arc::new(Notify::new());
                told.came_on.lock().unwrap().push(connection);
                told.finish.lock().unwrap().push(finish.clone());
                let rest = async move {
                    finish.notified().await;
                    Bytes::from("rest")
                };
                let pieces = stream::iter([Bytes::from("half ")]).chain(rest.into_stream());
                let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
                async move { Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(frames)))) }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(stream, reply).await);
            seen.closed.fetch_add(1, Ordering::Relaxed);
        });
    }
}

impl World {
    /// Begins a call, and reads its first half.
    async fn begin(&self) -> UpstreamBody {
        let request = Request::post("/v1").body(Full::new(Bytes::from("{}"))).unwrap();
        let provider = ProviderId::new("p");
        let sent = self.client.send(&provider, &self.endpoint, Box::new(request), LONG);
        let mut body = timeout(LONG, sent).await.unwrap().unwrap().into_body();
        assert_eq!(body.chunk().await.unwrap().unwrap(), "half ");
        body
    }

    async fn end(&self, mut body: UpstreamBody, call: usize) {
        self.seen.finish(call);
        assert_eq!(timeout(LONG, body.chunk()).await.unwrap().unwrap().unwrap(), "rest");
        assert!(body.chunk().await.is_none());
    }

    async fn until_counts(&self, opened: usize, closed: usize) {
        let reached = async {
            while self.seen.counts() != (opened, closed) {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(LONG, reached).await.is_ok(), "{:?} and never {:?}", self.seen.counts(), (opened, closed));
    }
}

fn in_secs(seconds: u64) -> Instant {
    clock::now() + Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_connection_without_calls_is_closed_before_balancers_close_it_and_no_sooner() {
    for alpn in ["h2", "http/1.1"] {
        let world = world(alpn).await;
        let body = world.begin().await;

        world.client.sweep_at(in_secs(55));
        world.end(body, 0).await;
        world.client.sweep_at(in_secs(40));
        let body = world.begin().await;
        world.end(body, 1).await;
        assert_eq!(world.seen.counts(), (1, 0), "{alpn}");
        world.client.sweep_at(in_secs(55));

        world.until_counts(1, 1).await;
        let body = world.begin().await;
        world.end(body, 2).await;
        world.until_counts(2, 1).await;
    }
}

#[tokio::test]
async fn an_old_connection_finishes_its_streams_and_gets_no_others() {
    let world = world("h2").await;
    let first = world.begin().await;
    world.client.sweep_at(in_secs(290));
    let second = world.begin().await;
    assert_eq!(world.seen.counts(), (1, 0));

    world.client.sweep_at(in_secs(301));
    let third = world.begin().await;

    assert_eq!(world.seen.counts(), (2, 0));
    world.end(second, 1).await;
    world.end(first, 0).await;
    world.until_counts(2, 1).await;
    world.end(third, 2).await;
}

#[tokio::test]
async fn what_a_burst_left_closes_soon_and_the_rest_stays_warm() {
    let world = world("http/1.1").await;
    let mut bodies = Vec::new();
    for _ in 0..40 {
        bodies.push(world.begin().await);
    }
    for (call, body) in bodies.into_iter().enumerate() {
        world.end(body, call).await;
    }

    assert_eq!(world.client.sweep_at(in_secs(5)), 0);
    assert_eq!(world.client.idle_connections(), 40);
    assert_eq!(world.client.sweep_at(in_secs(15)), 36);

    assert_eq!(world.client.idle_connections(), 4);
    world.until_counts(40, 36).await;
}

#[tokio::test]
async fn of_what_a_burst_opened_the_first_stay() {
    let world = world("http/1.1").await;
    let mut bodies = Vec::new();
    for _ in 0..12 {
        bodies.push(world.begin().await);
    }
    for (call, body) in bodies.into_iter().enumerate() {
        world.end(body, call).await;
    }

    assert_eq!(world.client.sweep_at(in_secs(15)), 8);
    let mut again = Vec::new();
    for _ in 0..4 {
        again.push(world.begin().await);
    }

    assert_eq!(world.seen.came_on.lock().unwrap()[12..], [0, 1, 2, 3]);
}
