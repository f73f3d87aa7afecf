//! The calling side: one link per peer and class, each with a task that connects when there is something to say.
//!
//! ```text
//! call ─▶ order (bounded) ─▶ drive: dial ─▶ run: write calls │ read answers ─▶ the caller's oneshot
//!                               ▲  └ failed: pause, doubled, with jitter; calls meanwhile fail at once
//!                               └──── lost or silent: calls under way are Lost, the next one dials anew
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use troupe_proto::id::NodeId;

use super::counts::Direction;
use super::dial::{Connection, open};
use super::endpoint::Shared;
use super::frame::{Frame, Kind};
use super::stream::{Ended, Reader, Writer};
use super::{CallError, Class, Hello, Rejected, Settings};
use crate::clock;

/// Where a link leads.
type Peer = (NodeId, Class);
type Answer = Result<Vec<u8>, CallError>;

/// The way to one peer for one class.
pub(super) struct Link {
    address: String,
    orders: mpsc::Sender<Order>,
    calls: Arc<Calls>,
}

struct Order {
    id: u64,
    body: Vec<u8>,
}

/// Calls that wait for an answer.
struct Calls {
    inner: Mutex<Open>,
}

struct Open {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// When the peer last gave a sign of life.
    heard: Instant,
    /// Whether it answered anything on this connection.
    has_answered: bool,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    is_sent: bool,
}

impl Calls {
    fn new() -> Self {
        let inner = Open { next: 1, waiting: BTreeMap::new(), heard: clock::now(), has_answered: false };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a call as sent; false if nobody waits for it any more.
    fn begin(&self, id: u64) -> bool {
        let mut open = self.lock();
        let waiting = open.waiting.get_mut(&id);
        waiting.map(|waiting| waiting.is_sent = true).is_some()
    }

    fn settle(&self, id: u64, answer: Answer) {
        let waiting = self.lock().waiting.remove(&id);
        if let Some(waiting) = waiting
            && waiting.answer.send(answer).is_err()
        {
            tracing::trace!(id, "an answer came as its caller left");
        }
    }

    /// Fails what was sent, or what was not.
    fn fail(&self, is_sent: bool, error: CallError) {
        let mut open = self.lock();
        let (failed, kept) = std::mem::take(&mut open.waiting).into_iter().partition(|(_, w)| w.is_sent == is_sent);
        open.waiting = kept;
        drop(open);
        let failed: BTreeMap<u64, Waiting> = failed;
        for (id, waiting) in failed {
            if waiting.answer.send(Err(error)).is_err() {
                tracing::trace!(id, "a call failed as its caller left");
            }
        }
    }

    fn connected(&self) {
        let mut open = self.lock();
        open.heard = clock::now();
        open.has_answered = false;
    }

    fn heard(&self, is_answer: bool) {
        let mut open = self.lock();
        open.heard = clock::now();
        open.has_answered |= is_answer;
    }
}

/// Frees a call's place however its caller goes.
struct Place {
    calls: Arc<Calls>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.lock().waiting.remove(&self.id);
    }
}

impl Place {
    fn is_sent(&self) -> bool {
        self.calls.lock().waiting.get(&self.id).is_some_and(|waiting| waiting.is_sent)
    }
}

/// [`super::Links::call`].
pub(super) async fn call(shared: &Arc<Shared>, to: Peer, address: &str, body: Vec<u8>, within: Duration) -> Answer {
    let begun = clock::now();
    let answer = match order(shared, to, address, body) {
        Ok((place, answer)) => match timeout_at(begun + within, answer).await {
            Ok(Ok(answer)) => answer,
            // The task ended without a word: its runtime stopped.
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) if place.is_sent() => Err(CallError::Deadline),
            Err(_) => Err(CallError::Unreachable),
        },
        Err(error) => Err(error),
    };
    let outcome = answer.as_ref().map(|_| clock::now().duration_since(begun)).map_err(|error| *error);
    shared.book.called(to.0, to.1, outcome);
    answer
}

