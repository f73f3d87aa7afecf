//! tokio, but whoever watches a value is woken in the order they came.
//!
//! tokio's own watch spreads its waiters over eight lists by chance that cannot be seeded, so a run of the simulation
//! could not be repeated. The eight are there for many threads; consensus has one.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft_rt::{AsyncRuntime, OptionalSend, OptionalSync};
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::{Notify, watch};

/// The runtime of consensus.
#[derive(Debug)]
pub struct Orderly(TokioRuntime);

impl AsyncRuntime for Orderly {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderlyWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        TokioRuntime::spawn_blocking(f)
    }
}

/// Watched values whose watchers are woken in order.
pub struct OrderlyWatch;

/// Changes a watched value.
pub struct OrderlySender<T> {
    /// Gone before the last watchers are woken, so that they find nobody there.
    value: Option<watch::Sender<T>>,
    changed: Arc<Notify>,
}

/// Watches a value.
pub struct OrderlyReceiver<T> {
    value: watch::Receiver<T>,
    changed: Arc<Notify>,
}

impl<T> OrderlySender<T> {
    const fn value(&self) -> &watch::Sender<T> {
        self.value.as_ref().expect("it is taken by drop only")
    }
}

impl<T> Clone for OrderlySender<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: Arc::clone(&self.changed) }
    }
}

impl<T> Drop for OrderlySender<T> {
    fn drop(&mut self) {
        self.value = None;
        self.changed.notify_waiters();
    }
}

impl<T> Clone for OrderlyReceiver<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changed: Arc::clone(&self.changed) }
    }
}

impl Watch for OrderlyWatch {
    type Sender<T: OptionalSend + OptionalSync> = OrderlySender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = OrderlyReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Self::Sender<T>, Self::Receiver<T>) {
        let (sender, value) = watch::channel(init);
        let changed = Arc::new(Notify::new());
        (OrderlySender { value: Some(sender), changed: Arc::clone(&changed) }, OrderlyReceiver { value, changed })
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderlyWatch, T> for OrderlySender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.value().send(value).map_err(|error| SendError(error.0))?;
        self.changed.notify_waiters();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let is_modified = self.value().send_if_modified(modify);
        if is_modified {
            self.changed.notify_waiters();
        }
        is_modified
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.value().borrow()
    }

    fn subscribe(&self) -> OrderlyReceiver<T> {
        OrderlyReceiver { value: self.value().subscribe(), changed: Arc::clone(&self.changed) }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderlyWatch, T> for OrderlyReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // In line before the value is looked at: no change falls between the two.
            changed.as_mut().enable();
            let is_over = self.value.has_changed().is_err();
            // The last value counts although nobody is there any more to send another.
            if self.value.borrow_and_update().has_changed() {
                return Ok(());
            }
            if is_over {
                return Err(RecvError(()));
            }
            changed.await;
        }
    }

    fn borrow_watched(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.value.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::testing::Suite;

    use super::*;

    #[test]
    fn it_is_what_openraft_wants_of_a_runtime() {
        Suite::<Orderly>::test_all();
    }

    #[tokio::test]
    async fn watchers_are_woken_in_the_order_they_came() {
        let (sender, receiver) = OrderlyWatch::channel(0);
        let woken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let watchers: Vec<_> = (0..32)
            .map(|at| {
                let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(at);
                })
            })
            .collect();
        tokio::task::yield_now().await;

        sender.send(1).unwrap();
        for watcher in watchers {
            watcher.await.unwrap();
        }

        assert!(woken.lock().unwrap().is_sorted());
    }

    #[tokio::test]
    async fn a_watcher_learns_that_nobody_will_change_the_value_any_more() {
        let (sender, mut receiver) = OrderlyWatch::channel(0);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        tokio::task::yield_now().await;

        drop(sender);

        assert!(waiting.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn the_last_value_is_seen_before_its_sender_is_missed() {
        let (sender, mut receiver) = OrderlyWatch::channel(0);

        sender.send(1).unwrap();
        drop(sender);

        assert!(receiver.changed().await.is_ok());
        assert_eq!(*receiver.borrow_watched(), 1);
        assert!(receiver.changed().await.is_err());
    }
}
