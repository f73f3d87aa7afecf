//! The closed loop: every connection sends its next request when its last reply is over.
//!
//! It finds the most that a gateway can do and what a request costs it. Its
//! latencies flatter a server that stalls: while it does, nobody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Line, Requests};
use super::record::Shared;
use crate::clock;

/// Failures in a row after which a connection gives up: the run has failed anyway.
const FAILURES_MAX: u32 = 100;

/// How a closed loop is driven.
#[derive(Debug, Clone, Copy)]
pub struct Closed {
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// Requests in all.
    pub requests: u64,
    /// No request is begun behind this time.
    pub until: Instant,
}

/// Drives the loop until its requests are done or its time is over.
pub async fn drive(requests: &Arc<Requests>, closed: Closed, record: &Shared) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..closed.connections {
        workers.spawn(work(Arc::clone(requests), closed, Arc::clone(&taken), record.clone()));
    }
    while workers.join_next().await.is_some() {}
}

async fn work(requests: Arc<Requests>, closed: Closed, taken: Arc<AtomicU64>, record: Shared) {
    let mut line = Line::default();
    let mut failures = 0;
    while failures < FAILURES_MAX {
        let begun = clock::now();
        if begun >= closed.until {
            return;
        }
        let number = taken.fetch_add(1, Ordering::Relaxed);
        if number >= closed.requests {
            return;
        }
        match line.exchange(&requests, number, begun).await {
            Ok(reply) => {
                failures = 0;
                record.lock().good(begun, &reply);
            }
            Err(failed) => {
                failures += 1;
                let waited: Option<Duration> = failed.is_late.then(|| clock::now().saturating_duration_since(begun));
                record.lock().bad(begun, failed.why, waited);
            }
        }
    }
}
