//! Giving memory back to the system after a burst.
//!
//! The allocator does it while it allocates, so a node that has nothing to do would keep what its last burst took.

use std::time::{Duration, Instant};

// Links the allocator where nothing else does, as in tests of this crate.
use mimalloc as _;

use crate::clock;

#[expect(
    unsafe_code,
    reason = "the allocator's crate has no safe way to collect: docs/decisions/008-memory-goes-back.md"
)]
mod allocator {
    // SAFETY: `void mi_collect(bool force)` of mimalloc.h takes no pointer, may be called on any thread at any time
    // between two calls of the allocator, does nothing on a thread that never allocated with it, and does not unwind.
    unsafe extern "C" {
        pub(super) safe fn mi_collect(force: bool);
    }
}

/// Time for what was let go to be freed.
const SETTLE: Duration = Duration::from_millis(100);

/// Gives back what is free.
///
/// Most of it belongs to no thread, and giving that back takes milliseconds: another thread does it. What this thread
/// keeps for itself is little then, and given back if it `is_quiet` still.
pub(crate) async fn give_back(is_quiet: impl Fn() -> bool) {
    // Connections that were let go end when their tasks run next.
    tokio::time::sleep(SETTLE).await;
    if tokio::task::spawn_blocking(collect).await.is_err() {
        return;
    }
    if is_quiet() {
        collect();
    }
}

fn collect() {
    let began: Instant = clock::now();
    allocator::mi_collect(true);
    tracing::trace!(took = ?clock::now().saturating_duration_since(began), "memory was given back");
}