fn order(
    shared: &Arc<Shared>,
    to: Peer,
    address: &str,
    body: Vec<u8>,
) -> Result<(Place, oneshot::Receiver<Answer>), CallError> {
    if body.len() > to.1.limit() {
        return Err(CallError::TooLarge);
    }
    // The order is placed under the lock that a task needs to retire, so none is left behind.
    let mut links = shared.links();
    if links.get(&to).is_none_or(|link| link.address != address || link.orders.is_closed()) {
        links.insert(to, spawn(shared, to, address));
    }
    let link = links.get(&to).ok_or(CallError::Unreachable)?;
    let (answer, answered) = oneshot::channel();
    let mut open = link.calls.lock();
    if open.waiting.len() >= shared.settings.calls_max {
        return Err(CallError::Refused(Rejected::Busy));
    }
    let id = open.next;
    open.next += 1;
    open.waiting.insert(id, Waiting { answer, is_sent: false });
    drop(open);
    let place = Place { calls: Arc::clone(&link.calls), id };
    link.orders.try_send(Order { id, body }).map_err(|_| CallError::Refused(Rejected::Busy))?;
    Ok((place, answered))
}

fn spawn(shared: &Arc<Shared>, to: Peer, address: &str) -> Link {
    // Orders whose callers have left stay queued until they are skipped, so there is room for more than may wait.
    let (orders, queue) = mpsc::channel(shared.settings.calls_max.saturating_mul(2));
    let calls = Arc::new(Calls::new());
    let driver =
        Driver { shared: Arc::clone(shared), to, address: address.to_owned(), calls: Arc::clone(&calls), queue };
    tokio::spawn(driver.drive());
    Link { address: address.to_owned(), orders, calls }
}

struct Driver {
    shared: Arc<Shared>,
    to: Peer,
    address: String,
    calls: Arc<Calls>,
    queue: mpsc::Receiver<Order>,
}

/// No dialling until then; what a call gets meanwhile.
struct Pause {
    until: Instant,
    failure: CallError,
}

impl Driver {
    async fn drive(mut self) {
        let mut failures = 0_u32;
        let mut pause: Option<Pause> = None;
        loop {
            let order = match timeout(self.shared.settings.idle_max, self.queue.recv()).await {
                Ok(Some(order)) => order,
                Ok(None) => return,
                Err(_) if self.retire() => return,
                Err(_) => continue,
            };
            if let Some(pause) = pause.as_ref().filter(|pause| clock::now() < pause.until) {
                self.calls.settle(order.id, Err(pause.failure));
                continue;
            }
            let opened = open(&self.shared, &self.address, self.to.1, Some(self.to.0)).await;
            self.shared.book.dialled(self.to.0, self.to.1, opened.is_ok());
            let failure = match opened {
                Ok(connection) => {
                    self.run(connection, order).await;
                    self.shared.book.disconnected(self.to.0, self.to.1);
                    self.calls.fail(true, CallError::Lost);
                    (!self.calls.lock().has_answered).then_some(CallError::Unreachable)
                }
                Err(error) => {
                    self.calls.fail(false, error);
                    Some(error)
                }
            };
            failures = if failure.is_some() { failures.saturating_add(1) } else { 0 };
            pause = failure.map(|failure| {
                let rest = self.shared.settings.pause(failures, (self.shared.dice)());
                Pause { until: clock::now() + rest, failure }
            });
        }
    }

    /// Takes the link off the table if nobody needs it.
    fn retire(&self) -> bool {
        let mut links = self.shared.links();
        if !self.queue.is_empty() {
            return false;
        }
        if links.get(&self.to).is_some_and(|link| Arc::ptr_eq(&link.calls, &self.calls)) {
            links.remove(&self.to);
        }
        true
    }

    /// Uses a connection until it ends.
    async fn run(&mut self, connection: Connection, first: Order) {
        let Connection { mut reader, mut writer, .. } = connection;
        self.calls.connected();
        let settings = &self.shared.settings;
        let read = read(&mut reader, &self.calls, settings);
        let write = write(&mut writer, &mut self.queue, first, &self.calls, settings);
        let ended = tokio::select! {
            biased;
            ended = read => ended,
            ended = write => ended,
        };
        let (to, class) = (self.to.0, self.to.1.word());
        match ended {
            Ended::Closed | Ended::Idle => tracing::debug!(node = %to, class, "connection is closed"),
            Ended::Broken(error) => tracing::debug!(node = %to, class, %error, "connection is lost"),
            Ended::Rejected(reason) => self.shared.book.rejected(Direction::Out, reason, &self.address),
        }
        writer.close(settings.silence_max).await;
    }
}

