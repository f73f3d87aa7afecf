use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use troupe_proto::command::{Origin, Refusal, Reply};
use troupe_proto::id::NodeId;
use troupe_proto::spec::{Table, decode_table, encode_table};

/// A process keeps fewer entries open than this, so a reply that is dropped for room belongs to none it waits for.
const REPLIES_MAX: usize = 1_024;

/// Nodes that ever proposed something; the one that was silent for longest is forgotten first.
const NODES_MAX: usize = 4_096;

/// What each process proposed, so that an entry that stands in the log twice takes effect once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions(Table<NodeId, Session>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Session {
    Live(Live),
    /// The node was taken out. Kept, because a copy of an old entry would else begin a session of its own.
    Removed {
        /// The index at which it was.
        at: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Live {
    incarnation: u64,
    /// Entries below are settled: no copy of them is applied any more.
    settled: u64,
    /// The replies to entries that are not.
    replies: Table<u64, Reply>,
    /// The index of the last entry.
    last: u64,
}

impl Sessions {
    /// What an entry gets without being applied: its reply, if it was before, or a refusal. `None`: it is to be applied.
    pub(super) fn known(&self, origin: &Origin) -> Option<Reply> {
        let live = match self.0.get(&origin.node) {
            Some(Session::Live(live)) => live,
            Some(Session::Removed { .. }) => return Some(Reply::Refused(Refusal::Fenced)),
            None => return (origin.seq == 0).then_some(Reply::Refused(Refusal::Stale)),
        };
        if origin.incarnation < live.incarnation {
            return Some(Reply::Refused(Refusal::Fenced));
        }
        if origin.seq == 0 || (origin.incarnation == live.incarnation && origin.seq < live.settled) {
            return Some(Reply::Refused(Refusal::Stale));
        }
        (origin.incarnation == live.incarnation).then(|| live.replies.get(&origin.seq).cloned()).flatten()
    }

    /// Notes what an entry that was applied at `index` came to.
    pub(super) fn note(&mut self, index: u64, origin: &Origin, reply: &Reply) {
        let mut live = match self.0.get(&origin.node) {
            Some(Session::Removed { .. }) => return,
            Some(Session::Live(live)) if live.incarnation == origin.incarnation => live.clone(),
            Some(Session::Live(_)) | None => {
                Live { incarnation: origin.incarnation, settled: 1, replies: Table::new(), last: index }
            }
        };
        live.last = index;
        live.replies.insert(origin.seq, reply.clone());
        live.settled = live.settled.max(origin.settled.min(origin.seq));
        while let Some((seq, _)) = live.replies.get_min() {
            let seq = *seq;
            if live.replies.len() > REPLIES_MAX {
                live.settled = live.settled.max(seq.saturating_add(1));
            }
            if seq >= live.settled {
                break;
            }
            live.replies.remove(&seq);
        }
        self.0.insert(origin.node, Session::Live(live));
        self.forget();
    }

    /// Refuses whatever the node proposed or will.
    pub(super) fn remove(&mut self, index: u64, node: NodeId) {
        self.0.insert(node, Session::Removed { at: index });
        self.forget();
    }

    /// The latest process of the node that proposed anything.
    pub(super) fn incarnation(&self, node: NodeId) -> Option<u64> {
        match self.0.get(&node) {
            Some(Session::Live(live)) => Some(live.incarnation),
            Some(Session::Removed { .. }) | None => None,
        }
    }

    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        matches!(self.0.get(&node), Some(Session::Removed { .. }))
    }

    fn forget(&mut self) {
        while self.0.len() > NODES_MAX {
            let last = |session: &Session| match session {
                Session::Live(live) => live.last,
                Session::Removed { at } => *at,
            };
            let Some(node) = self.0.iter().min_by_key(|(_, session)| last(session)).map(|(node, _)| *node) else {
                return;
            };
            self.0.remove(&node);
        }
    }
}

impl Encode for Sessions {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_table(&self.0, encoder)
    }
}

impl<C> Decode<C> for Sessions {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        decode_table(decoder).map(Self)
    }
}

