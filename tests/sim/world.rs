//! What a run shares between its hosts, its clients and its driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use troupe_cluster::consensus::Machine;
use troupe_cluster::raft::Raft;
use troupe_cluster::{Handle, State};
use troupe_proto::command::{Entry, Reply};
use troupe_proto::id::NodeId;

use super::disk::Disk;
use super::history::{Ask, Op, Told, Values, View, hash_of};
use super::machine::Observed;
use super::plan::{Plan, Plant, name};
use super::record::{Record, hex};

/// Every so many entries, the whole state is compared between hosts.
const COMPARED_EVERY: u64 = 32;

/// The milliseconds since 1970 that runs begin at.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// One run.
pub struct World {
    /// Its seed.
    pub seed: u64,
    /// What is planted.
    pub plant: Plant,
    /// What goes wrong.
    pub plan: Plan,
    /// Who forms the cluster, with the address where each is reached.
    pub voters: BTreeMap<NodeId, String>,
    inner: Mutex<Inner>,
}

/// What changes in it.
pub struct Inner {
    /// What happened.
    pub record: Record,
    /// What clients did.
    pub history: Vec<Op>,
    /// What every value stands for.
    pub values: Values,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// How far it is.
    pub phase: Phase,
    /// Whether messages are sent again.
    pub echo: bool,
    /// What an operator has to do.
    pub repair: Option<Repair>,
    /// What was applied, by index.
    pub log: BTreeMap<u64, Applied>,
    /// What clients could see after so many changes.
    pub views: BTreeMap<u64, View>,
    /// At which entries each call took effect, or was refused.
    pub outcomes: BTreeMap<u64, Vec<u64>>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The cluster is forming.
    Form,
    /// Clients work, and things go wrong.
    Work,
    /// Everything is mended; each host shows that it works.
    Settle,
}

/// A host, whether it runs or not.
pub struct Host {
    /// What stays when it dies.
    pub disk: Disk,
    /// How far its wall clock is off, in milliseconds.
    pub wall: i64,
    /// What runs.
    pub running: Option<Running>,
    /// What it is asked to do besides.
    pub wish: Option<Wish>,
    /// It wrote and read after everything was mended.
    pub is_settled: bool,
}

/// What runs at a host.
#[derive(Clone)]
pub struct Running {
    /// The one way to read and change.
    pub handle: Handle,
    /// Consensus itself.
    pub raft: Raft<Observed>,
}

/// What a host is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Lead.
    Lead,
    /// Write a snapshot.
    Snapshot,
}

/// A lost node is replaced by a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Who is lost.
    pub old: NodeId,
    /// Who comes.
    pub new: NodeId,
    /// Where it is reached.
    pub peer: String,
    /// Whether the lost one had a vote.
    pub has_vote: bool,
    /// Steps done.
    pub done: usize,
}

/// What applying an entry came to, wherever it was applied first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The entry.
    pub entry: Entry,
    /// The answer.
    pub reply: Reply,
    /// Whether it changed anything.
    pub has_effect: bool,
    /// How many changes there were after it.
    pub changes: u64,
    /// The hash of the whole state, now and then.
    pub state: Option<String>,
}

impl World {
    /// A run that has not begun.
    pub fn new(seed: u64, plant: Plant, plan: Plan, has_steps: bool) -> Arc<Self> {
        let hosts: Vec<_> = (0..plan.layout.hosts)
            .map(|at| {
                let salt = u64::try_from(at).unwrap_or(0) + 1;
                let disk = Disk::new(seed ^ (salt << 40), salt, plant == Plant::AckBeforeFsync);
                Host { disk, wall: 0, running: None, wish: None, is_settled: false }
            })
            .collect();
        let voters = hosts
            .iter()
            .enumerate()
            .take(plan.layout.voters)
            .map(|(at, host)| (NodeId(host.disk.identity().node), address(at)))
            .collect();
        let inner = Inner {
            record: Record::new(has_steps),
            history: Vec::new(),
            values: Values::new(),
            hosts,
            phase: Phase::Form,
            echo: false,
            repair: None,
            log: BTreeMap::new(),
            views: BTreeMap::new(),
            outcomes: BTreeMap::new(),
        };
        Arc::new(Self { seed, plant, plan, voters, inner: Mutex::new(inner) })
    }

