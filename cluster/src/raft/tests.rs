//! Nodes in one process, on real logs, with a network of function calls.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tempfile::TempDir;
use tokio::time::timeout;
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use super::counter::{Add, Counter, FORGED, Sum, TIME, add};
use super::message::{Forward, Forwarded};
use super::propose::Step;
use super::types::{Bytes, Entry, LogId, Types, Vote};
use super::{FormError, Parts, Raft, Settings, Stopped, Work, salvage, start};
use crate::clock;
use crate::consensus::{Consensus, ProposeError, ReadError, Reshape, ReshapeError, Role, Vitals};
use crate::storage::{DiskLog, DiskSnapshots, LogStats, LogStore, SnapshotStore};
use crate::transport::{CallError, Caller, Class, Links, Service};

/// Carries calls between nodes of this process.
#[derive(Default)]
struct Mesh {
    nodes: Mutex<BTreeMap<NodeId, Arc<dyn Service>>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

struct Wire {
    mesh: Arc<Mesh>,
    me: NodeId,
}

impl Links for Wire {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        class: Class,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        assert_eq!(address, self::address(to));
        assert!(body.len() <= class.limit(), "{} bytes for {class:?}", body.len());
        async move {
            let is_cut = |node| self.mesh.cut.lock().unwrap().contains(&node);
            if is_cut(self.me) || is_cut(to) {
                return Err(CallError::Unreachable);
            }
            let service = self.mesh.nodes.lock().unwrap().get(&to).cloned().ok_or(CallError::Unreachable)?;
            let from = Caller {
                node: self.me,
                class,
                incarnation: 1,
                cluster: None,
                peer: self::address(self.me),
                version: 1,
                is_verified: true,
            };
            // Served whether or not somebody still waits, as a real node would.
            let served = tokio::spawn(async move { service.serve(from, body).await });
            match timeout(within, served).await {
                Ok(answer) => answer.map_err(|_| CallError::Lost),
                Err(_) => Err(CallError::Deadline),
            }
        }
        .boxed()
    }
}

fn address(node: NodeId) -> String {
    format!("node-{node}:1")
}