impl Encode for Session {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Live(Live { incarnation, settled, replies, last }) => {
                (0_u8, *incarnation, *settled, *last).encode(encoder)?;
                encode_table(replies, encoder)
            }
            Self::Removed { at } => (1_u8, *at).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Session {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            0 => {
                let (incarnation, settled, last) = Decode::decode(decoder)?;
                Ok(Self::Live(Live { incarnation, settled, last, replies: decode_table(decoder)? }))
            }
            1 => Ok(Self::Removed { at: Decode::decode(decoder)? }),
            _ => Err(DecodeError::Other("a session is of a kind that is not known")),
        }
    }
}

#[cfg(test)]
mod tests {
    use troupe_proto::id::Revision;

    use super::*;

    const NODE: NodeId = NodeId(7);

    fn origin(incarnation: u64, seq: u64, settled: u64) -> Origin {
        Origin { node: NODE, incarnation, seq, settled }
    }

    fn applied(revision: u64) -> Reply {
        Reply::Applied(Revision(revision))
    }

    /// Notes the entry if it is to be applied, and gives its reply.
    fn run(sessions: &mut Sessions, index: u64, origin: Origin) -> Reply {
        sessions.known(&origin).unwrap_or_else(|| {
            sessions.note(index, &origin, &applied(index));
            applied(index)
        })
    }

    #[test]
    fn a_copy_gets_the_reply_of_the_first_until_that_is_settled() {
        let mut sessions = Sessions::default();

        assert_eq!(run(&mut sessions, 1, origin(1, 1, 1)), applied(1));
        assert_eq!(run(&mut sessions, 2, origin(1, 3, 1)), applied(2));
        assert_eq!(run(&mut sessions, 3, origin(1, 1, 1)), applied(1));
        assert_eq!(run(&mut sessions, 4, origin(1, 2, 1)), applied(4), "overtaken is not late");
        assert_eq!(run(&mut sessions, 5, origin(1, 4, 3)), applied(5));
        assert_eq!(run(&mut sessions, 6, origin(1, 2, 1)), Reply::Refused(Refusal::Stale));
        assert_eq!(run(&mut sessions, 7, origin(1, 3, 1)), applied(2));
    }

    #[test]
    fn a_later_process_fences_the_one_before() {
        let mut sessions = Sessions::default();
        run(&mut sessions, 1, origin(1, 1, 1));

        assert_eq!(run(&mut sessions, 2, origin(2, 1, 1)), applied(2));
        assert_eq!(run(&mut sessions, 3, origin(1, 1, 1)), Reply::Refused(Refusal::Fenced));
        assert_eq!(run(&mut sessions, 4, origin(1, 2, 1)), Reply::Refused(Refusal::Fenced));
        assert_eq!(run(&mut sessions, 5, origin(2, 1, 1)), applied(2));
    }

    #[test]
    fn a_node_that_was_taken_out_is_fenced_for_ever() {
        let mut sessions = Sessions::default();
        run(&mut sessions, 1, origin(1, 1, 1));

        sessions.remove(2, NODE);

        assert!(sessions.is_removed(NODE));
        assert_eq!(run(&mut sessions, 3, origin(9, 1, 1)), Reply::Refused(Refusal::Fenced));
    }

    #[test]
    fn what_is_kept_has_an_end_and_what_was_dropped_is_late() {
        let mut sessions = Sessions::default();
        let last = u64::try_from(REPLIES_MAX).unwrap() + 1;

        for seq in 1..=last {
            run(&mut sessions, seq, origin(1, seq, 1));
        }

        assert_eq!(run(&mut sessions, 9_999, origin(1, 1, 1)), Reply::Refused(Refusal::Stale));
        assert_eq!(run(&mut sessions, 9_999, origin(1, 2, 1)), applied(2));
        for node in 0..=u64::try_from(NODES_MAX).unwrap() {
            let origin = Origin { node: NodeId(100 + node), incarnation: 1, seq: 1, settled: 1 };
            run(&mut sessions, 10_000 + node, origin);
        }
        assert_eq!(sessions.0.len(), NODES_MAX);
        assert!(sessions.0.get(&NODE).is_none(), "the one that was silent for longest goes first");
    }

    #[test]
    fn an_entry_without_a_number_is_never_applied() {
        assert_eq!(run(&mut Sessions::default(), 1, origin(1, 0, 0)), Reply::Refused(Refusal::Stale));
    }
}
