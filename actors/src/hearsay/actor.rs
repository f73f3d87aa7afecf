//! The one actor of hearsay: gathers what this node saw, says it, folds what others said, and tells breakers and probers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use troupe_proto::health::{Finding as Found, Opinions, Print};
use troupe_proto::id::{ProviderId, TargetId};
use troupe_proto::unit::PerMille;

use super::hall::{CutOff, State};
use super::heard::{AccountId, News, Quota, Word, stance};
use super::logic::{Folded, Rest, Stance, fold};
use super::own::{self, Urgency, Words};
use super::uplink::{Seen, Uplink};
use crate::breaker::Why;
use crate::breaker::actor::{Fact, News as FactNews};
use crate::breaker::logic::{Finding, Source, Told};
use crate::inbox::{Knock, knock};
use crate::layout::TargetRules;
use crate::registry::House;
use crate::supervise::poisoned;
use crate::target::{Doubt, Target};
use crate::vitals::Role;

/// How often it looks while nodes have something to say to each other.
const LOOK_BUSY: Duration = Duration::from_millis(250);
/// How often it looks when nobody has: only to see which targets work.
const LOOK_IDLE: Duration = Duration::from_millis(1_000);
/// It looks no sooner after another look, whoever knocks.
const LOOK_GAP: Duration = Duration::from_millis(10);
/// A rest that is shorter is over before it is told.
const REST_TOLD_MIN: Duration = Duration::from_millis(500);
/// One that paces calls comes again and again; it is told when it is longer than the way of a word.
const PACED_TOLD_MIN: Duration = Duration::from_secs(2);
/// A success is told for as long.
const WORKED_TOLD_FOR: Duration = Duration::from_secs(10);
/// That a target came back is told for as long.
const RECOVERED_TOLD_FOR: Duration = Duration::from_secs(10);
/// A node that is cut off probes for as long after each look.
const OWN_PROBES_FOR: Duration = Duration::from_secs(10);
/// A quota of which more is left is no news.
const QUOTA_TOLD_BELOW: PerMille = PerMille::new(500);
/// A reading of others must be younger than this node's own by as much: the same reading that comes back is older.
const QUOTA_YOUNGER: Duration = Duration::from_secs(1);

/// A target that is laid out, and the rules it rests by.
type Known = (Arc<Target>, Arc<TargetRules>);

/// Hears and tells for all targets.
pub(crate) struct Hearsay {
    pub(crate) house: Arc<House>,
}

/// When it looks again.
#[derive(Default)]
pub(crate) struct Round {
    looked: Option<Instant>,
    timer: Option<AbortHandle>,
}

impl Drop for Round {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// What is to be done when the state is let go of.
#[derive(Default)]
struct Digest {
    facts: Vec<(Known, FactNews)>,
    tell: Vec<(Opinions, Urgency)>,
    doubts: BTreeMap<ProviderId, BTreeMap<TargetId, Doubt>>,
    disputed: usize,
    cut_off: Option<CutOff>,
    is_busy: bool,
}

impl Hearsay {
    fn look(&self, myself: &ActorRef<Knock>, round: &mut Round) {
        let house = &self.house;
        if house.hearsay.board().is_none() {
            return;
        }
        house.hearsay.door.drain(|()| ());
        let now = house.now();
        if let Some(timer) = round.timer.take() {
            timer.abort();
        }
        let gap = round.looked.map_or(LOOK_GAP, |looked| now.saturating_duration_since(looked));
        let after = if gap < LOOK_GAP {
            LOOK_GAP - gap
        } else {
            round.looked = Some(now);
            if self.digest(now) { LOOK_BUSY } else { LOOK_IDLE }
        };
        let actor = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            knock(&actor, Knock::Tick);
        });
        round.timer = Some(timer.abort_handle());
    }

    /// Reads everything once; whether there is anything to say or to hear.
    fn digest(&self, now: Instant) -> bool {
        let house = &self.house;
        let known = house.known_targets();
        let Some(board) = house.hearsay.board() else { return false };
        let me = board.me();
        let digest = {
            let mut state = house.hearsay.state();
            let providers: BTreeSet<ProviderId> = known.iter().map(|(target, _)| target.id.provider.clone()).collect();
            state.sweep(|provider| providers.contains(provider), now);
            digest(&mut state, &known, me.1, now)
        };
        house.hearsay.set_disputed(digest.disputed);
        house.hearsay.set_cut_off(digest.cut_off);
        for ((target, rules), news) in digest.facts {
            let fact = Fact { target: target.clone(), rules, at: now, news };
            // Refused is counted at the door; the next look says the same, and the next probe.
            target.provider.facts.post(fact).ok();
        }
        for (opinions, urgency) in digest.tell {
            house.hearsay.count_told();
            board.tell(opinions, urgency);
        }
        let mut doubts = digest.doubts;
        for (name, provider) in house.providers() {
            let doubts = doubts.remove(&name).unwrap_or_default();
            if provider.set_doubts(doubts) {
                provider.calls.wake();
            }
        }
        digest.is_busy
    }
}

