//! `pool:<model>`: reads what the data threads counted, learns, publishes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use troupe_proto::id::TargetId;

use super::cell::{Ask, Member, Names, PoolCell};
use super::logic::{self, Learned};
use super::view::View;
use crate::breaker::Standing;
use crate::gradient::Gradient;
use crate::inbox::Knock;
use crate::registry::House;
use crate::restart::Intensity;
use crate::supervise::{Branch, poisoned};
use crate::target::Target;
use crate::traffic::Tally;
use crate::vitals::Role;

/// How often pools with traffic are told to look.
const TICK_BUSY: Duration = Duration::from_millis(10);
/// How often the ticker looks for traffic when there was none.
const TICK_IDLE: Duration = Duration::from_millis(100);
/// Views are published at least this often, so that they never look older than they are true.
const PUBLISH_MAX: Duration = Duration::from_secs(5);
/// A view that says the same is published this often while there is traffic.
const PUBLISH_SAME: Duration = Duration::from_secs(1);
/// Own targets of one wildcard member.
pub(crate) const NAMES_MAX: usize = 4_096;
/// The latency taken for a member that only ever failed, where no other member's is known.
const STAND_IN_US: u64 = 1_000_000;

/// `pools ─ pool:<model>`, and the ticker.
pub(crate) static POOLS: Branch = Branch {
    role: Role::Pools,
    child: |_| Role::Pool,
    intensity: Intensity::CHILD,
    wanted: House::pool_names,
    start: |house, name, supervisor| {
        Box::pin(async move {
            let cell = house.pool_named(&name);
            let (actor, _) = Actor::spawn_linked(None, Pool { house, cell }, (), supervisor).await?;
            Ok(actor)
        })
    },
    tick: Some(tick),
};

/// Tells the pools that have something to read, and says when to look again.
fn tick(house: &House, now: Instant) -> Duration {
    let mut is_busy = false;
    for cell in house.pools.load().iter() {
        let is_dirty = cell.is_dirty.load(Relaxed) && cell.is_dirty.swap(false, Relaxed);
        is_busy |= is_dirty;
        if is_dirty || cell.view.age(now) + TICK_IDLE >= PUBLISH_MAX {
            cell.asks.wake();
        }
    }
    if is_busy { TICK_BUSY } else { TICK_IDLE }
}

/// Learns how the members of one pool do.
pub(crate) struct Pool {
    house: Arc<House>,
    /// `None` where the pool left between the wish and the start; then there is nothing to do.
    cell: Option<Arc<PoolCell>>,
}

/// What is learned; most of it can be read off the last view again.
pub(crate) struct Knowledge {
    members: Vec<(Learned, Option<Gradient>)>,
}

impl Pool {
    fn resume(&self) -> Knowledge {
        let now = self.house.now();
        let Some(cell) = &self.cell else { return Knowledge { members: Vec::new() } };
        let view = cell.view();
        let members = cell.members.iter().zip(&view.members);
        let members = members.map(|(member, seen)| (Learned::resume(*seen, member.traffic().tally(), now), None));
        Knowledge { members: members.collect() }
    }

    fn look(&self, knowledge: &mut Knowledge) {
        let Some(cell) = &self.cell else { return };
        let now = self.house.now();
        self.name(cell, now);
        let busy = cell.members.iter().fold(0, |sum, member| sum + u64::from(member.traffic().in_flight()));
        cell.retries.sample(now, busy);
        if let Some(hedges) = &cell.hedges {
            // A hedge makes nothing good: what is in flight does not need it.
            hedges.sample(now, 0);
        }
        for ((learned, gradient), member) in knowledge.members.iter_mut().zip(&cell.members) {
            let news = learned.observe(member.traffic().tally(), now);
            learned.came_back(member.common.breaker.read().slow_from());
            limit(cell, member, gradient, news, now);
        }
        let is_slow =
            |member: &Arc<Member>| logic::is_slow(&member.rules, member.common.breaker.read().slow_from(), now);
        if cell.members.iter().any(is_slow) {
            // The weight grows by itself: look again soon.
            cell.mark();
        }
        let view = view(cell, knowledge, now);
        let age = cell.view.age(now);
        if age >= PUBLISH_SAME || *cell.view.read() != view {
            cell.view.publish(view, now);
        }
    }

