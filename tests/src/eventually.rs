//! Waiting for what must come to pass, without guessing how long it takes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// What anything in these tests may take, on a machine that is busy with all the others.
pub const LONG: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks until there is something to be had, and gives it.
///
/// # Panics
/// When there is nothing after [`LONG`].
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    match timeout(LONG, found).await {
        Ok(found) => found,
        Err(_) => panic!("never: {what}"),
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not after [`LONG`].
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(())).await;
}
