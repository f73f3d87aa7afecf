//! Several nodes: trees of their own, joined by a board that carries words between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

use troupe_proto::health::{Opinions, Scope};
use troupe_proto::id::NodeId;

use super::*;
use crate::{HealthBoard, Urgency};

/// What carries words from node to node: at once, as a push does.
#[derive(Default)]
struct Wires {
    nodes: Mutex<BTreeMap<NodeId, Actors>>,
    cut: Mutex<BTreeSet<NodeId>>,
    told: AtomicU64,
}

struct Board {
    me: NodeId,
    wires: Weak<Wires>,
}

impl HealthBoard for Board {
    fn me(&self) -> (NodeId, u64) {
        (self.me, 1)
    }

    fn tell(&self, opinions: Opinions, _: Urgency) {
        let Some(wires) = self.wires.upgrade() else { return };
        wires.told.fetch_add(1, Ordering::Relaxed);
        let cut = wires.cut.lock().unwrap();
        let nodes = wires.nodes.lock().unwrap();
        for (node, actors) in nodes.iter().filter(|(node, _)| **node != self.me) {
            if !cut.contains(node) && !cut.contains(&self.me) {
                actors.hear(self.me, &opinions);
            }
        }
    }
}

/// A network of nodes, each with a prober of its own.
struct Town {
    wires: Arc<Wires>,
    worlds: Vec<World>,
}

impl Town {
    /// Nodes that all have these pools.
    async fn of(count: u64, pools: Vec<PoolLayout>) -> Self {
        Self::with(vec![pools; usize::try_from(count).unwrap()]).await
    }

    /// A node for each list of pools.
    async fn with(layouts: Vec<Vec<PoolLayout>>) -> Self {
        let wires = Arc::new(Wires::default());
        let mut worlds = Vec::new();
        for (at, pools) in (1..).zip(layouts) {
            let board = Board { me: NodeId(at), wires: Arc::downgrade(&wires) };
            let world = World::start_with(pools, Some(Arc::new(board))).await;
            wires.nodes.lock().unwrap().insert(NodeId(at), world.actors.clone());
            worlds.push(world);
        }
        let town = Self { wires, worlds };
        town.all_live();
        town
    }

    /// Everybody that is not cut off lives, as everybody sees it.
    fn all_live(&self) {
        let nodes = self.wires.nodes.lock().unwrap();
        let cut = self.wires.cut.lock().unwrap();
        let live: BTreeSet<NodeId> = nodes.keys().filter(|node| !cut.contains(node)).copied().collect();
        let is_ready = |node: &&NodeId| nodes.get(node).is_some_and(|actors| actors.cut_off().borrow().is_none());
        let ready: BTreeSet<NodeId> = live.iter().filter(is_ready).copied().collect();
        for actors in nodes.values() {
            actors.living(live.clone());
            actors.ready(ready.clone());
        }
    }

    /// Nodes without an uplink: each call and each probe of theirs reaches nobody. All have a call each 100 ms; what the cards
    /// say comes as often. Gives who was out of rotation at any time.
    async fn serve(&self, broken: &[usize], span: Duration) -> BTreeSet<usize> {
        let mut out = BTreeSet::new();
        let end = clock() + span;
        while clock() < end {
            for (at, world) in self.worlds.iter().enumerate() {
                let is_broken = broken.contains(&at);
                world.script(Script::Says(if is_broken { Probed::Dead } else { Probed::Alive }));
                let is_out = world.actors.cut_off().borrow().is_some();
                out.extend(is_out.then_some(at));
                match (is_out, is_broken) {
                    // Balancers send it nobody.
                    (true, _) => {}
                    (false, true) => drop(world.fail(0, unreachable())),
                    (false, false) => drop(world.succeed(0, millis(5))),
                }
            }
            self.all_live();
            tokio::time::sleep(millis(100)).await;
        }
        out
    }

    fn is_out(&self, at: usize) -> bool {
        self.worlds[at].actors.cut_off().borrow().is_some()
    }

