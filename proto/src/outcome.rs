//! What became of one attempt: usage, timing, failure.

use std::time::Duration;

use crate::failure::Fault;
use crate::id::{RequestId, TargetId};
use crate::unit::Tokens;

/// Token counts of one call in the one internal form; each wire converts at its edge.
///
/// `input` includes what was read from and written to a prompt cache, `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: Tokens,
    /// The part of `input` that was read from a prompt cache.
    pub cached_read: Tokens,
    /// The part of `input` that was written to a prompt cache.
    pub cache_write: Tokens,
    /// All output tokens, reasoning included.
    pub output: Tokens,
    /// The part of `output` that was spent on reasoning.
    pub reasoning: Tokens,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |a: Tokens, b: Tokens| Tokens::new(a.get().saturating_add(b.get()));
        Self {
            input: sum(self.input, other.input),
            cached_read: sum(self.cached_read, other.cached_read),
            cache_write: sum(self.cache_write, other.cache_write),
            output: sum(self.output, other.output),
            reasoning: sum(self.reasoning, other.reasoning),
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The reply was relayed whole, its wire's end included.
    Finished,
    /// The provider failed before anything was sent to the client.
    Failed(Fault),
    /// The provider failed after content had been sent.
    Interrupted(Fault),
    /// The client went away; the upstream call was cancelled.
    ClientGone,
    /// Another attempt of the same request began sooner; this one was cancelled.
    Cancelled,
}

impl AttemptEnd {
    /// The word used for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed(fault) => fault.as_str(),
            Self::Interrupted(_) => "interrupted",
            Self::ClientGone => "client_gone",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The one fact each attempt ends in.
#[derive(Clone, Debug)]
pub struct CallEnded {
    /// The request it was made for.
    pub request: RequestId,
    /// Its place in the plan's order, from 0.
    pub attempt: u32,
    /// Where it went.
    pub target: TargetId,
    /// How it ended.
    pub end: AttemptEnd,
    /// What the provider reported, if it reported anything.
    pub usage: Option<Usage>,
    /// Time from sending the request to the first content, if any came.
    pub first_token: Option<Duration>,
    /// Time from sending the request to the end.
    pub total: Duration,
}
