use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

/// One writer's latest word, read by many without waiting.
pub struct Published<T> {
    slot: ArcSwap<Dated<T>>,
}

/// A view and when it was published.
struct Dated<T> {
    view: Arc<T>,
    at: Instant,
}

impl<T> Published<T> {
    /// Publishes a first view.
    pub fn new(view: T, at: Instant) -> Self {
        Self { slot: ArcSwap::from_pointee(Dated { view: Arc::new(view), at }) }
    }

    /// Puts another view in place; who reads the old one keeps it until done.
    pub fn publish(&self, view: T, at: Instant) {
        self.slot.store(Arc::new(Dated { view: Arc::new(view), at }));
    }

    /// The view in force. Take it once per request and pass it on, so that one request sees one world.
    pub fn read(&self) -> Arc<T> {
        self.slot.load().view.clone()
    }

    /// Whether `claim` holds of a view that is not older than `age_max`; an older one says nothing. Copies no view.
    pub(crate) fn is(&self, now: Instant, age_max: Duration, claim: impl Fn(&T) -> bool) -> bool {
        let dated = self.slot.load();
        now.saturating_duration_since(dated.at) <= age_max && claim(&dated.view)
    }

    /// How long ago the view was published.
    pub fn age(&self, now: Instant) -> Duration {
        let dated: Guard<Arc<Dated<T>>> = self.slot.load();
        now.saturating_duration_since(dated.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_reader_keeps_the_view_it_took_while_others_see_the_next() {
        let begin = start();
        let published = Published::new(1, begin);
        let held = published.read();

        published.publish(2, begin + Duration::from_secs(3));

        assert_eq!((*held, *published.read()), (1, 2));
        assert_eq!(published.age(begin + Duration::from_secs(10)), Duration::from_secs(7));
    }
}
