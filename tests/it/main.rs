//! The gateway as clients and providers see it, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail by panicking, as tests do")]

mod admin;
mod bad_input;
mod breakers;
mod certificates;
mod cli;
mod controls;
mod credentials;
mod dev;
mod drain;
mod drills;
mod explain;
mod failover;
mod fairness;
mod faults;
mod fidelity;
mod gone;
mod hedges;
mod keys;
mod limits;
mod midstream;
mod odd;
mod panics;
mod patience;
mod proxy;
mod raw;
mod recovery;
mod reload;
mod reuse;
mod routing;
mod serves;
mod storms;
mod streams;
mod tls;
mod told;
mod upstream;
