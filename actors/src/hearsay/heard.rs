//! What other nodes said, and for how long it counts. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use troupe_proto::health::{self, Finding, Millis, Opinions, Print, Scope};
use troupe_proto::id::{CredentialId, NodeId, ProviderId, TargetId};
use troupe_proto::unit::PerMille;

use super::logic::{Rest, Stance};
use crate::breaker::Why;

/// How often a node says again what it has to say, though nothing changed.
pub(crate) const RENEW: Duration = Duration::from_secs(2);
/// Words count for this long after they were last renewed.
const FRESH: Duration = Duration::from_secs(10);
/// Words are forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Words of operators that are remembered; a rest that began before as many others would be told again.
const OVERRULED_MAX: usize = 256;
/// Nodes that are listened to; a cluster has no more members.
const NODES_MAX: usize = 1_000;

/// One credential of one provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountId {
    pub(crate) provider: ProviderId,
    pub(crate) credential: Option<CredentialId>,
}

impl AccountId {
    pub(crate) fn of(id: &TargetId) -> Self {
        Self { provider: id.provider.clone(), credential: id.credential.clone() }
    }
}

/// What is said of one credential, with times as this node's clock has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) print: Print,
    pub(crate) probe: Option<Probe>,
    pub(crate) targets: BTreeMap<Arc<str>, Word>,
}

/// A probe that some node made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) turn: u64,
    pub(crate) finding: Finding,
    pub(crate) at: Instant,
}

/// What is said of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) rest: Option<Rest>,
    pub(crate) suspected: Option<Instant>,
    pub(crate) worked: Option<Instant>,
    pub(crate) recovered: Option<Instant>,
    pub(crate) quota: Option<Quota>,
}

/// What a provider said of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) remaining: PerMille,
    pub(crate) at: Instant,
    pub(crate) full_at: Option<Instant>,
}

/// What one node said of one provider.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    order: (u64, u64),
    at: Instant,
    pub(crate) has_uplink: bool,
    pub(crate) accounts: BTreeMap<Option<CredentialId>, Account>,
}

impl Said {
    pub(crate) fn of(opinions: &Opinions, now: Instant) -> Self {
        let ago = |ago: Millis| now.checked_sub(ago.span()).unwrap_or(now);
        let word = |opinion: &health::Opinion| Word {
            rest: opinion.rest.map(|rest| Rest {
                why: why_told(rest.why),
                since: ago(rest.since),
                until: now + rest.left.span(),
            }),
            suspected: opinion.suspected.map(ago),
            worked: opinion.worked.map(ago),
            recovered: opinion.recovered.map(ago),
            quota: opinion.quota.map(|quota| Quota {
                remaining: quota.remaining,
                at: ago(quota.ago),
                full_at: quota.reset.map(|reset| now + reset.span()),
            }),
        };
        let accounts = opinions.accounts.iter().map(|account| {
            let probe = account.probe;
            let known = Account {
                print: account.print,
                probe: probe.map(|probe| Probe { turn: probe.turn, finding: probe.finding, at: ago(probe.ago) }),
                targets: account.targets.iter().map(|opinion| (opinion.model.as_str().into(), word(opinion))).collect(),
            };
            (account.credential.clone(), known)
        });
        Self {
            order: (opinions.incarnation, opinions.serial),
            at: now,
            has_uplink: opinions.has_uplink,
            accounts: accounts.collect(),
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= FRESH
    }
}

/// A finding that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) account: AccountId,
    pub(crate) print: Print,
    pub(crate) probe: Probe,
}

/// What an operator said of targets, and when.
#[derive(Debug)]
struct Overruled {
    scope: Scope,
    at: Instant,
}

impl Overruled {
    /// Takes away what was seen before.
    fn strip(&self, provider: &ProviderId, said: &mut Said) {
        let accounts = said.accounts.iter_mut();
        for (credential, account) in accounts.filter(|(id, _)| self.scope.holds_account(provider, id.as_ref())) {
            for (_, word) in
                account.targets.iter_mut().filter(|(model, _)| self.scope.holds(provider, credential.as_ref(), model))
            {
                word.rest = word.rest.filter(|rest| rest.since > self.at);
                word.suspected = word.suspected.filter(|at| *at > self.at);
            }
            if self.scope.model.is_none() {
                account.probe = account.probe.filter(|probe| probe.at > self.at);
            }
        }
    }
}

/// Everything that was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The last of them, in order.
    overruled: VecDeque<Overruled>,
    live: BTreeSet<NodeId>,
    /// Those of them that take traffic.
    ready: BTreeSet<NodeId>,
    said: BTreeMap<NodeId, BTreeMap<ProviderId, Said>>,
}

impl Heard {
    /// Takes who lives, this node left out.
    pub(crate) fn living(&mut self, live: BTreeSet<NodeId>) {
        self.live = live;
    }

    /// Takes who of the others takes traffic.
    pub(crate) fn ready(&mut self, ready: BTreeSet<NodeId>) {
        self.ready = ready;
    }

    /// The last answer that another node in rotation had from a target in which it finds no fault, and whose it was.
    pub(crate) fn reached(&self, id: &TargetId, print: Print, now: Instant) -> Option<(Instant, NodeId)> {
        let answers = self.fresh(&id.provider, now).filter_map(|(node, said)| {
            let account = said.accounts.get(&id.credential).filter(|account| account.print == print)?;
            let word = account.targets.get(&id.model).copied().unwrap_or_default();
            let stance = stance(&word, account.probe);
            let is_well = word.rest.is_none() && word.suspected.is_none();
            let at = stance.worked.max(stance.answered).filter(|_| is_well && self.ready.contains(&node))?;
            Some((at, node))
        });
        answers.max()
    }

