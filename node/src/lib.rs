//! One gateway process: listeners, pipeline, providers, admin, CLI, and the wiring.

pub mod admin;
pub mod agreement;
mod annex;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev;
pub mod flow;
#[cfg(test)]
mod footprint;
pub mod freshness;
pub mod gossip;
pub mod house;
pub mod ingress;
mod memory;
pub mod node;
pub mod outage;
pub mod peers;
mod pipeline;
pub mod rotation;
pub mod supervisor;
pub mod telemetry;
pub mod troubles;
pub mod upstream;
pub mod view;
mod wiring;
