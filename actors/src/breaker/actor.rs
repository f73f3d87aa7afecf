//! One actor for all targets of a provider: reads facts, decides, sets what requests read.

use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::{debug, info};

use super::logic::{Effect, Event, Finding, Source, Told, Verdict};
use super::view::{Place, Why};
use crate::inbox::Knock;
use crate::layout::TargetRules;
use crate::registry::House;
use crate::restart::Intensity;
use crate::supervise::{Branch, poisoned};
use crate::target::{Provider, Resting, Target};
use crate::vitals::Role;

/// A target that paces its calls rests for moments, many times a minute; such rests are no news for operators.
const LOG_REST_MS: u64 = 1_000;

/// What became of a call, or of a probe.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) target: Arc<Target>,
    /// The rules of the pool it was made for.
    pub(crate) rules: Arc<TargetRules>,
    pub(crate) at: Instant,
    pub(crate) news: News,
}

/// Who says so.
#[derive(Debug)]
pub(crate) enum News {
    /// Any call but one on probation.
    Reported(Verdict),
    /// The call on probation, whose place is kept until this is read.
    Judged { verdict: Verdict, place: Place },
    /// A probe.
    Probed(Finding, Source),
    /// What other nodes say, folded.
    Told(Told),
    /// An operator wants it tried again.
    Reset,
}

/// `breakers ─ breaker:<provider>`.
pub(crate) static BREAKERS: Branch = Branch {
    role: Role::Breakers,
    child: |_| Role::Breaker,
    intensity: Intensity::CHILD,
    wanted: House::provider_names,
    start: |house, name, supervisor| {
        Box::pin(async move {
            let provider = house.provider_named(&name);
            let (actor, _) = Actor::spawn_linked(None, Breakers { house, provider }, (), supervisor).await?;
            Ok(actor)
        })
    },
    tick: None,
};

/// The breakers of one provider. What they know is kept in the targets, so a restarted one goes on where this stopped.
pub(crate) struct Breakers {
    house: Arc<House>,
    /// `None` where the provider left between the wish and the start; then there is nothing to do.
    provider: Option<Arc<Provider>>,
}

impl Breakers {
    fn read(&self) {
        if let Some(provider) = &self.provider {
            provider.facts.drain(|fact| self.take(provider, fact));
        }
    }

    fn take(&self, provider: &Provider, fact: Fact) {
        let Fact { target, rules, at, news } = fact;
        let (event, place) = match news {
            News::Reported(verdict) => (Event::Reported(verdict), None),
            News::Judged { verdict, place } => (Event::Judged(verdict), Some(place)),
            News::Probed(finding, source) => (Event::Probed(finding, source), None),
            News::Told(told) => (Event::Told(told), None),
            News::Reset => (Event::Reset, None),
        };
        let is_told = matches!(event, Event::Told(_));
        if target.is_replaced() {
            // A call that ran when its key was exchanged speaks of the old one, and its name is another's now.
            if let Some(place) = place {
                target.gate.leave(&place);
            }
            return;
        }
        let mut breaker = (*target.breaker.read()).clone();
        let before = breaker.rest_in_force();
        let effect = breaker.on(event, at, self.house.dice(), &rules);
        let is_news = breaker.slow_from().is_some();
        let serves_until = breaker.serves_until(rules.window);
        target.breaker.publish(breaker, at);
        match effect {
            Some(Effect::Rests { until, why }) => {
                if let Some(until) = serves_until.filter(|_| why.is_soft()) {
                    target.gate.serves(until, target.epoch);
                }
                target.gate.rests(until, why, target.epoch);
                let rest_ms = u64::try_from(until.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
                if rest_ms >= LOG_REST_MS {
                    info!(target = %target.id, why = why.as_str(), rest_ms, is_told, "target rests");
                } else {
                    debug!(target = %target.id, why = why.as_str(), rest_ms, is_told, "target rests");
                }
                self.watch(provider, &target, rules, why);
            }
            Some(Effect::Ends) => {
                target.gate.ends(at, target.epoch);
                debug!(target = %target.id, "a probe found the target alive");
                provider.resting().remove(&target.id);
            }
            Some(Effect::Resumes) => {
                target.gate.resumes();
                let why = before.map(|(_, why)| why.as_str());
                if is_news {
                    info!(target = %target.id, why, "target is back");
                } else {
                    debug!(target = %target.id, why, "target is back");
                }
                provider.resting().remove(&target.id);
            }
            Some(Effect::Suspects) => {
                debug!(target = %target.id, "a call reached nobody, a probe is to say whether anybody is there");
                self.watch(provider, &target, rules, Why::Unreachable);
            }
            None => {}
        }
        if effect.is_some() {
            self.house.hearsay.wake();
        }
        // Only now: whoever takes the place next reads what was decided.
        if let Some(place) = place {
            target.gate.leave(&place);
        }
    }

    /// Has a resting target probed where a probe can see what it waits for.
    fn watch(&self, provider: &Provider, target: &Arc<Target>, rules: Arc<TargetRules>, why: Why) {
        match why {
            Why::Unreachable | Why::Credential => {
                let resting = Resting { target: Arc::downgrade(target), rules };
                provider.resting().insert(target.id.clone(), resting);
                provider.calls.wake();
            }
            Why::Failures | Why::Quota | Why::RetryAfter | Why::Paced => {
                provider.resting().remove(&target.id);
            }
        }
    }
}

impl Actor for Breakers {
    type Msg = Knock;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Knock>, (): ()) -> Result<(), ActorProcessingErr> {
        if let Some(provider) = &self.provider {
            provider.facts.open(myself);
        }
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<Knock>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        // What waited while nobody read.
        self.read();
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Knock>, message: Knock, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match message {
            Knock::Wake | Knock::Tick => {
                self.read();
                Ok(())
            }
            Knock::Poison => poisoned(Role::Breaker),
        }
    }
}
