//! Supervised owners of changing local state, and the views that requests read.
//!
//! ```text
//! root ─ pools ──── pool:<model>          learns: latency, failing share, slow start, pace
//!      ─ breakers ─ breaker:<provider>    decides which of the provider's targets rest
//!      ─ probers ── probe:<provider>      asks resting targets whether they are back
//!      ─ hearsay                          tells other nodes what this one saw, and folds what they say
//! ```
//!
//! Actors own writes, requests read views. A request reads a [`pool::View`], takes a [`Pass`] and counts in cells of its
//! own thread; it waits for no actor. What an actor learned is kept in cells that outlive it ([`Target`], [`PoolCell`]),
//! so that a restarted actor goes on where its predecessor stopped, and a dead one leaves old views, never none.

mod actors;
mod breaker;
mod budget;
mod gradient;
mod hearsay;
mod inbox;
mod layout;
mod pass;
pub mod pool;
mod ports;
mod probe;
mod registry;
mod restart;
mod supervise;
mod target;
mod traffic;
mod view;
mod vitals;

#[cfg(test)]
mod tests;

pub use actors::{Actors, Settings, StartError};
pub use breaker::{Standing, Why};
pub use budget::Budget;
pub use hearsay::{Belief, CutOff, HearsayVitals};
pub use layout::{Concurrency, Fingerprint, HedgeRules, MemberLayout, PoolLayout, RetryRules, TargetRules};
pub use pass::{Failure, Pass, Quota};
pub use pool::PoolCell;
pub use ports::{HealthBoard, Probed, Prober, Urgency};
pub use target::{QuotaReport, Target, TargetReport};
pub use view::Published;
pub use vitals::{Role, RoleVitals, ViewKind, Vitals};
