//! Changes sent to a crew while its nodes die, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;
use troupe_node::clock;

use crate::crew::{ADMIN, Crew, attempt_with};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was said to be made.
    Acknowledged,
    /// It was said not to be made, now or ever.
    Refused,
    /// Nothing is known of it.
    Unknown,
}

/// Changes that were sent, and what was said about them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By the name of the change, which is also that of the key it makes unless changes share their keys.
    pub fates: BTreeMap<String, Fate>,
    /// Whether changes share their keys.
    pub are_shared: bool,
    /// When each acknowledgement came.
    pub acknowledged: Vec<Instant>,
}

impl Ledger {
    /// How many had this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|known| **known == fate).count()
    }

    /// The longest times without an acknowledgement, one for each of `events`: the gap it falls into or begins.
    pub fn gaps(&self, events: &[Instant]) -> Vec<Duration> {
        let mut times = self.acknowledged.clone();
        times.sort_unstable();
        let near = Duration::from_secs(1);
        let gap_after = |event: &Instant| {
            let around = times.windows(2).filter_map(|pair| match pair {
                [before, after] if *after > *event && *before < *event + near => Some(*after - *before),
                _ => None,
            });
            around.max()
        };
        events.iter().filter_map(gap_after).collect()
    }
}

/// Tasks that go on changing keys until they are told to stop or have made enough changes.
pub struct Writers {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// How changes are sent.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Tasks that send, each one change at a time.
    pub tasks: u64,
    /// The most changes that all of them send together.
    pub changes: u64,
    /// The rest between two changes of one task.
    pub pause: Duration,
    /// What the names begin with.
    pub prefix: String,
    /// How many keys the changes share, each giving one of them another secret: a change that takes effect twice, with
    /// another one in between, is then two lines of the audit. Without it each makes a key of its own.
    pub shared: Option<u64>,
}

impl Writers {
    /// Begins. Changes go to the nodes in turn.
    pub fn start(crew: &Crew, pace: &Pace) -> Self {
        let are_shared = pace.shared.is_some();
        let ledger = Arc::new(Mutex::new(Ledger { are_shared, ..Ledger::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let nodes: Arc<[_]> = crew.nodes.iter().map(|seat| seat.admin).collect();
        let tasks = (0..pace.tasks).map(|_| {
            let (ledger, stop, next) = (ledger.clone(), stop.clone(), next.clone());
            let (nodes, pace) = (nodes.clone(), pace.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= pace.changes {
                        return;
                    }
                    let name = format!("{}{number}", pace.prefix);
                    let key =
                        pace.shared.map_or_else(|| name.clone(), |keys| format!("{}-{}", pace.prefix, number % keys));
                    let node = nodes[usize::try_from(number).unwrap_or(0) % nodes.len()];
                    let fate = change(node, &name, &key).await;
                    let now = clock::now();
                    let mut ledger = ledger.lock().await;
                    ledger.fates.insert(name, fate);
                    if fate == Fate::Acknowledged {
                        ledger.acknowledged.push(now);
                    }
                    drop(ledger);
                    sleep(pace.pause).await;
                }
            })
        });
        Self { tasks: tasks.collect(), ledger, stop }
    }

    /// Whether all changes were sent.
    pub fn is_done(&self) -> bool {
        self.tasks.iter().all(tokio::task::JoinHandle::is_finished)
    }

    /// Waits for the changes that are under way, and gives what became of all.
    ///
    /// # Panics
    /// When a task did.
    pub async fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        Arc::into_inner(self.ledger).unwrap().into_inner()
    }
}

/// Makes a key at one node, or gives it another secret. The audit names the change as its reason.
async fn change(admin: std::net::SocketAddr, name: &str, key: &str) -> Fate {
    let body = json!({ "secret": format!("sk-of-{name}") }).to_string();
    let path = format!("/admin/v1/keys/{key}");
    match attempt_with(admin, Method::PUT, &path, ADMIN, &[("x-troupe-reason", name)], body).await {
        Some(reply) if matches!(reply.status, 200 | 201) => Fate::Acknowledged,
        Some(reply) if reply.status == 504 => Fate::Unknown,
        Some(_) => Fate::Refused,
        // A connection that was refused and one that broke look alike here: nothing is known.
        None => Fate::Unknown,
    }
}

/// How often the nodes are asked for the hash of their state.
const SETTLES: u32 = 25;

/// What is wrong with a crew after its changes; nothing, if all is well.
///
/// Each acknowledged change is there, no refused one is, none took effect twice, and the nodes hold the same state.
pub async fn verdict(crew: &Crew, ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    for at in 0..crew.nodes.len() {
        let name = &crew.nodes[at].name;
        let held = if ledger.are_shared { audited(crew, at).await } else { keys(crew, at).await };
        let Some(held) = held else {
            wrong.push(format!("{name} does not list what it holds"));
            continue;
        };
        for (change, fate) in &ledger.fates {
            match (fate, held.get(change).copied().unwrap_or_default()) {
                (Fate::Acknowledged, 0) => wrong.push(format!("{name} lost {change}, which was acknowledged")),
                (Fate::Refused, 1..) => wrong.push(format!("{name} has {change}, which was refused")),
                (_, times @ 2..) => wrong.push(format!("{name} has {change} {times} times")),
                (Fate::Acknowledged | Fate::Refused | Fate::Unknown, _) => {}
            }
        }
    }
    wrong.extend(apart(crew).await);
    wrong
}

/// That the nodes do not hold the same state, if so.
async fn apart(crew: &Crew) -> Option<String> {
    let mut hashes = BTreeSet::new();
    // A node that has just started still tells of itself, so they are asked until they stand at one entry.
    for _ in 0..SETTLES {
        hashes.clear();
        for at in 0..crew.nodes.len() {
            let status = crew.ask(at, Method::GET, "/admin/v1/cluster?hash=true", None).await;
            let status = status.map(|reply| reply.json()).unwrap_or_default();
            hashes.insert(status["state_hash"].as_str().unwrap_or("none").to_owned());
        }
        if hashes.len() == 1 {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let are_apart = hashes.len() != 1 || hashes.contains("none");
    are_apart.then(|| format!("the nodes' states have the hashes {hashes:?}"))
}

/// The names of all keys, as one node lists them.
async fn keys(crew: &Crew, at: usize) -> Option<BTreeMap<String, u32>> {
    counted(crew, at, "/admin/v1/keys?limit=1000", "after", "name").await
}

/// The reasons of all changes, and how often each one stands in one node's audit.
async fn audited(crew: &Crew, at: usize) -> Option<BTreeMap<String, u32>> {
    counted(crew, at, "/admin/v1/audit?limit=1000", "from", "reason").await
}

/// How often each value of a member stands in a list, read page by page.
async fn counted(crew: &Crew, at: usize, path: &str, cursor: &str, member: &str) -> Option<BTreeMap<String, u32>> {
    let mut counts = BTreeMap::new();
    let mut from = if cursor == "from" { "&from=0".to_owned() } else { String::new() };
    loop {
        let path = format!("{path}{from}");
        let page = crew.ask(at, Method::GET, &path, None).await.filter(|reply| reply.status == 200)?.json();
        for value in page["items"].as_array()?.iter().filter_map(|item| item[member].as_str()) {
            *counts.entry(value.to_owned()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => from = format!("&{cursor}={next}"),
            None => return Some(counts),
        }
    }
}
