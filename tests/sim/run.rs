//! Drives one run: steps the simulation, lets things go wrong as planned, mends them, and has the outcome judged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use troupe_cluster::consensus::Role;
use troupe_proto::id::NodeId;
use turmoil::{Protocol, Segment, Sim};

use super::machine::Entered;
use super::plan::{Fault, Loss, Plan, Plant, name};
use super::record::Line;
use super::world::{Phase, Repair, Wish, World, address, state_hash};
use super::{host, oracle};

/// A step of virtual time.
const TICK: Duration = Duration::from_millis(2);
/// Forming, and healing, take at most so long.
const FORM_MAX: Duration = Duration::from_secs(30);
const SETTLE_MAX: Duration = Duration::from_secs(40);
/// Who leads is looked at every so many ticks.
const LOOK_EVERY: u64 = 5;

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is planted.
    pub plant: Plant,
    /// How long things go wrong.
    pub span: Duration,
    /// Every step is kept as a line.
    pub has_steps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { plant: Plant::None, span: Duration::from_secs(20), has_steps: false }
    }
}

/// What a run came to.
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// A hash of everything that happened in it.
    pub trace: String,
    /// A hash of the state that all hosts ended in.
    pub state: String,
    /// What was broken; empty for a good run.
    pub broken: Vec<String>,
    /// What happened.
    pub lines: Vec<Line>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The virtual time it took.
    pub took: Duration,
}

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    let plan = Plan::draw(seed, options.plant, options.span);
    let world = World::new(seed, options.plant, plan, options.has_steps);
    let _entered = Entered::new(&world);
    let mut driver = Driver::new(&world);
    driver.drive();
    let took = driver.sim.elapsed();
    // What runs is dropped while the simulation is still there.
    for host in 0..world.plan.layout.hosts {
        driver.stop(host);
    }
    drop(driver);
    let inner = world.lock();
    Outcome {
        seed,
        trace: inner.record.hash(),
        state: inner.record.state.clone(),
        broken: inner.record.broken().to_vec(),
        lines: inner.record.lines().to_vec(),
        counts: inner.record.counts().clone(),
        took,
    }
}

struct Driver {
    world: Arc<World>,
    sim: Sim<'static>,
    ticks: u64,
    /// Who led in each term.
    leaders: BTreeMap<u64, NodeId>,
    last_leader: Option<NodeId>,
    /// Which hosts are cut off from each other, and how.
    cuts: BTreeMap<(usize, usize), Fault>,
}

impl Driver {
    fn new(world: &Arc<World>) -> Self {
        let plan = &world.plan;
        let mut sim = turmoil::Builder::new()
            .rng_seed(world.seed)
            .epoch(UNIX_EPOCH)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(plan.latency)
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        for at in 0..plan.layout.hosts {
            let world = Arc::clone(world);
            sim.host(name(at), move || host::life(Arc::clone(&world), at));
        }
        world.lock().record.tell(format_args!("seed {}: {:?}", world.seed, plan.layout));
        Self {
            world: Arc::clone(world),
            sim,
            ticks: 0,
            leaders: BTreeMap::new(),
            last_leader: None,
            cuts: BTreeMap::new(),
        }
    }

    fn drive(&mut self) {
        let is_formed = self.until(FORM_MAX, |world| {
            let inner = world.lock();
            let leader = |at: usize| inner.hosts[at].running.as_ref().map(|running| running.handle.vitals().leader);
            (0..world.plan.layout.voters).all(|at| matches!(leader(at), Some(Some(_))))
        });
        if !is_formed {
            self.world.lock().record.breach(format_args!("no cluster within {FORM_MAX:?}"));
            return;
        }
        self.add_learners();
        self.world.lock().phase = Phase::Work;
        let begun = self.sim.elapsed();
        for (at, fault) in self.world.plan.faults.clone() {
            if at >= self.world.plan.span {
                break;
            }
            self.until(begun + at - self.sim.elapsed().min(begun + at), |_| false);
            self.apply(&fault);
        }
        let rest = (begun + self.world.plan.span).saturating_sub(self.sim.elapsed());
        self.until(rest, |_| false);
        self.mend();
        let is_settled = self.until(SETTLE_MAX, is_settled);
        if !is_settled {
            let told = self.unsettled();
            self.world.lock().record.breach(format_args!("not healed within {SETTLE_MAX:?}: {told}"));
        }
        let mut inner = self.world.lock();
        oracle::judge(&mut inner);
        let state = inner.hosts.iter().find_map(|host| host.running.as_ref().map(|r| state_hash(&r.handle.state())));
        inner.record.state = state.unwrap_or_default();
        let end = inner.record.state.clone();
        inner.record.tell(format_args!("over, in state {end}"));
    }

    /// Steps until `is_done`, at most for `most`; says whether it was.
    fn until(&mut self, most: Duration, is_done: impl Fn(&World) -> bool) -> bool {
        let end = self.sim.elapsed() + most;
        while self.sim.elapsed() < end {
            if !self.step() {
                return false;
            }
            if self.ticks.is_multiple_of(LOOK_EVERY) {
                self.look();
                if is_done(&self.world) {
                    return true;
                }
            }
        }
        false
    }

