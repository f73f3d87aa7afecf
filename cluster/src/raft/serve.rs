//! Answers to other nodes.

use std::sync::PoisonError;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use super::machine::Carried;
use super::message::{Answer, Ask, Candidacy, Forward, Forwarded, Piece, PieceAnswer};
use super::plain::Meta;
use super::propose::Step;
use super::read::Asked;
use super::types::{SnapshotMeta, Types};
use super::{Inner, Raft};
use crate::clock;
use crate::consensus::{Machine, ReshapeError};
use crate::transport::{Caller, Class, Rejected, Service, readable};

/// A snapshot that is on its way here. There is one at a time: there is one leader.
pub(super) struct Incoming {
    from: NodeId,
    meta: Meta,
    total: u64,
    bytes: Vec<u8>,
}

impl<M: Machine> Service for Raft<M> {
    fn check(&self, from: &Caller, body: &[u8]) -> Result<(), Rejected> {
        match from.class {
            Class::Vote | Class::Append => readable::<Ask>(body),
            Class::Snapshot => readable::<Piece>(body),
            Class::Forward => readable::<Forward>(body),
            Class::Join | Class::Push => Ok(()),
        }
    }

    fn serve(&self, from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        let inner = &self.inner;
        async move {
            match from.class {
                Class::Vote | Class::Append => answer(&from, &body, Answer::Unable, |ask| inner.answer(ask)).await,
                Class::Snapshot => {
                    let node = from.node;
                    answer(&from, &body, PieceAnswer::Unable, |piece| inner.take_piece(node, piece)).await
                }
                Class::Forward => {
                    let node = from.node;
                    answer(&from, &body, Forwarded::Unable, |ask| inner.answer_forward(node, ask)).await
                }
                // Whether somebody may join is not decided here, and facts are none of consensus.
                Class::Join | Class::Push => Vec::new(),
            }
        }
        .boxed()
    }
}

/// Reads the question, has it answered, writes the answer.
async fn answer<Q: Message, A: Message, F: Future<Output = A>>(
    from: &Caller,
    body: &[u8],
    unable: A,
    answer: impl FnOnce(Q) -> F,
) -> Vec<u8> {
    let answer = match wire::decode(body) {
        Ok(ask) if from.is_verified => answer(ask).await,
        Ok(_) => unable,
        Err(error) => {
            tracing::warn!(node = %from.node, class = from.class.word(), %error, "a call for consensus cannot be read");
            unable
        }
    };
    // An answer that cannot be written is no answer, and the caller will say so.
    wire::encode(&answer).unwrap_or_default()
}

impl<M: Machine> Inner<M> {
    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::PreVote(candidacy) => voted(self.raft.pre_vote(request(candidacy)).await),
            Ask::Vote(candidacy) => voted(self.raft.vote(request(candidacy)).await),
            Ask::Append { vote, before, entries, committed } => {
                let entries = entries.into_iter().map(TryInto::try_into).collect::<Result<Vec<_>, _>>();
                // Whoever sent a membership without sense must not be told that it was taken.
                let Ok(entries) = entries else { return Answer::Unable };
                let request = AppendEntriesRequest {
                    vote: vote.into(),
                    prev_log_id: before.map(Into::into),
                    entries,
                    leader_commit: committed.map(Into::into),
                };
                match self.raft.append_entries(request).await {
                    Ok(AppendEntriesResponse::Success) => Answer::Appended,
                    Ok(AppendEntriesResponse::PartialSuccess(last)) => Answer::AppendedTo(last.map(Into::into)),
                    Ok(AppendEntriesResponse::Conflict) => Answer::Conflict,
                    Ok(AppendEntriesResponse::HigherVote(vote)) => Answer::Outvoted(vote.into()),
                    Err(_) => Answer::Unable,
                }
            }
            Ask::Transfer { vote, to, last } => {
                let request = TransferLeaderRequest::new(vote.into(), to, last.map(Into::into));
                match self.raft.handle_transfer_leader(request).await {
                    Ok(Ok(())) => Answer::Standing,
                    Ok(Err(TransferLeaderError::VoteChanged { expected, actual })) => {
                        Answer::VoteChanged { expected: expected.into(), actual: actual.into() }
                    }
                    Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => {
                        Answer::LogBehind { expected: expected.map(Into::into), actual: actual.map(Into::into) }
                    }
                    Err(_) => Answer::Unable,
                }
            }
        }
    }

    async fn take_piece(&self, from: NodeId, piece: Piece) -> PieceAnswer {
        let vote = piece.vote;
        let whole = {
            let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
            match add(&mut incoming, from, piece, self.settings.snapshot_limit) {
                Added::Next(offset) => return PieceAnswer::Next(offset),
                Added::Whole(whole) => whole,
            }
        };
        let Ok(meta) = SnapshotMeta::try_from(whole.meta) else { return PieceAnswer::Unable };
        let snapshot = Carried { meta, snapshot: whole.bytes.into() };
        match self.raft.install_full_snapshot(vote.into(), snapshot).await {
            Ok(response) => PieceAnswer::Done(response.vote.into()),
            Err(_) => PieceAnswer::Unable,
        }
    }

    pub(super) async fn answer_forward(&self, from: NodeId, ask: Forward) -> Forwarded {
        match ask {
            Forward::Propose { command, term, within_ms } => {
                let deadline = clock::now() + Duration::from_millis(within_ms.into());
                match self.write_for_other(from, command, term, deadline).await {
                    Step::Done { index, reply } => Forwarded::Applied { index, reply },
                    // It leads, and takes nothing while it hands over. If that fails it leads on in the same term, and
                    // would write a copy of this that comes late.
                    Step::Elsewhere(_) if self.term_of(self.me) == Some(term) => Forwarded::Unknown,
                    Step::Elsewhere(_) => Forwarded::NotLeading,
                    Step::Maybe => Forwarded::Unknown,
                    Step::Stopped => Forwarded::Unable,
                }
            }
            Forward::ReadIndex => match self.read_here().await {
                Asked::At(index) => Forwarded::ReadAt(index),
                Asked::Elsewhere(_) => Forwarded::NotLeading,
                Asked::Stopped => Forwarded::Unable,
            },
            Forward::Reshape { change, within_ms } => {
                let deadline = clock::now() + Duration::from_millis(within_ms.into());
                match self.reshape_here(&change, deadline).await {
                    Some(Ok(())) => Forwarded::Reshaped,
                    Some(Err(ReshapeError::Refused(why))) => Forwarded::Refused(why),
                    Some(Err(ReshapeError::Unknown)) => Forwarded::Unknown,
                    Some(Err(ReshapeError::NoLeader | ReshapeError::Alone)) | None => Forwarded::NotLeading,
                    Some(Err(ReshapeError::Stopped)) => Forwarded::Unable,
                }
            }
        }
    }
}

