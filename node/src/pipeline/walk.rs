//! Walks the plan: calls target after target until one answers, for as long as that is reasonable.
//!
//! Nothing has been sent to the client yet, so every failure here can still be made good elsewhere. What bounds it: the
//! attempts a call may make, the share of calls that may be retried (so that an outage is not answered by a storm), and
//! the call's own deadline.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use troupe_dialect::Dialect;
use troupe_dialect::peek::peek;
use troupe_dialect::quota::Quota;
use troupe_dialect::resume::{Join, continuation};
use troupe_proto::failure::{ErrorCode, Fault};

use super::Routed;
use super::attempt::{self, Deadlines, Opened, Served};
use super::decode::Call;
use super::late::COMMIT_AFTER;
use super::prepare::{Envelope, Prepared, prepare};
use super::refusal::Refusal;
use super::route::{Choice, Chosen, Failed, Moment};
use super::visit::{Lane, Progress, Visit};
use crate::catalogue;
use crate::clock;
use crate::flow::{Flow, reached};
use crate::view::Retries;

/// A shorter wait than this is over before a drain is.
const WAIT_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// What became of the calls so far.
#[derive(Default)]
struct Sofar {
    /// What the client is told if nothing better comes.
    told: Option<Refusal>,
    failed: Option<Failed>,
    /// The rules of the target that failed last.
    retries: Option<Retries>,
    calls: u32,
    waited: Duration,
    /// Whether the retry budget said no.
    is_denied: bool,
}

impl Sofar {
    /// Keeps the last error, but no word about our credential over one that says more.
    fn keep(&mut self, refusal: Refusal) {
        let is_ours = matches!(refusal.fault, Some(Fault::Credential | Fault::Quota));
        if !is_ours || self.told.as_ref().is_none_or(|told| told.fault.is_none()) {
            self.told = Some(refusal);
        }
    }

    /// Keeps why a target cannot carry the call, unless some target was called.
    fn keep_unfit(&mut self, refusal: Refusal) {
        if self.calls == 0 {
            self.told.get_or_insert(refusal);
        }
    }
}

/// A call that was put into a target's words.
struct Ready {
    call: Arc<Call>,
    prepared: Prepared,
    served: Served,
}

impl Routed {
    /// Calls targets until one answers.
    ///
    /// # Errors
    /// The last error of a provider, or why none could be called; every attempt is closed then.
    pub(super) async fn walk(&mut self, visit: &mut Visit) -> Result<(Opened, Served), Refusal> {
        self.walk_on(Sofar::default(), visit).await
    }

    /// Calls targets until one goes on with a stream that `before` broke off.
    ///
    /// # Errors
    /// As [`Routed::walk`].
    pub(super) async fn walk_behind(
        &mut self,
        before: &Served,
        visit: &mut Visit,
    ) -> Result<(Opened, Served), Refusal> {
        let retries = Some(before.member().retries);
        self.walk_on(Sofar { retries, ..Sofar::default() }, visit).await
    }

    async fn walk_on(&mut self, mut sofar: Sofar, visit: &mut Visit) -> Result<(Opened, Served), Refusal> {
        loop {
            let now = clock::now();
            if sofar.calls > 0 && now >= self.total {
                return Err(self.give_up(sofar, now));
            }
            let chosen = match self.plan.choose(self.moment(&sofar, visit, now)) {
                Choice::Go(chosen) => *chosen,
                Choice::Wait(until) if self.waits(&mut sofar, until, now, visit).await => continue,
                Choice::Wait(_) | Choice::Nothing => return Err(self.give_up(sofar, now)),
            };
            let Some(ready) = self.prepare(&chosen, &mut sofar, visit).await else { continue };
            if sofar.calls > 0 && !self.plan.pool().cell.retries.try_take(now) {
                visit.note(|record| record.is_retry_denied = true);
                sofar.is_denied = true;
                return Err(self.give_up(sofar, now));
            }
            match self.call(chosen, ready, &mut sofar, visit).await {
                Some(opened) => return Ok(opened),
                None if self.is_final(&sofar) => return Err(self.give_up(sofar, clock::now())),
                None => {}
            }
        }
    }

