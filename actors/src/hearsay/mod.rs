//! What other nodes say of targets, and what this one tells them.
//!
//! ```text
//! breakers, traffic, probes ──▶ own words ─────────── tell ──▶ HealthBoard ──▶ other nodes
//!                                   │                                              │
//!            breaker:<provider> ◀── fold ◀── what was heard, while it is fresh ◀── hear
//!            probe:<provider>   ◀── whose turn it is
//! ```
//!
//! A node's own evidence moves its own breakers at once, and nothing here weakens it. What others say is folded:
//!
//! - **hard** evidence (the provider refused a key, said that its quota is spent, or when to come back) rests the same
//!   target on every node whose own key has the same [`Fingerprint`](crate::Fingerprint), and on no other;
//! - **soft** evidence (failures, nobody reached) rests it where a majority of those who have something recent to say agree,
//!   at least two, this node's own word among them; one success anywhere after it began refutes it.
//!
//! A node that nobody answers while others are answered is cut off ([`uplink`]): it says so, and goes by its own probes only.
//!
//! Nobody tells what it only heard. Words of nodes that are gone, or that were not renewed, count nowhere. Without a board
//! (one node, or one that follows a file) none of this runs.

mod actor;
mod hall;
mod heard;
mod logic;
mod own;
mod turns;
mod uplink;

#[cfg(test)]
mod tests;

pub(crate) use actor::Hearsay;
pub(crate) use hall::Hall;
pub use hall::{Belief, CutOff, HearsayVitals};
pub use own::Urgency;
