//! A spec of very many keys and targets, put in force through the program itself, and what nodes do with it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use troupe_cluster::State;
use troupe_cluster::consensus::Machine as _;
use troupe_cluster::raft::salvage;
use troupe_cluster::storage::{DiskLog, DiskSnapshots, SnapshotStore};
use troupe_node::clock;
use troupe_proto::secret::KeyHash;

use crate::churn::{Fate, Ledger};
use crate::crew::{ADMIN, Crew, attempt};

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual keys.
    pub keys: usize,
    /// Of these: keys without a hash, which the node makes secrets for.
    pub unhashed: usize,
    /// Targets, over all models.
    pub targets: usize,
}

/// Targets of one provider: it has two keys, and ten models.
const TARGETS_OF_PROVIDER: usize = 20;
/// The variable that holds the providers' secret.
const PROVIDER_SECRET: &str = "SCALE_PROVIDER_SECRET";

impl Size {
    /// The name of a key.
    pub fn name(n: usize) -> String {
        format!("key-{n:06}")
    }

    /// The secret of a key that came with a hash.
    pub fn secret(n: usize) -> String {
        format!("sk-troupe-{n:043}")
    }

    /// The name of a model that reaches the mock.
    pub fn model(n: usize) -> String {
        format!("mock-{n}")
    }

    /// How many models there are: each has two targets, its provider with each of the provider's keys.
    pub fn models(&self) -> usize {
        (self.targets / 2).max(1)
    }

    /// The spec as an operator would write it; `owner` stands in each key.
    pub fn spec(&self, mock: &str, owner: &str) -> String {
        let mut text = String::new();
        let providers = (self.targets / TARGETS_OF_PROVIDER).max(1);
        let secret = format!("secret = \"env:{PROVIDER_SECRET}\"");
        let mut add = |part: String| text.write_str(&part).is_ok();
        let mut is_whole = true;
        for n in 0..providers {
            is_whole &= add(format!(
                "[providers.provider-{n}]\nwire = \"openai\"\nbase_url = \"{mock}\"\n\
                 keys = [{{ name = \"a\", {secret} }}, {{ name = \"b\", {secret} }}]\n\n"
            ));
        }
        for n in 0..self.models() {
            let provider = n % providers;
            is_whole &= add(format!(
                "[models.{}]\ntargets = [{{ provider = \"provider-{provider}\", model = \"mock\" }}]\n\n",
                Self::model(n)
            ));
        }
        for n in 0..self.keys {
            is_whole &= add(format!("[keys.{}]\nmetadata = {{ owner = \"{owner}-{}\" }}\n", Self::name(n), n % 100));
            if n >= self.unhashed {
                is_whole &= add(format!("hash = \"{}\"\n", KeyHash::of(Self::secret(n).as_bytes())));
            }
        }
        assert!(is_whole, "a text takes what is written to it");
        text
    }

    /// All keys, as acknowledged.
    pub fn ledger(&self) -> Ledger {
        let fates = (0..self.keys).map(|n| (Self::name(n), Fate::Acknowledged)).collect();
        Ledger { fates, ..Ledger::default() }
    }
}

/// What one run of the program came to.
pub struct Ran {
    /// Its answer, where it was JSON.
    pub out: Value,
    /// From its start to its end.
    pub took: Duration,
}

/// `troupe apply -f`, as an operator calls it, of one node.
///
/// # Panics
/// When it fails.
pub async fn apply(program: &Path, crew: &Crew, at: usize, file: &Path) -> Ran {
    let began = clock::now();
    let run = Command::new(program)
        .env_clear()
        .env(PROVIDER_SECRET, "sk-provider")
        .arg("apply")
        .arg("-f")
        .arg(file)
        .args(["-o", "json", "--yes", "--admin-token", ADMIN])
        .arg(format!("--admin-url=http://{}", crew.nodes[at].admin))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let took = began.elapsed();
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}: {told}\n{}", run.status, crew.log(at));
    Ran { out: serde_json::from_slice(&run.stdout).unwrap_or_default(), took }
}

