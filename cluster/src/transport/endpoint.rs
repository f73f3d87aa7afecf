//! A node's end of all its connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, io};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use troupe_proto::id::{ClusterId, NodeId};

use super::accept::{self, Doors};
use super::counts::{Book, Counts};
use super::dial::{self, Connection};
use super::link::{self, Link};
use super::tls::Certificates;
use super::{CallError, Class, Hello, Introduction, Links, Net, Service, Settings};

/// Where jitter comes from: any number at each call.
pub type Dice = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a transport is made of.
pub struct Parts {
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// The certificates; without them everything is plain text, which only a loopback or a simulation may be.
    pub tls: Option<Arc<Certificates>>,
    /// Times and bounds.
    pub settings: Settings,
    /// What this node says of itself.
    pub introduction: Introduction,
    /// Jitter.
    pub dice: Dice,
}

/// Calls other nodes, and lets them call. Clones share everything.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// Ends the links with the last clone of the transport; their tasks know no other end.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.links().clear();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("introduction", &self.introduction()).finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) net: Arc<dyn Net>,
    pub(super) tls: Option<Arc<Certificates>>,
    pub(super) settings: Settings,
    pub(super) dice: Dice,
    pub(super) book: Book,
    introduction: RwLock<Introduction>,
    links: Mutex<BTreeMap<(NodeId, Class), Link>>,
}

impl Shared {
    pub(super) fn introduction(&self) -> Introduction {
        self.introduction.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn links(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Class), Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    /// Opens nothing yet: connections are made when they are needed.
    pub fn new(parts: Parts) -> Self {
        let Parts { net, tls, settings, introduction, dice } = parts;
        let introduction = RwLock::new(introduction);
        let shared = Shared { net, tls, settings, dice, book: Book::default(), introduction, links: Mutex::default() };
        let shared = Arc::new(shared);
        Self { _owner: Arc::new(Owner(Arc::clone(&shared))), shared }
    }

    /// Begins to answer other nodes. Tasks run on the runtime this is called in.
    ///
    /// # Errors
    /// Those of the system when the address cannot be listened on.
    pub async fn listen(&self, address: SocketAddr, service: Arc<dyn Service>) -> io::Result<Listening> {
        let listener = self.shared.net.listen(address).await?;
        let address = listener.address()?;
        let doors = Arc::new(Doors::new(Arc::clone(&self.shared), service));
        Ok(Listening { address, task: tokio::spawn(accept::run(doors, listener)) })
    }

    /// Asks whichever node answers at `address`, over a connection of its own of class [`Class::Join`], and tells who it
    /// is.
    ///
    /// # Errors
    /// As [`Links::call`].
    pub async fn ask(&self, address: &str, body: Vec<u8>, within: Duration) -> Result<(Hello, Vec<u8>), CallError> {
        link::ask(&self.shared, address, body, within).await
    }

    /// Finds out whether this node and whoever answers at `address` would talk to each other, and who that is. Nothing is
    /// asked there, and nobody's place is taken: whoever asks to join may claim any id.
    ///
    /// # Errors
    /// [`CallError::Refused`] with the reason of whichever side does not want to, [`CallError::Unreachable`] when nobody
    /// answers in time.
    pub async fn knock(&self, address: &str) -> Result<Hello, CallError> {
        let Connection { mut writer, hello, .. } = dial::open(&self.shared, address, Class::Join, None).await?;
        writer.close(self.shared.settings.silence_max).await;
        Ok(hello)
    }

    /// Changes what this node says of itself: it learned its cluster, or its keys were rotated. Connections that are open
    /// stay open.
    pub fn introduce(&self, introduction: Introduction) {
        *self.shared.introduction.write().unwrap_or_else(PoisonError::into_inner) = introduction;
    }

    /// The cluster became known.
    pub fn found_cluster(&self, cluster: ClusterId) {
        self.shared.introduction.write().unwrap_or_else(PoisonError::into_inner).cluster = Some(cluster);
    }

    /// What this node says of itself.
    pub fn introduction(&self) -> Introduction {
        self.shared.introduction()
    }

    /// Closes all connections to a node and drops its numbers: it is no member any more.
    pub fn forget(&self, node: NodeId) {
        self.shared.links().retain(|(known, _), _| *known != node);
        self.shared.book.forget(node);
    }

    /// Waits until another node says that a later process of this node is at work: it would go on refusing this one for
    /// ever.
    pub async fn superseded(&self) {
        let mut superseded = self.shared.book.superseded.subscribe();
        // The sender lives in `self`, so there is always a word to wait for.
        if superseded.wait_for(|is_superseded| *is_superseded).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The numbers at this moment.
    pub fn counts(&self) -> Counts {
        self.shared.book.read()
    }
}

impl Links for Transport {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        class: Class,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        let address = address.to_owned();
        async move { link::call(&self.shared, (to, class), &address, body, within).await }.boxed()
    }
}

/// A transport that answers, until this is dropped. Calls that are being served are served to their end.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}
