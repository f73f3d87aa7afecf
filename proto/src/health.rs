//! What nodes tell each other without agreeing on it: who they are, and how providers do as each of them sees it.
//!
//! Clocks of nodes are never compared. Every time is a span before or after the moment of telling; who hears it counts
//! from the moment of hearing. A node tells only what it saw itself, never what it heard, so no rumour feeds itself.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::id::{CredentialId, ProviderId};
use crate::unit::PerMille;
use crate::wire::Message;

/// Where a node's [`Card`] stands among what it tells.
pub const CARD_TOPIC: &str = "card";
/// What the topics of [`Opinions`] begin with; the provider's name follows.
pub const OPINIONS_TOPIC: &str = "health/";

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Millis(pub u32);

impl Millis {
    /// A span, rounded down; one of more than 49 days is told as that.
    pub fn of(span: Duration) -> Self {
        Self(u32::try_from(span.as_millis()).unwrap_or(u32::MAX))
    }

    /// The span.
    pub const fn span(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

/// Who a node is and how it does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Card {
    /// What operators call it.
    pub name: String,
    /// The program's version, as `troupe --version` prints it.
    pub build: String,
    /// The newest version of the agreed state it knows.
    pub version: u16,
    /// Where clients reach it: `host:port`.
    pub data: String,
    /// Where operators reach it: `host:port`.
    pub admin: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it takes new clients: its `/readyz`.
    pub is_ready: bool,
    /// How long ago a quorum confirmed that it knew all there was; `None`: never.
    pub confirmed: Option<Millis>,
    /// The revision of the agreed state it serves by.
    pub revision: u64,
    /// How much it has to do.
    pub load: Load,
}

/// Where a node is in its life. Variants are appended only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// It reads its files and opens its listeners.
    Starting,
    /// It takes traffic.
    Serving,
    /// It finishes what it has and asks for no more.
    Draining,
}

/// How much a node has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    /// Requests that have begun and not ended.
    pub in_flight: u32,
    /// The most it serves at the same time.
    pub in_flight_max: u32,
    /// Connections of clients that are open.
    pub connections: u32,
    /// The share of its time that its data threads are busy, where that is known.
    pub busy: Option<PerMille>,
}

/// What a node saw itself of a provider's targets. What it says nothing of, it has nothing to say about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Opinions {
    /// The provider.
    pub provider: ProviderId,
    /// Which start of the node's process says so.
    pub incarnation: u64,
    /// Counts what this process said of this provider. The higher one is newer, whichever way it came.
    pub serial: u64,
    /// `false`: none of the providers that this node asked of late could be reached, so its own network is to blame.
    pub has_uplink: bool,
    /// By credential.
    pub accounts: Vec<Account>,
}

impl Opinions {
    /// The most targets that opinions speak of; who has more to say leaves out what matters least.
    pub const TARGETS_MAX: usize = 128;

    /// How many targets they speak of.
    pub fn targets(&self) -> usize {
        self.accounts.iter().map(|account| account.targets.len()).sum()
    }
}

/// Tells which address and which secret a target was reached with. Nothing can be read back from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Print(pub [u8; 16]);

impl std::fmt::Debug for Print {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Print(..)")
    }
}

/// One of a provider's credentials, as the node has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Account {
    /// Its name; `None` where the provider takes none.
    pub credential: Option<CredentialId>,
    /// What the node reaches the provider with.
    pub print: Print,
    /// The last probe the node made with it.
    pub probe: Option<Probe>,
    /// Targets there.
    pub targets: Vec<Opinion>,
}

/// A probe that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Probe {
    /// Counts the probes of this account by whichever node.
    pub turn: u64,
    /// What it found.
    pub finding: Finding,
    /// How long ago.
    pub ago: Millis,
}

/// What a probe found. Variants are appended only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Finding {
    /// It answers, and takes the credential.
    Alive,
    /// It answers, but says nothing of the credential.
    Answers,
    /// It cannot be reached, or does not answer.
    Dead,
    /// It answers, and refuses the credential.
    CredentialRefused,
    /// Nothing was learned.
    Unknown,
}

/// What a node knows of one target at first hand.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Opinion {
    /// The model's name there; `*` where the name asked for is passed on.
    pub model: String,
    /// Its rest there, if it rests.
    pub rest: Option<Rest>,
    /// How long ago a call reached nobody, while that is not cleared up.
    pub suspected: Option<Millis>,
    /// How long ago a call last went well, at the most.
    pub worked: Option<Millis>,
    /// How long ago a call ended its last rest by going well.
    pub recovered: Option<Millis>,
    /// What its provider said last of its quota.
    pub quota: Option<Quota>,
}

/// A rest by a node's own evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rest {
    /// What for.
    pub why: Why,
    /// How long it lasts already.
    pub since: Millis,
    /// How long it will last.
    pub left: Millis,
}

/// What a target rests for. Variants are appended only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Why {
    /// It failed too often.
    Failures,
    /// It could not be reached, or did not answer.
    Unreachable,
    /// It refused the credential.
    Credential,
    /// The account behind the credential is out of money or quota.
    Quota,
    /// It said when to come back.
    RetryAfter,
    /// It would refuse more calls for now.
    Paced,
}

/// What a provider said of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Quota {
    /// The smallest share left.
    pub remaining: PerMille,
    /// How long ago it said so.
    pub ago: Millis,
    /// How long until it is full again, where it said so.
    pub reset: Option<Millis>,
}

/// What cannot wait for the next round of gossip.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Urgent {
    /// A node's opinions of a provider changed; they stand in its gossip as well.
    Opinions(Opinions),
    /// An operator wants targets to be tried again: every node forgets why they rest.
    Reset(Scope),
}

/// Some of a provider's targets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Scope {
    /// The provider; `None`: every one.
    pub provider: Option<ProviderId>,
    /// The credential; `None`: every one.
    pub credential: Option<CredentialId>,
    /// The model there; `None`: every one.
    pub model: Option<String>,
}

impl Scope {
    /// Whether a model of a credential is meant.
    pub fn holds(&self, provider: &ProviderId, credential: Option<&CredentialId>, model: &str) -> bool {
        self.holds_account(provider, credential) && self.model.as_deref().is_none_or(|meant| meant == model)
    }

    /// Whether any model of a credential is meant.
    pub fn holds_account(&self, provider: &ProviderId, credential: Option<&CredentialId>) -> bool {
        self.provider.as_ref().is_none_or(|meant| meant == provider)
            && self.credential.as_ref().is_none_or(|meant| Some(meant) == credential)
    }
}

/// One datagram has to hold any of them in its envelope, with room for its seal; gossip takes values of 16 KiB.
const BYTES_MAX: usize = 12 << 10;

impl Message for Card {
    const KIND: u16 = 16;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 4 << 10;
}

impl Message for Opinions {
    const KIND: u16 = 17;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = BYTES_MAX;
}

impl Message for Urgent {
    const KIND: u16 = 18;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = BYTES_MAX + 64;
}