/// Memory of a node's process, in bytes.
///
/// # Panics
/// When it does not run.
pub fn resident(crew: &Crew, at: usize) -> u64 {
    let pid = crew.nodes[at].pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How often the leader changed, as each node counts it.
pub async fn leader_changes(crew: &Crew) -> Vec<u64> {
    let mut all = Vec::new();
    for at in 0..crew.nodes.len() {
        let page = crew.ask(at, Method::GET, "/metrics", None).await.map(|reply| reply.text()).unwrap_or_default();
        let line = page.lines().find_map(|line| line.strip_prefix("troupe_raft_leader_changes_total "));
        all.push(line.and_then(|number| number.parse().ok()).unwrap_or(u64::MAX));
    }
    all
}

/// Waits until every node has so many keys. False when one does not in time.
pub async fn all_have(crew: &Crew, keys: usize, within: Duration) -> bool {
    let deadline = clock::now() + within;
    for at in 0..crew.nodes.len() {
        loop {
            let status = crew.ask(at, Method::GET, "/admin/v1/status", None).await;
            if status.is_some_and(|status| status.json()["keys"] == json!(keys)) {
                break;
            }
            if clock::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    true
}

/// Whether a secret is admitted by every node, and a call of a model answered.
///
/// # Panics
/// When a node does not answer at all.
pub async fn is_served(crew: &Crew, secret: &str, model: &str) -> bool {
    for seat in &crew.nodes {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] }).to_string();
        let reply = attempt(seat.data, Method::POST, "/v1/chat/completions", secret, body).await.unwrap();
        if reply.status != 200 {
            return false;
        }
    }
    true
}

/// Asks a node again and again, one call at a time, and remembers what each took: what clients see meanwhile.
pub struct Witness {
    task: JoinHandle<Seen>,
    stop: tokio::sync::watch::Sender<bool>,
}

/// What a witness saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls that were answered with 200.
    pub good: u64,
    /// Calls that were not.
    pub bad: u64,
    /// The longest that an answer took.
    pub longest: Duration,
    /// The answers that took longer than 10 ms.
    pub slow: u64,
}

impl Witness {
    /// Begins: clients at each node, with this key and model.
    pub fn start(crew: &Crew, secret: &str, model: &str) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let nodes: Vec<_> = crew.nodes.iter().map(|seat| seat.data).collect();
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] }).to_string();
        let secret = secret.to_owned();
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            for turn in 0_usize.. {
                if *stopped.borrow() {
                    break;
                }
                let node = nodes[turn % nodes.len()];
                let began = clock::now();
                let reply = attempt(node, Method::POST, "/v1/chat/completions", &secret, body.clone()).await;
                let took = began.elapsed();
                match reply {
                    Some(reply) if reply.status == 200 => seen.good += 1,
                    Some(_) | None => seen.bad += 1,
                }
                seen.longest = seen.longest.max(took);
                seen.slow += u64::from(took > Duration::from_millis(10));
                sleep(Duration::from_millis(2)).await;
            }
            seen
        });
        Self { task, stop }
    }

    /// Ends, and gives what was seen.
    ///
    /// # Panics
    /// When the task did.
    pub async fn stop(self) -> Seen {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

/// Starts a node that does not run, and says what it took until it was ready.
pub async fn restart(crew: &mut Crew, at: usize) -> Duration {
    let began: Instant = clock::now();
    crew.run(at);
    crew.ready(at).await;
    began.elapsed()
}

/// What a node keeps on disk.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Bytes of the state as a snapshot.
    pub snapshot_bytes: usize,
    /// Bytes of the longest line of the audit.
    pub audit_line_bytes: usize,
}

/// Writes what a node that does not run has in its log into a snapshot, as the node itself does after enough entries.
///
/// # Panics
/// When its files cannot be read or written.
pub async fn keep_snapshot(dir: &Path) -> Kept {
    let logs = DiskLog::open(&dir.join("raft")).unwrap();
    let snapshots = DiskSnapshots::open(&dir.join("snapshots")).unwrap();
    let snapshot = salvage(logs, &snapshots, State::default()).await.unwrap();
    snapshots.save(&snapshot).unwrap();
    let state = State::load(&snapshot.state).unwrap();
    let longest = state.audit().lines().map(|line| line.body.len()).max();
    Kept { snapshot_bytes: snapshot.state.len(), audit_line_bytes: longest.unwrap_or_default() }
}

/// Copies a directory and all below it.
///
/// # Panics
/// When it cannot be read or written.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