    pub(crate) fn live(&self) -> &BTreeSet<NodeId> {
        &self.live
    }

    /// Takes what a node says; the findings in it that are new. `None`: something newer of that node is known.
    pub(crate) fn hear(&mut self, from: NodeId, opinions: &Opinions, now: Instant) -> Option<Vec<News>> {
        if !self.said.contains_key(&from) && self.said.len() >= NODES_MAX {
            return None;
        }
        let of_node = self.said.entry(from).or_default();
        let before = of_node.get(&opinions.provider);
        let mut said = Said::of(opinions, now);
        for overruled in &self.overruled {
            overruled.strip(&opinions.provider, &mut said);
        }
        if before.is_some_and(|before| before.order >= said.order) {
            return None;
        }
        let known_turn = |credential: &Option<CredentialId>| {
            before.and_then(|before| before.accounts.get(credential)).and_then(|account| account.probe).map(|p| p.turn)
        };
        let news = said.accounts.iter().filter_map(|(credential, account)| {
            let probe = account.probe.filter(|probe| known_turn(credential) != Some(probe.turn))?;
            let account_id = AccountId { provider: opinions.provider.clone(), credential: credential.clone() };
            Some(News { account: account_id, print: account.print, probe })
        });
        let news = news.collect();
        of_node.insert(opinions.provider.clone(), said);
        Some(news)
    }

    /// Lets go of what is old, and of providers that are known no more.
    pub(crate) fn sweep(&mut self, is_known: impl Fn(&ProviderId) -> bool, now: Instant) {
        for said in self.said.values_mut() {
            said.retain(|provider, said| is_known(provider) && now.saturating_duration_since(said.at) <= FORGOTTEN);
        }
        self.said.retain(|_, said| !said.is_empty());
    }

    /// Forgets what was seen of some targets until now: an operator knows better. Nodes that have not heard of it yet go on
    /// saying it for a while.
    pub(crate) fn overrule(&mut self, scope: &Scope, now: Instant) {
        let overruled = Overruled { scope: scope.clone(), at: now };
        for (provider, said) in self.said.values_mut().flatten() {
            overruled.strip(provider, said);
        }
        if self.overruled.len() >= OVERRULED_MAX {
            self.overruled.pop_front();
        }
        self.overruled.push_back(overruled);
    }

    /// What those say of a provider who live and said it not long ago.
    pub(crate) fn fresh<'a>(
        &'a self,
        provider: &'a ProviderId,
        now: Instant,
    ) -> impl Iterator<Item = (NodeId, &'a Said)> + use<'a> {
        self.everything(provider).filter(move |(node, said)| self.live.contains(node) && said.is_fresh(now))
    }

    /// What anybody said of a provider, whether it counts or not.
    pub(crate) fn everything<'a>(
        &'a self,
        provider: &'a ProviderId,
    ) -> impl Iterator<Item = (NodeId, &'a Said)> + use<'a> {
        self.said.iter().filter_map(move |(node, said)| said.get(provider).map(|said| (*node, said)))
    }

    /// Whether what a node said of a provider counts.
    pub(crate) fn counts(&self, node: NodeId, said: &Said, now: Instant) -> bool {
        self.live.contains(&node) && said.is_fresh(now)
    }

    /// Whether a node said of any provider, not long ago, that it reaches nobody.
    pub(crate) fn is_cut_off(&self, node: NodeId, now: Instant) -> bool {
        let said = self.said.get(&node);
        said.is_some_and(|said| said.values().any(|said| said.is_fresh(now) && !said.has_uplink))
    }

    /// The stances on a target of those who reach it as this node does.
    pub(crate) fn stances(&self, id: &TargetId, print: Print, now: Instant) -> Vec<Stance> {
        let accounts = self.fresh(&id.provider, now).filter_map(|(node, said)| {
            let account = said.accounts.get(&id.credential).filter(|account| account.print == print)?;
            Some((node, account))
        });
        let stance = |(node, account): (NodeId, &Account)| {
            let word = account.targets.get(&id.model).copied().unwrap_or_default();
            Stance { is_cut_off: self.is_cut_off(node, now), ..stance(&word, account.probe) }
        };
        accounts.map(stance).collect()
    }
}

/// A node's stance on a target, by its word on it and its last probe of the account.
pub(crate) fn stance(word: &Word, probe: Option<Probe>) -> Stance {
    let (dead, answered) = match probe {
        Some(Probe { finding: Finding::Dead, at, .. }) => (Some(at), None),
        Some(Probe { finding: Finding::Alive | Finding::Answers | Finding::CredentialRefused, at, .. }) => {
            (None, Some(at))
        }
        Some(Probe { finding: Finding::Unknown, .. }) | None => (None, None),
    };
    Stance { rest: word.rest, dead, answered, worked: word.worked, recovered: word.recovered, is_cut_off: false }
}

pub(crate) const fn why_told(why: health::Why) -> Why {
    match why {
        health::Why::Failures => Why::Failures,
        health::Why::Unreachable => Why::Unreachable,
        health::Why::Credential => Why::Credential,
        health::Why::Quota => Why::Quota,
        health::Why::RetryAfter => Why::RetryAfter,
        health::Why::Paced => Why::Paced,
    }
}

pub(crate) const fn why_to_tell(why: Why) -> health::Why {
    match why {
        Why::Failures => health::Why::Failures,
        Why::Unreachable => health::Why::Unreachable,
        Why::Credential => health::Why::Credential,
        Why::Quota => health::Why::Quota,
        Why::RetryAfter => health::Why::RetryAfter,
        Why::Paced => health::Why::Paced,
    }
}
