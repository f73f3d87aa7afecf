//! The gateway as clients and providers see it, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail by panicking, as tests do")]

mod admin;
mod bad_input;
mod cli;
mod dev;
mod drain;
mod explain;
mod fairness;
mod faults;
mod fidelity;
mod gone;
mod keys;
mod limits;
mod odd;
mod panics;
mod proxy;
mod raw;
mod reload;
mod reuse;
mod routing;
mod serves;
mod streams;
mod tls;
mod told;
mod upstream;
