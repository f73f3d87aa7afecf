//! The composition root: build, serve, drain, stop, in that order and in one place.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use troupe_actors::{Actors, HealthBoard, Published, Target};
use troupe_cluster::seal::NoRandom;
use troupe_cluster::{Cluster, Handle, Keyring};
use troupe_proto::id::KeyId;
use troupe_proto::secret::{KeyHash, Secret};

use crate::admin::{AdminState, Health, Phase};
use crate::agreement::Agreement;
use crate::clock;
use crate::config::reload::ShowKey;
use crate::config::{self, AccessLog as AccessSetting, Boot, ReloadCounters, ReloadError, Sources, Watch};
use crate::flow::Flow;
use crate::freshness::Freshness;
use crate::gossip;
use crate::gossip::health::Outbox;
use crate::house::{House, Limits, Seams};
use crate::ingress::{Listener, ListenerOptions, Worker, WorkerOptions};
use crate::peers::{self, Peers, PeersError};
use crate::pipeline;
use crate::rotation::Rotation;
use crate::telemetry;
use crate::telemetry::access_log::{AccessLog, AccessLogError, Closed, Destination};
use crate::telemetry::metrics::{By, Metrics};
use crate::view::View;
use crate::wiring;

/// Why a node did not start. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (listen.{what}): {source}{}", hint(.source, what))]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The spec file cannot be served.
    #[error("{0}")]
    Spec(#[from] ReloadError),
    /// A certificate of our own cannot be used.
    #[error("[listen.{section}]: {problem}; check that cert and key are PEM files that belong together")]
    Tls {
        /// `tls` or `admin_tls`.
        section: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The data directory cannot be used.
    #[error("the data directory {path:?} cannot be used: {source}; set data_dir to one this user may write")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The node can agree with nobody.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The supervision tree does not stand.
    #[error("the actors do not start: {0}")]
    Actors(#[source] troupe_actors::StartError),
    /// The system gave no randomness.
    #[error(transparent)]
    Random(NoRandom),
    /// The system gave no thread.
    #[error("a data thread cannot be started")]
    Thread(#[source] io::Error),
}

fn hint(error: &io::Error, what: &str) -> String {
    let cause = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "this user may not open that port: choose one above 1023",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose one it has",
        _ => return String::new(),
    };
    format!("; {cause} with --listen-{what} HOST:PORT")
}

/// What a node is started with besides its boot configuration.
pub struct Setup {
    /// Where the spec's values come from.
    pub sources: Sources,
    /// Shows a made key to the operator, once.
    pub show: Arc<ShowKey>,
    /// Doors for tests.
    pub seams: Seams,
}

/// A node that serves.
pub struct Node {
    /// Where clients go.
    pub data: SocketAddr,
    /// Where operators go.
    pub admin: SocketAddr,
    /// What requests share.
    pub house: Arc<House>,
    /// The agreed state.
    pub cluster: Handle,
    peers: Option<Arc<Peers>>,
    reload: Arc<Notify>,
    reloads: Arc<ReloadCounters>,
    leave: Arc<Notify>,
    rotation: Arc<Rotation>,
    /// Why this node may serve no more, once that is so.
    over: watch::Receiver<Option<String>>,
    admin_stop: watch::Sender<bool>,
    workers: Arc<Vec<Worker>>,
    listener: tokio::task::JoinHandle<()>,
    tasks: JoinSet<()>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

impl Node {
    /// Starts a node on the runtime this is called in, which becomes its control plane.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(boot: &Boot, setup: Setup) -> Result<Self, StartError> {
        let data_dir = &boot.node.data_dir;
        let in_data_dir = |source| StartError::DataDir { path: data_dir.clone(), source };
        std::fs::create_dir_all(data_dir).map_err(in_data_dir)?;
        let configured = boot.listen.admin_token.as_ref();
        let own_token = config::own_token(configured, data_dir, boot.spec_file.is_some()).map_err(in_data_dir)?;
        if let Some(made) = own_token.as_ref().and_then(|own| own.made.as_ref()) {
            show_token_on_stderr("node", made.expose());
        }
        let tls = boot.listen.tls.as_ref().map(|tls| server_tls("tls", tls)).transpose()?;
        let admin_tls = boot.listen.admin_tls.as_ref().map(|tls| server_tls("admin_tls", tls)).transpose()?;
        let metrics = Metrics::new();
        metrics.watch_runtime("control", &tokio::runtime::Handle::current());
        let access_log = AccessLog::start(&destination(&boot.log.access), metrics.clone())?;
        let freshness = Arc::new(Freshness::new(clock::now(), None));
        let health = Arc::new(Health::new(freshness.clone(), limits(boot).in_flight));
        // A node that follows a file agrees with itself, in memory: the file is what lasts.
        let (cluster, peers) = match &boot.spec_file {
            Some(_) => {
                let keyring = Keyring::ephemeral(wiring::random()).map_err(StartError::Random)?;
                (Cluster::start_local(keyring), None)
            }
            None => {
                let peers =
                    peers::start(boot, Arc::new(|token: &str| show_token_on_stderr("cluster", token)), &metrics)
                        .await?;
                (peers.handle.clone(), Some(Arc::new(peers)))
            }
        };
        let reloads = Arc::new(ReloadCounters::default());
        let reload = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        let sources = setup.sources;
        if let Some(path) = &boot.spec_file {
            let applied = config::apply_file(&cluster, path, &sources).await?;
            applied.notes.iter().for_each(|note| tracing::warn!("{note}"));
            applied.made.iter().for_each(|(id, secret)| (setup.show)(id, secret));
            let watch = Watch {
                handle: cluster.clone(),
                path: path.clone(),
                sources,
                files: applied.files,
                trigger: reload.clone(),
                counters: reloads.clone(),
                metrics: metrics.clone(),
                show: setup.show.clone(),
            };
            tasks.spawn(watch.run());
        }
        let options =
            ListenerOptions { connections_max: usize::try_from(boot.limits.connections).unwrap_or(usize::MAX) };
        let (listener, data) = bind_data(boot.listen.data, options).await?;
        let (admin_listener, admin) = bind_admin(boot.listen.admin).await?;

        // It stands before gossip does: actors may have something to say at once.
        let has_peers = peers.as_ref().is_some_and(|peers| peers.address.is_some());
        let (outbox, words) = has_peers.then(|| Outbox::new(cluster.process())).unzip();
        let board = outbox.clone().map(|outbox| outbox as Arc<dyn HealthBoard>);

        // Behind everything that an operator may have got wrong.
        let view = Arc::new(Published::new(View::default(), clock::now()));
        let lanes = data_threads(boot.data_threads);
        let actors =
            Actors::start(wiring::settings(&view, &metrics, lanes, board)).await.map_err(StartError::Actors)?;
        let agreement = Arc::new(Agreement::new(cluster.clone(), freshness, peers.clone()));
        let house =
            House::new(limits(boot), view, agreement, actors, health.clone(), metrics.clone(), access_log, setup.seams);
        let house = Arc::new(house);
        house.publish();
        tasks.spawn(publish_changes(house.clone()));
        let (outage, over) = watch::channel(None);
        if let Some(peers) = &peers {
            tasks.spawn(crate::outage::watch(house.clone(), peers.clone(), outage));
            let (fresh, checks) = (house.clone(), house.clone());
            tasks.spawn(async move { fresh.agreement.keep_fresh(|| fresh.publish()).await });
            tasks.spawn(async move { checks.agreement.answer_checks(|| checks.publish()).await });
            let name = gossip::card::Name::of(boot);
            if let Some(words) = words {
                tasks.spawn(gossip::health::carry(peers.gossip.clone(), house.actors.clone(), words));
            }
            tasks.spawn(wiring::watch_uplink(house.clone()));
            tasks.spawn(gossip::card::keep_told(peers.gossip.clone(), house.clone(), name));
        }

        let waits = (boot.limits.drain_delay, boot.limits.drain_timeout);
        let rotation = Rotation::new(health.clone(), house.elders.clone(), waits);
        let flow_seen = rotation.flow();
        let worker_options = WorkerOptions {
            tls,
            connection_max_age: boot.limits.connection_max_age,
            h2_streams: boot.limits.h2_streams,
            is_proxied: boot.listen.is_proxied,
        };
        let workers = (0..lanes)
            .map(|index| Worker::start(index, &house, worker_options.clone(), flow_seen.clone()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(StartError::Thread)?;
        let workers = Arc::new(workers);
        let listener = tokio::spawn(listener.run(house.clone(), workers.clone(), flow_seen));
        let (admin_stop, admin_stopped) = watch::channel(false);
        let token = own_token.map(|own| own.hash);
        let state = admin_state(boot, &house, (&cluster, peers.as_ref()), (&rotation, outbox), token, admin_tls);
        let leave = state.leave.clone();
        tasks.spawn(crate::admin::serve(admin_listener, state, admin_stopped));
        health.set(Phase::Serving);
        Ok(Self {
            data,
            admin,
            house,
            cluster,
            peers,
            reload,
            reloads,
            leave,
            rotation,
            over,
            admin_stop,
            workers,
            listener,
            tasks,
            drain_delay: boot.limits.drain_delay,
            drain_timeout: boot.limits.drain_timeout,
        })
    }

    /// Waits until this node was taken out of its cluster because an operator asked it to leave.
    pub async fn left(&self) {
        self.leave.notified().await;
    }

    /// Waits until an operator who took this node out of rotation wants it to stop, and nobody is left.
    pub async fn told_to_stop(&self) {
        self.rotation.told_to_stop().await;
    }

    /// Waits until this node cannot take part in its cluster, and may not serve on without; gives why.
    pub async fn lost_consensus(&self) -> String {
        let Some(peers) = &self.peers else { return std::future::pending().await };
        let mut over = self.over.clone();
        let outlived = async {
            match over.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            why = peers.failed() => why,
            why = outlived => why,
        }
    }

    /// Reads the spec file and certificates again and opens the access log again: what SIGHUP asks for.
    pub fn reload(&self) {
        self.house.access_log.reopen();
        if let Some(peers) = &self.peers {
            peers.reload();
        }
        self.reload.notify_one();
    }

    /// How reloads went.
    pub fn reloads(&self) -> &ReloadCounters {
        &self.reloads
    }

    /// The longest that [`Node::drain`] takes.
    pub fn drain_max(&self) -> Duration {
        [self.drain_timeout, CUT_MAX, LOG_FLUSH, TASKS_MAX, TASKS_MAX, PEERS_MAX]
            .iter()
            .fold(self.drain_delay, |sum, max| sum.saturating_add(*max))
    }

    /// Says goodbye to balancers, finishes what is under way, and stops. `hurry` resolves when an operator cannot wait.
    ///
    /// ```text
    /// unready, serving on | drain_delay | connections close behind their requests, streams finish | door closed
    ///                                   └──────────────── drain_timeout: the rest is cut ────────────────┘
    /// ```
    /// The door closes only behind the last stream: a balancer whose check is refused there takes the node for dead, and
    /// may cut what it still has here.
    ///
    /// Every step has an end of its own, so that nothing that stands still keeps the process: see [`Node::drain_max`].
    pub async fn drain(self, hurry: impl Future<Output = ()>) {
        let hurry = hurry.shared();
        self.house.health.set(Phase::Draining);
        // An operator may have told balancers before.
        if *self.rotation.flow().borrow() == Flow::Serving {
            self.rotation.begun(By::End);
            tracing::info!(delay = ?self.drain_delay, "unready: balancers send new clients elsewhere");
            tokio::select! {
                () = tokio::time::sleep(self.drain_delay) => {}
                () = hurry.clone() => {}
            }
        }
        self.rotation.advance(Flow::Draining);
        tracing::info!(in_flight = self.house.in_flight(), timeout = ?self.drain_timeout, "finishing requests");
        let finishing = async {
            self.house.elders.gone().await;
            self.rotation.advance(Flow::Closing);
            finish(self.listener, self.workers).await;
        };
        let mut finished = std::pin::pin!(finishing);
        let is_cut = tokio::select! {
            () = &mut finished => false,
            () = tokio::time::sleep(self.drain_timeout) => true,
            () = hurry.clone() => true,
        };
        if is_cut {
            let in_flight = self.house.in_flight();
            self.house.elders.drains().requests_cut(in_flight);
            tracing::warn!(in_flight, "cutting what is still open");
            self.rotation.advance(Flow::Stopped);
            if tokio::time::timeout(CUT_MAX, finished).await.is_err() {
                tracing::error!("a data thread does not end, it is left behind");
            }
        }
        if let Some(took) = self.rotation.over() {
            // The last scrape may have been before.
            let (closed, cut) = self.house.elders.drains().connections();
            tracing::info!(?took, closed, cut, "nobody is left");
        }
        self.admin_stop.send_replace(true);
        let access_log = self.house.access_log.clone();
        let deadline = clock::now() + LOG_FLUSH;
        let closed = tokio::select! {
            closed = tokio::task::spawn_blocking(move || access_log.close(deadline)) => Some(closed),
            () = hurry.then(|()| tokio::time::sleep(LOG_FLUSH_HURRIED)) => None,
        };
        match closed {
            Some(Ok(Closed::Flushed)) => {}
            Some(Ok(Closed::Late { left })) => tracing::error!(left, "the access log could not be written out"),
            Some(Err(_)) => tracing::error!("the access log could not be closed"),
            None => tracing::error!("the access log could not be written out in a hurry"),
        }
        if tokio::time::timeout(TASKS_MAX, self.house.actors.stop()).await.is_err() {
            tracing::error!("the actors do not end, they are left behind");
        }
        let mut tasks = self.tasks;
        if tokio::time::timeout(TASKS_MAX, tasks.shutdown()).await.is_err() {
            tracing::error!("a task does not end, it is left behind");
        }
        if let Some(peers) = &self.peers {
            peers.stop().await;
        }
        tracing::info!("stopped");
    }
}

/// Waits for the listener and the data threads to end.
async fn finish(listener: tokio::task::JoinHandle<()>, workers: Arc<Vec<Worker>>) {
    if listener.await.is_err() {
        tracing::error!("the listener's task panicked");
    }
    let joined = tokio::task::spawn_blocking(move || {
        Arc::into_inner(workers).into_iter().flatten().for_each(Worker::join);
    });
    if joined.await.is_err() {
        tracing::error!("a data thread could not be joined");
    }
}

/// What data threads may take to end once everything is cut.
const CUT_MAX: Duration = Duration::from_secs(1);
/// What the control plane's tasks may take to be dropped.
const TASKS_MAX: Duration = Duration::from_millis(200);
/// What leaving the other nodes may take.
const PEERS_MAX: Duration = Duration::from_secs(6);
/// What the access log may take to write its last lines for an operator who cannot wait.
const LOG_FLUSH_HURRIED: Duration = Duration::from_millis(200);
/// What the access log may take to write its last lines.
const LOG_FLUSH: Duration = Duration::from_secs(5);

async fn bind_data(address: SocketAddr, options: ListenerOptions) -> Result<(Listener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { what: "data", address, source };
    let listener = Listener::bind(address, options).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn bind_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { what: "admin", address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Every core; one is left to the control plane from four up.
fn data_threads(configured: Option<u32>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let all = if cores >= 4 { cores - 1 } else { cores };
    configured.and_then(|count| usize::try_from(count).ok()).unwrap_or(all).max(1)
}

fn limits(boot: &Boot) -> Limits {
    Limits {
        header_bytes: boot.limits.header_bytes.as_usize(),
        body_bytes: boot.limits.body_bytes.as_usize(),
        in_flight: usize::try_from(boot.limits.in_flight).unwrap_or(usize::MAX),
        header_timeout: boot.limits.header_timeout,
        body_timeout: boot.limits.body_timeout,
    }
}

fn destination(setting: &AccessSetting) -> Destination {
    match setting {
        AccessSetting::Off => Destination::Off,
        AccessSetting::Stdout => Destination::Stdout,
        AccessSetting::File(path) => Destination::File(path.clone()),
    }
}

fn server_tls(section: &'static str, tls: &config::boot::Tls) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let failed = |problem: String| StartError::Tls { section, problem };
    let chain = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(format!("cert: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.expose().as_bytes())
        .map_err(|error| failed(format!("key: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn publish_changes(house: Arc<House>) {
    let mut states = house.agreement.handle().watch();
    while states.changed().await.is_ok() {
        house.publish();
    }
}

fn admin_state(
    boot: &Boot,
    house: &Arc<House>,
    (cluster, peers): (&Handle, Option<&Arc<Peers>>),
    (rotation, outbox): (&Arc<Rotation>, Option<Arc<Outbox>>),
    token: Option<KeyHash>,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Arc<AdminState> {
    let (handle, agreed) = (cluster.clone(), cluster.clone());
    let (learner, believer) = (house.clone(), house.clone());
    let routes = house.view.clone();
    let tell_reset = outbox.map(|outbox| -> wiring::TellReset { Box::new(move |scope| outbox.reset(scope)) });
    let gossip = peers.map(|peers| peers.gossip.clone());
    let voter = peers.cloned();
    Arc::new(AdminState {
        turn: tokio::sync::Mutex::default(),
        metrics: house.metrics.clone(),
        learned: Box::new(move || wiring::learned(&learner)),
        health: house.health.clone(),
        token,
        node: boot.node.name.clone(),
        explain: Box::new(move |question| {
            let state = agreed.state();
            let beliefs = |target: &Target| wiring::beliefs(&believer.actors, &state, target);
            pipeline::explain(&routes.read(), &state.spec().keys, question, &beliefs)
        }),
        targets: Box::new(wiring::LiveTargets::new(house, cluster.clone(), tell_reset)),
        cluster: handle,
        follows: boot.spec_file.clone(),
        authority: peers.and_then(|peers| Some(peers.certificates.as_ref()?.fingerprint())),
        tls,
        hand_over: Box::new(move || {
            let peers = voter.clone();
            Box::pin(async move {
                if let Some(peers) = peers {
                    peers.hand_over().await;
                }
            })
        }),
        heard: Box::new(move || gossip.as_ref().and_then(gossip::Gossiping::stats)),
        leave: Arc::default(),
        rotation: rotation.clone(),
    })
}

/// Shows a made key on the standard error, once.
pub fn show_on_stderr(id: &KeyId, secret: &Secret<String>) {
    let text = format!("virtual key {id}: {}\n  (shown this once; only its hash is kept)\n", secret.expose());
    if let Err(error) = telemetry::log::say(&text) {
        tracing::error!(%error, key = %id, "a made key could not be shown; remove it from made-keys.json to have another");
    }
}

/// How often the first token is tried to be shown, about a second apart.
const SHOW_TRIES: u32 = 30;

/// Shows the first token of a cluster's operators on the standard error, once.
fn show_token_on_stderr(whose: &str, token: &str) {
    let more = if whose == "cluster" { ". `troupe token create` makes more" } else { "" };
    let text = format!("admin token of this {whose}: {token}\n  (shown this once; only its hash is kept{more})\n");
    // The log may be full at the moment, and it is consensus that asks: it must not wait for it.
    let show = move || {
        for _ in 0..SHOW_TRIES {
            match telemetry::log::say(&text) {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "the log is full, the token waits"),
            }
            telemetry::log::flush(Duration::from_secs(1));
        }
        tracing::error!("a made admin token could not be shown: give a node one by listen.admin_token");
    };
    if let Err(error) = std::thread::Builder::new().name("troupe-token".to_owned()).spawn(show) {
        tracing::error!(%error, "a made admin token could not be shown: give a node one by listen.admin_token");
    }
}
