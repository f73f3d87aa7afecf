//! The answering side: who is let in, and how much is served at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use troupe_proto::id::NodeId;
use troupe_proto::wire;

use super::counts::Direction;
use super::endpoint::Shared;
use super::frame::{Frame, Kind};
use super::stream::{Ended, Reader, Writer, frames};
use super::tls::Shown;
use super::{Accept, BoxedIo, Caller, Class, Rejected, Service, hello};
use crate::clock;

/// How long to wait after the system had no connection to give, such as for want of file descriptors.
const BREATH: Duration = Duration::from_millis(50);
/// Answers of one connection that may wait to be written.
const ANSWERS_MAX: usize = 64;

/// What all connections of a listener share.
pub(super) struct Doors {
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    joins: Arc<Semaphore>,
    serving: Arc<Semaphore>,
    seats: Mutex<BTreeMap<(NodeId, Class), Seat>>,
    /// How many are in the middle of a handshake, by where they come from.
    knocking: Mutex<BTreeMap<IpAddr, usize>>,
}

/// The one connection that a peer has of a class.
struct Seat {
    incarnation: u64,
    leave: Arc<Notify>,
}

impl Doors {
    pub(super) fn new(shared: Arc<Shared>, service: Arc<dyn Service>) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let settings = &shared.settings;
        Self {
            handshakes: semaphore(settings.handshakes_max),
            connections: semaphore(settings.connections_max),
            joins: semaphore(settings.joins_max),
            serving: semaphore(settings.serving_max),
            seats: Mutex::default(),
            knocking: Mutex::default(),
            service,
            shared,
        }
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Class), Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knocking(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.knocking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one handshake, if there is one, and this address has not taken its share.
    fn knock(self: &Arc<Self>, from: SocketAddr) -> Result<Knock, Rejected> {
        let permit = Arc::clone(&self.handshakes).try_acquire_owned().map_err(|_| Rejected::Busy)?;
        let from = whence(from.ip());
        let mut knocking = self.knocking();
        let here = knocking.entry(from).or_default();
        // One that has none always fits, so no entry is left behind empty.
        if *here >= self.shared.settings.handshakes_each_max.max(1) {
            return Err(Rejected::Busy);
        }
        *here += 1;
        drop(knocking);
        Ok(Knock { doors: Arc::clone(self), from, _permit: permit })
    }

    fn reject(&self, reason: Rejected, from: SocketAddr) {
        self.shared.book.rejected(Direction::In, reason, &from.to_string());
    }

    /// Lets a caller in, if there is room. Whoever had its seat before leaves: a process that was restarted is not kept
    /// out by what is left of its former self, and does not get back in as that.
    fn admit(self: &Arc<Self>, caller: &Caller) -> Result<Admitted, Rejected> {
        let room = if caller.is_verified { &self.connections } else { &self.joins };
        let permit = Arc::clone(room).try_acquire_owned().map_err(|_| Rejected::Busy)?;
        let admitted = Admitted {
            doors: Arc::clone(self),
            place: (caller.node, caller.class),
            leave: Arc::new(Notify::new()),
            _permit: permit,
        };
        // Those who ask to join take no seat: they may claim any id.
        if caller.class != Class::Join {
            let seat = Seat { incarnation: caller.incarnation, leave: Arc::clone(&admitted.leave) };
            let mut seats = self.seats();
            if seats.get(&admitted.place).is_some_and(|taken| taken.incarnation > caller.incarnation) {
                drop(seats);
                return Err(Rejected::Superseded);
            }
            if let Some(former) = seats.insert(admitted.place, seat) {
                former.leave.notify_one();
            }
        }
        Ok(admitted)
    }
}

/// A place in the handshake.
struct Knock {
    doors: Arc<Doors>,
    from: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut knocking = self.doors.knocking();
        if let Some(here) = knocking.get_mut(&self.from) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                knocking.remove(&self.from);
            }
        }
    }
}

/// Where somebody comes from, as far as addresses are hard to come by: who has one IPv6 address has its whole network.
fn whence(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// A connection's right to be there.
struct Admitted {
    doors: Arc<Doors>,
    place: (NodeId, Class),
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut seats = self.doors.seats();
        if seats.get(&self.place).is_some_and(|seat| Arc::ptr_eq(&seat.leave, &self.leave)) {
            seats.remove(&self.place);
        }
    }
}

/// Lets connections in until it is dropped; they are dropped with it.
pub(super) async fn run(doors: Arc<Doors>, mut listener: Box<dyn Accept>) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection of a node ended by a fault");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((io, from)) => match doors.knock(from) {
                Ok(knock) => drop(open.spawn(greet(Arc::clone(&doors), io, from, knock))),
                Err(reason) => {
                    doors.shared.book.shook(Err(reason), Duration::ZERO);
                    doors.reject(reason, from);
                }
            },
            Err(error) => {
                tracing::debug!(%error, "no connection could be accepted");
                sleep(BREATH).await;
            }
        }
    }
}