    /// Gives names that succeeded a target of their own, and takes it from those unused for longest.
    fn name(&self, cell: &PoolCell, now: Instant) {
        let mut asks: Vec<Ask> = Vec::new();
        cell.asks.drain(|ask| asks.push(ask));
        for member in cell.members.iter() {
            let Some(names) = &member.names else { continue };
            let asked = asks.iter().filter(|ask| ask.member == member.at).map(|ask| &ask.asked);
            let own = names.own.load();
            let new: Vec<_> = asked.filter(|asked| !own.contains_key(*asked)).cloned().collect();
            if !new.is_empty() {
                self.add(names, member, new, now);
            }
        }
    }

    fn add(&self, names: &Names, member: &Member, new: Vec<Box<str>>, now: Instant) {
        let mut own = HashMap::clone(&names.own.load());
        for name in new {
            let id = TargetId { model: (&*name).into(), ..member.common.id.clone() };
            let target = self.house.target(&id).unwrap_or_else(|| {
                let provider = member.common.provider.clone();
                let (lanes, epoch) = (self.house.settings.lanes, self.house.epoch);
                Arc::new(Target::new(id, member.common.fingerprint, provider, lanes, epoch, now))
            });
            own.insert(name, target);
        }
        if own.len() > NAMES_MAX {
            let mut by_use: Vec<(u64, Box<str>)> = own.iter().map(|(name, t)| (t.used_ms(), name.clone())).collect();
            by_use.sort_unstable();
            for (_, name) in by_use.iter().take(own.len().saturating_sub(NAMES_MAX)) {
                own.remove(name);
            }
        }
        names.own.store(Arc::new(own));
    }
}

fn view(cell: &PoolCell, knowledge: &Knowledge, now: Instant) -> View {
    let known = knowledge.members.iter().filter_map(|(learned, _)| learned.latency_us(now));
    let stand_in_us = known.max().unwrap_or(STAND_IN_US);
    let members = cell.members.iter().zip(&knowledge.members).map(|(member, (learned, _))| {
        let slow_from = member.common.breaker.read().slow_from();
        let weight = logic::weight(member.weight, &member.rules, slow_from, member.common.quota(now), now);
        learned.view(weight, stand_in_us, now)
    });
    let is_available = |member: &&Arc<Member>| match member.common.gate.standing(now, false, cell.epoch) {
        Standing::Ready | Standing::Probation | Standing::Probed | Standing::Full { .. } => true,
        Standing::Resting { .. } => false,
    };
    let available = cell.members.iter().filter(is_available).count();
    let below = cell.members.iter().map(|member| member.rules.panic).max().unwrap_or_default();
    View { members: members.collect(), is_panicking: logic::is_panicking(available, cell.members.len(), below) }
}

/// Moves a member's adaptive limit, or takes away one that nobody moves any more.
fn limit(cell: &PoolCell, member: &Member, gradient: &mut Option<Gradient>, news: Tally, now: Instant) {
    let traffic = member.traffic();
    let Some(bounds) = member.rules.concurrency else {
        traffic.abandon_limit(now);
        return;
    };
    // A target in several pools has one limit, moved by one of them.
    if !traffic.may_move_limit(cell.serial, now) {
        return;
    }
    let gradient = match gradient {
        Some(gradient) if gradient.bounds() == bounds => gradient,
        Some(_) | None => gradient.insert(Gradient::new(bounds, traffic.limit(), now)),
    };
    gradient.observe(news, traffic.in_flight(), now);
    traffic.set_limit(Some(gradient.limit()));
}

impl Actor for Pool {
    type Msg = Knock;
    type State = Knowledge;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Knock>, (): ()) -> Result<Knowledge, ActorProcessingErr> {
        if let Some(cell) = &self.cell {
            cell.asks.open(myself);
        }
        Ok(self.resume())
    }

    async fn post_start(&self, _: ActorRef<Knock>, knowledge: &mut Knowledge) -> Result<(), ActorProcessingErr> {
        self.look(knowledge);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Knock>,
        message: Knock,
        knowledge: &mut Knowledge,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Knock::Wake | Knock::Tick => {
                self.look(knowledge);
                Ok(())
            }
            Knock::Poison => poisoned(Role::Pool),
        }
    }
}