    /// A tick; false when a host failed in a way that no host may.
    fn step(&mut self) -> bool {
        self.world.lock().record.now = self.sim.elapsed();
        self.ticks += 1;
        let stepped = self.sim.step();
        if let Err(error) = &stepped {
            self.world.lock().record.breach(format_args!("a host failed: {error}"));
        }
        stepped.is_ok()
    }

    /// Notes who leads. Two leaders in one term are one too many.
    fn look(&mut self) {
        let mut inner = self.world.lock();
        for at in 0..inner.hosts.len() {
            let Some(running) = &inner.hosts[at].running else { continue };
            let vitals = running.handle.vitals();
            if vitals.role != Role::Leader {
                continue;
            }
            let node = running.handle.process().node;
            let other = *self.leaders.entry(vitals.term).or_insert(node);
            if other != node {
                let breach = format!("{node} and {other} both lead in term {}", vitals.term);
                inner.record.breach(breach);
            }
            let is_latest = self.leaders.last_key_value().is_some_and(|(term, _)| *term == vitals.term);
            if is_latest && self.last_leader != Some(node) {
                self.last_leader = Some(node);
                inner.record.tell(format_args!("{} leads in term {}", name(at), vitals.term));
                inner.record.count("leader changes");
            }
        }
    }

    fn add_learners(&mut self) {
        // They are added like a replacement whose predecessor never was: its removal finds nothing to do.
        for at in self.world.plan.layout.voters..self.world.plan.layout.hosts {
            let mut inner = self.world.lock();
            let new = NodeId(inner.hosts[at].disk.identity().node);
            inner.repair = Some(Repair { old: NodeId(u64::MAX), new, peer: address(at), has_vote: false, done: 0 });
        }
    }

    fn apply(&mut self, fault: &Fault) {
        let is_in_vain = match fault {
            Fault::Kill(host) | Fault::Wipe(host) => !self.sim.is_host_running(name(*host)),
            Fault::Start(host) => self.sim.is_host_running(name(*host)),
            Fault::Power(hosts) => !hosts.iter().any(|host| self.sim.is_host_running(name(*host))),
            Fault::Cut(..) | Fault::CutOneWay(..) | Fault::Heal(..) | Fault::Delay(..) | Fault::SlowDisk(..) => false,
            Fault::Jump(..) | Fault::Echo(_) | Fault::Transfer(_) | Fault::Snapshot(_) => false,
        };
        if is_in_vain {
            return;
        }
        {
            let mut inner = self.world.lock();
            inner.record.now = self.sim.elapsed();
            inner.record.tell(format_args!("== {fault}"));
            if let Some(kind) = fault.kind() {
                inner.record.count(kind);
            }
        }
        match *fault {
            Fault::Kill(host) => {
                self.kill(host);
                let tail = self.world.lock().hosts[host].disk.process_died();
                self.world.lock().record.step(format_args!("{tail} records were not synced, and stay"));
            }
            Fault::Power(ref hosts) => {
                for host in hosts {
                    self.power_off(*host);
                }
            }
            Fault::Start(host) => self.sim.bounce(name(host)),
            Fault::Cut(a, b, _) | Fault::CutOneWay(a, b) => {
                self.cuts.insert(pair(a, b), fault.clone());
                self.connect(a, b);
            }
            Fault::Heal(a, b) => {
                self.cuts.remove(&pair(a, b));
                self.connect(a, b);
            }
            Fault::Delay(a, b, by) => {
                self.sim.set_link_max_message_latency(name(a), name(b), by.max(self.world.plan.latency));
            }
            Fault::SlowDisk(host, by) => self.world.lock().hosts[host].disk.slow_down(by),
            Fault::Jump(host, by) => self.world.lock().hosts[host].wall += by,
            Fault::Echo(is_on) => self.world.lock().echo = is_on,
            Fault::Transfer(host) => self.world.lock().hosts[host].wish = Some(Wish::Lead),
            Fault::Snapshot(host) => self.world.lock().hosts[host].wish = Some(Wish::Snapshot),
            Fault::Wipe(host) => self.wipe(host),
        }
    }

    /// Ends a host's process.
    fn stop(&mut self, host: usize) {
        // What runs is dropped without the lock: it may note something as it goes.
        let running = self.world.lock().hosts[host].running.take();
        if self.sim.is_host_running(name(host)) {
            self.sim.crash(name(host));
        }
        drop(running);
    }

    fn others(&self, host: usize) -> Vec<usize> {
        (0..self.world.plan.layout.hosts).filter(|other| *other != host).collect()
    }

    /// Lets two hosts reach each other as far as no cut is between them.
    fn connect(&self, a: usize, b: usize) {
        // It mends every kind of cut, and lets go of what was held back.
        self.sim.release(name(a), name(b));
        match self.cuts.get(&pair(a, b)) {
            Some(Fault::Cut(_, _, Loss::Late)) => self.sim.hold(name(a), name(b)),
            Some(Fault::Cut(_, _, Loss::Gone)) => self.sim.partition(name(a), name(b)),
            Some(Fault::CutOneWay(from, to)) => self.sim.partition_oneway(name(*from), name(*to)),
            Some(_) | None => {}
        }
    }

