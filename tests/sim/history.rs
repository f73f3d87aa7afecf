//! What clients asked for and were told, and what the things they asked about do, one call after the other.

use std::collections::BTreeMap;
use std::fmt;

use troupe_cluster::State;
use troupe_proto::command::{Refusal, Reply};
use troupe_proto::secret::KeyHash;

use super::linear::{Call, Object};

/// What a client asks for. Every value is given once in a run, so that who reads it knows who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A virtual key is put, if the spec is at this revision.
    PutKey {
        /// Which key.
        slot: usize,
        /// What for.
        value: u64,
        /// The revision.
        base: u64,
    },
    /// A virtual key is removed, if the spec is at this revision.
    RemoveKey {
        /// Which key.
        slot: usize,
        /// The revision.
        base: u64,
    },
    /// An operator's token is put, whatever is there.
    PutToken {
        /// Which token.
        slot: usize,
        /// What for.
        value: u64,
    },
    /// An operator's token is removed.
    RemoveToken {
        /// Which token.
        slot: usize,
    },
    /// A join token is made.
    Issue {
        /// Which token.
        slot: usize,
        /// Its secret.
        value: u64,
    },
    /// A join token is used up.
    Claim {
        /// Which token it was.
        slot: usize,
        /// Its secret.
        value: u64,
        /// Who wants to join.
        by: u64,
    },
    /// Everything is read, after a read index.
    Read,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was applied; this revision is in force.
    Applied(u64),
    /// It was refused: this revision was in force.
    Conflict(u64),
    /// It was refused: this node had used the token.
    UsedBy(u64),
    /// It was refused: there is no such token.
    NoToken,
    /// What was read.
    Seen(Box<View>),
    /// It took no effect, and never will.
    Never,
    /// It may have taken effect, and still may.
    Unknown,
}

impl Told {
    /// What a reply says; `Err` for one that nothing asked for can get.
    pub fn of(reply: &Reply) -> Result<Self, String> {
        match reply {
            Reply::Applied(revision) => Ok(Self::Applied(revision.0)),
            Reply::Refused(Refusal::Conflict { base: _, current }) => Ok(Self::Conflict(current.0)),
            Reply::Refused(Refusal::UsedJoinToken(by)) => Ok(Self::UsedBy(by.0)),
            Reply::Refused(Refusal::UnknownJoinToken) => Ok(Self::NoToken),
            Reply::Refused(Refusal::Stale | Refusal::Fenced) => Ok(Self::Unknown),
            other @ (Reply::Refused(_) | Reply::Repeated(_)) => Err(format!("{other:?}")),
        }
    }
}

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its number.
    pub id: u64,
    /// At which host.
    pub host: usize,
    /// Its place in the order of beginnings and ends.
    pub called: u64,
    /// Where it ended, and with what; `None` when its host died before.
    pub ended: Option<(u64, Told)>,
    /// What for.
    pub ask: Ask,
}

/// How many of each thing there are.
pub const SLOTS: usize = 4;

/// What clients can see of a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct View {
    /// How many entries changed anything.
    pub changes: u64,
    /// The revision of the spec.
    pub revision: u64,
    /// Virtual keys.
    pub keys: [Option<u64>; SLOTS],
    /// Tokens of operators.
    pub tokens: [Option<u64>; SLOTS],
    /// Join tokens, and who used them.
    pub tickets: [Option<(u64, Option<u64>)>; SLOTS],
}

/// Which value a hash stands for.
pub type Values = BTreeMap<KeyHash, u64>;

impl View {
    /// Of `state`.
    pub fn of(state: &State, values: &Values) -> Self {
        let value = |hash: &KeyHash| values.get(hash).copied().unwrap_or(u64::MAX);
        let mut view = Self { changes: state.changes(), revision: state.revision().0, ..Self::default() };
        for slot in 0..SLOTS {
            view.keys[slot] = state.spec().keys.get(slot_name(slot).as_str()).map(|key| value(&key.hash));
            view.tokens[slot] = state.admin_tokens().get(slot_name(slot).as_str()).map(|token| value(&token.hash));
            view.tickets[slot] = state
                .join_tokens()
                .get(slot_name(slot).as_str())
                .map(|token| (value(&token.hash), token.used.map(|node| node.0)));
        }
        view
    }
}

/// What the things in a slot are called.
pub fn slot_name(slot: usize) -> String {
    format!("s{slot}")
}

