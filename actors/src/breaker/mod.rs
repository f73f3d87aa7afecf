//! When a target rests, and for how long.
//!
//! [`logic`] decides, [`view`] is what requests read and where the one call on probation takes its place, [`actor`] is
//! the only writer: one for all targets of a provider, so that a thousand targets cost few tasks.

pub(crate) mod actor;
mod evidence;
pub(crate) mod logic;
pub(crate) mod reach;
pub(crate) mod view;

#[cfg(test)]
mod tests;

pub use view::{Standing, Why};