    /// One node's process is gone: it says nothing, hears nothing, and others know.
    fn kill(&self, at: usize) {
        self.wires.cut.lock().unwrap().insert(NodeId(u64::try_from(at).unwrap() + 1));
        self.all_live();
    }

    fn script(&self, script: Script) {
        self.worlds.iter().for_each(|world| world.script(script));
    }

    fn probes(&self) -> usize {
        self.worlds.iter().map(World::probes).sum()
    }

    async fn eventually(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = clock() + secs(30);
        while !is_so(self) {
            assert!(clock() < deadline, "never: {what}");
            tokio::time::sleep(millis(1)).await;
        }
    }

    /// How many nodes rest their only target.
    fn resting(&self) -> usize {
        self.worlds.iter().filter(|world| world.why(0).is_some()).count()
    }
}

fn one_pool() -> Vec<PoolLayout> {
    vec![pool("chat", vec![member("p", "m")])]
}

fn with_key(byte: u8) -> Vec<PoolLayout> {
    let mut member = member("p", "m");
    member.fingerprint = Fingerprint::of([byte; 32]);
    vec![pool("chat", vec![member])]
}

#[tokio::test(start_paused = true)]
async fn a_key_that_one_node_finds_refused_rests_on_all_that_have_it_within_200_ms() {
    let town = Town::of(3, one_pool()).await;
    let before = clock();

    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();
    town.eventually("all rest", |town| town.resting() == 3).await;

    assert!(clock() - before < millis(200), "{:?}", clock() - before);
    assert!(town.worlds.iter().all(|world| world.why(0) == Some(Why::Credential)));
}

#[tokio::test(start_paused = true)]
async fn a_node_with_a_stale_key_rests_nobody_elses() {
    let town = Town::with(vec![with_key(1), with_key(2), with_key(2)]).await;

    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();
    town.worlds[0].eventually("it rests there", |world| world.why(0).is_some()).await;
    tokio::time::sleep(secs(5)).await;

    assert_eq!((town.worlds[1].standing(0), town.worlds[2].standing(0)), (Standing::Ready, Standing::Ready));
    let target = town.worlds[1].cell().target(0, "m").unwrap();
    let beliefs = town.worlds[1].actors.beliefs(&target);
    assert!(beliefs.iter().any(|belief| belief.node == NodeId(1) && !belief.is_same_credential));
}

#[tokio::test(start_paused = true)]
async fn a_node_with_a_broken_uplink_opens_nobody_elses_breakers() {
    let pools = vec![pool("chat", vec![member("p", "m")]), pool("other", vec![member("q", "m")])];
    let town = Town::of(3, pools).await;
    town.script(Script::Says(Probed::Alive));
    town.worlds[0].script(Script::Says(Probed::Dead));

    for _ in 0..100 {
        town.worlds[0].fail(0, unreachable()).ok();
        tokio::time::sleep(millis(200)).await;
        for other in &town.worlds[1..] {
            assert_eq!(other.standing(0), Standing::Ready);
        }
    }

    assert_ne!(town.worlds[0].standing(0), Standing::Ready, "it goes by its own evidence");
}

