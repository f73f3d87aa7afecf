//! Several nodes, each a process of its own, on loopback: the real program, real disks, real signals.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use troupe_loadtest::mock::{Mock, MockHandle, MockOptions};
use troupe_node::clock;

use crate::client::{Client, Reply};
use crate::eventually::LONG;

mod certified;
mod served;

pub use certified::Ran;
pub use served::heard_of;

/// What operators show to every node of a crew.
pub const ADMIN: &str = "crew-admin-token";
/// What a crew may take to form, on a machine that is busy.
const FORM_WITHIN: Duration = Duration::from_secs(30);

/// Nodes of one cluster, and a provider.
pub struct Crew {
    /// The provider.
    pub mock: MockHandle,
    /// The nodes.
    pub nodes: Vec<Seat>,
    program: PathBuf,
    dir: TempDir,
}

/// One node: where it is, and its process while it runs.
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Where clients go.
    pub data: SocketAddr,
    /// Where operators go.
    pub admin: SocketAddr,
    /// Where other nodes go.
    pub peer: SocketAddr,
    /// What it keeps.
    pub dir: PathBuf,
    /// What it is started with instead of what makes it one of a crew that speaks without TLS.
    pub flags: Option<Vec<String>>,
    child: Option<Child>,
    starts: u32,
}

impl Crew {
    /// Starts `count` nodes that form a cluster, and waits until each of them is ready.
    ///
    /// # Panics
    /// When they do not.
    pub async fn start(program: &Path, count: usize) -> Self {
        let mut crew = Self::prepare(program, count);
        for at in 0..count {
            crew.run(at);
        }
        crew.all_ready().await;
        crew
    }

    /// `count` nodes that do not run yet.
    ///
    /// # Panics
    /// When the system has no port or no directory for them.
    pub fn prepare(program: &Path, count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mock = Mock::start(MockOptions::default()).unwrap();
        std::fs::write(dir.path().join("seal-key"), "5e".repeat(32)).unwrap();
        std::fs::write(dir.path().join("admin-token"), ADMIN).unwrap();
        let nodes = (1..=count).map(|number| Seat::new(dir.path(), number)).collect();
        Self { mock, nodes, program: program.to_owned(), dir }
    }

    /// Starts a node, or starts it again.
    ///
    /// # Panics
    /// When it runs, or cannot be started.
    pub fn run(&mut self, at: usize) {
        let count = self.nodes.len();
        let join: Vec<String> = self.nodes.iter().map(|seat| seat.peer.to_string()).collect();
        let dir = self.dir.path().to_owned();
        let file = |name: &str| format!("file:{}", dir.join(name).display());
        let seat = &mut self.nodes[at];
        assert!(seat.child.is_none(), "{} runs", seat.name);
        seat.starts += 1;
        let log = |kind: &str| File::create(dir.join(format!("{}.{}.{kind}", seat.name, seat.starts))).unwrap();
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let command = &mut Command::new(&self.program);
        let mut flags = vec![
            flag("name", &seat.name),
            flag("data-dir", &seat.dir.display().to_string()),
            flag("listen-data", &seat.data.to_string()),
            flag("listen-admin", &seat.admin.to_string()),
            flag("listen-peer", &seat.peer.to_string()),
            flag("listen-admin-token", &file("admin-token")),
            flag("cluster-seal-key", &file("seal-key")),
            flag("log-access", "off"),
            flag("data-threads", "1"),
            flag("limits-drain-delay", "0s"),
        ];
        match &seat.flags {
            None if count > 1 => flags.extend([
                flag("cluster-bootstrap-expect", &count.to_string()),
                flag("cluster-join", &join.join(",")),
                flag("cluster-advertise", &seat.peer.to_string()),
                flag("cluster-plain", "true"),
            ]),
            None => {}
            Some(own) => {
                let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
                flags.retain(|flag| own.iter().all(|own| name(own) != name(flag)));
                flags.extend(own.iter().cloned());
            }
        }
        command.env_clear().arg("serve").args(flags);
        command.stdin(Stdio::null()).stdout(log("out")).stderr(log("err"));
        seat.child = Some(command.spawn().unwrap());
    }

