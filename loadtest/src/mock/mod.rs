//! A mock provider: both wires, every fault, and counts of what arrived.
//!
//! What it does is told by the model name of each request (`mock+cut=3+drip=20ms`),
//! so one mock serves any number of tests at once. [`MockHandle::fail`] lays faults over that while it runs.
//! `docs/loadtest.md` lists the knobs.

mod answer;
mod anthropic;
mod body;
mod counts;
mod faults;
mod openai;
mod quota;
mod responses;
mod resume;
mod routes;
mod schema;
mod script;
mod server;
mod switch;
mod turn;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use counts::{Bill, ClosedEarly, Counts, Received, Snapshot};
pub use quota::Quota;
pub use script::{Ending, Fault, KnobError, Knobs, Tools};
pub use switch::{Strike, StrikeError};

/// Where and how a mock listens.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Address to bind; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Certificate and key; without them the mock speaks plain HTTP/1.1 and h2c.
    pub tls: Option<MockTls>,
}

/// What a mock shows of itself over TLS.
#[derive(Debug, Clone)]
pub struct MockTls {
    /// Certificate chain as PEM.
    pub cert_pem: String,
    /// Private key as PEM.
    pub key_pem: String,
    /// Protocols offered by ALPN, best first; usually `h2` and `http/1.1`.
    pub alpn: Vec<String>,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None }
    }
}

/// Starts mocks.
#[derive(Debug)]
pub struct Mock;

impl Mock {
    /// Starts a mock on a thread and a runtime of its own.
    ///
    /// It accepts as soon as this returns, whatever the caller's runtime does.
    ///
    /// # Errors
    /// The address cannot be bound, the certificate cannot be read, or no thread can be had; nothing is left running.
    pub fn start(options: MockOptions) -> io::Result<MockHandle> {
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let counts = Arc::new(Counts::default());
        let (running, addr) = Running::start(options.listen, tls.clone(), &counts)?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://{addr}");
        Ok(MockHandle { addr, base_url, counts, tls, running: Mutex::new(Some(running)) })
    }
}

/// A listener and its connections, on a thread of their own.
#[derive(Debug)]
struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(listen: SocketAddr, tls: Option<TlsAcceptor>, counts: &Arc<Counts>) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let served = Arc::clone(counts);
        let entered = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let run = move || runtime.block_on(server::serve(entered, tls, served, stopped));
        let thread = std::thread::Builder::new().name("mock".to_owned()).spawn(run)?;
        Ok((Self { stop, thread }, addr))
    }

    fn end(self) {
        self.stop.send_replace(true);
        // A panic of the mock's thread shows as failed requests in the test that caused it.
        drop(self.thread.join());
    }
}

fn acceptor(tls: &MockTls) -> io::Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes()).collect::<Result<_, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A running mock; dropping it closes every connection and ends its thread.
pub struct MockHandle {
    /// The bound address.
    pub addr: SocketAddr,
    /// `http://127.0.0.1:PORT`, without `/v1` and without a slash at the end.
    pub base_url: String,
    counts: Arc<Counts>,
    tls: Option<TlsAcceptor>,
    running: Mutex<Option<Running>>,
}

impl MockHandle {
    /// Gives the base URL as OpenAI's SDKs take it, with `/v1`.
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.base_url)
    }

    /// Gives the counts as they stand.
    pub fn counts(&self) -> Snapshot {
        self.counts.snapshot()
    }

    /// Gives the last 256 requests, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.counts.received()
    }

    /// Gives the clients that left before their reply was over, oldest first.
    pub fn closed_early(&self) -> Vec<ClosedEarly> {
        self.counts.closed_early()
    }

    /// Gives the bills of the last 4096 replies that are over, oldest first.
    pub fn bills(&self) -> Vec<Bill> {
        self.counts.bills()
    }

    /// Makes the calls that `strike` matches fail from now on.
    ///
    /// # Errors
    /// [`StrikeError::Knobs`] when its knobs cannot be obeyed, [`StrikeError::Full`] beyond 256 strikes;
    /// nothing changes then.
    pub fn fail(&self, strike: Strike) -> Result<(), StrikeError> {
        self.counts.switch.add(strike)
    }

    /// Lifts every strike.
    pub fn heal(&self) {
        self.counts.switch.heal();
    }

    /// Starts all sums at zero; what is open stays counted.
    pub fn reset(&self) {
        self.counts.reset();
    }

    /// Dies as a killed process does: every connection breaks, and new ones are refused. Counts and strikes stay.
    pub fn kill(&self) {
        if let Some(running) = self.running().take() {
            running.end();
        }
    }

    /// Serves again at the same address; nothing happens to a mock that lives.
    ///
    /// # Errors
    /// Somebody else has the address by now; the mock stays dead.
    pub fn revive(&self) -> io::Result<()> {
        let mut running = self.running();
        if running.is_none() {
            *running = Some(Running::start(self.addr, self.tls.clone(), &self.counts)?.0);
        }
        Ok(())
    }

    /// Stops the mock and waits until its sockets are closed.
    pub fn stop(self) {
        self.kill();
    }

    /// Waits until the mock ends, which it does not do by itself.
    pub fn wait(self) {
        let running = self.running().take();
        if let Some(running) = running {
            drop(running.thread.join());
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockHandle").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Drop for MockHandle {
    fn drop(&mut self) {
        self.kill();
    }
}
