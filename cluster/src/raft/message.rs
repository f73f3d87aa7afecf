//! What nodes say to each other for consensus. Kinds 32 to 47 belong to consensus and its storage.

use std::sync::Arc;

use bincode::{Decode, Encode};
use troupe_proto::id::NodeId;
use troupe_proto::wire::Message;

use super::plain::{Entry, LogId, Meta, Vote};
use crate::consensus::Reshape;
use crate::transport::Class;

/// A candidate asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Candidacy {
    /// Its vote for itself.
    pub vote: Vote,
    /// The end of its log.
    pub last: Option<LogId>,
    /// Whether the leader asked it to stand.
    pub is_transfer: bool,
}

/// From a leader or a candidate, on [`Class::Vote`] and [`Class::Append`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Would a vote be given? Nothing changes by it.
    PreVote(Candidacy),
    /// Give your vote.
    Vote(Candidacy),
    /// Entries, or none to say that the leader is there.
    Append {
        /// The leader's vote.
        vote: Vote,
        /// The entry before them.
        before: Option<LogId>,
        /// In order.
        entries: Vec<Entry>,
        /// The last entry that is agreed.
        committed: Option<LogId>,
    },
    /// Lead.
    Transfer {
        /// The leader's vote.
        vote: Vote,
        /// Who is to lead.
        to: NodeId,
        /// The end of the leader's log.
        last: Option<LogId>,
    },
}

/// The answer to [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To both kinds of votes.
    Voted {
        /// The vote of who answers.
        vote: Vote,
        /// Whether it is for who asked.
        is_granted: bool,
        /// The end of the answerer's log.
        last: Option<LogId>,
    },
    /// The entries are on disk.
    Appended,
    /// Those up to this one are.
    AppendedTo(Option<LogId>),
    /// The entry before them is not there.
    Conflict,
    /// A later leader is known.
    Outvoted(Vote),
    /// It stands for leader.
    Standing,
    /// It does not stand: its vote is another one.
    VoteChanged {
        /// What was asked for.
        expected: Vote,
        /// What it is.
        actual: Vote,
    },
    /// It does not stand: its log is not there yet.
    LogBehind {
        /// What was asked for.
        expected: Option<LogId>,
        /// What it is.
        actual: Option<LogId>,
    },
    /// Consensus stopped at that node, or the caller may not ask.
    Unable,
}

/// A piece of a snapshot, on [`Class::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Piece {
    /// The leader's vote.
    pub vote: Vote,
    /// What the whole snapshot holds.
    pub meta: Meta,
    /// How many bytes the whole has.
    pub total: u64,
    /// Where this piece begins in it.
    pub offset: u64,
    /// The piece.
    pub bytes: Vec<u8>,
}

/// The answer to [`Piece`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PieceAnswer {
    /// Send what begins here next; at 0, begin anew.
    Next(u64),
    /// All of it is there and in force, or a later leader is known.
    Done(Vote),
    /// Consensus stopped at that node, or the caller may not send any.
    Unable,
}

/// What only a leader can do, on [`Class::Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Forward {
    /// Have a command applied.
    Propose {
        /// In its envelope.
        command: Arc<[u8]>,
        /// In which term the leader leads, as far as whoever asks knows. It writes in no other: a copy of this that
        /// comes late, after it was answered that this node does not lead, is not written when it leads again.
        term: u64,
        /// How long whoever asks waits, in milliseconds.
        within_ms: u32,
    },
    /// Up to which entry must be read?
    ReadIndex,
    /// Change who takes part.
    Reshape {
        /// How.
        change: Reshape,
        /// How long whoever asks waits, in milliseconds.
        within_ms: u32,
    },
}

/// The answer to [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Forwarded {
    /// The command was applied.
    Applied {
        /// Where it stands in the log.
        index: u64,
        /// What it came to, in its envelope.
        reply: Arc<[u8]>,
    },
    /// Everything acknowledged so far is in the entries up to this one.
    ReadAt(u64),
    /// The change is in force.
    Reshaped,
    /// The change would break a rule.
    Refused(String),
    /// Nothing was done: it does not lead, or cannot tell.
    NotLeading,
    /// It may have been done, or may yet be.
    Unknown,
    /// Consensus stopped at that node, or the caller may not ask.
    Unable,
}

macro_rules! messages {
    ($($name:ident = $kind:literal, $class:ident;)*) => {$(
        impl Message for $name {
            const KIND: u16 = $kind;
            const SCHEMA: u16 = 1;
            const LIMIT: usize = Class::$class.limit();
        }
    )*};
}

messages! {
    Ask = 35, Append;
    Answer = 36, Vote;
    Piece = 37, Snapshot;
    PieceAnswer = 38, Vote;
    Forward = 39, Forward;
    Forwarded = 40, Forward;
}
