//! This node among others: consensus on a thread of its own, the way to other nodes, and how it comes to belong to a
//! cluster.
//!
//! ```text
//! data dir ─ keyring ─ certificates ─▶ transport ─▶ raft ─▶ Handle          on the thread "troupe-raft"
//!                                         └─ door ◀─ others     seek ─▶ form | adopt | enter ─▶ settle
//! ```
//! A cluster of one is no special case: a node that knows of nobody else forms one at its first start.

mod identity;
mod seek;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use troupe_cluster::audit::{self, AuditError};
use troupe_cluster::consensus::{Reshape, Role};
use troupe_cluster::forming::{Door, Inside};
use troupe_cluster::gossip;
use troupe_cluster::raft::{self, Raft, Settings, Stopped, Work};
use troupe_cluster::storage::{DataDir, DirError, DiskLog, DiskSnapshots};
use troupe_cluster::transport::{self, Certificates, Introduction, Listening, Tcp, Transport};
use troupe_cluster::{Cluster, Handle, Process, State};
use troupe_proto::id::NodeId;

use crate::clock;
use crate::config::Boot;
use crate::gossip::{Beginning, Gossiping};
use crate::telemetry::metrics::Metrics;
use identity::Identity;
pub(crate) use identity::{certificates_there, keyring_there};
use seek::Seeking;

/// In the data directory: the files of the audit.
pub(crate) const AUDIT_DIR: &str = "audit";
/// Says that this node has taken part in a cluster: from then on its log is never empty.
const BEGUN_FILE: &str = "begun";
/// What handing over leadership may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);
/// What consensus may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Why a node cannot agree with anybody, not even with itself. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The data directory cannot be used.
    #[error("{}", causes(.0))]
    Dir(#[from] DirError),
    /// A file in it cannot be used.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Several nodes need one key.
    #[error(
        "nodes that agree need one key for the secrets they keep: set cluster.seal_key to the same 32 bytes on each \
         (`openssl rand -base64 32` makes some)"
    )]
    SealKey,
    /// The certificates cannot be used.
    #[error("[cluster.tls]: {0}")]
    Tls(String),
    /// The join token is none.
    #[error("cluster.join_token is not one that `troupe cluster token` made")]
    JoinToken,
    /// Its log is gone: its votes could be given twice, and what it acknowledged is not there.
    #[error(
        "the log in {} is gone, and this node has taken part: remove the data directory and let the node join again \
         under a new id (`troupe cluster replace` gives it the old one's vote)",
        .0.display()
    )]
    LostLog(PathBuf),
    /// The key that its secrets are kept under is gone.
    #[error(
        "the key that secrets of providers are kept under is gone: {} is not there, and the data directory holds a state; \
         put it back, or give the key as cluster.seal_key",
        .0.display()
    )]
    LostSealKey(PathBuf),
    /// The audit cannot be kept.
    #[error("{}", causes(.0))]
    Audit(#[from] AuditError),
    /// Other nodes cannot be listened to.
    #[error("cannot listen on {address} (listen.peer): {source}; choose another address with --listen-peer HOST:PORT")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Their datagrams cannot be listened to.
    #[error(
        "cannot listen on {address} for datagrams (UDP at listen.peer): {source}; choose another address with \
         --listen-peer HOST:PORT"
    )]
    Datagrams {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Consensus does not start.
    #[error("{}", causes(.0))]
    Raft(#[from] raft::StartError),
    /// The system gave no thread, no runtime or no randomness.
    #[error("consensus has no thread to run on: {0}")]
    Thread(io::Error),
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// This node's part in its cluster.
pub struct Peers {
    /// What all agree on.
    pub handle: Handle,
    /// The way to other nodes.
    pub transport: Transport,
    /// What it shows to them; `None` where they speak without TLS, and where there are none.
    pub certificates: Option<Arc<Certificates>>,
    /// Where it listens for them.
    pub address: Option<std::net::SocketAddr>,
    /// What it and they tell each other.
    pub gossip: Gossiping,
    node: NodeId,
    identity: Arc<Identity>,
    stopped: watch::Receiver<Option<Stopped>>,
    refused: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What the operator is shown once, when a cluster is formed.
pub type ShowToken = dyn Fn(&str) + Send + Sync;

/// Takes this node's place, or looks for one: what it agrees on is there at once, and older than fresh until it has.
///
/// # Errors
/// [`PeersError`]; nothing runs then.
pub async fn start(boot: &Boot, show: Arc<ShowToken>, metrics: &Arc<Metrics>) -> Result<Peers, PeersError> {
    let (ready, is_ready) = oneshot::channel();
    let (stop, told) = watch::channel(false);
    let (boot, metrics) = (boot.clone(), Arc::clone(metrics));
    // Load elsewhere must not stretch heartbeats.
    let thread = thread::Builder::new().name("troupe-raft".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(PeersError::Thread(error)))),
        };
        metrics.watch_runtime("raft", runtime.handle());
        runtime.block_on(run(&boot, show, ready, told));
        runtime.shutdown_background();
    });
    let thread = thread.map_err(PeersError::Thread)?;
    match is_ready.await {
        Ok(started) => {
            let Started { handle, transport, certificates, address, gossip, node, identity, stopped, refused } =
                started?;
            Ok(Peers {
                handle,
                transport,
                certificates,
                address,
                gossip,
                node,
                identity,
                stopped,
                refused,
                stop,
                thread: Mutex::new(Some(thread)),
            })
        }
        Err(_) => Err(PeersError::Thread(io::Error::other("it ended at once"))),
    }
}

