//! A command on its way into the log, from whichever node it is proposed at.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::impls::ProgressResponder;
use tokio::time::{Instant, timeout, timeout_at};
use troupe_proto::id::NodeId;
use troupe_proto::wire;

use super::Inner;
use super::machine::{LONG_BYTES, Published};
use super::message::{Forward, Forwarded};
use super::settings::more_for;
use super::types::{Bytes, LeaderId, Types};
use crate::clock;
use crate::consensus::{Machine, ProposeError};
use crate::transport::{CallError, Class};

/// How long is waited at most before a leader is looked for again. A leader that has just won names none for a moment.
const PAUSE: Duration = Duration::from_millis(25);

/// Who leads, and where it is reached, as far as is known.
pub(super) type Leader = Option<(NodeId, String)>;

/// What one try came to.
pub(super) enum Step {
    /// It was applied.
    Done {
        /// Where it stands.
        index: u64,
        /// What it came to, in its envelope.
        reply: Arc<[u8]>,
    },
    /// It stands in no log because of this try.
    Elsewhere(Leader),
    /// It may stand in a log.
    Maybe,
    /// Consensus stopped here.
    Stopped,
}

impl<M: Machine> Inner<M> {
    pub(super) async fn propose(&self, command: &M::Command) -> Result<M::Reply, ProposeError> {
        let bytes: Arc<[u8]> = wire::encode(command).map_err(ProposeError::Unencodable)?.into();
        // An entry that cannot be read would stop every node.
        let _command: M::Command = wire::decode(&bytes).map_err(ProposeError::Unreadable)?;
        let deadline = clock::now() + self.settings.propose_within + more_for(bytes.len());
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(ProposeError::NoLeader);
        };
        // A copy that was sent stays where it is: once one may stand in a log, nobody can say that none does.
        let mut may_stand = false;
        loop {
            let step = match self.write_here(Bytes(Arc::clone(&bytes)), None, deadline).await {
                Step::Elsewhere(Some((leader, address))) if leader != self.me => {
                    self.write_there(leader, &address, &bytes, deadline).await
                }
                step => step,
            };
            match step {
                Step::Done { index, reply } => {
                    // Who was answered finds its own change here, too. If it takes too long the answer is still right.
                    let _is_here = self.wait_applied(index, deadline).await;
                    return wire::decode(&reply).map_err(ProposeError::Unreadable);
                }
                Step::Elsewhere(_) => {}
                Step::Maybe => may_stand = true,
                Step::Stopped if may_stand => return Err(ProposeError::Unknown),
                Step::Stopped => return Err(ProposeError::Stopped),
            }
            if !self.pause(deadline).await {
                return Err(if may_stand { ProposeError::Unknown } else { ProposeError::NoLeader });
            }
        }
    }

    /// Puts a command into the log if this node leads, in `term` if one is given.
    pub(super) async fn write_here(&self, command: Bytes, term: Option<u64>, deadline: Instant) -> Step {
        let written = async {
            let (responder, answer) = ProgressResponder::complete_only();
            let mut write = self.raft.write(command).responder(responder);
            if let Some(term) = term {
                write = write.with_leader(LeaderId::new(term));
            }
            write.await.map_err(|_fatal| ())?;
            answer.await.map_err(|_gone| ())
        };
        match timeout_at(deadline, written).await {
            Ok(Ok(Ok(response))) => Step::Done { index: response.log_id.index, reply: response.data.0 },
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => Step::Elsewhere(leader(forward)),
            Ok(Ok(Err(ClientWriteError::LogEntryDiscarded(_)))) | Err(_) => Step::Maybe,
            // Of changes of membership only.
            Ok(Ok(Err(ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)))) => {
                Step::Elsewhere(None)
            }
            // It may have been written before consensus stopped; `Maybe` makes the caller say so, and the next try
            // finds that nothing runs here.
            Ok(Err(())) => Step::Stopped,
        }
    }

    async fn write_there(&self, leader: NodeId, address: &str, command: &Arc<[u8]>, deadline: Instant) -> Step {
        let within = deadline.saturating_duration_since(clock::now());
        let Some(term) = self.term_of(leader) else { return Step::Elsewhere(None) };
        let ask = Forward::Propose { command: Arc::clone(command), term, within_ms: millis(within) };
        match self.forward(leader, address, &ask, within).await {
            Ok(Forwarded::Applied { index, reply }) => Step::Done { index, reply },
            Ok(Forwarded::NotLeading) | Err(Unsent::Certainly) => Step::Elsewhere(None),
            Ok(
                Forwarded::Unknown
                | Forwarded::Unable
                | Forwarded::ReadAt(_)
                | Forwarded::Reshaped
                | Forwarded::Refused(_),
            )
            | Err(Unsent::Perhaps) => Step::Maybe,
        }
    }

    /// In which term a node leads, as far as this one knows.
    pub(super) fn term_of(&self, leader: NodeId) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let vote = metrics.borrow_watched().vote;
        (vote.is_committed() && vote.leader_id.voted_for == leader).then_some(vote.leader_id.term)
    }

    /// Puts another node's command into the log if this node leads in `term`, and can read it: an entry that it could not would
    /// stop it, and each node like it. What is judged by a time is judged by this node's.
    pub(super) async fn write_for_other(&self, from: NodeId, command: Arc<[u8]>, term: u64, deadline: Instant) -> Step {
        let (is_long, at) = (command.len() > LONG_BYTES, (self.wall)());
        let check = move || {
            let mut read = wire::decode::<M::Command>(&command).map_err(io::Error::other)?;
            // A node that speaks in another's name could use up that one's numbers, and fence it.
            if !M::is_from(from, &read) {
                return Err(io::Error::other("it is in the name of another node"));
            }
            let is_stamped = M::stamp(&mut read, at);
            if is_stamped { wire::encode(&read).map(Arc::from).map_err(io::Error::other) } else { Ok(command) }
        };
        let checked = if is_long { self.work.run(check).await } else { check() };
        match checked {
            Ok(command) => self.write_here(Bytes(command), Some(term), deadline).await,
            Err(error) => {
                tracing::error!(node = %from, %error, "another node proposes what this one does not take; is it of a later version?");
                Step::Elsewhere(None)
            }
        }
    }

    /// Asks another node for what only a leader can do.
    pub(super) async fn forward(
        &self,
        leader: NodeId,
        address: &str,
        ask: &Forward,
        within: Duration,
    ) -> Result<Forwarded, Unsent> {
        let body = wire::encode(ask).map_err(|_| Unsent::Certainly)?;
        match self.links.call(leader, address, Class::Forward, body, within).await {
            Ok(answer) => wire::decode(&answer).map_err(|_| Unsent::Perhaps),
            Err(CallError::Unreachable | CallError::Refused(_) | CallError::TooLarge) => Err(Unsent::Certainly),
            Err(CallError::Lost | CallError::Deadline) => Err(Unsent::Perhaps),
        }
    }

    /// Waits a moment, or until who leads changes. False when there is no time left.
    pub(super) async fn pause(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return false;
        }
        let mut leaders = self.raft.server_metrics();
        let before = leaders.borrow_watched().current_leader;
        // A new receiver takes the newest metrics for a change, so what is waited for is another leader.
        let other = leaders.wait_until(|metrics| metrics.current_leader != before);
        // Either way it is time to look again.
        let _is_changed = timeout(PAUSE.min(left), other).await;
        clock::now() < deadline
    }

    /// Waits until the entry is applied here. False when the time is over before.
    pub(super) async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        let Published { applied, moved, .. } = &self.published;
        let reached = timeout_at(deadline, async {
            loop {
                let mut next = pin!(moved.notified());
                // In line before it is looked: no entry falls between the two.
                next.as_mut().enable();
                if *applied.borrow() >= index {
                    break;
                }
                next.await;
            }
        })
        .await;
        reached.is_ok()
    }
}

/// Whether a question can have been served that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It was not.
    Certainly,
    /// It may have been.
    Perhaps,
}

pub(super) fn leader(forward: ForwardToLeader<Types>) -> Leader {
    forward.leader_id.zip(forward.leader_node.map(|node| node.addr))
}

pub(super) fn millis(within: Duration) -> u32 {
    u32::try_from(within.as_millis()).unwrap_or(u32::MAX)
}