fn request(candidacy: Candidacy) -> VoteRequest<Types> {
    VoteRequest {
        vote: candidacy.vote.into(),
        last_log_id: candidacy.last.map(Into::into),
        leadership_transfer: candidacy.is_transfer,
    }
}

fn voted<E>(response: Result<VoteResponse<Types>, E>) -> Answer {
    match response {
        Ok(VoteResponse { vote, vote_granted, last_log_id }) => {
            Answer::Voted { vote: vote.into(), is_granted: vote_granted, last: last_log_id.map(Into::into) }
        }
        Err(_) => Answer::Unable,
    }
}

enum Added {
    /// What is to come next.
    Next(u64),
    /// It was the last piece.
    Whole(Incoming),
}

/// Adds a piece to what is there. A piece that does not fit makes the sender begin anew.
fn add(slot: &mut Option<Incoming>, from: NodeId, piece: Piece, limit: u64) -> Added {
    if piece.total > limit {
        *slot = None;
        return Added::Next(0);
    }
    if piece.offset == 0 {
        *slot = Some(Incoming { from, meta: piece.meta.clone(), total: piece.total, bytes: Vec::new() });
    }
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let fits = slot.as_ref().is_some_and(|incoming| {
        (incoming.from, &incoming.meta, incoming.total) == (from, &piece.meta, piece.total)
            && length(&incoming.bytes) == piece.offset
            && length(&piece.bytes) <= incoming.total - piece.offset
    });
    match slot.take() {
        Some(mut incoming) if fits => {
            incoming.bytes.extend_from_slice(&piece.bytes);
            let held = length(&incoming.bytes);
            if held == incoming.total {
                Added::Whole(incoming)
            } else {
                *slot = Some(incoming);
                Added::Next(held)
            }
        }
        Some(_) | None => Added::Next(0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plain::Vote;
    use super::*;

    fn piece(offset: u64, bytes: &[u8]) -> Piece {
        let vote = Vote { term: 1, node: NodeId(1), is_committed: true };
        Piece { vote, meta: Meta::default(), total: 6, offset, bytes: bytes.to_vec() }
    }

    fn next(slot: &mut Option<Incoming>, from: u64, piece: Piece) -> Result<u64, Vec<u8>> {
        match add(slot, NodeId(from), piece, 100) {
            Added::Next(offset) => Ok(offset),
            Added::Whole(whole) => Err(whole.bytes),
        }
    }

    #[test]
    fn pieces_in_order_make_the_whole() {
        let mut slot = None;

        assert_eq!(next(&mut slot, 1, piece(0, b"abc")), Ok(3));
        assert_eq!(next(&mut slot, 1, piece(3, b"def")), Err(b"abcdef".to_vec()));
        assert!(slot.is_none());
    }

    #[test]
    fn a_piece_that_does_not_fit_makes_the_sender_begin_anew() {
        let misfits = [
            (1, piece(2, b"cd")),
            (1, piece(3, b"defg")),
            (2, piece(3, b"def")),
            (1, Piece { total: 7, ..piece(3, b"def") }),
            (1, Piece { total: 101, ..piece(0, b"abc") }),
        ];
        for (from, misfit) in misfits {
            let mut slot = None;
            assert_eq!(next(&mut slot, 1, piece(0, b"abc")), Ok(3));

            assert_eq!(next(&mut slot, from, misfit), Ok(0));
            assert!(slot.is_none());
        }
    }
}
