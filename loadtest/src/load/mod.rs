//! Load against a gateway, and what it cost.
//!
//! [`run`] carries a [`plan`] out: an open loop, a closed loop, or the search for
//! the largest rate that holds. [`compare`] drives the mock directly, through the
//! floor, through Troupe and through its peers in turn and reads the CPU each
//! process spent; [`streams`] opens many streams at once and checks every event
//! of each.

pub mod bisect;
pub mod client;
pub mod closed;
pub mod compare;
pub mod mix;
pub mod open;
pub mod pacer;
pub mod plan;
pub mod process;
pub mod progress;
pub mod record;
pub mod run;
pub mod run_report;
pub mod schedule;
pub mod streams;
pub mod svg;
pub mod units;