/// What follows for all that is laid out.
fn digest(state: &mut State, known: &[Known], incarnation: u64, now: Instant) -> Digest {
    let mut digest = Digest::default();
    known.iter().for_each(|(target, _)| target.sample(now));
    join(state, known, now, &mut digest);
    findings(state, known, now, &mut digest);
    let words = own_words(state, known, now);
    let worked = known.iter().filter_map(|(target, _)| target.worked()).max();
    let is_cut_off = state.uplink.is_cut() || own::is_cut_off(&words, worked, now);
    for entry in known {
        listen(state, entry, &words, is_cut_off, now, &mut digest);
    }
    speak(state, words, incarnation, !is_cut_off, now, &mut digest);
    digest
}

/// Sees whether this node reaches its providers as far as others do. While it does not, it goes on trying by itself: no call
/// may come that would find out that it does again.
fn join(state: &mut State, known: &[Known], now: Instant, digest: &mut Digest) {
    let seen: Vec<Seen> = known.iter().map(|(target, _)| seen(state, target, now)).collect();
    state.uplink = state.uplink.judged(&seen, now);
    let failing = || known.iter().zip(&seen).filter(|(_, seen)| seen.is_failing(now)).map(|(known, _)| known);
    // Looked at again soon: it may have to be said that it is so, and that it is so no more.
    digest.is_busy |= failing().next().is_some();
    let Uplink::Cut { witness } = state.uplink else { return };
    for (target, rules) in failing() {
        let account = TargetId { model: "".into(), ..target.id.clone() };
        let doubt = Doubt { target: Arc::downgrade(target), rules: rules.clone(), until: now + OWN_PROBES_FOR };
        digest.doubts.entry(account.provider.clone()).or_default().insert(account, doubt);
    }
    let providers: BTreeSet<ProviderId> = failing().map(|(target, _)| target.id.provider.clone()).collect();
    digest.cut_off = Some(CutOff { providers: providers.into_iter().collect(), witness });
}

fn seen(state: &State, target: &Target, now: Instant) -> Seen {
    let reach = target.breaker.read().reach();
    Seen {
        answered: reach.answered.max(target.worked()),
        silent: reach.silent,
        elsewhere: state.heard.reached(&target.id, target.fingerprint.print(), now),
    }
}

/// Hands what other nodes' probes found to the breakers, as if this node had probed.
fn findings(state: &mut State, known: &[Known], now: Instant, digest: &mut Digest) {
    let news = std::mem::take(&mut state.news);
    if state.uplink.is_cut() {
        // What others reach is not what this node does.
        return;
    }
    for News { account, print, probe } in news {
        let finding = match probe.finding {
            Found::Alive => Finding::Alive,
            Found::Answers => Finding::Answers,
            Found::CredentialRefused => Finding::CredentialRefused,
            // It only makes a rest by this node's own evidence longer, also when it comes from one that reaches nobody: such a
            // one comes last, so it is not asked while others see.
            Found::Dead => Finding::Dead,
            Found::Unknown => continue,
        };
        let of_account = known
            .iter()
            .filter(|(target, _)| AccountId::of(&target.id) == account && target.fingerprint.print() == print);
        for entry in of_account {
            let breaker = entry.0.breaker.read();
            let rests = breaker.rest_in_force().map(|(_, why)| why);
            let matters = match (finding, rests) {
                // Who only suspects it weighs that with the rest of what is said.
                (Finding::Dead, None) => false,
                (Finding::Dead, Some(why)) => why == Why::Unreachable,
                (Finding::Alive | Finding::Answers | Finding::CredentialRefused, Some(why)) => {
                    matches!(why, Why::Unreachable | Why::Credential)
                }
                (Finding::Alive | Finding::Answers | Finding::CredentialRefused, None) => breaker.is_suspect(now),
            };
            if matters {
                digest.facts.push((entry.clone(), FactNews::Probed(finding, Source::Others)));
            }
        }
        // Its prober has to know that this turn is over.
        digest.is_busy = true;
        for (target, _) in known.iter().filter(|(target, _)| AccountId::of(&target.id) == account).take(1) {
            target.provider.calls.wake();
        }
    }
}

