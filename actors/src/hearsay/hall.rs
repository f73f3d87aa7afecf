//! What of hearsay outlives its actor: what was heard, what was said, and whose turn it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use troupe_proto::health::{Finding, Opinions, Print, Scope};
use troupe_proto::id::{NodeId, ProviderId, TargetId};

use super::heard::{AccountId, Heard, News, Probe};
use super::own::Told;
use super::turns::{self, Candidate};
use super::uplink::Uplink;
use crate::breaker::Why;
use crate::inbox::Inbox;
use crate::layout::Fingerprint;
use crate::ports::HealthBoard;

/// Findings that may wait for the actor; the next ones say the same.
const NEWS_MAX: usize = 1_024;
/// A probe of this node's own is told for as long.
const PROBE_TOLD_FOR: Duration = Duration::from_secs(15);
/// Turns are counted on for as long as nobody probes.
const TURN_KEPT_FOR: Duration = Duration::from_secs(3600);

/// Shared by the actor, those who hear, and those who probe.
pub(crate) struct Hall {
    board: Option<Arc<dyn HealthBoard>>,
    state: Mutex<State>,
    /// In front of the actor.
    pub(crate) door: Inbox<()>,
    told: AtomicU64,
    heard: AtomicU64,
    stale: AtomicU64,
    disputed: AtomicU64,
    cut_off: watch::Sender<Option<CutOff>>,
}

/// A node reaches none of the providers that it tried of late, and another node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// The providers.
    pub providers: Vec<ProviderId>,
    /// The node that reaches one of them.
    pub witness: NodeId,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) heard: Heard,
    pub(crate) uplink: Uplink,
    pub(crate) news: Vec<News>,
    pub(crate) told: BTreeMap<ProviderId, Told>,
    serial: u64,
    /// The last probe of each account by this node.
    probes: BTreeMap<AccountId, (Print, Probe)>,
}

/// What another node believes of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// The node.
    pub node: NodeId,
    /// Whether it lives and said so not long ago; what others say counts nowhere.
    pub counts: bool,
    /// Whether it reaches the target by the same address and with the same secret.
    pub is_same_credential: bool,
    /// Whether it reaches no provider at all.
    pub is_cut_off: bool,
    /// What it rests for there, and how much longer.
    pub rests: Option<(Why, Duration)>,
    /// Whether a call there reached nobody, and that is not cleared up.
    pub suspects: bool,
    /// How long ago a call there last went well; told only while nodes disagree.
    pub worked: Option<Duration>,
    /// What its last probe found, and how long ago.
    pub probe: Option<(Finding, Duration)>,
}

/// How hearsay does, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HearsayVitals {
    /// Words that this node sent.
    pub told: u64,
    /// Words of others that were new.
    pub heard: u64,
    /// Words of others that something newer had overtaken.
    pub stale: u64,
    /// Targets that some nodes find ill and others well.
    pub disputed: u64,
}

/// What a prober has to know of other nodes' probes of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// How long others come before this node.
    pub(crate) delay: Duration,
    /// When another node last probed.
    pub(crate) last: Option<Instant>,
    /// Whether this node probes for itself alone, because others reach what it may not: that nobody answers is no news then.
    pub(crate) is_own: bool,
}

impl Hall {
    pub(crate) fn new(board: Option<Arc<dyn HealthBoard>>) -> Self {
        Self {
            board,
            state: Mutex::default(),
            door: Inbox::new(1),
            told: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            disputed: AtomicU64::new(0),
            cut_off: watch::channel(None).0,
        }
    }

    /// Whether this node is cut off from its providers while others are not.
    pub(crate) fn cut_off(&self) -> watch::Receiver<Option<CutOff>> {
        self.cut_off.subscribe()
    }

    pub(crate) fn set_cut_off(&self, now: Option<CutOff>) {
        self.cut_off.send_if_modified(|before| {
            let is_news = *before != now;
            *before = now;
            is_news
        });
    }

    pub(crate) fn board(&self) -> Option<&Arc<dyn HealthBoard>> {
        self.board.as_ref()
    }

    /// For actors and for those who hear, each for moments; requests never come here.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Whatever its holder was at, words are replaced one by one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that there is something to tell or to fold.
    pub(crate) fn wake(&self) {
        if self.board.is_some() {
            self.door.wake();
        }
    }

    pub(crate) fn living(&self, mut live: BTreeSet<NodeId>) {
        let Some(board) = &self.board else { return };
        live.remove(&board.me().0);
        self.state().heard.living(live);
        self.wake();
    }

    pub(crate) fn ready(&self, ready: BTreeSet<NodeId>) {
        if self.board.is_some() {
            self.state().heard.ready(ready);
        }
    }

    pub(crate) fn hear(&self, from: NodeId, opinions: &Opinions, now: Instant) {
        let Some(board) = &self.board else { return };
        if from == board.me().0 {
            return;
        }
        let mut state = self.state();
        match state.heard.hear(from, opinions, now) {
            Some(news) => {
                let room = NEWS_MAX.saturating_sub(state.news.len());
                state.news.extend(news.into_iter().take(room));
                self.heard.fetch_add(1, Relaxed);
            }
            None => {
                self.stale.fetch_add(1, Relaxed);
                return;
            }
        }
        drop(state);
        self.wake();
    }

    /// An operator knows better than all that was said of these targets so far.
    pub(crate) fn overrule(&self, scope: &Scope, now: Instant) {
        let mut state = self.state();
        state.heard.overrule(scope, now);
        state.probes.retain(|id, _| !scope.holds(&id.provider, id.credential.as_ref(), ""));
        drop(state);
        self.wake();
    }

