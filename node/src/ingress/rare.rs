//! A future beside a busy one: polled when it is woken, and not whenever its neighbour is.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Something that comes to pass once in the life of a connection.
///
/// A connection's task is woken several times a request. Asking each time whether its age is over and whether the node
/// drains cost more than routing the request.
pub(super) struct Rare<F> {
    work: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// Rings the bell.
    rings: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
}

#[derive(Default)]
struct Bell {
    has_rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F> Rare<F> {
    pub(super) fn new(work: F) -> Self {
        let bell = Arc::<Bell>::default();
        Self { work: Box::pin(work), rings: Waker::from(bell.clone()), bell, task: None }
    }
}

impl<F: Future> Future for Rare<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.task = Some(cx.waker().clone());
            this.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&this.task);
            this.bell.has_rung.store(true, Ordering::Release);
        }
        if !this.bell.has_rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the poll: whatever rings during it is heard the next time.
        this.bell.has_rung.store(false, Ordering::Release);
        this.work.as_mut().poll(&mut Context::from_waker(&this.rings))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_once_and_then_when_it_is_woken() {
        let (polls, notify) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, notified) = (polls.clone(), notify.clone());
        let mut rare = Rare::new(async move {
            let mut notified = Box::pin(notified.notified());
            poll_fn(|cx| {
                counted.fetch_add(1, Ordering::Relaxed);
                notified.as_mut().poll(cx)
            })
            .await;
        });

        for _ in 0..5 {
            assert!((&mut rare).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        // `now_or_never` has a waker of its own, the same each time.
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        notify.notify_one();
        rare.await;

        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_waits_for_it() {
        let notify = Arc::new(Notify::new());
        let notified = notify.clone();
        let waits = tokio::spawn(Rare::new(async move { notified.notified().await }));
        tokio::task::yield_now().await;

        notify.notify_one();

        tokio::time::timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn its_timer_rings_too() {
        let limit = Duration::from_secs(10);
        let rare = Rare::new(tokio::time::sleep(Duration::from_millis(1)));

        tokio::time::timeout(limit, rare).await.unwrap();
    }
}
