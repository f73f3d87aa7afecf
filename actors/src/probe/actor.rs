//! `probe:<provider>`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;
use troupe_proto::health;
use troupe_proto::id::TargetId;

use super::logic::{Pace, Rounds, pace, patience, suspect};
use crate::breaker::Why;
use crate::breaker::actor::{Fact, News};
use crate::breaker::logic::{Finding, Source};
use crate::inbox::{Knock, knock};
use crate::layout::TargetRules;
use crate::ports::Probed;
use crate::registry::House;
use crate::restart::Intensity;
use crate::supervise::{Branch, poisoned};
use crate::target::{Provider, Target};
use crate::vitals::Role;

/// `probers ─ probe:<provider>`.
pub(crate) static PROBERS: Branch = Branch {
    role: Role::Probers,
    child: |_| Role::Prober,
    intensity: Intensity::CHILD,
    wanted: House::provider_names,
    start: |house, name, supervisor| {
        Box::pin(async move {
            let provider = house.provider_named(&name);
            let (actor, _) = Actor::spawn_linked(None, Prober { house, provider }, (), supervisor).await?;
            Ok(actor)
        })
    },
    tick: None,
};

/// Probes the resting targets of one provider.
pub(crate) struct Prober {
    house: Arc<House>,
    /// `None` where the provider left between the wish and the start; then there is nothing to do.
    provider: Option<Arc<Provider>>,
}

/// Probes under way. They end with the actor; its successor begins a new round.
#[derive(Default)]
pub(crate) struct Round {
    rounds: Rounds,
    /// Accounts that this node probes for itself alone.
    own: BTreeSet<TargetId>,
    in_air: JoinSet<()>,
    timer: Option<AbortHandle>,
}

