//! An honest stranger: mock providers, load, comparison reports.
//!
//! Nothing here shares code with the gateway, so a mistake of the gateway
//! cannot hide in its own tester.

pub mod clock;
pub mod floor;
pub mod load;
pub mod mock;
