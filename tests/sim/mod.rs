//! The whole cluster in one thread, by seed: the real consensus, transport and state of each node, over a simulated
//! network, disk, clock and chance.
//!
//! ```text
//! plan (what goes wrong) ─▶ run (steps, injects, mends) ─▶ hosts: client ─▶ Handle ─▶ Raft ─▶ SimLog
//!                                                                            └ Transport ─▶ SimNet (turmoil)
//! record (trace, timeline) ◀── everything        oracle ◀── history (clients), log (what was applied)
//! ```
//! One seed gives one run, byte for byte: the trace hash says so. Planted bugs live in `disk`, `machine`, `client` and
//! `run`, never in the product.

pub mod client;
pub mod disk;
pub mod history;
pub mod host;
pub mod linear;
pub mod machine;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod record;
pub mod run;
pub mod world;

pub use plan::Plant;
pub use run::{Options, Outcome, run};
