//! Accepts clients and gives each connection to the data thread with the least to do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Worker;
use super::worker::Arrival;
use crate::clock;
use crate::flow::{Flow, reached};
use crate::house::House;

/// A silent client is asked whether it is still there after this.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors: others may close meanwhile.
const BREATH: Duration = Duration::from_millis(50);

/// How long nobody must have stood before the door when it closes.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// And how long people may keep coming while it does.
const LAST_LOOKS: Duration = Duration::from_millis(200);

/// What a listener is given.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// Client connections open at the same time; further ones wait in the kernel's backlog.
    pub connections_max: usize,
}

/// The clients' door.
pub struct Listener {
    socket: TcpListener,
    options: ListenerOptions,
}

impl Listener {
    /// Opens the door.
    ///
    /// # Errors
    /// Those of binding the address.
    pub async fn bind(address: SocketAddr, options: ListenerOptions) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the door is to be closed; whoever stands before it then is let in first.
    pub async fn run(self, house: Arc<House>, workers: Arc<Vec<Worker>>, mut flow: watch::Receiver<Flow>) {
        let places = Arc::new(Semaphore::new(self.options.connections_max.min(Semaphore::MAX_PERMITS)));
        let mut closes_at = None;
        loop {
            let accepted = match closes_at {
                None => tokio::select! {
                    accepted = accept(&self.socket, &places) => accepted,
                    () = reached(&mut flow, Flow::Closing) => {
                        closes_at = Some(clock::now() + LAST_LOOKS);
                        continue;
                    }
                },
                Some(at) => match timeout(LAST_LOOK, accept(&self.socket, &places)).await {
                    Ok(accepted) if clock::now() < at => accepted,
                    Ok(_) | Err(_) => return,
                },
            };
            let (socket, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let place = Box::new((place, house.metrics.connection_opened()));
            let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) else { return };
            if worker.take(Arrival { socket, peer, place }).await.is_err() {
                return;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(std::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (socket, peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    Ok((socket.into_std()?, peer, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clients_socket_holds_nothing_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let places = Arc::new(Semaphore::new(1));
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());

        let (accepted, _client) = tokio::join!(accept(&listener, &places), client);

        let (socket, ..) = accepted.unwrap();
        assert!(socket.nodelay().unwrap());
    }
}