    /// Ends a host's process, whose system then closes its connections.
    ///
    /// tokio drops the tasks of a runtime in an order that depends on their ids, and those are counted through all runs
    /// of this process. So what dying sockets send is held back, and let go in the order of their ports.
    fn kill(&mut self, host: usize) {
        let (cut, reached): (Vec<_>, Vec<_>) =
            self.others(host).into_iter().partition(|other| self.cuts.contains_key(&pair(host, *other)));
        for other in &reached {
            self.sim.hold(name(host), name(*other));
        }
        for other in &cut {
            self.sim.partition(name(host), name(*other));
        }
        self.stop(host);
        let from = self.sim.lookup(name(host));
        while self.let_go(from) && self.step() {}
        for other in self.others(host) {
            self.connect(host, other);
        }
    }

    /// Lets go of what a dead host had sent, and of one farewell on each link; false when there was nothing left.
    fn let_go(&self, from: IpAddr) -> bool {
        let mut is_any = false;
        self.sim.links(|links| {
            for link in links.filter(|link| link.pair().0 == from || link.pair().1 == from) {
                let mut farewells = Vec::new();
                for sent in link.filter(|sent| sent.pair().0.ip() == from) {
                    match sent.protocol() {
                        Protocol::Tcp(Segment::Fin(_) | Segment::Rst) => farewells.push(sent),
                        Protocol::Tcp(Segment::Syn(_) | Segment::Data(..)) | Protocol::Udp(_) => sent.deliver(),
                    }
                }
                farewells.sort_by_key(|sent| {
                    let (from, to) = sent.pair();
                    (from.port(), to.port(), matches!(sent.protocol(), Protocol::Tcp(Segment::Rst)))
                });
                if let Some(first) = farewells.into_iter().next() {
                    is_any = true;
                    first.deliver();
                }
            }
        });
        is_any
    }

    fn power_off(&mut self, host: usize) {
        if !self.sim.is_host_running(name(host)) {
            return;
        }
        let others = self.others(host);
        // Nobody says goodbye: what the dying sockets send is lost.
        for other in &others {
            self.sim.partition(name(host), name(*other));
        }
        self.stop(host);
        for other in &others {
            self.connect(host, *other);
        }
        let mut inner = self.world.lock();
        let lost = inner.hosts[host].disk.power_cut();
        inner.record.tell(format_args!("{} loses {lost} records", name(host)));
        if lost > 0 {
            inner.record.count("unsynced writes lost");
        }
    }

    fn wipe(&mut self, host: usize) {
        self.power_off(host);
        let mut inner = self.world.lock();
        let old = inner.hosts[host].disk.identity();
        if self.world.plant == Plant::ReusedId {
            inner.hosts[host].disk.wipe(old);
            return;
        }
        let new = NodeId(old.node + 100);
        inner.hosts[host].disk.wipe(super::disk::Identity { node: new.0, incarnation: 0 });
        let has_vote = host < self.world.plan.layout.voters;
        inner.repair = Some(Repair { old: NodeId(old.node), new, peer: address(host), has_vote, done: 0 });
    }

    fn mend(&mut self) {
        let hosts = self.world.plan.layout.hosts;
        self.cuts.clear();
        for a in 0..hosts {
            for b in a + 1..hosts {
                self.connect(a, b);
                self.sim.set_link_max_message_latency(name(a), name(b), self.world.plan.latency);
            }
        }
        for host in 0..hosts {
            self.world.lock().hosts[host].disk.slow_down(Duration::ZERO);
            if !self.sim.is_host_running(name(host)) {
                self.sim.bounce(name(host));
            }
        }
        let mut inner = self.world.lock();
        inner.echo = false;
        inner.phase = Phase::Settle;
        inner.record.now = self.sim.elapsed();
        inner.record.tell("== everything is mended");
    }

    /// Why the run is not settled.
    fn unsettled(&self) -> String {
        let inner = self.world.lock();
        let mut told = vec![format!("repair: {:?}", inner.repair)];
        for (at, host) in inner.hosts.iter().enumerate() {
            let vitals = host.running.as_ref().map(|running| running.handle.vitals());
            let vitals = vitals.map(|v| (v.role, v.term, v.leader, v.last_log, v.committed, v.applied, v.voters));
            told.push(format!("{} {} {vitals:?}", name(at), host.is_settled));
        }
        told.join("; ")
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn is_settled(world: &World) -> bool {
    let inner = world.lock();
    let mut applied = inner.hosts.iter().map(|host| {
        let running = host.running.as_ref().filter(|_| host.is_settled)?;
        Some(running.handle.vitals().applied)
    });
    let first = applied.next().flatten();
    inner.repair.is_none() && first.is_some() && applied.all(|other| other == first)
}