async fn greet(doors: Arc<Doors>, io: BoxedIo, from: SocketAddr, knock: Knock) {
    let began = clock::now();
    let greeted = timeout(doors.shared.settings.handshake_max, shake(&doors, io)).await;
    drop(knock);
    let greeted = greeted.unwrap_or(Err(Rejected::Slow));
    doors.shared.book.shook(greeted.as_ref().map(|_| ()).map_err(|reason| *reason), clock::now().duration_since(began));
    match greeted {
        Ok(guest) => entertain(&doors, guest, from).await,
        Err(reason) => doors.reject(reason, from),
    }
}

/// A connection whose handshake is done.
struct Guest {
    caller: Caller,
    admitted: Admitted,
    reader: Reader,
    writer: Writer,
}

/// Finds out who is there, and whether there is room. Who is refused is told why, if it came as far as a Hello.
async fn shake(doors: &Arc<Doors>, io: BoxedIo) -> Result<Guest, Rejected> {
    let shared = &doors.shared;
    let (io, shown) = match &shared.tls {
        Some(tls) => tls.accept(io).await?,
        None => (io, Some(Shown::default())),
    };
    let (mut reader, mut writer) = frames(io);
    let (idle, stall) = (shared.settings.handshake_max, shared.settings.stall_max);
    let frame = reader.next(idle, stall).await.map_err(|ended| match ended {
        Ended::Rejected(reason) => reason,
        Ended::Idle => Rejected::Slow,
        Ended::Closed | Ended::Broken(_) => Rejected::Malformed,
    })?;
    match judge(doors, &frame, shown).and_then(|caller| Ok((doors.admit(&caller)?, caller))) {
        Ok((admitted, caller)) => {
            let own = wire::encode(&shared.introduction().hello(caller.class)).map_err(|_| Rejected::TooLarge)?;
            writer.put(&Frame::new(Kind::Hello, 0, own), stall).await.map_err(|_| Rejected::Slow)?;
            writer.flush(stall).await.map_err(|_| Rejected::Slow)?;
            reader.admit(caller.class);
            Ok(Guest { caller, admitted, reader, writer })
        }
        Err(reason) => {
            farewell(doors, &mut writer, Some(reason)).await;
            Err(reason)
        }
    }
}

/// `shown`: whom the certificate is for, if one was shown.
fn judge(doors: &Doors, frame: &Frame, shown: Option<Shown>) -> Result<Caller, Rejected> {
    if frame.kind != Kind::Hello {
        return Err(Rejected::Malformed);
    }
    let hello = hello::read(&frame.body)?;
    let own = doors.shared.introduction();
    let version = own.judge(&hello, None)?;
    if let Some(shown) = shown {
        shown.check(own.cluster, hello.node)?;
    }
    if shown.is_none() && hello.class != Class::Join {
        return Err(Rejected::NoCertificate);
    }
    Ok(Caller {
        node: hello.node,
        class: hello.class,
        incarnation: hello.incarnation,
        cluster: hello.cluster,
        peer: hello.peer,
        version,
        is_verified: shown.is_some(),
    })
}

/// Serves a peer until it or its successor ends that.
async fn entertain(doors: &Arc<Doors>, guest: Guest, from: SocketAddr) {
    let Guest { caller, admitted, reader, mut writer } = guest;
    let book = &doors.shared.book;
    book.connections_in.fetch_add(1, Ordering::Relaxed);
    let ended = tokio::select! {
        biased;
        () = admitted.leave.notified() => Ended::Closed,
        ended = converse(doors, &caller, reader, &mut writer) => ended,
    };
    book.connections_in.fetch_sub(1, Ordering::Relaxed);
    drop(admitted);
    let reason = match ended {
        Ended::Rejected(reason) => Some(reason),
        Ended::Closed | Ended::Idle | Ended::Broken(_) => None,
    };
    if let Some(reason) = reason {
        doors.reject(reason, from);
    }
    farewell(doors, &mut writer, reason).await;
}

async fn farewell(doors: &Doors, writer: &mut Writer, reason: Option<Rejected>) {
    let patience = doors.shared.settings.silence_max;
    if let Some(reason) = reason
        && writer.put(&Frame::refuse(0, reason), patience).await.is_err()
    {
        tracing::trace!("a refusal was not taken");
    }
    writer.close(patience).await;
}

