//! The house's cells: what is laid out, who lives, what was counted. Shared by requests' cells and actors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use ractor::ActorRef;
use tokio::sync::watch;
use troupe_proto::health::Scope;
use troupe_proto::id::{ModelId, ProviderId, TargetId};

use crate::actors::Settings;
use crate::breaker::actor::{Fact, News};
use crate::budget::{Budget, Calls};
use crate::hearsay::Hall;
use crate::inbox::{Inbox, Knock};
use crate::layout::{MemberLayout, PoolLayout, TargetRules};
use crate::pool::cell::{Member, Names, PoolCell};
use crate::pool::{MemberView, View};
use crate::target::{Provider, Target};
use crate::traffic::{Epoch, Traffic};
use crate::view::Published;
use crate::vitals::{Role, RoleVitals, ViewKind, Vitals};

/// Retries that a pool may always make, a second.
const RETRIES_FLOOR: u32 = 10;
/// Hedges that a pool may always make, a second.
const HEDGES_FLOOR: u32 = 1;
/// New names of wildcards that may wait for a pool.
const ASKS_MAX: usize = 1_024;

/// Everything that outlives actors.
pub(crate) struct House {
    pub(crate) settings: Settings,
    pub(crate) epoch: Epoch,
    plan: Mutex<Plan>,
    /// The pools laid out now, for the ticker.
    pub(crate) pools: ArcSwap<Vec<Arc<PoolCell>>>,
    roster: Mutex<Roster>,
    restarts: [AtomicU64; Role::ALL.len()],
    /// Facts dropped at doors that are gone.
    dropped_before: [AtomicU64; Role::ALL.len()],
    pub(crate) hearsay: Hall,
    pub(crate) failed: watch::Sender<bool>,
    pub(crate) is_stopping: AtomicBool,
}

/// The actors that are up, or fell a moment ago, by what they are there for and by name.
type Roster = BTreeMap<(Role, Arc<str>), ActorRef<Knock>>;

