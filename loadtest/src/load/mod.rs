//! Load against a gateway, and what it cost.
//!
//! [`compare`] drives the mock directly, through the floor and through Troupe in
//! turn and reads the CPU each process spent; [`streams`] opens many streams at
//! once and checks every event of each.

pub mod compare;
pub mod driver;
pub mod process;
pub mod report;
pub mod streams;