/// Opens a log, if need be once the last call to the node that had it before is over.
async fn open(dir: &Path) -> DiskLog {
    let deadline = clock::now() + Duration::from_secs(20);
    loop {
        match DiskLog::open(dir) {
            Ok(log) => return log,
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock && clock::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn fast() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(50),
        election: (Duration::from_millis(200), Duration::from_millis(400)),
        ..Settings::default()
    }
}

/// Nodes, with their directories.
struct World {
    mesh: Arc<Mesh>,
    dirs: BTreeMap<NodeId, TempDir>,
    nodes: BTreeMap<NodeId, Raft<Counter>>,
    settings: Settings,
}

impl World {
    async fn with(settings: Settings, nodes: u64) -> Self {
        let mut world = Self { mesh: Arc::default(), dirs: BTreeMap::new(), nodes: BTreeMap::new(), settings };
        for node in 1..=nodes {
            world.start(node, Counter::default()).await;
        }
        world
    }

    /// Starts a node, on what it left behind if it ran before.
    async fn start(&mut self, node: u64, machine: Counter) {
        let id = NodeId(node);
        let dir = self.dirs.entry(id).or_insert_with(|| tempfile::tempdir().unwrap()).path();
        let parts = Parts {
            settings: self.settings.clone(),
            node: id,
            logs: open(&dir.join("raft")).await,
            snapshots: Arc::new(DiskSnapshots::open(&dir.join("snapshots")).unwrap()),
            links: Arc::new(Wire { mesh: Arc::clone(&self.mesh), me: id }),
            seed: node,
            work: Work::Aside,
            wall: Arc::new(move || i64::try_from(1_000 * node).unwrap()),
        };
        let raft = start(parts, machine).await.unwrap();
        self.mesh.nodes.lock().unwrap().insert(id, Arc::new(raft.clone()));
        self.nodes.insert(id, raft);
    }

    /// Stops a node; its directory stays.
    async fn stop(&mut self, node: NodeId) {
        self.mesh.nodes.lock().unwrap().remove(&node);
        let raft = self.nodes.remove(&node).unwrap();
        raft.shutdown().await;
    }

    async fn form(&self, voters: u64) {
        self.node(1).form((1..=voters).map(|node| (NodeId(node), address(NodeId(node)))).collect()).await.unwrap();
    }

    fn node(&self, node: u64) -> &Raft<Counter> {
        &self.nodes[&NodeId(node)]
    }

    /// Waits until all nodes that run agree on who leads.
    async fn leader(&self) -> NodeId {
        let mut leader = None;
        self.eventually("one leader", |vitals| {
            let leaders: BTreeSet<_> = vitals.values().map(|vitals| vitals.leader).collect();
            leader = leaders.first().copied().flatten();
            leaders.len() == 1
                && leader.is_some_and(|leader| vitals.get(&leader).is_some_and(|v| v.role == Role::Leader))
        })
        .await;
        leader.unwrap()
    }

    async fn eventually(&self, what: &str, mut is_so: impl FnMut(&BTreeMap<NodeId, Vitals>) -> bool) {
        let deadline = clock::now() + Duration::from_secs(20);
        loop {
            let vitals = self.nodes.iter().map(|(id, raft)| (*id, raft.vitals())).collect();
            if is_so(&vitals) {
                return;
            }
            assert!(clock::now() < deadline, "never: {what}; {vitals:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a node's machine holds these numbers, in this order.
    async fn holds(&self, node: NodeId, numbers: &[u64]) {
        let mut states = self.nodes[&node].watch();
        let found = timeout(Duration::from_secs(20), states.wait_for(|state| state.added == numbers)).await;
        assert!(found.is_ok(), "node {node} holds {:?}", self.nodes[&node].state().added);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_a_command_and_all_apply_it() {
    let world = World::with(fast(), 3).await;
    world.form(3).await;

    for node in 1..=3 {
        assert!(world.node(node).propose(add(node)).await.is_ok());
        // Whoever was answered finds its own change where it asked.
        assert!(world.node(node).state().added.contains(&node));
    }

    // Who takes part, a leader's first entry, three commands.
    world.eventually("all is applied", |vitals| vitals.values().all(|vitals| vitals.applied >= 4)).await;
    for node in 1..=3 {
        world.holds(NodeId(node), &[1, 2, 3]).await;
        let vitals = world.node(node).vitals();
        assert_eq!((vitals.pending, vitals.failed, vitals.voters.len()), (0, 0, 3));
        assert!(vitals.writes.count > 0 && vitals.fsyncs.count > 0 && vitals.log_bytes > 0);
        assert!(vitals.leader_changes >= 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_anywhere_is_read_everywhere() {
    let world = World::with(fast(), 3).await;
    world.form(3).await;

    for round in 0..30 {
        world.node(round % 3 + 1).propose(add(round)).await.unwrap();
        let reader = world.node((round + 1) % 3 + 1);
        reader.read_index().await.unwrap();
        assert!(reader.state().added.contains(&round));
        assert!(reader.vitals().confirmed.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_on_after_the_leader_died_and_it_comes_back_with_the_rest() {
    let mut world = World::with(fast(), 3).await;
    world.form(3).await;
    world.node(1).propose(add(1)).await.unwrap();
    let leader = world.leader().await;

    world.stop(leader).await;
    let survivor = *world.nodes.keys().next().unwrap();
    // No pause of ours: the proposal itself waits for the next leader.
    assert_eq!(world.nodes[&survivor].propose(add(2)).await.unwrap(), Sum(3));
    world.start(leader.0, Counter::default()).await;

    world.holds(leader, &[1, 2]).await;
    assert!(world.nodes[&leader].recovered(Duration::from_secs(10)).await);
    assert_eq!(world.nodes[&leader].propose(add(4)).await.unwrap(), Sum(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster_and_keeps_everything_through_restarts_and_snapshots() {
    let mut world = World::with(Settings { snapshot_every: 20, keep: 5, ..fast() }, 1).await;
    world.form(1).await;

    let mut numbers = Vec::new();
    for round in 0..4 {
        for number in round * 15..(round + 1) * 15 {
            world.node(1).propose(add(number)).await.unwrap();
            numbers.push(number);
        }
        world.stop(NodeId(1)).await;
        world.start(1, Counter::default()).await;
        world.node(1).read_index().await.unwrap();
        assert_eq!(world.node(1).state().added, numbers);
    }

    world.eventually("a snapshot", |vitals| vitals[&NodeId(1)].snapshot_index > 20).await;
    assert!(world.node(1).vitals().snapshot_bytes > 0);
    assert_eq!(world.node(1).form([(NodeId(1), address(NodeId(1)))].into()).await, Err(FormError::Formed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_what_the_log_no_longer_has_as_a_snapshot_in_pieces() {
    let mut world = World::with(Settings { snapshot_every: 20, keep: 2, ..fast() }, 0).await;
    let ballast = vec![7; 3 << 20];
    world.start(1, Counter { ballast: ballast.clone(), ..Counter::default() }).await;
    world.form(1).await;
    let numbers: Vec<_> = (0..50).collect();
    for number in &numbers {
        world.node(1).propose(add(*number)).await.unwrap();
    }
    world.eventually("a snapshot", |vitals| vitals[&NodeId(1)].snapshot_index > 5).await;

    world.start(2, Counter::default()).await;
    world.node(1).reshape(Reshape::AddLearner { node: NodeId(2), peer: address(NodeId(2)) }).await.unwrap();

    world.holds(NodeId(2), &numbers).await;
    assert_eq!(world.node(2).state().ballast, ballast);
    assert_eq!(world.node(2).vitals().role, Role::Learner);
    // Written down as well: it is there after a restart without the leader.
    world.stop(NodeId(2)).await;
    world.start(2, Counter::default()).await;
    assert_eq!(world.node(2).state().ballast, ballast);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_changes_by_one_three_and_five_voters() {
    let mut world = World::with(fast(), 4).await;
    world.form(1).await;
    let voters = |world: &World| -> Vec<u64> { world.node(1).vitals().voters.iter().map(|(id, _)| id.0).collect() };
    for node in 2..=4 {
        // At any node of the cluster; a node that is in none has nobody to ask.
        let change = Reshape::AddLearner { node: NodeId(node), peer: address(NodeId(node)) };
        world.node(node - 1).reshape(change).await.unwrap();
        world.eventually("a learner", |vitals| vitals[&NodeId(node)].leader == Some(NodeId(1))).await;
    }

    let even = world.node(2).reshape(Reshape::Promote(vec![NodeId(2)])).await;
    assert!(matches!(even, Err(ReshapeError::Refused(_))), "{even:?}");
    world.node(2).reshape(Reshape::Promote(vec![NodeId(2), NodeId(3)])).await.unwrap();
    assert_eq!(voters(&world), [1, 2, 3]);

    world.node(3).reshape(Reshape::TransferLeader(NodeId(3))).await.unwrap();
    assert_eq!(world.leader().await, NodeId(3));

    world.stop(NodeId(2)).await;
    world.node(4).reshape(Reshape::Replace { old: NodeId(2), new: NodeId(4) }).await.unwrap();
    world.eventually("the voters", |vitals| vitals[&NodeId(1)].voters.iter().all(|(id, _)| *id != NodeId(2))).await;
    assert_eq!(voters(&world), [1, 3, 4]);
    world.node(1).reshape(Reshape::Demote(vec![NodeId(1), NodeId(4)])).await.unwrap();
    world.node(4).reshape(Reshape::Remove(NodeId(4))).await.unwrap();

    world
        .eventually("one voter and one learner", |vitals| {
            let vitals = &vitals[&NodeId(3)];
            (vitals.voters.len(), vitals.learners.len()) == (1, 1)
        })
        .await;
    assert_eq!(world.node(3).propose(add(5)).await.unwrap(), Sum(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_no_log_can_hold_has_no_leader_and_one_that_some_log_may_hold_is_unknown() {
    let short =
        Settings { propose_within: Duration::from_millis(1500), read_within: Duration::from_millis(700), ..fast() };
    let world = World::with(short, 3).await;
    assert!(matches!(world.node(2).propose(add(1)).await, Err(ProposeError::NoLeader)));
    world.form(3).await;
    let leader = world.leader().await;

    world.mesh.cut.lock().unwrap().insert(leader);
    // Into the leader's own log it goes, for as long as it does not know that it is alone.
    let at_leader = world.nodes[&leader].propose(add(2)).await;
    let read = world.nodes[&leader].read_index().await;
    assert!(matches!(at_leader, Err(ProposeError::Unknown)), "{at_leader:?}");
    assert_eq!(read, Err(ReadError::NoLeader));
    assert_eq!(world.nodes[&leader].vitals().failed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_cannot_read_or_is_in_anothers_name_never_gets_into_the_log() {
    let world = World::with(Settings { propose_within: Duration::from_millis(300), ..fast() }, 1).await;
    world.form(1).await;
    world.leader().await;
    let before = world.node(1).vitals().last_log;

    let deadline = clock::now() + Duration::from_secs(5);
    let forged = wire::encode(&add(FORGED)).unwrap();
    for command in [&b"not a command"[..], &forged] {
        let step = world.node(1).inner.write_for_other(NodeId(2), Arc::from(command), 1, deadline).await;
        assert!(matches!(step, Step::Elsewhere(None)));
    }

    assert_eq!(world.node(1).vitals().last_log, before);
    assert_eq!(*world.node(1).stopped().borrow(), None);

    let own = wire::encode(&add(1)).unwrap();
    let step = world.node(1).inner.write_for_other(NodeId(2), Arc::from(own), 1, deadline).await;
    assert!(matches!(step, Step::Done { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_for_the_leader_of_another_term_is_not_written() {
    let world = World::with(fast(), 1).await;
    world.form(1).await;
    world.leader().await;
    let term = world.node(1).vitals().term;
    let command: Arc<[u8]> = wire::encode(&add(1)).unwrap().into();
    let before = world.node(1).vitals().last_log;

    for other in [0, term - 1, term + 1] {
        let deadline = clock::now() + Duration::from_secs(5);
        let step = world.node(1).inner.write_for_other(NodeId(2), Arc::clone(&command), other, deadline).await;
        assert!(matches!(step, Step::Elsewhere(_)), "{other}");
    }
    assert_eq!(world.node(1).vitals().last_log, before);

    let deadline = clock::now() + Duration::from_secs(5);
    let step = world.node(1).inner.write_for_other(NodeId(2), command, term, deadline).await;
    assert!(matches!(step, Step::Done { .. }));
    assert_eq!(world.node(1).state().sum, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_over_does_not_say_that_a_command_is_never_written() {
    let settings = Settings { election: (Duration::from_secs(3), Duration::from_secs(6)), ..fast() };
    let world = World::with(settings, 3).await;
    world.form(3).await;
    let leader = world.leader().await;
    let (raft, term) = (&world.nodes[&leader], world.nodes[&leader].vitals().term);
    let to = world.nodes.keys().copied().find(|node| *node != leader).unwrap();
    world.mesh.cut.lock().unwrap().insert(to);

    raft.inner.raft.trigger().transfer_leader(to).await.unwrap();
    let ask = Forward::Propose { command: wire::encode(&add(1)).unwrap().into(), term, within_ms: 1_000 };
    let answer = raft.inner.answer_forward(to, ask).await;

    assert_eq!(raft.vitals().term, term);
    assert_eq!(answer, Forwarded::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_stops_the_node() {
    let world = World::with(fast(), 1).await;
    world.form(1).await;
    world.leader().await;
    let mut stopped = world.node(1).stopped();
    assert_eq!(*stopped.borrow(), None);

    let deadline = clock::now() + Duration::from_secs(5);
    let _step = world.node(1).inner.write_here(Bytes(Arc::from(*b"not a command")), None, deadline).await;

    let why = timeout(Duration::from_secs(5), stopped.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    assert!(matches!(why, Some(Stopped::Failed(_))), "{why:?}");
    assert!(matches!(world.node(1).propose(add(1)).await, Err(ProposeError::Stopped)));
    assert_eq!(world.node(1).read_index().await, Err(ReadError::Stopped));
    assert_eq!(world.node(1).vitals().role, Role::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_commands_reach_all_nodes_and_too_large_ones_none() {
    let world = World::with(fast(), 3).await;
    world.form(3).await;
    let largest = <Add as Message>::LIMIT - 1024;

    let (first, second, third, fourth) = tokio::join!(
        world.node(1).propose(Add(1, vec![1; 9 << 20])),
        world.node(2).propose(Add(2, vec![2; 9 << 20])),
        world.node(3).propose(Add(4, vec![3; largest])),
        world.node(3).propose(Add(8, vec![3; largest + 1024])),
    );

    assert!(first.is_ok() && second.is_ok() && third.is_ok(), "{first:?} {second:?} {third:?}");
    assert!(matches!(fourth, Err(ProposeError::Unencodable(_))), "{fourth:?}");
    for node in 1..=3 {
        assert_eq!(world.node(node).read_index().await, Ok(()), "{node}: {:?}", *world.node(node).stopped().borrow());
        assert_eq!(world.node(node).state().sum, 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_large_entries_is_cut_before_there_are_many() {
    let world = World::with(Settings { log_bytes_max: 20 << 20, ..fast() }, 1).await;
    world.form(1).await;
    for number in 1..=8 {
        world.node(1).propose(Add(number, vec![0; 4 << 20])).await.unwrap();
    }
    assert!(world.node(1).vitals().log_bytes > 32 << 20);

    world.node(1).inner.shrink().await.unwrap();
    world.eventually("a snapshot", |vitals| vitals[&NodeId(1)].snapshot_index > 8).await;
    // Changes that go on must not have it write one snapshot after the other.
    world.node(1).propose(add(10)).await.unwrap();
    world.node(1).inner.shrink().await.unwrap();
    // Files go once the record of it is on disk, with the next entry.
    world.node(1).propose(add(9)).await.unwrap();

    world.eventually("a smaller log", |vitals| vitals[&NodeId(1)].log_bytes < 20 << 20).await;
    assert_eq!(world.node(1).state().sum, 55);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_nodes_alone_is_enough_for_a_new_cluster() {
    let mut world = World::with(Settings { snapshot_every: 20, keep: 5, ..fast() }, 3).await;
    world.form(3).await;
    let numbers: Vec<_> = (0..50).collect();
    for number in &numbers {
        world.node(1).propose(add(*number)).await.unwrap();
    }
    world.holds(NodeId(3), &numbers).await;
    for node in 1..=3 {
        world.stop(NodeId(node)).await;
    }

    let old = world.dirs.remove(&NodeId(3)).unwrap();
    let snapshots = DiskSnapshots::open(&old.path().join("snapshots")).unwrap();
    let found = salvage(open(&old.path().join("raft")).await, &snapshots, Counter::default()).await.unwrap();
    let new = tempfile::tempdir().unwrap();
    let begin = found.for_new_cluster(NodeId(9), address(NodeId(9)));
    DiskSnapshots::open(&new.path().join("snapshots")).unwrap().save(&begin).unwrap();
    world.dirs.insert(NodeId(9), new);
    world.start(9, Counter::default()).await;

    assert_eq!(world.leader().await, NodeId(9));
    assert_eq!(world.node(9).state().added, numbers);
    world.node(9).propose(add(50)).await.unwrap();
    assert_eq!(world.node(9).vitals().voters, [(NodeId(9), address(NodeId(9)))]);
    world.stop(NodeId(9)).await;
    world.start(9, Counter::default()).await;
    world.node(9).read_index().await.unwrap();
    assert_eq!(world.node(9).state().added.len(), 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_judged_by_a_time_is_judged_by_the_leaders() {
    let world = World::with(fast(), 3).await;
    world.form(3).await;
    let leader = world.leader().await;
    let follower = (1..=3).find(|node| NodeId(*node) != leader).unwrap();

    let sum = world.node(follower).propose(add(TIME)).await.unwrap();

    // Who leads may have changed since it was asked; it is never the follower's own clock, which is another for each.
    let times: BTreeSet<_> = (1..=3).filter(|node| *node != follower).map(|node| Sum(1_000 * node).0).collect();
    assert!(times.contains(&sum.0), "{sum:?} is not the time of another node than {follower}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_stops_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let is_broken = Arc::new(AtomicBool::new(false));
    let parts = Parts {
        settings: fast(),
        node: NodeId(1),
        logs: Breakable { log: DiskLog::open(&dir.path().join("raft")).unwrap(), is_broken: Arc::clone(&is_broken) },
        snapshots: Arc::new(DiskSnapshots::open(&dir.path().join("snapshots")).unwrap()),
        links: Arc::new(Wire { mesh: Arc::default(), me: NodeId(1) }),
        seed: 1,
        work: Work::Aside,
        wall: Arc::new(|| 0),
    };
    let raft = start(parts, Counter::default()).await.unwrap();
    raft.form([(NodeId(1), address(NodeId(1)))].into()).await.unwrap();
    raft.propose(add(1)).await.unwrap();

    is_broken.store(true, Ordering::Relaxed);
    let refused = raft.propose(add(2)).await;
    let mut stopped = raft.stopped();
    let why = timeout(Duration::from_secs(5), stopped.wait_for(Option::is_some)).await.unwrap().unwrap().clone();

    // It may have reached the disk before the disk said that it failed.
    assert!(matches!(refused, Err(ProposeError::Stopped | ProposeError::Unknown)), "{refused:?}");
    assert!(matches!(&why, Some(Stopped::Failed(why)) if why.contains("no space")), "{why:?}");
    assert_eq!(raft.state().added, [1]);
}

/// A log on a disk that can break.
#[derive(Clone)]
struct Breakable {
    log: DiskLog,
    is_broken: Arc<AtomicBool>,
}

impl LogStore for Breakable {
    fn stats(&self) -> LogStats {
        self.log.stats()
    }
}

impl RaftLogStorage<Types> for Breakable {
    type LogReader = DiskLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> DiskLog {
        self.log.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        if !self.is_broken.load(Ordering::Relaxed) {
            return self.log.append(entries, callback).await;
        }
        // As a real one fails: the entries are taken, and the flush says no.
        self.log.append(entries, IOFlushed::noop()).await?;
        callback.io_completed(Err(io::Error::other("no space left")));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.purge(upto).await
    }
}
