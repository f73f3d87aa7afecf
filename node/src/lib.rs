//! One gateway process: listeners, pipeline, providers, admin, CLI, and the wiring.

pub mod admin;
pub mod catalogue;
pub mod clock;
pub mod config;
pub mod telemetry;
pub mod upstream;
pub mod view;