#[tokio::test(start_paused = true)]
async fn what_two_of_three_cannot_reach_rests_on_the_third_and_one_success_clears_it() {
    let town = Town::of(3, one_pool()).await;
    town.script(Script::Says(Probed::Dead));

    town.worlds[0].rest(0, unreachable()).await;
    town.worlds[1].rest(0, unreachable()).await;
    town.eventually("the third rests", |town| town.worlds[2].why(0) == Some(Why::Unreachable)).await;
    let target = town.worlds[2].cell().target(0, "m").unwrap();
    assert!(target.report(clock()).is_told);
    town.script(Script::Says(Probed::Alive));
    town.eventually("a probe opens the door", |town| town.worlds[0].standing(0) == Standing::Probation).await;
    town.worlds[0].succeed(0, millis(10)).unwrap();
    town.eventually("the third may be called", |town| town.worlds[2].why(0).is_none()).await;

    town.worlds[2].succeed(0, millis(10)).unwrap();
    town.worlds[2].eventually("it is back", |world| world.standing(0) == Standing::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_target_is_probed_once_for_all_nodes_and_in_turns() {
    let town = Town::of(3, one_pool()).await;
    town.script(Script::Says(Probed::Dead));
    for world in &town.worlds {
        world.rest(0, unreachable()).await;
    }
    let before: Vec<usize> = town.worlds.iter().map(World::probes).collect();

    tokio::time::sleep(secs(60)).await;

    let probes: Vec<usize> = town.worlds.iter().zip(before).map(|(world, before)| world.probes() - before).collect();
    let all: usize = probes.iter().sum();
    // One in two to three seconds, however the turns fall; three nodes without turns would make ninety.
    assert!((18..=42).contains(&all), "{probes:?}");
    assert!(probes.iter().all(|probes| *probes > 0), "{probes:?}");
    assert_eq!(town.resting(), 3, "nobody lets a call find out");
}

#[tokio::test(start_paused = true)]
async fn when_the_prober_dies_or_reaches_nobody_the_next_takes_its_turns() {
    let town = Town::of(3, one_pool()).await;
    town.script(Script::Says(Probed::Dead));
    for world in &town.worlds {
        world.rest(0, unreachable()).await;
    }
    let probes = |town: &Town| (town.worlds[1].probes(), town.worlds[2].probes());

    town.kill(0);
    let before = probes(&town);
    tokio::time::sleep(secs(30)).await;
    let (second, third) = probes(&town);

    let all = second - before.0 + third - before.1;
    assert!((12..=22).contains(&all), "about one in two seconds: {all}");
    // Its network is back, and only one of those left has no network of its own: the other one's probe finds out.
    town.worlds[2].script(Script::Says(Probed::Alive));
    // Unless that one sees first that it is the one without a network: then it leaves rotation, and goes by itself.
    let may_try = |town: &Town| town.worlds[1].standing(0) == Standing::Probation || town.is_out(1);
    town.eventually("a call may try, or nobody calls", may_try).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_said_counts_no_more_when_it_is_gone() {
    let town = Town::of(3, one_pool()).await;
    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();
    town.eventually("all rest", |town| town.resting() == 3).await;

    town.kill(0);

    town.eventually("a call decides", |town| town.worlds[1].standing(0) == Standing::Probation).await;
    town.worlds[1].succeed(0, millis(10)).unwrap();
    town.worlds[1].eventually("it serves", |world| world.standing(0) == Standing::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_on_every_node_ends_every_rest() {
    let town = Town::of(3, one_pool()).await;
    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();
    town.eventually("all rest", |town| town.resting() == 3).await;
    let every = Scope { provider: None, credential: None, model: None };

    let meant: Vec<usize> = town.worlds.iter().map(|world| world.actors.reset(&every)).collect();

    assert_eq!(meant, [1, 1, 1]);
    let is_ready = |world: &World| world.standing(0) == Standing::Ready;
    town.eventually("all serve", |town| town.worlds.iter().all(is_ready)).await;
    tokio::time::sleep(secs(3)).await;
    assert!(town.worlds.iter().all(is_ready), "nobody tells it anew");
}

#[tokio::test(start_paused = true)]
async fn a_reset_holds_against_a_node_that_has_not_heard_of_it() {
    let town = Town::of(3, one_pool()).await;
    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();
    town.eventually("all rest", |town| town.resting() == 3).await;
    let every = Scope { provider: None, credential: None, model: None };

    for world in &town.worlds[1..] {
        world.actors.reset(&every);
    }
    let others_serve = |town: &Town| town.worlds[1..].iter().all(|world| world.standing(0) == Standing::Ready);
    town.eventually("the others serve", others_serve).await;
    // Longer than it takes to say everything again.
    tokio::time::sleep(secs(5)).await;

    assert!(others_serve(&town) && town.resting() == 1);
    town.worlds[1].fail(0, failure(Fault::Credential)).unwrap();
    town.eventually("what is seen later counts", |town| town.resting() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_town_says_nothing() {
    let town = Town::of(3, one_pool()).await;
    for _ in 0..20 {
        town.worlds[0].succeed(0, millis(5)).unwrap();
        tokio::time::sleep(secs(1)).await;
    }

    assert_eq!(town.wires.told.load(Ordering::Relaxed), 0);
    assert_eq!(town.probes(), 0);
}

#[tokio::test(start_paused = true)]
async fn hearsay_that_falls_goes_on_from_what_was_heard() {
    let town = Town::of(3, one_pool()).await;
    for world in &town.worlds {
        world.actors.poison(Role::Hearsay);
    }
    town.eventually("all fell", |town| town.worlds.iter().all(|world| world.restarts(Role::Hearsay) == 1)).await;

    town.worlds[0].fail(0, failure(Fault::Credential)).unwrap();

    town.eventually("all rest", |town| town.resting() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_uplink_leaves_rotation_and_is_back_when_a_probe_of_its_own_is_answered() {
    let town = Town::of(3, one_pool()).await;
    assert_eq!(town.serve(&[], secs(3)).await, BTreeSet::new());

    let began = clock();
    while !town.is_out(0) {
        town.serve(&[0], millis(100)).await;
        assert!(clock() - began < secs(5), "it swallows calls");
    }
    town.serve(&[0], secs(5)).await;
    // Nobody calls it any more, so that only its probes can find out that somebody answers again.
    let before = town.worlds[0].probes();
    for _ in 0..600 {
        town.serve(&[0], millis(100)).await;
        assert!(town.is_out(0), "it stays out for as long as it reaches nobody");
    }
    let probes = town.worlds[0].probes() - before;
    assert!((25..=45).contains(&probes), "it asks by itself, whoever's turn it is: {probes}");
    let back = clock();
    while town.is_out(0) {
        town.serve(&[], millis(100)).await;
        assert!(clock() - back < millis(2_500), "it comes back with its first probe that is answered");
    }

    town.worlds[0].succeed(0, millis(5)).unwrap();
    town.worlds[0].eventually("it serves", |world| world.standing(0) == Standing::Ready).await;
    assert_eq!(town.serve(&[], secs(20)).await, BTreeSet::new(), "nobody flaps");
}

#[tokio::test(start_paused = true)]
async fn two_without_uplink_do_not_take_out_the_third_and_stay_when_it_is_gone() {
    let town = Town::of(3, one_pool()).await;
    town.serve(&[], secs(3)).await;

    assert_eq!(town.serve(&[0, 1], secs(20)).await, BTreeSet::from([0, 1]));
    assert!(town.is_out(0) && town.is_out(1));

    town.kill(2);
    town.serve(&[0, 1], secs(12)).await;
    assert_eq!(town.serve(&[0, 1], secs(20)).await, BTreeSet::new(), "nobody does better any more");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_gone_for_all_takes_nobody_out() {
    let town = Town::of(3, one_pool()).await;
    town.serve(&[], secs(3)).await;

    assert_eq!(town.serve(&[0, 1, 2], secs(30)).await, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_nobody_calls_becomes_a_witness_by_probing() {
    let town = Town::of(2, one_pool()).await;
    town.script(Script::Says(Probed::Alive));
    town.worlds[0].script(Script::Says(Probed::Dead));

    // The other one has had no call at all, so only its probes can say that the provider is there.
    for _ in 0..100 {
        town.worlds[0].fail(0, unreachable()).ok();
        town.all_live();
        tokio::time::sleep(millis(100)).await;
    }

    assert!(town.is_out(0) && !town.is_out(1));
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_rotation_is_no_witness() {
    let town = Town::of(2, one_pool()).await;
    town.script(Script::Says(Probed::Alive));
    town.worlds[0].script(Script::Says(Probed::Dead));
    // It lives, and its calls go well, but balancers send it nobody.
    town.worlds[0].actors.ready(BTreeSet::new());

    for _ in 0..100 {
        town.worlds[0].fail(0, unreachable()).ok();
        town.worlds[1].succeed(0, millis(5)).unwrap();
        tokio::time::sleep(millis(100)).await;
        assert!(!town.is_out(0), "nobody would do better");
    }
}