/// What this node saw itself.
fn own_words(state: &State, known: &[Known], now: Instant) -> BTreeMap<ProviderId, Words> {
    let mut all: BTreeMap<ProviderId, Words> = BTreeMap::new();
    for (target, _) in known {
        let account_id = AccountId::of(&target.id);
        let print = target.fingerprint.print();
        let probe = state.own_probe(&account_id, print, now);
        let word = own_word(state, target, print, now);
        if word.is_empty() && probe.is_none() {
            continue;
        }
        let words = all.entry(account_id.provider).or_default();
        let account = words.entry(account_id.credential).or_insert_with(|| own::account(print));
        account.probe = probe;
        if !word.is_empty() {
            account.targets.insert(target.id.model.clone(), word);
        }
    }
    all
}

fn own_word(state: &State, target: &Target, print: Print, now: Instant) -> Word {
    let breaker = target.breaker.read();
    let rest = breaker.own_rest(now).map(|(since, until, why)| Rest { why, since, until });
    let within = |at: &Instant, span| now.saturating_duration_since(*at) <= span;
    // Where nobody finds fault with a target, that it works goes without saying.
    let is_asked = || {
        let said = state.heard.fresh(&target.id.provider, now);
        let mut accounts = said.filter_map(|(_, said)| said.accounts.get(&target.id.credential));
        accounts.any(|account| {
            let word = account.targets.get(&target.id.model);
            let is_dead = account.probe.is_some_and(|probe| probe.finding == Found::Dead);
            account.print == print
                && (is_dead || word.is_some_and(|word| word.rest.is_some() || word.suspected.is_some()))
        })
    };
    let quota = target.quota(now).filter(|quota| quota.remaining < QUOTA_TOLD_BELOW).and_then(|quota| {
        let full_at = quota.reset.map(|reset| now + reset);
        Some(Quota { remaining: quota.remaining, at: now.checked_sub(quota.age)?, full_at })
    });
    Word {
        rest: rest.filter(|rest| {
            let least = if rest.why == Why::Paced { PACED_TOLD_MIN } else { REST_TOLD_MIN };
            rest.until.saturating_duration_since(rest.since) >= least
        }),
        suspected: breaker.suspected(now).filter(|_| breaker.is_suspect(now)),
        worked: target.worked().filter(|at| within(at, WORKED_TOLD_FOR)).filter(|_| is_asked()),
        recovered: breaker.recovered().filter(|at| within(at, RECOVERED_TOLD_FOR)),
        quota,
    }
}

/// Folds what is said of one target, and tells its breaker what follows.
fn listen(
    state: &State,
    known: &Known,
    words: &BTreeMap<ProviderId, Words>,
    is_cut_off: bool,
    now: Instant,
    digest: &mut Digest,
) {
    let (target, rules) = known;
    let id = &target.id;
    let print = target.fingerprint.print();
    let others = state.heard.stances(id, print, now);
    let breaker = target.breaker.read();
    let told = breaker.told_rest(now);
    if others.is_empty() && told.is_none() {
        return;
    }
    digest.is_busy = true;
    let account = words.get(&id.provider).and_then(|words| words.get(&id.credential));
    let word = account.and_then(|account| account.targets.get(&id.model)).copied().unwrap_or_default();
    let own = stance(&word, account.and_then(|account| account.probe));
    let own = Stance { dead: own.dead.max(breaker.suspected(now)), worked: target.worked(), is_cut_off, ..own };
    let folded = fold(&own, &others, now);
    digest.disputed += usize::from(folded.is_disputed);
    let follows = follows(&folded, told, breaker.own_rest(now), breaker.rested_since());
    // That a target came back for others says nothing to a node that reaches none.
    if let Some(news) = follows.filter(|news| *news != Told::Recovered || !state.uplink.is_cut()) {
        digest.facts.push((known.clone(), FactNews::Told(news)));
    }
    learn_quota(state, target, print, now);
    doubt(state, known, rules, print, now, digest);
}