    /// What changes. Nothing that waits or drops tasks may be done with it.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock of a host, in milliseconds since 1970.
    pub fn wall_ms(&self, host: usize) -> i64 {
        let since = turmoil::sim_elapsed().map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(0));
        EPOCH_MS + since + self.lock().hosts[host].wall
    }
}

/// Where a host is reached.
pub fn address(host: usize) -> String {
    format!("{}:{}", name(host), super::net::PORT)
}

/// What the note of a call says.
pub fn reason(op: u64) -> String {
    format!("op {op}")
}

fn op_of(reason: &str) -> Option<u64> {
    reason.strip_prefix("op ")?.parse().ok()
}

impl Inner {
    /// A value that was not given before.
    pub fn value(&mut self) -> u64 {
        let value = u64::try_from(self.values.len()).unwrap_or(u64::MAX) + 1;
        self.values.insert(hash_of(value), value);
        value
    }

    /// A call begins.
    pub fn begin(&mut self, host: usize, ask: Ask) -> u64 {
        let id = u64::try_from(self.history.len()).unwrap_or(u64::MAX);
        let called = self.record.order();
        self.record.tell(format_args!("{} op {id}: {ask:?}", name(host)));
        self.history.push(Op { id, host, called, ended: None, ask });
        id
    }

    /// A call ends.
    pub fn end(&mut self, id: u64, told: Told) {
        let order = self.record.order();
        match &told {
            Told::Seen(view) => self.record.tell(format_args!("       op {id}: {view}")),
            told => self.record.tell(format_args!("       op {id}: {told:?}")),
        }
        self.record.count(match &told {
            Told::Applied(_) | Told::Seen(_) => "acknowledged",
            Told::Conflict(_) | Told::UsedBy(_) | Told::NoToken | Told::Never => "refused",
            Told::Unknown => "unknown",
        });
        let at = usize::try_from(id).unwrap_or(usize::MAX);
        if let Some(op) = self.history.get_mut(at) {
            op.ended = Some((order, told));
        }
    }

    /// An entry was applied somewhere. The first time, it is remembered; then everybody must make the same of it.
    pub fn applied(&mut self, index: u64, entry: &Entry, reply: &Reply, before: u64, state: &State) {
        let changes = state.changes();
        let has_effect = changes != before;
        let whole = index.is_multiple_of(COMPARED_EVERY).then(|| state_hash(state));
        let applied = Applied { entry: entry.clone(), reply: reply.clone(), has_effect, changes, state: whole };
        self.record.step(format_args!("applied {index}: {:?} {reply:?} {changes}", entry.origin));
        match self.log.get(&index) {
            Some(first) if *first == applied => {}
            Some(first) => {
                let first = first.clone();
                self.record.breach(format_args!("entry {index} was {first:?}, and elsewhere {applied:?}"));
            }
            None => {
                if let Some(op) = op_of(&entry.note.reason) {
                    self.outcome(op, index, has_effect);
                }
                let view = View::of(state, &self.values);
                self.views.entry(changes).or_insert(view);
                self.log.insert(index, applied);
            }
        }
    }

    fn outcome(&mut self, op: u64, index: u64, has_effect: bool) {
        let outcomes = self.outcomes.entry(op).or_default();
        outcomes.push(index);
        let effects = outcomes.iter().filter(|at| self.log.get(at).is_some_and(|applied| applied.has_effect)).count();
        if outcomes.len() > 1 {
            self.record.count("copies in the log");
        }
        if has_effect && effects > 0 {
            let places = outcomes.clone();
            self.record.breach(format_args!("op {op} took effect more than once, it is at entries {places:?}"));
        }
    }
}

/// The hash of a whole state.
pub fn state_hash(state: &State) -> String {
    state.save().map_or_else(|error| error.to_string(), |bytes| hex(&Sha256::digest(bytes)))
}
