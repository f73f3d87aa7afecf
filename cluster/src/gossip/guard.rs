//! Which datagrams are taken: those that a member of this cluster sealed for this node, a moment ago, once.

use std::collections::BTreeMap;
use std::time::Duration;

use troupe_proto::id::{ClusterId, NodeId};

use super::datagram::{self, Head, Keys, PARTS_MAX};
use super::window::Window;

/// How far apart the clocks of two nodes may be, with the time on the way. What is older could be a replay that a restarted
/// node cannot know.
pub const AGE_MAX: Duration = Duration::from_secs(30);
/// [`AGE_MAX`] in milliseconds.
const AGE_MAX_MS: u64 = 30_000;

/// Why a datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// Larger than any that a node sends.
    Oversized,
    /// No datagram of a node.
    Malformed,
    /// Of a layout that this build does not know.
    Version,
    /// Of another cluster.
    ForeignCluster,
    /// It says that this node sent it.
    Own,
    /// Sealed under a key that is not known here.
    UnknownKey,
    /// Changed since it was sealed, or sealed by somebody without the key.
    Altered,
    /// Sealed for another node.
    Misdirected,
    /// Of a node that is no member, or none yet as far as is known here.
    Stranger,
    /// Sent too long ago, by its sender's clock.
    TooOld,
    /// Sent in the future, by its sender's clock.
    TooNew,
    /// Of an earlier process of its sender.
    Superseded,
    /// Taken before.
    Replayed,
    /// Sealed by a member, and no word of chitchat.
    Unreadable,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Oversized,
        Self::Malformed,
        Self::Version,
        Self::ForeignCluster,
        Self::Own,
        Self::UnknownKey,
        Self::Altered,
        Self::Misdirected,
        Self::Stranger,
        Self::TooOld,
        Self::TooNew,
        Self::Superseded,
        Self::Replayed,
        Self::Unreadable,
    ];

    /// Its word in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::ForeignCluster => "foreign_cluster",
            Self::Own => "own",
            Self::UnknownKey => "unknown_key",
            Self::Altered => "altered",
            Self::Misdirected => "misdirected",
            Self::Stranger => "stranger",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::Superseded => "superseded",
            Self::Replayed => "replayed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A datagram that is taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its sender.
    pub from: NodeId,
    /// How far its sender's clock is ahead of ours, less the time on the way.
    pub ahead_ms: i64,
    /// The message that it completes.
    pub message: Option<Vec<u8>>,
}

/// What this node remembers of those who send it datagrams.
pub struct Guard {
    me: NodeId,
    cluster: ClusterId,
    keys: Keys,
    senders: BTreeMap<NodeId, Sender>,
}

#[derive(Default)]
struct Sender {
    incarnation: u64,
    seen: Window,
    pending: Option<Pending>,
}

/// A message of which parts are missing. A later one of the same sender takes its place: what is lost is said again.
struct Pending {
    first: u64,
    parts: Vec<Option<Vec<u8>>>,
}

impl Guard {
    /// The guard of a node.
    pub const fn new(me: NodeId, cluster: ClusterId, keys: Keys) -> Self {
        Self { me, cluster, keys, senders: BTreeMap::new() }
    }

    /// Takes a datagram, or says why not. `wall_ms` is this node's wall clock.
    ///
    /// # Errors
    /// The reason.
    pub fn take(&mut self, bytes: &[u8], wall_ms: i64, is_member: impl Fn(NodeId) -> bool) -> Result<Taken, Refused> {
        let datagram = datagram::read(bytes)?;
        let head = datagram.head;
        // What can be told without opening it comes first: a flood costs little.
        if head.cluster != self.cluster {
            return Err(Refused::ForeignCluster);
        }
        if head.from == self.me {
            return Err(Refused::Own);
        }
        let part = self.keys.open(&datagram)?;
        // From here on the head is its sender's word.
        if head.to != self.me {
            return Err(Refused::Misdirected);
        }
        if !is_member(head.from) {
            return Err(Refused::Stranger);
        }
        let ahead_ms = head.sent_ms.saturating_sub(wall_ms);
        if ahead_ms.unsigned_abs() > AGE_MAX_MS {
            return Err(if ahead_ms < 0 { Refused::TooOld } else { Refused::TooNew });
        }
        let sender = self.senders.entry(head.from).or_default();
        if head.incarnation < sender.incarnation {
            return Err(Refused::Superseded);
        }
        if head.incarnation > sender.incarnation {
            *sender = Sender { incarnation: head.incarnation, ..Sender::default() };
        }
        if !sender.seen.take(head.seq) {
            return Err(Refused::Replayed);
        }
        Ok(Taken { from: head.from, ahead_ms, message: sender.add(&head, part) })
    }

    /// Forgets those who are no members any more.
    pub fn keep(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.senders.retain(|node, _| is_member(*node));
    }
}