/// What a breaker is told, if it is anything new.
fn follows(
    folded: &Folded,
    told: Option<(Instant, Why)>,
    own: Option<(Instant, Instant, Why)>,
    since: Option<Instant>,
) -> Option<Told> {
    let is_after = |at: Instant| since.is_some_and(|since| at > since);
    match (folded.rest, told) {
        (Some((until, why)), _) => Some(Told::Rest { until, why }),
        (None, Some(_)) if folded.worked.is_some_and(is_after) => Some(Told::Refuted),
        (None, Some(_)) => Some(Told::Withdrawn),
        (None, None) => {
            let is_back = own.is_some() && folded.recovered.is_some_and(is_after);
            is_back.then_some(Told::Recovered)
        }
    }
}

/// Takes the youngest reading of the account's quota, if it is younger than this node's own.
fn learn_quota(state: &State, target: &Target, print: Print, now: Instant) {
    let said = state.heard.fresh(&target.id.provider, now);
    let accounts = said.filter_map(|(_, said)| said.accounts.get(&target.id.credential));
    let words = accounts.filter(|account| account.print == print);
    let quotas = words.filter_map(|account| account.targets.get(&target.id.model)?.quota);
    let Some(youngest) = quotas.max_by_key(|quota| quota.at) else { return };
    let own = target.quota(now).and_then(|quota| now.checked_sub(quota.age));
    if own.is_none_or(|own| youngest.at.saturating_duration_since(own) > QUOTA_YOUNGER) {
        let reset = youngest.full_at.map(|full| full.saturating_duration_since(youngest.at));
        target.read_quota(youngest.at, youngest.remaining, reset);
    }
}

/// Has an account probed of which others say that nobody is there: the cluster's turn may be this node's.
fn doubt(state: &State, known: &Known, rules: &Arc<TargetRules>, print: Print, now: Instant, digest: &mut Digest) {
    let (target, _) = known;
    let account_id = AccountId::of(&target.id);
    let said = state.heard.fresh(&account_id.provider, now);
    let accounts = said.filter_map(|(_, said)| said.accounts.get(&account_id.credential));
    let words = accounts.filter(|account| account.print == print).flat_map(|account| account.targets.values());
    let rests = words.filter_map(|word| word.rest).filter(|rest| rest.why == Why::Unreachable && rest.until > now);
    if let Some(until) = rests.map(|rest| rest.until).max() {
        let account = TargetId { model: "".into(), ..target.id.clone() };
        let doubt = Doubt { target: Arc::downgrade(target), rules: rules.clone(), until };
        digest.doubts.entry(account_id.provider).or_default().insert(account, doubt);
    }
}

/// Says what has to be said.
fn speak(
    state: &mut State,
    mut words: BTreeMap<ProviderId, Words>,
    incarnation: u64,
    has_uplink: bool,
    now: Instant,
    digest: &mut Digest,
) {
    // What was said of a provider is taken back by saying nothing of it.
    let providers: BTreeSet<ProviderId> = words.keys().chain(state.told.keys()).cloned().collect();
    for provider in providers {
        let words = words.remove(&provider).unwrap_or_default();
        digest.is_busy |= !words.is_empty();
        let urgency = state.told.entry(provider.clone()).or_default().is_due(&words, has_uplink, now);
        if let Some(urgency) = urgency {
            let order = (incarnation, state.next_serial());
            digest.tell.push((own::opinions(&provider, order, has_uplink, &words, now), urgency));
            if let Some(told) = state.told.get_mut(&provider) {
                told.said(words, has_uplink, now);
            }
        }
    }
}

impl Actor for Hearsay {
    type Msg = Knock;
    type State = Round;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Knock>, (): ()) -> Result<Round, ActorProcessingErr> {
        self.house.hearsay.door.open(myself);
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
            Knock::Poison => poisoned(Role::Hearsay),
        }
    }
}