/// The hash that stands for a value.
pub fn hash_of(value: u64) -> KeyHash {
    KeyHash::of(format!("value {value}").as_bytes())
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, revision, keys, tokens, tickets } = self;
        write!(f, "revision {revision}, {changes} changes, keys {keys:?}, tokens {tokens:?}, tickets {tickets:?}")
    }
}

/// The spec: a revision, and keys that change with it.
pub struct Keys;

impl Object for Keys {
    type State = (u64, [Option<u64>; SLOTS]);
    type Ask = Ask;
    type Told = Told;

    fn step(state: &Self::State, ask: &Ask, told: Option<&Told>) -> Option<Self::State> {
        let (revision, mut keys) = *state;
        let (slot, value, base) = match *ask {
            Ask::PutKey { slot, value, base } => (slot, Some(value), base),
            Ask::RemoveKey { slot, base } => (slot, None, base),
            Ask::Read => {
                let fits = |told: &Told| matches!(told, Told::Seen(view) if (view.revision, view.keys) == *state);
                return told.is_none_or(fits).then_some(*state);
            }
            Ask::PutToken { .. } | Ask::RemoveToken { .. } | Ask::Issue { .. } | Ask::Claim { .. } => return None,
        };
        if base != revision {
            return told.is_none_or(|told| *told == Told::Conflict(revision)).then_some(*state);
        }
        keys[slot] = value;
        let next = revision + 1;
        told.is_none_or(|told| *told == Told::Applied(next)).then_some((next, keys))
    }
}

/// An operator's token. The revision in its answers is the spec's, which is not its own.
pub struct Token<const SLOT: usize>;

impl<const SLOT: usize> Object for Token<SLOT> {
    type State = Option<u64>;
    type Ask = Ask;
    type Told = Told;

    fn step(state: &Self::State, ask: &Ask, told: Option<&Told>) -> Option<Self::State> {
        let is_applied = || told.is_none_or(|told| matches!(told, Told::Applied(_)));
        match *ask {
            Ask::PutToken { slot: _, value } => is_applied().then_some(Some(value)),
            Ask::RemoveToken { slot: _ } => is_applied().then_some(None),
            Ask::Read => {
                let fits = |told: &Told| matches!(told, Told::Seen(view) if view.tokens[SLOT] == *state);
                told.is_none_or(fits).then_some(*state)
            }
            Ask::PutKey { .. } | Ask::RemoveKey { .. } | Ask::Issue { .. } | Ask::Claim { .. } => None,
        }
    }
}

/// A join token, which one node can use.
pub struct Ticket<const SLOT: usize>;

impl<const SLOT: usize> Object for Ticket<SLOT> {
    type State = Option<(u64, Option<u64>)>;
    type Ask = Ask;
    type Told = Told;

    fn step(state: &Self::State, ask: &Ask, told: Option<&Told>) -> Option<Self::State> {
        let is_told = |what: &Told| told.is_none_or(|told| told == what);
        match *ask {
            Ask::Issue { slot: _, value } => {
                told.is_none_or(|told| matches!(told, Told::Applied(_))).then_some(Some((value, None)))
            }
            Ask::Claim { slot: _, value, by } => match *state {
                Some((current, used)) if current == value => match used {
                    Some(other) if other != by => is_told(&Told::UsedBy(other)).then_some(*state),
                    Some(_) | None => {
                        told.is_none_or(|told| matches!(told, Told::Applied(_))).then_some(Some((value, Some(by))))
                    }
                },
                Some(_) | None => is_told(&Told::NoToken).then_some(*state),
            },
            Ask::Read => {
                let fits = |told: &Told| matches!(told, Told::Seen(view) if view.tickets[SLOT] == *state);
                told.is_none_or(fits).then_some(*state)
            }
            Ask::PutKey { .. } | Ask::RemoveKey { .. } | Ask::PutToken { .. } | Ask::RemoveToken { .. } => None,
        }
    }
}

/// The calls that concern one thing, for the search. What took no effect is left out: that is checked apart.
pub fn calls(history: &[Op], concerns: impl Fn(&Ask) -> bool) -> Vec<Call<Ask, Told>> {
    let concerned = history.iter().filter(|op| concerns(&op.ask));
    concerned
        .filter_map(|op| match &op.ended {
            Some((_, Told::Never)) => None,
            None | Some((_, Told::Unknown)) if op.ask == Ask::Read => None,
            None | Some((_, Told::Unknown)) => Some(Call { called: op.called, ended: None, ask: op.ask }),
            Some((ended, told)) => Some(Call { called: op.called, ended: Some((*ended, told.clone())), ask: op.ask }),
        })
        .collect()
}
