//! The accept loop of listeners beside the data plane: bounded, and patient with its connections at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

/// What connections may still take after the shutdown was asked for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);
/// The rest after a failure to accept: with no descriptors left, asking again at once only burns the core.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Accepts until `shutdown` says true (or its sender is gone), at most `connections_max` at a time, and gives each
/// connection to `serve`; then waits for those that are open, 4 s at most. `what` names the listener in the log.
pub(crate) async fn run<F>(
    listener: TcpListener,
    connections_max: usize,
    mut shutdown: watch::Receiver<bool>,
    what: &'static str,
    serve: impl Fn(TcpStream, watch::Receiver<bool>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    let stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = asked(&mut shutdown) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let work = serve(stream, stop.clone());
                connections.spawn(async move {
                    work.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, what, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
        debug!(what, "connections were cut at shutdown");
    }
}

/// Waits for the shutdown; a sender that is gone asks for it too.
pub(crate) async fn asked(shutdown: &mut watch::Receiver<bool>) {
    shutdown.wait_for(|is_down| *is_down).await.ok();
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}
