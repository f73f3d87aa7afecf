//! Whole-system worlds: a node, mock providers and clients in one process, over real sockets.
//!
//! ```no_run
//! # async fn example() {
//! use serde_json::json;
//! use troupe_tests::World;
//!
//! let world = World::new().start().await;
//!
//! let reply = world.client().post("/v1/chat/completions", json!({"model": "o-gpt", "messages": []})).await;
//!
//! assert_eq!(reply.status, 200);
//! # }
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail by panicking, as tests do")]

pub mod ask;
pub mod churn;
pub mod client;
pub mod crew;
pub mod events;
pub mod eventually;
pub mod instructions;
pub mod load;
pub mod scale;
#[path = "../sim/mod.rs"]
pub mod sim;
pub mod simnet;
pub mod world;

pub use client::{Client, Reply, Stream};
pub use crew::Crew;
pub use events::{Event, Events};
pub use eventually::{eventually, until};
pub use world::{Builder, World};
