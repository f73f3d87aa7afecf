//! Up to which entry must be read, so that nothing is missed that was acknowledged anywhere.

use std::sync::PoisonError;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::timeout;

use super::Inner;
use super::message::{Forward, Forwarded};
use super::propose::{Leader, leader};
use crate::clock;
use crate::consensus::{Machine, ReadError};

/// What one try came to.
pub(super) enum Asked {
    /// Up to this entry.
    At(u64),
    /// This node cannot say; perhaps another one can.
    Elsewhere(Leader),
    /// Consensus stopped here.
    Stopped,
}

impl<M: Machine> Inner<M> {
    pub(super) async fn read_index(&self) -> Result<(), ReadError> {
        let began = clock::now();
        let deadline = began + self.settings.read_within;
        loop {
            let asked = match self.read_here().await {
                Asked::Elsewhere(Some((leader, address))) if leader != self.me => {
                    let within = self.settings.ask_within.min(deadline.saturating_duration_since(clock::now()));
                    match self.forward(leader, &address, &Forward::ReadIndex, within).await {
                        Ok(Forwarded::ReadAt(index)) => Asked::At(index),
                        Ok(_) | Err(_) => Asked::Elsewhere(None),
                    }
                }
                asked => asked,
            };
            match asked {
                Asked::At(index) if self.wait_applied(index, deadline).await => {
                    let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
                    // A later one may have ended before.
                    *confirmed = (*confirmed).max(Some(began));
                    return Ok(());
                }
                Asked::At(_) | Asked::Elsewhere(_) => {}
                Asked::Stopped => return Err(ReadError::Stopped),
            }
            if !self.pause(deadline).await {
                return Err(ReadError::NoLeader);
            }
        }
    }

    /// Asks a quorum whether this node still leads, if it ever did.
    pub(super) async fn read_here(&self) -> Asked {
        match timeout(self.settings.ask_within, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
            Ok(Ok((at, _applied))) => Asked::At(at.index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Asked::Elsewhere(leader(forward))
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => Asked::Elsewhere(None),
            Ok(Err(RaftError::Fatal(_))) => Asked::Stopped,
        }
    }
}
