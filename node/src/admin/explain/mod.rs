//! Why a call of a model goes where it goes: what `troupe route explain` shows.
//!
//! ```text
//! view and learned state ── facts ──▶ Facts ── explain (pure) ──▶ Report ──▶ JSON, table
//! ```

mod facts;
mod logic;
mod report;
mod words;

pub use facts::{Facts, KeyFacts, MemberFacts, NodeBelief, PoolFacts, Question, Standing};
pub use logic::explain;
pub(crate) use logic::node_report;
pub use report::{NodeReport, Place, PoolReport, Report, State, TargetReport};

#[cfg(test)]
mod tests;