/// What is laid out.
#[derive(Default)]
struct Plan {
    /// By the names of their actors; a pool that changed has a new actor.
    pools: BTreeMap<Arc<str>, Arc<PoolCell>>,
    names: BTreeMap<ModelId, Arc<str>>,
    targets: HashMap<TargetId, Arc<Target>>,
    providers: BTreeMap<ProviderId, Arc<Provider>>,
    /// Cells made so far.
    serial: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the holder of the lock does cannot leave it half done in a way that matters: the next layout sets it right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl House {
    pub(crate) fn new(settings: Settings) -> Self {
        let epoch = Epoch::new((settings.now)());
        let hearsay = Hall::new(settings.board.clone());
        Self {
            settings,
            hearsay,
            epoch,
            plan: Mutex::default(),
            pools: ArcSwap::default(),
            roster: Mutex::default(),
            restarts: Default::default(),
            dropped_before: Default::default(),
            failed: watch::Sender::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.settings.now)()
    }

    pub(crate) fn dice(&self) -> u64 {
        (self.settings.dice)()
    }

    /// Makes the cells of `pools`, or keeps those that did not change, in their order.
    pub(crate) fn lay_out(&self, pools: Vec<PoolLayout>) -> Vec<Arc<PoolCell>> {
        let now = self.now();
        let mut plan = locked(&self.plan);
        let before = std::mem::take(&mut plan.pools);
        let names_before = std::mem::take(&mut plan.names);
        let mut cells = Vec::with_capacity(pools.len());
        for layout in pools {
            let name = names_before.get(&layout.id);
            let old = name.and_then(|name| before.get(name).map(|cell| (name.clone(), cell.clone())));
            let (name, cell) = match old {
                Some((name, cell)) if cell.layout == layout => (name, cell),
                old => {
                    let old = old.map(|(_, cell)| cell);
                    let cell = Arc::new(self.pool(&mut plan, layout, old.as_deref(), now));
                    (format!("{}#{}", cell.id, cell.serial).into(), cell)
                }
            };
            plan.names.insert(cell.id.clone(), name.clone());
            plan.pools.insert(name, cell.clone());
            cells.push(cell);
        }
        self.forget(&mut plan, &before);
        self.pools.store(Arc::new(cells.clone()));
        cells
    }

    /// Lets go of what nothing laid out uses; calls that run keep what they hold.
    fn forget(&self, plan: &mut Plan, before: &BTreeMap<Arc<str>, Arc<PoolCell>>) {
        let gone = before.iter().filter(|(name, _)| !plan.pools.contains_key(*name));
        let dropped = gone.fold(0_u64, |sum, (_, cell)| sum.saturating_add(cell.asks.dropped()));
        self.add_dropped(Role::Pool, dropped);
        let members = plan.pools.values().flat_map(|cell| cell.members.iter());
        let used: BTreeSet<TargetId> = members.map(|member| member.common.id.clone()).collect();
        plan.targets.retain(|id, _| used.contains(id));
        let providers: BTreeSet<_> = used.into_iter().map(|id| id.provider).collect();
        for (_, provider) in plan.providers.iter().filter(|(id, _)| !providers.contains(*id)) {
            self.add_dropped(Role::Breaker, provider.facts.dropped());
            self.add_dropped(Role::Prober, provider.calls.dropped());
        }
        plan.providers.retain(|id, _| providers.contains(id));
    }

    fn add_dropped(&self, role: Role, dropped: u64) {
        if let Some(count) = self.dropped_before.get(role.index()) {
            count.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    fn pool(&self, plan: &mut Plan, layout: PoolLayout, old: Option<&PoolCell>, now: Instant) -> PoolCell {
        let lanes = self.settings.lanes;
        let calls = old.map_or_else(|| Arc::new(Calls::new(lanes)), |old| old.calls.clone());
        let budget = |share, floor, old: Option<&Budget>| match old.filter(|old| old.has_terms(share)) {
            Some(old) => old.clone(),
            None => Budget::new(calls.clone(), share, floor, self.epoch),
        };
        let retries = budget(layout.retries.budget, RETRIES_FLOOR, old.map(|old| &old.retries));
        let hedges =
            layout.hedge.map(|hedge| budget(hedge.budget, HEDGES_FLOOR, old.and_then(|old| old.hedges.as_ref())));
        let members = layout.members.iter().enumerate();
        let members: Box<[Arc<Member>]> =
            members.map(|(at, member)| Arc::new(self.member(plan, at, member, old, now))).collect();
        let neutral = View::neutral(&layout.members);
        plan.serial = plan.serial.wrapping_add(1);
        PoolCell {
            id: layout.id.clone(),
            serial: plan.serial,
            retries,
            hedges,
            view: Published::new(carried(&neutral, &members, old), now),
            neutral: Arc::new(neutral),
            members,
            calls,
            // A queue takes its memory at once, and only wildcards ask.
            asks: Inbox::new(if layout.members.iter().any(|member| member.is_open) { ASKS_MAX } else { 1 }),
            layout,
            is_dirty: AtomicBool::new(true),
            epoch: self.epoch,
            now: self.settings.now,
        }
    }

    fn member(
        &self,
        plan: &mut Plan,
        at: usize,
        layout: &MemberLayout,
        old: Option<&PoolCell>,
        now: Instant,
    ) -> Member {
        let lanes = self.settings.lanes;
        let provider = plan.providers.entry(layout.id.provider.clone());
        let provider = provider.or_insert_with(|| Arc::new(Provider::new())).clone();
        let fingerprint = layout.fingerprint;
        if plan.targets.get(&layout.id).is_some_and(|target| target.fingerprint != fingerprint) {
            // Another account or another place by the same name: what was learned is not about this one. Pools that share
            // it are laid out in the same turn, and find the new one.
            plan.targets.remove(&layout.id).inspect(|target| target.replace());
        }
        let new = || Arc::new(Target::new(layout.id.clone(), fingerprint, provider, lanes, self.epoch, now));
        let common = plan.targets.entry(layout.id.clone()).or_insert_with(new).clone();
        let before = old.and_then(|old| old.members.iter().find(|member| member.common.id == layout.id));
        let is_same = before.is_some_and(|before| before.common.fingerprint == fingerprint);
        let names = before.and_then(|before| before.names.as_ref());
        if let Some(left) = names.filter(|_| !is_same) {
            left.own.load().values().for_each(|own| own.replace());
        }
        let new = || Arc::new(Names { traffic: Traffic::new(lanes), own: ArcSwap::default() });
        let names = layout.is_open.then(|| names.filter(|_| is_same).cloned().unwrap_or_else(new));
        Member { at, weight: layout.weight, rules: Arc::new(layout.rules), common, names }
    }

    /// The target of this id that is laid out, if one is.
    pub(crate) fn target(&self, id: &TargetId) -> Option<Arc<Target>> {
        locked(&self.plan).targets.get(id).cloned()
    }

    /// Every target of every pool, each once, with the rules of one of its pools.
    pub(crate) fn known_targets(&self) -> Vec<(Arc<Target>, Arc<TargetRules>)> {
        let mut known = BTreeMap::new();
        for cell in self.pools.load().iter() {
            for member in cell.members.iter() {
                let mut take = |target: &Arc<Target>| {
                    known.entry(target.id.clone()).or_insert_with(|| (target.clone(), member.rules.clone()));
                };
                take(&member.common);
                if let Some(names) = &member.names {
                    names.own.load().values().for_each(take);
                }
            }
        }
        known.into_values().collect()
    }

    pub(crate) fn providers(&self) -> Vec<(ProviderId, Arc<Provider>)> {
        locked(&self.plan).providers.iter().map(|(id, provider)| (id.clone(), provider.clone())).collect()
    }

    /// Has targets forget why they rest; how many were meant.
    pub(crate) fn reset(&self, scope: &Scope) -> usize {
        let is_meant = |id: &TargetId| scope.holds(&id.provider, id.credential.as_ref(), &id.model);
        // First, or the old words of others would rest them again.
        self.hearsay.overrule(scope, self.now());
        let meant = self.known_targets().into_iter().filter(|(target, _)| is_meant(&target.id));
        let mut count = 0;
        for (target, rules) in meant {
            let fact = Fact { target: target.clone(), rules, at: self.now(), news: News::Reset };
            count += usize::from(target.provider.facts.post(fact).is_ok());
        }
        count
    }

    pub(crate) fn pool_names(&self) -> BTreeSet<Arc<str>> {
        locked(&self.plan).pools.keys().cloned().collect()
    }

    pub(crate) fn pool_named(&self, name: &str) -> Option<Arc<PoolCell>> {
        locked(&self.plan).pools.get(name).cloned()
    }

    pub(crate) fn provider_names(&self) -> BTreeSet<Arc<str>> {
        locked(&self.plan).providers.keys().map(|id| id.as_str().into()).collect()
    }

    pub(crate) fn provider_named(&self, name: &str) -> Option<Arc<Provider>> {
        locked(&self.plan).providers.get(name).cloned()
    }

    pub(crate) fn enrol(&self, role: Role, name: &Arc<str>, actor: ActorRef<Knock>) {
        locked(&self.roster).insert((role, name.clone()), actor);
    }

    /// Takes an actor off the roster, unless its successor stands there already.
    pub(crate) fn strike(&self, role: Role, name: &Arc<str>, actor: &ActorRef<Knock>) {
        let mut roster = locked(&self.roster);
        let key = (role, name.clone());
        if roster.get(&key).is_some_and(|enrolled| enrolled == actor) {
            roster.remove(&key);
        }
    }

    pub(crate) fn actors(&self, role: Role) -> Vec<ActorRef<Knock>> {
        let roster = locked(&self.roster);
        roster.iter().filter(|((of, _), _)| *of == role).map(|(_, actor)| actor.clone()).collect()
    }

    pub(crate) fn restarted(&self, role: Role) {
        if let Some(count) = self.restarts.get(role.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn vitals(&self) -> Vitals {
        let now = self.now();
        let plan = locked(&self.plan);
        let roles = Role::ALL.iter().map(|role| {
            let doors: Vec<(u64, u64)> = match role {
                Role::Pool => plan.pools.values().map(|cell| (cell.asks.depth(), cell.asks.dropped())).collect(),
                Role::Breaker => plan.providers.values().map(|p| (p.facts.depth(), p.facts.dropped())).collect(),
                Role::Prober => plan.providers.values().map(|p| (p.calls.depth(), p.calls.dropped())).collect(),
                // Supervisors are told to look, never what.
                Role::Root | Role::Pools | Role::Breakers | Role::Probers | Role::Hearsay => Vec::new(),
            };
            let count = |counts: &[AtomicU64]| counts.get(role.index()).map_or(0, |n| n.load(Ordering::Relaxed));
            let is_up = |actor: &ActorRef<Knock>| actor.get_status() <= ractor::ActorStatus::Running;
            let alive = self.actors(*role).iter().filter(|actor| is_up(actor)).count();
            RoleVitals {
                role: *role,
                alive: u64::try_from(alive).unwrap_or(u64::MAX),
                restarts: count(&self.restarts),
                inbox_depth: doors.iter().fold(0, |sum, (depth, _)| sum.saturating_add(*depth)),
                dropped: doors
                    .iter()
                    .fold(count(&self.dropped_before), |sum, (_, dropped)| sum.saturating_add(*dropped)),
            }
        });
        let oldest = plan.pools.values().map(|cell| cell.view.age(now)).max();
        Vitals {
            roles: roles.collect(),
            views: oldest.map(|age| (ViewKind::Pool, age)).into_iter().collect(),
            has_failed: *self.failed.borrow(),
        }
    }
}

/// The first view of a pool that changed: what is known of the members that stay.
fn carried(neutral: &View, members: &[Arc<Member>], old: Option<&PoolCell>) -> View {
    let Some(old) = old else { return neutral.clone() };
    let known = old.view.read();
    let seen = |member: &Member| -> Option<MemberView> {
        let at = old.members.iter().position(|before| Arc::ptr_eq(&before.common, &member.common))?;
        known.members.get(at).copied()
    };
    let members = neutral.members.iter().zip(members).map(|(neutral, member)| match seen(member) {
        Some(known) => MemberView { weight: neutral.weight, ..known },
        None => *neutral,
    });
    View { members: members.collect(), is_panicking: known.is_panicking }
}