    /// Keeps what a probe of this node's own found, for others to hear.
    pub(crate) fn probed(&self, id: &TargetId, fingerprint: Fingerprint, finding: Finding, now: Instant) {
        if self.board.is_none() {
            return;
        }
        let (account, print) = (AccountId::of(id), fingerprint.print());
        let mut state = self.state();
        let turn = state.turn(&account, print, now).0.saturating_add(1);
        state.probes.insert(account, (print, Probe { turn, finding, at: now }));
        drop(state);
        self.wake();
    }

    /// Whose turn it is to probe an account. `is_suspicion`: it serves, and only who suspects it has a reason to probe.
    pub(crate) fn turn(&self, id: &TargetId, fingerprint: Fingerprint, is_suspicion: bool, now: Instant) -> Turn {
        let Some(board) = &self.board else { return Turn::default() };
        let (account, print) = (AccountId::of(id), fingerprint.print());
        let state = self.state();
        if state.uplink.is_cut() {
            return Turn { is_own: true, ..Turn::default() };
        }
        let (turn, last) = state.turn(&account, print, now);
        let said: BTreeMap<NodeId, _> = state.heard.fresh(&account.provider, now).collect();
        let others = state.heard.live().iter().filter(|node| {
            let known = said.get(*node).and_then(|said| said.accounts.get(&account.credential));
            match (known, is_suspicion) {
                (Some(known), _) if known.print != print => false,
                (Some(known), true) => known.targets.values().any(|word| word.suspected.is_some()),
                (None, true) => false,
                (Some(_) | None, false) => true,
            }
        });
        let candidate = |node| Candidate { node, is_cut_off: state.heard.is_cut_off(node, now) };
        let others: Vec<Candidate> = others.map(|node| candidate(*node)).collect();
        let me = Candidate { node: board.me().0, is_cut_off: state.is_cut_off() };
        let rank = turns::rank(me, &others, &account, turn.saturating_add(1));
        Turn { delay: turns::delay(rank), last, is_own: false }
    }

    pub(crate) fn beliefs(&self, id: &TargetId, fingerprint: Option<Fingerprint>, now: Instant) -> Vec<Belief> {
        let state = self.state();
        let heard = &state.heard;
        let belief = |(node, said): (NodeId, &super::heard::Said)| {
            let account = said.accounts.get(&id.credential)?;
            let word = account.targets.get(&id.model);
            if word.is_none() && account.probe.is_none() {
                return None;
            }
            let word = word.copied().unwrap_or_default();
            let ago = |at: Instant| now.saturating_duration_since(at);
            Some(Belief {
                node,
                counts: heard.counts(node, said, now),
                is_same_credential: fingerprint.is_some_and(|own| own.print() == account.print),
                is_cut_off: !said.has_uplink,
                rests: word
                    .rest
                    .filter(|rest| rest.until > now)
                    .map(|rest| (rest.why, rest.until.saturating_duration_since(now))),
                suspects: word.suspected.is_some(),
                worked: word.worked.map(ago),
                probe: account.probe.map(|probe| (probe.finding, ago(probe.at))),
            })
        };
        heard.everything(&id.provider).filter_map(belief).collect()
    }

    pub(crate) fn count_told(&self) {
        self.told.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_disputed(&self, disputed: usize) {
        self.disputed.store(u64::try_from(disputed).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn vitals(&self) -> HearsayVitals {
        HearsayVitals {
            told: self.told.load(Relaxed),
            heard: self.heard.load(Relaxed),
            stale: self.stale.load(Relaxed),
            disputed: self.disputed.load(Relaxed),
        }
    }
}

impl State {
    /// The number of the next word.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    /// This node's last probe of an account, while it is worth telling.
    pub(crate) fn own_probe(&self, account: &AccountId, print: Print, now: Instant) -> Option<Probe> {
        let (of, probe) = self.probes.get(account)?;
        (*of == print && now.saturating_duration_since(probe.at) <= PROBE_TOLD_FOR).then_some(*probe)
    }

    /// Lets go of turns that nobody takes any more.
    pub(crate) fn sweep(&mut self, is_known: impl Fn(&ProviderId) -> bool, now: Instant) {
        self.probes.retain(|account, (_, probe)| {
            is_known(&account.provider) && now.saturating_duration_since(probe.at) <= TURN_KEPT_FOR
        });
        self.told.retain(|provider, _| is_known(provider));
        self.heard.sweep(is_known, now);
    }

    /// The number of the last turn of an account, and when another node took one.
    fn turn(&self, account: &AccountId, print: Print, now: Instant) -> (u64, Option<Instant>) {
        let own = self.probes.get(account).filter(|(of, _)| *of == print).map_or(0, |(_, probe)| probe.turn);
        let is_blind = self.is_cut_off();
        let said = self.heard.fresh(&account.provider, now);
        let accounts = said.filter_map(|(_, said)| Some((said.has_uplink, said.accounts.get(&account.credential)?)));
        let probes = accounts.filter(|(_, account)| account.print == print);
        let probes = probes.filter_map(|(has_uplink, account)| Some((has_uplink, account.probe?)));
        probes.fold((own, None), |(turn, last), (has_uplink, probe)| {
            // Who reaches nobody speaks for itself, unless nobody does.
            let counts = has_uplink || is_blind;
            (turn.max(probe.turn), last.max(counts.then_some(probe.at)))
        })
    }

    /// Whether this node said that it reaches nobody.
    fn is_cut_off(&self) -> bool {
        self.uplink.is_cut() || self.told.values().any(Told::is_cut_off)
    }
}
