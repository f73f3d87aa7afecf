//! The targets behind a model: their weights and latencies, and the cells that requests count in.

pub(crate) mod actor;
pub(crate) mod cell;
mod logic;
mod view;

#[cfg(test)]
mod tests;

pub use cell::PoolCell;
pub use view::{MemberView, View};