impl Sender {
    fn add(&mut self, head: &Head, part: Vec<u8>) -> Option<Vec<u8>> {
        debug_assert!(head.part < head.parts && head.parts <= PARTS_MAX, "checked when it was read");
        if head.parts == 1 {
            return Some(part);
        }
        let first = head.seq.saturating_sub(head.part.into());
        let parts = usize::from(head.parts);
        let fits = |pending: &Pending| pending.first == first && pending.parts.len() == parts;
        let mut pending = match self.pending.take() {
            Some(pending) if fits(&pending) => pending,
            // Late parts of an earlier message must not displace a later one.
            Some(later) if later.first > first => {
                self.pending = Some(later);
                return None;
            }
            Some(_) | None => Pending { first, parts: vec![None; parts] },
        };
        if let Some(place) = pending.parts.get_mut(usize::from(head.part)) {
            *place = Some(part);
        }
        if pending.parts.iter().all(Option::is_some) {
            return Some(pending.parts.into_iter().flatten().flatten().collect());
        }
        self.pending = Some(pending);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::datagram::tests::{head, keys};
    use super::*;

    const NOW: i64 = 1_000_000;

    fn guard() -> Guard {
        Guard::new(NodeId(2), ClusterId(7), keys(&[1]))
    }

    fn sealed(change: impl Fn(&mut Head)) -> Vec<u8> {
        let keys = keys(&[1]);
        let mut head = head(&keys);
        change(&mut head);
        keys.seal(&head, b"x").unwrap()
    }

    fn take(guard: &mut Guard, bytes: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        guard.take(bytes, NOW, |node| node == NodeId(1)).map(|taken| taken.message)
    }

    #[test]
    fn a_datagram_of_a_member_is_taken_once() {
        let (mut guard, bytes) = (guard(), sealed(|_| {}));

        assert_eq!(take(&mut guard, &bytes), Ok(Some(b"x".to_vec())));
        assert_eq!(take(&mut guard, &bytes), Err(Refused::Replayed));
    }

    #[test]
    fn each_fault_is_refused_by_its_name() {
        type Fault = fn(&mut Head);
        let faults: [(Fault, Refused); 6] = [
            (|head| head.cluster = ClusterId(8), Refused::ForeignCluster),
            (|head| head.from = NodeId(2), Refused::Own),
            (|head| head.to = NodeId(3), Refused::Misdirected),
            (|head| head.from = NodeId(9), Refused::Stranger),
            (|head| head.sent_ms = NOW - 30_001, Refused::TooOld),
            (|head| head.sent_ms = NOW + 30_001, Refused::TooNew),
        ];
        for (fault, reason) in faults {
            assert_eq!(take(&mut guard(), &sealed(fault)), Err(reason));
        }
        let strange = keys(&[9]);
        let unknown = strange.seal(&Head { key: strange.current(), ..head(&strange) }, b"x").unwrap();
        assert_eq!(take(&mut guard(), &unknown), Err(Refused::UnknownKey));
        let mut altered = sealed(|_| {});
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(take(&mut guard(), &altered), Err(Refused::Altered));
    }

    #[test]
    fn clocks_may_be_apart_by_the_bound() {
        for ahead in [-30_000, 30_000] {
            let bytes = sealed(|head| head.sent_ms = NOW + ahead);

            let taken = guard().take(&bytes, NOW, |_| true).unwrap();

            assert_eq!(taken.ahead_ms, ahead);
        }
        assert_eq!(AGE_MAX.as_millis(), u128::from(AGE_MAX_MS));
        assert_eq!(guard().take(&sealed(|head| head.sent_ms = i64::MIN), NOW, |_| true), Err(Refused::TooOld));
    }

    #[test]
    fn a_later_process_begins_its_numbers_anew_and_the_earlier_one_is_gone() {
        let mut guard = guard();
        assert!(take(&mut guard, &sealed(|_| {})).is_ok());

        let later = sealed(|head| (head.incarnation, head.seq) = (4, 1));

        assert!(take(&mut guard, &later).is_ok());
        assert_eq!(take(&mut guard, &sealed(|head| head.seq = 10)), Err(Refused::Superseded));
    }

    #[test]
    fn parts_in_any_order_make_their_message() {
        let keys = keys(&[1]);
        let part = |part: u8, bytes: &[u8]| {
            let head = Head { part, parts: 3, seq: 20 + u64::from(part), ..head(&keys) };
            keys.seal(&head, bytes).unwrap()
        };
        let mut guard = guard();

        assert_eq!(take(&mut guard, &part(2, b"c")), Ok(None));
        assert_eq!(take(&mut guard, &part(0, b"a")), Ok(None));
        assert_eq!(take(&mut guard, &part(1, b"b")), Ok(Some(b"abc".to_vec())));
    }

    #[test]
    fn a_message_that_lost_a_part_stands_in_the_way_of_no_other() {
        let keys = keys(&[1]);
        let part = |first: u64, part: u8| {
            let head = Head { part, parts: 2, seq: first + u64::from(part), ..head(&keys) };
            keys.seal(&head, &[part]).unwrap()
        };
        let mut guard = guard();

        assert_eq!(take(&mut guard, &part(20, 0)), Ok(None));
        assert_eq!(take(&mut guard, &part(30, 0)), Ok(None));
        assert_eq!(take(&mut guard, &part(20, 1)), Ok(None), "late, and alone");
        assert_eq!(take(&mut guard, &part(30, 1)), Ok(Some(vec![0, 1])));
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let mut guard = guard();
        assert!(take(&mut guard, &sealed(|_| {})).is_ok());

        guard.keep(|node| node != NodeId(1));

        assert!(guard.senders.is_empty());
    }
}