impl Drop for Round {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// A target to probe, and the rules it rests by.
type Probing = (Arc<Target>, Arc<TargetRules>);

/// What one probe speaks for: all models of a provider's key. Clients name models without bound behind a wildcard, and
/// the answer is the same for each.
fn account(id: &TargetId) -> TargetId {
    TargetId { provider: id.provider.clone(), credential: id.credential.clone(), model: "".into() }
}

/// The provider's targets that a probe can help now, by account, and when each account is probed. Others are struck off: a
/// rest that is over is left to the next call, and when that fails the target is watched again.
fn resting(provider: &Provider, now: Instant) -> (BTreeMap<TargetId, Vec<Probing>>, BTreeMap<TargetId, Pace>) {
    let mut targets = BTreeMap::<TargetId, Vec<Probing>>::new();
    let mut paces = BTreeMap::<TargetId, Pace>::new();
    provider.resting().retain(|id, resting| {
        let target = resting.target.upgrade().filter(|target| !target.is_replaced());
        let breaker = target.as_ref().map(|target| target.breaker.read());
        let rest = breaker.as_ref().and_then(|breaker| breaker.rest_in_force());
        let refusals = breaker.as_ref().map_or(0, |breaker| breaker.refusals());
        let of_rest = rest.filter(|(until, _)| *until > now).and_then(|(_, why)| pace(why, refusals, &resting.rules));
        let is_suspect = breaker.is_some_and(|breaker| breaker.is_suspect(now));
        let pace = of_rest.or_else(|| is_suspect.then(suspect));
        let (Some(target), Some(pace)) = (target, pace) else { return false };
        let account = account(id);
        targets.entry(account.clone()).or_default().push((target, resting.rules.clone()));
        paces.entry(account).and_modify(|least| *least = least.sooner(pace)).or_insert(pace);
        true
    });
    for (account, doubt) in provider.doubts() {
        let target = doubt.target.upgrade().filter(|target| !target.is_replaced() && doubt.until > now);
        // The same as for a rest of our own, so that who rests and who only heard of it take turns at one pace.
        if let (Some(target), Some(pace)) = (target, pace(Why::Unreachable, 0, &doubt.rules)) {
            targets.entry(account.clone()).or_insert_with(|| vec![(target, doubt.rules)]);
            paces.entry(account).or_insert(pace);
        }
    }
    (targets, paces)
}

impl Prober {
    fn look(&self, myself: &ActorRef<Knock>, round: &mut Round) {
        let Some(provider) = &self.provider else { return };
        provider.calls.drain(|landed| round.rounds.landed(&landed));
        while round.in_air.try_join_next().is_some() {}
        let now = self.house.now();
        let (targets, paces) = resting(provider, now);
        self.take_turns(&targets, &paces, round, now);
        for id in round.rounds.begin(&paces, now, || self.house.dice()) {
            if let Some(probing) = targets.get(&id) {
                self.probe(id, probing.clone(), round);
            }
        }
        if let Some(timer) = round.timer.take() {
            timer.abort();
        }
        if let Some(after) = round.rounds.next(now) {
            let actor = myself.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                knock(&actor, Knock::Tick);
            });
            round.timer = Some(timer.abort_handle());
        }
    }

    /// Learns whose turn it is. Without other nodes it always is this one's.
    fn take_turns(
        &self,
        targets: &BTreeMap<TargetId, Vec<Probing>>,
        paces: &BTreeMap<TargetId, Pace>,
        round: &mut Round,
        now: Instant,
    ) {
        let mut delays = BTreeMap::new();
        round.own.clear();
        for (account, pace) in paces {
            let Some(probing) = targets.get(account) else { continue };
            let Some((target, _)) = probing.first() else { continue };
            let turn = self.house.hearsay.turn(account, target.fingerprint, pace.is_suspicion(), now);
            if turn.is_own || probing.iter().any(|(target, _)| target.breaker.read().is_alone()) {
                round.own.insert(account.clone());
                continue;
            }
            if let Some(last) = turn.last {
                round.rounds.heard(account, last, *pace, self.house.dice());
            }
            if !turn.delay.is_zero() {
                delays.insert(account.clone(), turn.delay);
            }
        }
        round.rounds.yield_to(delays);
    }

    fn probe(&self, account: TargetId, probing: Vec<Probing>, round: &mut Round) {
        let house = self.house.clone();
        let Some((first, rules)) = probing.first().cloned() else { return };
        let is_own = round.own.contains(&account);
        round.in_air.spawn(async move {
            let (id, provider) = (first.id.clone(), first.provider.clone());
            // In a task of its own, so that a fault of the port lands as one that learned nothing.
            let prober = house.settings.prober.clone();
            let probe = AbortOnDrop(tokio::spawn({
                let id = id.clone();
                async move { prober.probe(&id).await }
            }));
            let probed = probe.outcome(patience(&rules)).await;
            debug!(target = %id, ?probed, "probed a resting target");
            let finding = match probed {
                Probed::Alive => Some(Finding::Alive),
                Probed::Answers => Some(Finding::Answers),
                Probed::Dead => Some(Finding::Dead),
                Probed::CredentialRefused => Some(Finding::CredentialRefused),
                Probed::Unknown => None,
            };
            provider.count_probe(probed);
            // Nobody else's turn is over because this node reaches nobody.
            if !is_own || probed != Probed::Dead {
                house.hearsay.probed(&account, first.fingerprint, told(probed), house.now());
            }
            if let Some(finding) = finding {
                for (target, rules) in probing {
                    let fact = Fact { target, rules, at: house.now(), news: News::Probed(finding, Source::Own) };
                    // Refused is counted at the door; the next probe says the same.
                    provider.facts.post(fact).ok();
                }
            }
            // There is room for more than can be in the air.
            provider.calls.post(account).ok();
        });
    }
}

/// What other nodes are told of it.
const fn told(probed: Probed) -> health::Finding {
    match probed {
        Probed::Alive => health::Finding::Alive,
        Probed::Answers => health::Finding::Answers,
        Probed::Dead => health::Finding::Dead,
        Probed::CredentialRefused => health::Finding::CredentialRefused,
        Probed::Unknown => health::Finding::Unknown,
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Probed>);

impl AbortOnDrop {
    async fn outcome(mut self, patience: Duration) -> Probed {
        match tokio::time::timeout(patience, &mut self.0).await {
            Ok(Ok(probed)) => probed,
            Ok(Err(_)) => Probed::Unknown,
            // No answer in time is an answer.
            Err(_) => Probed::Dead,
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Actor for Prober {
    type Msg = Knock;
    type State = Round;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Knock>, (): ()) -> Result<Round, ActorProcessingErr> {
        if let Some(provider) = &self.provider {
            provider.calls.open(myself);
        }
        Ok(Round::default())
    }

    async fn post_start(&self, myself: ActorRef<Knock>, round: &mut Round) -> Result<(), ActorProcessingErr> {
        self.look(&myself, round);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Knock>,
        message: Knock,
        round: &mut Round,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Knock::Wake | Knock::Tick => {
                self.look(&myself, round);
                Ok(())
            }
            Knock::Poison => poisoned(Role::Prober),
        }
    }
}