    fn moment<'a>(&self, sofar: &'a Sofar, visit: &Visit, now: Instant) -> Moment<'a> {
        Moment { failed: sofar.failed.as_ref(), now, lane: visit.thread.lane, dice: clock::dice }
    }

    /// Whether no further attempt can or may help.
    fn is_final(&self, sofar: &Sofar) -> bool {
        let attempts = sofar.retries.map_or(1, |retries| retries.attempts);
        let is_hopeless = match sofar.failed.as_ref().map(|failed| failed.fault) {
            Some(Fault::Client | Fault::Ours) => true,
            Some(Fault::Credential | Fault::Quota | Fault::Capacity | Fault::ContextLength | Fault::Provider)
            | None => false,
        };
        is_hopeless || sofar.calls >= attempts
    }

    /// Waits for a target to be ready again, if the call has asked one before and the wait is worth it.
    ///
    /// A node that drains is not waited at: its client hears what there is to say, and asks another node.
    async fn waits(&self, sofar: &mut Sofar, until: Instant, now: Instant, visit: &Visit) -> bool {
        let wait = until.saturating_duration_since(now);
        let wait_max = sofar.retries.map_or(Duration::ZERO, |retries| retries.wait_max);
        if sofar.waited.saturating_add(wait) > wait_max || until >= self.total {
            return false;
        }
        sofar.waited += wait;
        let mut flow = visit.thread.flow.clone();
        let leaves = async {
            reached(&mut flow, Flow::Draining).await;
            if until.saturating_duration_since(clock::now()) < WAIT_WHILE_DRAINING {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(wait) => true,
            () = leaves => false,
        }
    }

    /// What the client is told when nothing more is tried.
    fn give_up(&self, sofar: Sofar, now: Instant) -> Refusal {
        match sofar.told {
            Some(mut told) => {
                // A client that has to wait longer than a call may, and was tried for once, may well come back.
                told.is_spent = sofar.calls > 1 || (sofar.is_denied && told.retry_after.is_none());
                told
            }
            None => self.plan.refusal(now),
        }
    }

    /// Puts the call into the target's words; `None` if these cannot carry it, where another target's may.
    async fn prepare(&mut self, chosen: &Chosen, sofar: &mut Sofar, visit: &mut Visit) -> Option<Ready> {
        let envelope = Envelope { headers: &self.headers, query: self.query.as_deref(), trace: self.trace };
        let (call, join) = match self.wording(chosen) {
            Ok(wording) => wording,
            Err(refusal) => {
                self.plan.unfit(chosen.at);
                sofar.keep_unfit(refusal);
                return None;
            }
        };
        match prepare(&call, chosen.member(), &chosen.model, &envelope).await {
            Ok((prepared, lost)) => {
                visit.lost(&lost);
                let served = Served {
                    pool: chosen.pool.clone(),
                    at: chosen.at,
                    model: chosen.model.clone(),
                    lost,
                    join,
                    deadlines: self.step(chosen),
                };
                Some(Ready { call, prepared, served })
            }
            Err(refusal) => {
                self.plan.unfit(chosen.at);
                sofar.keep_unfit(refusal);
                None
            }
        }
    }

    /// What the target is asked: the call, or the rest of one whose stream broke.
    fn wording(&self, chosen: &Chosen) -> Result<(Arc<Call>, Option<Join>), Refusal> {
        let Some(heard) = &self.heard else { return Ok((self.call.clone(), None)) };
        let can_prefill =
            chosen.member().provider.dialect == Dialect::Anthropic && catalogue::can_prefill(&chosen.model);
        let rest = continuation(&self.call.body, heard, can_prefill)
            .map_err(|reason| Refusal::new(ErrorCode::StreamInterrupted, reason.as_str()))?;
        let operation = self.call.operation;
        let peeked = peek(operation, &rest.body).map_err(|bad| Refusal::new(bad.code, bad.message))?;
        Ok((Arc::new(Call { operation, body: rest.body, peeked }), Some(rest.join)))
    }

    /// Notes that the target of a stream broke off in the middle of it.
    pub(super) fn broke(&mut self, before: &Served, broke: &Refusal) {
        let wait = self.backoff(before, &before.member().retries);
        let again = clock::now().checked_add(wait);
        self.plan.failed(before.at, broke.fault.unwrap_or(Fault::Provider), again);
    }

    /// How long this attempt may take. One that could be made good elsewhere leaves time for that: it has to begin within
    /// half of what is left, but is given no less than the target needs as a rule.
    fn step(&self, chosen: &Chosen) -> Deadlines {
        let (limits, now, total) = (chosen.member().limits, clock::now(), self.total);
        let left = total.saturating_duration_since(now);
        let head = now.checked_add(self.patience).unwrap_or(total);
        // A client that waits for longer hears from us meanwhile.
        let mut begin = if self.patience < COMMIT_AFTER { head } else { total };
        if self.plan.has_more() {
            let usual = chosen.latency().saturating_mul(4);
            begin = begin.min(now.checked_add((left / 2).max(usual)).unwrap_or(total));
        }
        Deadlines { limits, head, begin, total }
    }

    /// Calls one target, and perhaps a second one if it is slow to begin; `None` if they failed.
    async fn call(
        &mut self,
        chosen: Chosen,
        ready: Ready,
        sofar: &mut Sofar,
        visit: &mut Visit,
    ) -> Option<(Opened, Served)> {
        sofar.calls += 1;
        let hedge_after = chosen.pool.hedge_after.filter(|_| self.call.peeked.stream && sofar.calls == 1);
        let client = visit.thread.client.clone();
        let progress = visit.attempt(chosen, Lane::First);
        let (opened, faster) = {
            let mut first = pin!(attempt::attempt(&ready.call, ready.prepared, &ready.served, &client, &progress));
            let quick = match hedge_after {
                None => Some(first.as_mut().await),
                Some(after) => tokio::select! {
                    biased;
                    done = &mut first => Some(done),
                    () = sleep(after) => None,
                },
            };
            match quick {
                Some(done) => (self.came_to(done, &ready.served, Lane::First, sofar, visit), None),
                // Boxed, because they are rare: every call would carry the room for a second attempt around.
                None => match Box::pin(self.hedge(sofar, visit)).await {
                    Some(second) => Box::pin(self.race(first, &ready.served, second, sofar, visit)).await,
                    None => {
                        let done = first.await;
                        (self.came_to(done, &ready.served, Lane::First, sofar, visit), None)
                    }
                },
            }
        };
        Some((opened?, faster.unwrap_or(ready.served)))
    }

    /// A second target for a stream that is slow to begin, if there is one and hedges are not too many already.
    async fn hedge(&mut self, sofar: &mut Sofar, visit: &mut Visit) -> Option<(Ready, Arc<Progress>)> {
        let now = clock::now();
        let chosen = self.plan.choose_new(self.moment(sofar, visit, now))?;
        if !self.plan.pool().cell.hedges.as_ref().is_some_and(|hedges| hedges.try_take(now)) {
            self.plan.put_back(chosen.at);
            return None;
        }
        let ready = self.prepare(&chosen, sofar, visit).await?;
        sofar.calls += 1;
        let progress = visit.attempt(chosen, Lane::Hedge);
        Some((ready, progress))
    }

    /// Takes whichever of two begins first, and says so if that is the second; the other is cancelled.
    async fn race(
        &mut self,
        mut first: Pin<&mut impl Future<Output = Result<Opened, Refusal>>>,
        served: &Served,
        (ready, progress): (Ready, Arc<Progress>),
        sofar: &mut Sofar,
        visit: &mut Visit,
    ) -> (Option<Opened>, Option<Served>) {
        let client = visit.thread.client.clone();
        let (opened, lane) = {
            let mut second = pin!(attempt::attempt(&ready.call, ready.prepared, &ready.served, &client, &progress));
            let by = |lane: Lane| if lane == Lane::First { served } else { &ready.served };
            let (lane, done) = tokio::select! {
                biased;
                done = &mut first => (Lane::First, done),
                done = &mut second => (Lane::Hedge, done),
            };
            match self.came_to(done, by(lane), lane, sofar, visit) {
                Some(opened) => (Some(opened), lane),
                None => {
                    let (lane, done) = match lane {
                        Lane::First => (Lane::Hedge, second.await),
                        Lane::Hedge => (Lane::First, first.await),
                    };
                    (self.came_to(done, by(lane), lane, sofar, visit), lane)
                }
            }
        };
        (opened, (lane == Lane::Hedge).then_some(ready.served))
    }

    /// Notes what an attempt came to.
    fn came_to(
        &mut self,
        done: Result<Opened, Refusal>,
        served: &Served,
        lane: Lane,
        sofar: &mut Sofar,
        visit: &mut Visit,
    ) -> Option<Opened> {
        let refusal = match done {
            Ok(opened) => {
                visit.opened(lane);
                let header = |name: &str| opened.head().headers.get(name).and_then(|value| value.to_str().ok());
                if let Some(quota) = Quota::read(served.dialect(), header, clock::wall()) {
                    visit.quota(&quota);
                }
                return Some(opened);
            }
            Err(refusal) => refusal,
        };
        visit.attempt_failed(lane, &refusal);
        let retries = served.member().retries;
        let now = clock::now();
        let fault = refusal.fault.unwrap_or(Fault::Provider);
        let wait = match fault {
            _ if refusal.is_unknown_model || refusal.forbids_retry => None,
            Fault::Provider | Fault::Capacity => {
                Some(self.backoff(served, &retries).max(refusal.retry_after.unwrap_or_default()))
            }
            Fault::Client | Fault::Credential | Fault::Quota | Fault::ContextLength | Fault::Ours => None,
        };
        let again = wait.and_then(|wait| now.checked_add(wait));
        // A model that the spec names, and that a provider does not have, another may have. One that the client named is the
        // client's.
        let fault = match refusal.is_unknown_model {
            true if served.member().label.is_some() => Fault::Provider,
            true => Fault::Client,
            false => fault,
        };
        sofar.failed = Some(self.plan.failed(served.at, fault, again));
        sofar.retries = Some(retries);
        sofar.keep(refusal);
        None
    }

    /// How long the same target is left alone: doubled each time, and drawn from the upper half, so that calls that
    /// failed together do not come back together.
    fn backoff(&self, served: &Served, retries: &Retries) -> Duration {
        let doublings = self.plan.times(served.at).saturating_sub(1).min(16);
        let whole = retries.backoff.saturating_mul(1 << doublings).min(retries.backoff_max);
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + clock::dice() % (nanos / 2 + 1))
    }
}
