//! Server-sent events: cutting a byte stream into complete events, and writing them.
//!
//! [`Framer`] never looks inside an event and never changes it: a [`Frame`] holds the exact bytes that came, blank line
//! included, so that the same dialect in and out is a matter of handing `raw` on. Only complete events come out
//! (STREAM-1): what follows the last blank line stays inside until its own blank line arrives.

mod encode;
mod frame;
mod framer;
#[cfg(test)]
mod tests;

pub use encode::{done, event, keep_alive};
pub use frame::Frame;
pub use framer::{FrameError, Framer};
