//! Nodes over real sockets, and those who are none.

mod calls;
mod intruders;
mod keys;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use troupe_proto::id::{ClusterId, NodeId};

use super::ca::{self, Issued, Issuer, Validity};
use super::*;

const CLUSTER: ClusterId = ClusterId(7);
const SOON: Duration = Duration::from_secs(5);

/// Seconds since 1970; certificates are checked by the real clock.
fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "certificates are checked by the real clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Waits for a claim to come true.
async fn eventually(claim: &str, mut is_true: impl FnMut() -> bool) {
    let wait = async {
        while !is_true() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {claim}"));
}

/// Answers with what it got, but for a few words.
#[derive(Default)]
struct Echo {
    /// Calls of `wait` that are being served.
    waiting: AtomicUsize,
    callers: std::sync::Mutex<Vec<Caller>>,
    /// Lets one `wait` go for each permit.
    gate: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Service for Echo {
    fn check(&self, _from: &Caller, body: &[u8]) -> Result<(), Rejected> {
        if body == b"unknown" { Err(Rejected::Version) } else { Ok(()) }
    }

    fn serve(&self, from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        async move {
            self.callers.lock().unwrap().push(from.clone());
            match body.as_slice() {
                b"wait" => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    self.gate.0.acquire().await.unwrap().forget();
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    b"waited".to_vec()
                }
                b"panic" => panic!("asked to"),
                b"too much" => vec![0; from.class.limit() + 1],
                _ => body,
            }
        }
        .boxed()
    }
}

/// Short enough for tests, long enough for a busy machine.
fn settings() -> Settings {
    Settings {
        dial_max: Duration::from_secs(3),
        handshake_max: Duration::from_millis(500),
        stall_max: Duration::from_millis(300),
        backoff_first: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..Settings::default()
    }
}

fn introduction(node: u64) -> Introduction {
    Introduction {
        cluster: Some(CLUSTER),
        node: NodeId(node),
        incarnation: 1,
        peer: format!("node-{node}:1"),
        seal_keys: vec![[1; 8]],
    }
}

/// One authority and what it issues.
struct Authority {
    made: Issued,
    issuer: Issuer,
}

impl Authority {
    fn new() -> Self {
        let made = ca::found("Test CA", Validity::days(now(), 10)).unwrap();
        let issuer = Issuer::read(&made.cert, &made.key).unwrap();
        Self { made, issuer }
    }

    fn issue(&self, cluster: Option<ClusterId>, validity: Validity) -> Arc<Certificates> {
        let node = self.issuer.issue("node", &[], cluster, validity).unwrap();
        Arc::new(Certificates::from_pem(&self.made.cert, &node.cert, &node.key).unwrap())
    }

    fn node(&self) -> Arc<Certificates> {
        self.issue(None, Validity::days(now(), 1))
    }
}

/// A node that calls and answers.
struct Node {
    transport: Transport,
    listening: Listening,
    service: Arc<Echo>,
}

impl Node {
    async fn start(introduction: Introduction, tls: Option<Arc<Certificates>>) -> Self {
        Self::start_with(introduction, tls, settings()).await
    }

    async fn start_with(introduction: Introduction, tls: Option<Arc<Certificates>>, settings: Settings) -> Self {
        let transport = transport(introduction, tls, settings);
        let service = Arc::new(Echo::default());
        let listening = transport.listen(([127, 0, 0, 1], 0).into(), Arc::clone(&service) as _).await.unwrap();
        Self { transport, listening, service }
    }

    fn address(&self) -> String {
        self.listening.address().to_string()
    }

    fn id(&self) -> NodeId {
        self.transport.introduction().node
    }

    async fn call(&self, to: &Self, class: Class, body: &[u8]) -> Result<Vec<u8>, CallError> {
        call(&self.transport, to, class, body).await
    }

    fn rejected(&self, reason: Rejected) -> u64 {
        self.transport.counts().rejected_in.get(&reason).copied().unwrap_or(0)
    }
}

fn transport(introduction: Introduction, tls: Option<Arc<Certificates>>, settings: Settings) -> Transport {
    Transport::new(Parts { net: Arc::new(Tcp), tls, settings, introduction, dice: Arc::new(|| 0) })
}

async fn call(from: &Transport, to: &Node, class: Class, body: &[u8]) -> Result<Vec<u8>, CallError> {
    from.call(to.id(), &to.address(), class, body.to_vec(), SOON).await
}

/// An address at which nobody listens.
async fn nowhere() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