struct Started {
    handle: Handle,
    transport: Transport,
    certificates: Option<Arc<Certificates>>,
    address: Option<std::net::SocketAddr>,
    gossip: Gossiping,
    node: NodeId,
    identity: Arc<Identity>,
    stopped: watch::Receiver<Option<Stopped>>,
    refused: watch::Receiver<Option<String>>,
}

/// The whole life of consensus in this process.
async fn run(
    boot: &Boot,
    show: Arc<ShowToken>,
    ready: oneshot::Sender<Result<Started, PeersError>>,
    mut told: watch::Receiver<bool>,
) {
    let (started, raft, seeking, listening) = match open(boot, show).await {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let mut stopped = started.stopped.clone();
    if ready.send(Ok(started)).is_err() {
        return;
    }
    let seeking = tokio::spawn(seeking.run());
    tokio::select! {
        _ = told.wait_for(|is_told| *is_told) => {}
        _ = stopped.wait_for(Option::is_some) => {}
    }
    seeking.abort();
    drop(listening);
    raft.shutdown().await;
    // A node whose consensus failed serves on for a while, and the others shall know that it is there: gossip lives here too.
    if matches!(*stopped.borrow(), Some(Stopped::Failed(_))) {
        told.wait_for(|is_told| *is_told).await.ok();
    }
}

async fn open(
    boot: &Boot,
    show: Arc<ShowToken>,
) -> Result<(Started, Raft<State>, Seeking, Option<Listening>), PeersError> {
    let data_dir = &boot.node.data_dir;
    let random = |error: getrandom::Error| PeersError::Thread(io::Error::other(error));
    let fresh = NodeId(u64::from_le_bytes(clock::secret_bytes().map_err(random)?).max(1));
    let dir = DataDir::open(data_dir, fresh)?;
    let keyring = identity::keyring(boot, data_dir)?;
    let seal_keys = keyring.ids().iter().map(|id| id.0).collect();
    let peer = advertised(boot);
    let identity = Arc::new(Identity::load(boot, dir)?);
    let certificates = identity.certificates();
    let (node, incarnation, cluster) = identity.who();
    let introduction = Introduction { cluster, node, incarnation, peer: peer.clone(), seal_keys };
    let transport = Transport::new(transport::Parts {
        net: Arc::new(Tcp),
        tls: certificates.clone(),
        settings: transport::Settings::default(),
        introduction,
        dice: Arc::new(clock::dice),
    });
    let file = |path: PathBuf| move |source| PeersError::File { path, source };
    let logs = DiskLog::open(&data_dir.join("raft")).map_err(file(data_dir.join("raft")))?;
    if data_dir.join(BEGUN_FILE).exists() && raft::is_blank(&logs).await.map_err(file(data_dir.join("raft")))? {
        return Err(PeersError::LostLog(data_dir.join("raft")));
    }
    let snapshots = DiskSnapshots::open(&data_dir.join("snapshots")).map_err(file(data_dir.join("snapshots")))?;
    let parts = raft::Parts {
        settings: Settings::default(),
        node,
        logs,
        snapshots: Arc::new(snapshots),
        links: Arc::new(transport.clone()),
        seed: u64::from_le_bytes(clock::secret_bytes().map_err(random)?),
        work: Work::Aside,
        wall: Arc::new(clock::unix_millis),
    };
    let raft = raft::start(parts, State::default()).await?;
    let handle = Cluster::over(Arc::new(raft.clone()), Process { node, incarnation }, keyring.clone());
    // It ends with this thread's runtime.
    tokio::spawn(handle.keep_audit(&data_dir.join(AUDIT_DIR), audit::Settings::default())?);
    let door = Arc::new(Door::new(boot.cluster.bootstrap_expect, clock::unix_millis));
    let inside = {
        let (handle, raft, identity) = (handle.clone(), raft.clone(), identity.clone());
        move |cluster| Inside {
            cluster,
            handle: handle.clone(),
            members: Arc::new(raft.clone()),
            issuer: identity.issuer(),
        }
    };
    if let Some(cluster) = cluster {
        door.open(inside(cluster));
    }
    let is_open = certificates.is_some() || boot.cluster.is_plain;
    let listening = match is_open {
        true => {
            let address = boot.listen.peer;
            let failed = |source| PeersError::Listen { address, source };
            Some(transport.listen(address, door.clone()).await.map_err(failed)?)
        }
        false => None,
    };
    let (found, known) = watch::channel(cluster);
    let gossip = match &listening {
        Some(listening) => {
            // Where datagrams come, streams do: the same port.
            let address = listening.address();
            let failed = |source| PeersError::Datagrams { address, source };
            let socket = gossip::bind(address).await.map_err(failed)?;
            let (handle, transport, door) = (handle.clone(), transport.clone(), Arc::clone(&door));
            Gossiping::when_known(Beginning { socket, handle, keyring, transport, door }, known)
        }
        None => Gossiping::silent(),
    };
    let (refused, is_refused) = watch::channel(None);
    let seeking = Seeking::new(boot, peer, &handle, &raft, &transport, &identity, show, refused, move |cluster| {
        door.open(inside(cluster));
        found.send_replace(Some(cluster));
    });
    let address = listening.as_ref().map(Listening::address);
    let stopped = raft.stopped();
    let refused = is_refused;
    let started = Started { handle, transport, certificates, address, gossip, node, identity, stopped, refused };
    Ok((started, raft, seeking, listening))
}

/// Where other nodes reach this one.
pub(crate) fn advertised(boot: &Boot) -> String {
    let peer = boot.listen.peer;
    boot.cluster.advertise.clone().unwrap_or_else(|| match peer.ip().is_unspecified() {
        true => format!("{}:{}", boot.node.name, peer.port()),
        false => peer.to_string(),
    })
}

impl Peers {
    /// The node's id.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Why consensus stopped here although nobody asked it to. It does not start again in this process; what was agreed
    /// before may be served on.
    pub fn stopped(&self) -> Option<String> {
        match &*self.stopped.borrow() {
            Some(Stopped::Failed(why)) => Some(why.clone()),
            Some(Stopped::Asked) | None => None,
        }
    }

    /// Waits until this node may not take part, now or ever; gives why.
    pub async fn failed(&self) -> String {
        let refused = happens(self.refused.clone(), |why| Some(format!("it belongs to no cluster: {why}")));
        let superseded = async {
            tokio::select! {
                () = self.handle.superseded() => {}
                () = self.transport.superseded() => {}
            }
            format!(
                "a later process of node {} is at work: its data directory was copied or put back while it ran, and two \
                 with one id would both be believed; stop one of the two for good, and remove its data directory to \
                 have it join under a new id",
                self.node
            )
        };
        tokio::select! {
            why = refused => why,
            why = superseded => why,
        }
    }

    /// Reads the certificates again, where they come from files.
    pub fn reload(&self) {
        self.identity.refresh();
    }

    /// Why the files of the certificates cannot be taken up, if so; those in force stay.
    pub fn unusable_certificates(&self) -> Option<String> {
        self.identity.unusable()
    }

    /// When the first of the certificates ends, in seconds since 1970.
    pub fn certificate_expires(&self) -> Option<i64> {
        self.certificates.as_ref().map(|certificates| certificates.expires_at())
    }

    /// Hands leadership to the voter that lacks least, if this node leads and there is another that lives.
    pub async fn hand_over(&self) {
        let vitals = self.handle.vitals();
        let lag = |node: &NodeId| vitals.behind.iter().find(|(id, _)| id == node).map_or(u64::MAX, |(_, lag)| *lag);
        let heard = self.gossip.stats();
        let is_dead = |node: &NodeId| {
            heard.as_ref().and_then(|stats| stats.peers.get(node)).is_some_and(|peer| peer.is_alive == Some(false))
        };
        let heirs = vitals.voters.iter().map(|(node, _)| *node).filter(|node| *node != self.node && !is_dead(node));
        if vitals.role == Role::Leader
            && let Some(heir) = heirs.min_by_key(lag)
        {
            match tokio::time::timeout(HAND_OVER_WITHIN, self.handle.reshape(Reshape::TransferLeader(heir))).await {
                Ok(Ok(())) => tracing::info!(to = %heir, "leadership handed over"),
                Ok(Err(error)) => tracing::warn!(%error, "leadership is not handed over"),
                Err(_) => tracing::warn!("leadership is not handed over in time"),
            }
        }
    }

    /// Stops taking part. What was acknowledged is on disk anyway; a leader hands over first, so that the others need not
    /// wait until they miss it.
    pub async fn stop(&self) {
        self.hand_over().await;
        self.stop.send_replace(true);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join());
        match tokio::time::timeout(STOP_WITHIN, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_)) | Err(_)) => tracing::error!("the thread of consensus panicked"),
            Err(_) => tracing::error!("consensus does not stop, it is left behind"),
        }
    }
}

async fn happens<T>(mut watch: watch::Receiver<Option<T>>, told: impl Fn(&T) -> Option<String>) -> String {
    loop {
        if let Some(why) = watch.borrow_and_update().as_ref().and_then(&told) {
            return why;
        }
        if watch.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A file of the data directory that only its owner may read.
fn keep(path: &Path, text: &str) -> Result<(), PeersError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let aside = path.with_extension("tmp");
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| PeersError::File { path: path.to_owned(), source })
}
