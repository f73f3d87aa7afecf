//! Words, units, ids, specs, commands and error codes the whole house shares, and how they look as bytes.
//!
//! This crate knows no clock, no socket and no task: the same input gives the same result on every node, for ever.
#![deny(clippy::iter_over_hash_type)]

pub mod command;
pub mod failure;
pub mod health;
pub mod id;
pub mod member;
pub mod outcome;
pub mod secret;
pub mod spec;
pub mod token;
pub mod unit;
pub mod wire;