/// Reads calls and writes answers until one of the two cannot go on.
async fn converse(doors: &Arc<Doors>, caller: &Caller, reader: Reader, writer: &mut Writer) -> Ended {
    let (answers, outgoing) = mpsc::channel(ANSWERS_MAX);
    tokio::select! {
        biased;
        ended = hear(doors, caller, reader, answers) => ended,
        ended = tell(writer, outgoing, doors.shared.settings.stall_max) => ended,
    }
}

async fn tell(writer: &mut Writer, mut outgoing: mpsc::Receiver<Frame>, stall: Duration) -> Ended {
    while let Some(frame) = outgoing.recv().await {
        if let Err(ended) = writer.put(&frame, stall).await {
            return ended;
        }
        if outgoing.is_empty()
            && let Err(ended) = writer.flush(stall).await
        {
            return ended;
        }
    }
    Ended::Closed
}

async fn hear(doors: &Arc<Doors>, caller: &Caller, mut reader: Reader, answers: mpsc::Sender<Frame>) -> Ended {
    let settings = &doors.shared.settings;
    let calls = Arc::new(Semaphore::new(settings.calls_max.min(Semaphore::MAX_PERMITS)));
    // What is being served may have as many bytes as one call may have; beyond that nothing more is read.
    let bytes = Arc::new(Semaphore::new(caller.class.limit()));
    loop {
        let frame = match reader.next(settings.idle_max.saturating_mul(2), settings.stall_max).await {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        let answer = match frame.kind {
            Kind::Call => {
                let weight = u32::try_from(frame.body.len()).unwrap_or(u32::MAX);
                let Ok(room) = Arc::clone(&bytes).acquire_many_owned(weight).await else { return Ended::Closed };
                match take(doors, &calls, room, caller, &frame) {
                    Ok(place) => {
                        let served = serve(Arc::clone(doors), caller.clone(), frame, answers.clone(), place);
                        tokio::spawn(served);
                        continue;
                    }
                    Err(reason) => {
                        doors.shared.book.rejected(Direction::In, reason, &caller.peer);
                        Frame::refuse(frame.id, reason)
                    }
                }
            }
            Kind::Ping => Frame::new(Kind::Pong, frame.id, Vec::new()),
            Kind::Hello | Kind::Answer | Kind::Refuse | Kind::Fail | Kind::Pong => {
                return Ended::Rejected(Rejected::Malformed);
            }
        };
        if answers.send(answer).await.is_err() {
            return Ended::Closed;
        }
    }
}

/// What a call takes up while it is served.
struct Place {
    _bytes: OwnedSemaphorePermit,
    _call: OwnedSemaphorePermit,
    _serving: OwnedSemaphorePermit,
}

fn take(
    doors: &Doors,
    calls: &Arc<Semaphore>,
    bytes: OwnedSemaphorePermit,
    caller: &Caller,
    frame: &Frame,
) -> Result<Place, Rejected> {
    doors.service.check(caller, &frame.body)?;
    let call = Arc::clone(calls).try_acquire_owned().map_err(|_| Rejected::Busy)?;
    let serving = Arc::clone(&doors.serving).try_acquire_owned().map_err(|_| Rejected::Busy)?;
    Ok(Place { _bytes: bytes, _call: call, _serving: serving })
}

/// Serves one call to its end, even if its connection ends before: who serves need not fear to be dropped half-way.
async fn serve(doors: Arc<Doors>, caller: Caller, frame: Frame, answers: mpsc::Sender<Frame>, place: Place) {
    let (id, class) = (frame.id, caller.class);
    let book = &doors.shared.book;
    book.serving.fetch_add(1, Ordering::Relaxed);
    let served = AssertUnwindSafe(doors.service.serve(caller, frame.body)).catch_unwind();
    let served = timeout(doors.shared.settings.serve_max, served).await;
    book.serving.fetch_sub(1, Ordering::Relaxed);
    let answer = match served {
        Ok(Ok(body)) if body.len() <= class.limit() => {
            book.served();
            Frame::new(Kind::Answer, id, body)
        }
        Ok(Ok(body)) => {
            tracing::error!(class = class.word(), bytes = body.len(), "an answer is too large for its class");
            Frame::new(Kind::Fail, id, Vec::new())
        }
        Ok(Err(_)) => {
            tracing::error!(class = class.word(), "serving a node's call panicked");
            Frame::new(Kind::Fail, id, Vec::new())
        }
        Err(_) => {
            tracing::warn!(class = class.word(), "a node's call took too long to serve");
            Frame::new(Kind::Fail, id, Vec::new())
        }
    };
    drop(place);
    if answers.send(answer).await.is_err() {
        tracing::trace!(id, "the caller left before its answer");
    }
}
