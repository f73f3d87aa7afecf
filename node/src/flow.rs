//! Where the node is on its way out; every part that serves watches it.

use tokio::sync::watch;

/// How far the node's end has come. Later stages are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Requests are served.
    Serving,
    /// Requests are served, also of new connections, and each connection is closed behind those it has. The door stays
    /// open, because a balancer that finds it closed takes the node for dead and cuts the streams it still has here.
    Draining,
    /// The door is closed; what came in is finished.
    Closing,
    /// What is still open is cut.
    Stopped,
}

/// Waits until the node has come at least this far; for ever if its maker is gone without a word.
pub async fn reached(flow: &mut watch::Receiver<Flow>, stage: Flow) {
    if flow.wait_for(|now| *now >= stage).await.is_err() {
        std::future::pending::<()>().await;
    }
}
