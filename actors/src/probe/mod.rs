//! Asks resting targets whether they are back, so that a rest for a dead network ends when the network does, and no
//! call has to find out.

mod actor;
mod logic;

#[cfg(test)]
mod tests;

pub(crate) use actor::PROBERS;
