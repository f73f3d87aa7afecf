//! What this node says, and when it has to say it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use troupe_proto::health::{self, Finding, Millis, Opinion, Opinions, Print};
use troupe_proto::id::{CredentialId, ProviderId};

use super::heard::{Account, Probe, RENEW, Word, why_to_tell};
use super::logic::Rest;

/// Evidence that nobody was reached says something of this node's network for as long.
const BLIND_FOR: Duration = Duration::from_secs(15);
/// And only where nothing went well for as long before it.
const BLIND_AFTER: Duration = Duration::from_secs(5);

/// A success that is so much later than the one that was told is told before words are renewed: a node that reaches nobody
/// waits to hear whether others do.
const WORKED_NEWS: Duration = Duration::from_millis(800);

/// What this node has to say of one provider, by credential.
pub(crate) type Words = BTreeMap<Option<CredentialId>, Account>;

/// What was said of a provider last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    words: Words,
    has_uplink: bool,
    at: Option<Instant>,
}

/// How fast others have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once: something rests, is back, or was probed.
    Now,
    /// With the next round.
    Soon,
}

/// Whether this node's own network is to blame: the last that it reached anybody is well before it last reached nobody,
/// and that is not long ago.
pub(crate) fn is_cut_off(words: &BTreeMap<ProviderId, Words>, worked: Option<Instant>, now: Instant) -> bool {
    let accounts = || words.values().flat_map(BTreeMap::values);
    let probes = accounts().filter_map(|account| account.probe);
    let (mut dead, mut answered) = (None, worked);
    for Probe { finding, at, .. } in probes {
        match finding {
            Finding::Dead => dead = dead.max(Some(at)),
            Finding::Alive | Finding::Answers | Finding::CredentialRefused => answered = answered.max(Some(at)),
            Finding::Unknown => {}
        }
    }
    let words = accounts().flat_map(|account| account.targets.values());
    let unreached = words.filter_map(|word| word.rest.filter(|rest| rest.why == crate::Why::Unreachable));
    let dead = dead.max(unreached.map(|rest| rest.since).max());
    dead.is_some_and(|dead| {
        let is_recent = now.saturating_duration_since(dead) <= BLIND_FOR;
        is_recent && answered.is_none_or(|at| dead.saturating_duration_since(at) > BLIND_AFTER)
    })
}

impl Told {
    /// Takes what there is to say now; how urgent it is to say it, if it has to be said at all.
    pub(crate) fn is_due(&self, words: &Words, has_uplink: bool, now: Instant) -> Option<Urgency> {
        let had_nothing = self.words.is_empty();
        if words.is_empty() && had_nothing {
            return None;
        }
        let is_news = has_uplink != self.has_uplink || !is_same(words, &self.words, |a, b| a.is_as_grave_as(b));
        if is_news {
            return Some(Urgency::Now);
        }
        let is_old = self.at.is_none_or(|at| now.saturating_duration_since(at) >= RENEW);
        let is_other = !is_same(words, &self.words, Word::says_the_same_as);
        (is_old && !words.is_empty() || is_other).then_some(Urgency::Soon)
    }

    /// Whether it was said that nobody is reached.
    pub(crate) fn is_cut_off(&self) -> bool {
        !self.words.is_empty() && !self.has_uplink
    }

    /// Keeps what was said.
    pub(crate) fn said(&mut self, words: Words, has_uplink: bool, now: Instant) {
        *self = Self { words, has_uplink, at: Some(now) };
    }
}

/// Whether two say the same of the same, by what `alike` compares; what is missing is a word without content.
fn is_same(one: &Words, other: &Words, alike: impl Fn(&Word, &Word) -> bool) -> bool {
    let covers = |a: &Words, b: &Words| {
        a.iter().all(|(credential, account)| {
            let known = b.get(credential).filter(|known| known.print == account.print);
            let has_same_probe = account.probe == known.and_then(|known| known.probe);
            has_same_probe
                && account.targets.iter().all(|(model, word)| {
                    let other = known.and_then(|known| known.targets.get(model)).copied().unwrap_or_default();
                    alike(word, &other)
                })
        })
    };
    covers(one, other) && covers(other, one)
}

impl Word {
    /// Whether nobody would do anything else at once by the other word.
    fn is_as_grave_as(&self, other: &Self) -> bool {
        // Each probe makes a rest for failures a little longer, on every node: that is said when words are renewed.
        let gravity = |rest: Rest| (rest.why, rest.since, (!rest.why.is_soft()).then_some(rest.until));
        let all = |word: &Self| (word.rest.map(gravity), word.suspected, word.recovered);
        all(self) == all(other)
    }

    /// Whether it differs in nothing but how long ago the last call went well, by less than others wait to hear that one does,
    /// and the quota.
    fn says_the_same_as(&self, other: &Self) -> bool {
        match (self.worked, other.worked) {
            (Some(now), Some(told)) => now.saturating_duration_since(told) < WORKED_NEWS,
            (now, told) => now.is_some() == told.is_some(),
        }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What matters least is left out first.
    fn weight(&self) -> (bool, bool, bool, Option<Instant>) {
        let is_hard = self.rest.is_some_and(|rest| !rest.why.is_soft());
        (is_hard, self.rest.is_some(), self.suspected.is_some() || self.recovered.is_some(), self.worked)
    }
}

/// The words as they go to others, with spans in place of times. The gravest of them, where they are too many.
pub(crate) fn opinions(
    provider: &ProviderId,
    order: (u64, u64),
    has_uplink: bool,
    words: &Words,
    now: Instant,
) -> Opinions {
    let mut grave: Vec<(&Option<CredentialId>, &Arc<str>, &Word)> = Vec::new();
    for (credential, account) in words {
        grave.extend(account.targets.iter().map(|(model, word)| (credential, model, word)));
    }
    // Stable, so that of equals it is always the same that are left out.
    grave.sort_by_key(|(_, _, word)| std::cmp::Reverse(word.weight()));
    grave.truncate(Opinions::TARGETS_MAX);
    let accounts = words.iter().map(|(credential, account)| {
        let of_account = grave.iter().filter(|(of, _, _)| *of == credential);
        health::Account {
            credential: credential.clone(),
            print: account.print,
            probe: account.probe.map(|probe| health::Probe {
                turn: probe.turn,
                finding: probe.finding,
                ago: Millis::of(now.saturating_duration_since(probe.at)),
            }),
            targets: of_account.map(|(_, model, word)| opinion(model, word, now)).collect(),
        }
    });
    let (incarnation, serial) = order;
    Opinions { provider: provider.clone(), incarnation, serial, has_uplink, accounts: accounts.collect() }
}

fn opinion(model: &str, word: &Word, now: Instant) -> Opinion {
    let ago = |at: Instant| Millis::of(now.saturating_duration_since(at));
    let left = |until: Instant| Millis::of(until.saturating_duration_since(now));
    Opinion {
        model: model.to_owned(),
        rest: word.rest.map(|rest| health::Rest {
            why: why_to_tell(rest.why),
            since: ago(rest.since),
            left: left(rest.until),
        }),
        suspected: word.suspected.map(ago),
        worked: word.worked.map(ago),
        recovered: word.recovered.map(ago),
        quota: word.quota.map(|quota| health::Quota {
            remaining: quota.remaining,
            ago: ago(quota.at),
            reset: quota.full_at.map(left),
        }),
    }
}

/// An account of which there may be something to say.
pub(crate) fn account(print: Print) -> Account {
    Account { print, probe: None, targets: BTreeMap::new() }
}
