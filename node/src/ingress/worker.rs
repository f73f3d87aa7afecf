//! A data thread: its own runtime, its own connections to clients and providers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::conn;
use super::seat::{Seat, Seats};
use crate::flow::{Flow, reached};
use crate::house::{House, Thread};
use crate::memory;

/// Connections handed over and not yet taken up; beyond it the listener waits, and then the kernel's backlog fills.
const HANDOVER: usize = 256;
/// Threads for bodies too large for a data thread.
const BLOCKING_THREADS: usize = 2;
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What connections are served with.
#[derive(Clone)]
pub struct WorkerOptions {
    /// TLS for clients; `None` for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How long a connection lives before it is asked to come again.
    pub connection_max_age: Duration,
    /// Streams of one h2 connection.
    pub h2_streams: u32,
    /// Whether each connection begins with a PROXY header that says whose it is.
    pub is_proxied: bool,
}

/// A client's connection on its way to a data thread.
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Box<dyn Send>,
}

/// A connection and its seat at a data thread.
type Seated = (Arrival, Seat);

/// A data thread, seen from outside.
pub struct Worker {
    thread: Arc<Thread>,
    arrivals: mpsc::Sender<Seated>,
    seats: Arc<Seats>,
    join: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a data thread.
    ///
    /// # Errors
    /// When the system has no thread or no runtime to give.
    pub fn start(
        index: usize,
        house: &Arc<House>,
        options: WorkerOptions,
        flow: watch::Receiver<Flow>,
    ) -> io::Result<Self> {
        let thread = Arc::new(Thread::new(index, house.clone(), flow.clone()));
        let (arrivals, inbox) = mpsc::channel(HANDOVER);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("troupe-blocking")
            .build()?;
        house.metrics.watch_runtime("data", runtime.handle());
        let seats = Arc::<Seats>::default();
        let (served, seated) = (thread.clone(), seats.clone());
        let join = std::thread::Builder::new().name(format!("troupe-data-{index}")).spawn(move || {
            runtime.block_on(work(inbox, (served, seated), Arc::new(options), flow));
            // Dropped, it would wait for a name that is still being resolved.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, arrivals, seats, join: Some(join) })
    }

    /// How much it has to do: new connections go where it is least.
    pub(super) fn load(&self) -> (usize, usize) {
        self.seats.load(self.thread.in_flight())
    }

    /// Hands a connection over.
    ///
    /// # Errors
    /// The connection back, if the thread is gone.
    pub(super) async fn take(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.arrivals.send((arrival, self.seats.take())).await.map_err(|refused| refused.0.0)
    }

    /// Waits for the thread to end, which it does when it drains and its last connection closed, or when `Worker`s of
    /// a listener are gone. Blocks.
    pub fn join(mut self) {
        drop(self.arrivals);
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!("a data thread panicked");
        }
    }
}

/// The life of a data thread.
async fn work(
    mut inbox: mpsc::Receiver<Seated>,
    (thread, seats): (Arc<Thread>, Arc<Seats>),
    options: Arc<WorkerOptions>,
    mut flow: watch::Receiver<Flow>,
) {
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let client = thread.client.clone();
    let is_quiet = {
        let thread = thread.clone();
        move || seats.load(thread.in_flight()).0 == 0
    };
    // Something was freed, or may have been, since memory was last given back.
    let mut has_freed = false;
    let serve = {
        let flow = flow.clone();
        move |(Arrival { socket, peer, place }, seat): Seated| {
            let (thread, options, flow) = (thread.clone(), options.clone(), flow.clone());
            async move {
                match tokio::net::TcpStream::from_std(socket) {
                    Ok(socket) => conn::run(socket, (peer, seat), thread, options, flow).await,
                    Err(error) => tracing::warn!(%error, "a connection could not be taken up"),
                }
                drop(place);
            }
        }
    };
    loop {
        tokio::select! {
            arrival = inbox.recv() => {
                let Some(arrival) = arrival else { break };
                connections.spawn(serve(arrival));
                has_freed = true;
            }
            Some(_ended) = connections.join_next() => {}
            _ = sweep.tick() => {
                has_freed |= client.sweep() > 0;
                if !is_quiet() {
                    has_freed = true;
                } else if has_freed {
                    tokio::spawn(memory::give_back(is_quiet.clone()));
                    has_freed = false;
                }
            }
            () = reached(&mut flow, Flow::Closing) => break,
        }
    }
    // The listener hands over whoever stood before the door, and is gone then.
    loop {
        tokio::select! {
            arrival = inbox.recv() => {
                let Some(arrival) = arrival else { break };
                connections.spawn(serve(arrival));
            }
            () = reached(&mut flow, Flow::Stopped) => break,
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = ended => {}
        () = reached(&mut flow, Flow::Stopped) => {}
    }
    // Whatever is left is cut with the set; its requests are recorded as left by their clients.
}