async fn read(reader: &mut Reader, calls: &Calls, settings: &Settings) -> Ended {
    // How long the peer may be silent is for `write` to say, which knows whether it owes anything.
    let patience = settings.idle_max.saturating_mul(4);
    loop {
        let frame = match reader.next(patience, settings.stall_max).await {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        calls.heard(matches!(frame.kind, Kind::Answer));
        match frame.kind {
            Kind::Answer => calls.settle(frame.id, Ok(frame.body)),
            Kind::Refuse if frame.id == 0 => return Ended::Rejected(frame.reason()),
            Kind::Refuse => calls.settle(frame.id, Err(CallError::Refused(frame.reason()))),
            Kind::Fail => calls.settle(frame.id, Err(CallError::Lost)),
            Kind::Pong => {}
            Kind::Hello | Kind::Call | Kind::Ping => return Ended::Rejected(Rejected::Malformed),
        }
    }
}

async fn write(
    writer: &mut Writer,
    queue: &mut mpsc::Receiver<Order>,
    first: Order,
    calls: &Calls,
    settings: &Settings,
) -> Ended {
    let tick = settings.silence_max / 3;
    let mut next = Some(first);
    let mut check_at = clock::now() + tick;
    let mut used_at = clock::now();
    let mut asked_at: Option<Instant> = None;
    loop {
        if let Some(order) = next.take() {
            if calls.begin(order.id)
                && let Err(ended) = writer.put(&Frame::new(Kind::Call, order.id, order.body), settings.stall_max).await
            {
                return ended;
            }
            match queue.try_recv() {
                Ok(order) => {
                    next = Some(order);
                    continue;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
            if let Err(ended) = writer.flush(settings.stall_max).await {
                return ended;
            }
            used_at = clock::now();
        }
        tokio::select! {
            biased;
            () = sleep_until(check_at) => {}
            order = queue.recv() => match order {
                Some(order) => {
                    next = Some(order);
                    continue;
                }
                None => return Ended::Closed,
            }
        }
        let now = clock::now();
        check_at = now + tick;
        let (heard, owes) = {
            let open = calls.lock();
            (open.heard, open.waiting.values().any(|waiting| waiting.is_sent))
        };
        asked_at = asked_at.filter(|asked| *asked > heard);
        match asked_at {
            Some(asked) if now.duration_since(asked) + tick >= settings.silence_max => {
                return Ended::Rejected(Rejected::Slow);
            }
            Some(_) => {}
            None if owes && now.duration_since(heard) >= tick => {
                let sent = writer.put(&Frame::new(Kind::Ping, 0, Vec::new()), settings.stall_max).await;
                if let Err(ended) = sent {
                    return ended;
                }
                if let Err(ended) = writer.flush(settings.stall_max).await {
                    return ended;
                }
                asked_at = Some(clock::now());
            }
            None if !owes && now.duration_since(used_at) >= settings.idle_max => return Ended::Idle,
            None => {}
        }
    }
}

/// One call to whichever node answers, over a connection of its own.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    address: &str,
    body: Vec<u8>,
    within: Duration,
) -> Result<(Hello, Vec<u8>), CallError> {
    if body.len() > Class::Join.limit() {
        return Err(CallError::TooLarge);
    }
    let until = clock::now() + within;
    let opened = timeout_at(until, open(shared, address, Class::Join, None)).await;
    let Connection { mut reader, mut writer, hello } = opened.unwrap_or(Err(CallError::Unreachable))?;
    let settings = &shared.settings;
    let asked = async {
        writer.put(&Frame::new(Kind::Call, 1, body), settings.stall_max).await.map_err(|_| CallError::Lost)?;
        writer.flush(settings.stall_max).await.map_err(|_| CallError::Lost)?;
        let frame = reader.next(within, settings.stall_max).await.map_err(|_| CallError::Lost)?;
        match frame.kind {
            Kind::Answer => Ok(frame.body),
            Kind::Refuse => Err(CallError::Refused(frame.reason())),
            Kind::Fail | Kind::Hello | Kind::Call | Kind::Ping | Kind::Pong => Err(CallError::Lost),
        }
    };
    let answer = timeout_at(until, asked).await.unwrap_or(Err(CallError::Deadline));
    writer.close(settings.silence_max).await;
    Ok((hello, answer?))
}
