//! From a client's socket to the pipeline and back.

mod body;
mod conn;
mod guard;
mod listener;
mod proxied;
mod rare;
mod readers;
mod routes;
mod seat;
mod serve;
mod socket;
mod worker;

pub use body::{Broken, Feed, ReplyBody};
pub use listener::{Listener, ListenerOptions};
pub use worker::{Worker, WorkerOptions};