    /// Waits until every node that runs is ready.
    ///
    /// # Panics
    /// When one is not.
    pub async fn all_ready(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].child.is_some() {
                self.ready(at).await;
            }
        }
    }

    /// Waits until a node is ready.
    ///
    /// # Panics
    /// When it is not.
    pub async fn ready(&mut self, at: usize) {
        let deadline = clock::now() + FORM_WITHIN;
        while !self.is_ready(at).await {
            let seat = &mut self.nodes[at];
            let ended = seat.child.as_mut().and_then(|child| child.try_wait().unwrap());
            let (log, name) = (self.log(at), &self.nodes[at].name);
            assert!(ended.is_none(), "{name} ended with {ended:?}:\n{log}");
            assert!(clock::now() < deadline, "{name} is not ready:\n{log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_ready(&self, at: usize) -> bool {
        let ready = attempt(self.nodes[at].admin, Method::GET, "/readyz", "", Bytes::new()).await;
        ready.is_some_and(|reply| reply.status == 200)
    }

    /// What the last run of a node said on its standard error.
    ///
    /// # Panics
    /// When that cannot be read.
    pub fn log(&self, at: usize) -> String {
        let seat = &self.nodes[at];
        let path = self.dir.path().join(format!("{}.{}.err", seat.name, seat.starts));
        std::fs::read_to_string(path).unwrap()
    }

    /// Everything that all nodes wrote to disk: data directories, logs, standard output.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends a process at once, as a power cut would; what the kernel holds survives.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal such as `STOP`, `CONT` or `TERM`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, at: usize, name: &str) {
        let id = self.nodes[at].child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits until a process that was told to stop has ended.
    ///
    /// # Panics
    /// When it does not end, or does not run.
    pub async fn ended(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().unwrap();
        crate::eventually("the process ends", || child.try_wait().unwrap()).await;
    }

    /// Whether a node's process runs.
    pub fn runs(&self, at: usize) -> bool {
        self.nodes[at].child.is_some()
    }

    /// A client of a node's operators' listener.
    pub fn admin(&self, at: usize) -> Client {
        Client::new(self.nodes[at].admin, None).key(ADMIN)
    }

    /// A client of a node.
    pub fn client(&self, at: usize) -> Client {
        Client::new(self.nodes[at].data, None)
    }

    /// Asks the operators' listener of a node; `None` when no whole answer comes.
    pub async fn ask(&self, at: usize, method: Method, path: &str, body: Option<Value>) -> Option<Reply> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        attempt(self.nodes[at].admin, method, path, ADMIN, body).await
    }

    /// The node that leads, if one that runs says so.
    pub async fn leader(&self) -> Option<usize> {
        for at in (0..self.nodes.len()).filter(|at| self.runs(*at)) {
            let page = self.ask(at, Method::GET, "/metrics", None).await.map(|reply| reply.text()).unwrap_or_default();
            if page.lines().any(|line| line == "troupe_raft_is_leader 1") {
                return Some(at);
            }
        }
        None
    }

    /// Waits for a leader.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn some_leader(&self) -> usize {
        let deadline: Instant = clock::now() + FORM_WITHIN;
        loop {
            if let Some(at) = self.leader().await {
                return at;
            }
            assert!(clock::now() < deadline, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Seat {
    fn new(dir: &Path, number: usize) -> Self {
        let name = format!("gw-{number}");
        let dir = dir.join(&name);
        Self { name, data: free(), admin: free(), peer: free(), dir, flags: None, child: None, starts: 0 }
    }

    /// The id of its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Makes one call of a node that may die meanwhile; `None` when no whole answer comes. `key` may be empty.
pub async fn attempt(
    address: SocketAddr,
    method: Method,
    path: &str,
    key: &str,
    body: impl Into<Bytes>,
) -> Option<Reply> {
    attempt_with(address, method, path, key, &[], body).await
}

/// As [`attempt`], with further headers.
pub async fn attempt_with(
    address: SocketAddr,
    method: Method,
    path: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Reply> {
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("content-type", "application/json").body(Full::new(body.into())).ok()?;
    let work = async {
        let tcp = TcpStream::connect(address).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
        let running = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        running.abort();
        Some(Reply { status: head.status.as_u16(), headers: head.headers, body, is_cut: false })
    };
    timeout(LONG, work).await.ok().flatten()
}

/// An address nobody listens on at the moment: other nodes must know it before its own node is started. Below the ports that
/// the system gives to whoever asks for any, or somebody could have it while its node is away.
fn free() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run beside this one begin elsewhere.
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % u32::from(PORTS);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + u16::try_from(next).unwrap()));
        // Streams and datagrams come to the same port.
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
