//! How nodes talk to each other: calls in frames over mutually authenticated connections.
//!
//! ```text
//! raft ── Links::call ──▶ one connection per peer and class ══ TLS ══▶ accept ─▶ Hello ─▶ Service::serve
//! ```
//! A call is bytes in, bytes out, with a deadline. What the bytes mean is their owner's business; this module bounds,
//! delivers and accounts for them. Sockets, time and jitter come from outside, so all of it runs in a simulation.

pub mod ca;
pub mod counts;
pub mod frame;
pub mod hello;
pub mod tls;

mod accept;
mod dial;
mod endpoint;
mod link;
mod net;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bincode::{Decode, Encode};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::wire::Message;

pub use counts::Counts;
pub use endpoint::{Dice, Listening, Parts, Transport};
pub use hello::{Introduction, readable};
pub use net::Tcp;
pub use settings::Settings;
pub use tls::Certificates;

/// What a connection is for. Each peer has one connection of each class, so that a snapshot delays no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Class {
    /// Votes and heartbeats: small and urgent.
    Vote,
    /// Entries of the log.
    Append,
    /// Pieces of a snapshot.
    Snapshot,
    /// Proposals and questions to the leader.
    Forward,
    /// Requests to become a member; the only class for a peer without a certificate.
    Join,
    /// Facts that all shall know at once.
    Push,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] = [Self::Vote, Self::Append, Self::Snapshot, Self::Forward, Self::Join, Self::Push];

    /// The most bytes that one call or answer may have.
    pub const fn limit(self) -> usize {
        match self {
            Self::Vote | Self::Join | Self::Push => 64 << 10,
            // One command may have 64 MiB; its entry, its envelopes and a few small neighbours come on top.
            Self::Append | Self::Forward => 66 << 20,
            // A piece of 2 MiB and what says where it belongs.
            Self::Snapshot => (2 << 20) + (64 << 10),
        }
    }

    /// Its word in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Append => "append",
            Self::Snapshot => "snapshot",
            Self::Forward => "forward",
            Self::Join => "join",
            Self::Push => "push",
        }
    }
}

/// What is needed of other nodes.
pub trait Links: Send + Sync {
    /// Sends `body` to the node `to` at `address` and waits for its answer, no longer than `within`. A call whose
    /// future is dropped is forgotten; whether the other node serves it is unknown then.
    ///
    /// # Errors
    /// [`CallError`] says whether the call can have been served.
    fn call(
        &self,
        to: NodeId,
        address: &str,
        class: Class,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, CallError>>;
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: no connection, or none in time.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The connection broke, or the other side failed, with the call under way: it may have been served.
    #[error("the connection was lost with the call under way")]
    Lost,
    /// It was sent and not answered in time: it may have been served.
    #[error("the node did not answer in time")]
    Deadline,
    /// Nothing was served: one of the two sides wants no connection, or has no room.
    #[error("refused: {0}")]
    Refused(Rejected),
    /// Nothing was sent: longer than its class allows.
    #[error("the call is too large for its class")]
    TooLarge,
}

/// Why a connection, or a call on it, is refused. Their numbers cross the wire: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Rejected {
    /// It belongs to another cluster.
    #[error("the node belongs to another cluster")]
    ForeignCluster,
    /// Another node answers at the address.
    #[error("another node answers at this address")]
    WrongNode,
    /// It calls itself by our own id.
    #[error("the node has this node's own id")]
    OwnId,
    /// It seals secrets with a key that is not known here.
    #[error("the node seals secrets with an unknown key")]
    ForeignSealKey,
    /// No version of the protocol is spoken by both.
    #[error("the nodes have no version in common")]
    Version,
    /// A later process of the same node is connected.
    #[error("a later process of the same node is connected")]
    Superseded,
    /// It shows no certificate, and asks for more than to join.
    #[error("no certificate was shown")]
    NoCertificate,
    /// Its certificate is past its end, or before its beginning.
    #[error("the certificate is not valid at this time")]
    CertificateExpired,
    /// Its certificate is of another authority, or broken.
    #[error("the certificate is not of this cluster's authority")]
    CertificateUntrusted,
    /// Its certificate is not that of a node of this cluster, or that of another node than it says to be.
    #[error("the certificate is not that of this node, or not of a node of this cluster")]
    CertificateForeign,
    /// It failed to agree on TLS for another reason; plain text on a TLS port counts here.
    #[error("no TLS connection could be agreed on")]
    Tls,
    /// It sent what cannot be read.
    #[error("malformed bytes were received")]
    Malformed,
    /// It sent more than its class allows.
    #[error("a frame is larger than its class allows")]
    TooLarge,
    /// It was silent in the middle of something.
    #[error("the node fell silent in the middle of something")]
    Slow,
    /// There is no room for more connections or calls.
    #[error("there is no room for more connections or calls")]
    Busy,
}

impl Rejected {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::ForeignCluster,
        Self::WrongNode,
        Self::OwnId,
        Self::ForeignSealKey,
        Self::Version,
        Self::Superseded,
        Self::NoCertificate,
        Self::CertificateExpired,
        Self::CertificateUntrusted,
        Self::CertificateForeign,
        Self::Tls,
        Self::Malformed,
        Self::TooLarge,
        Self::Slow,
        Self::Busy,
    ];

    /// Its word in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ForeignCluster => "foreign_cluster",
            Self::WrongNode => "wrong_node",
            Self::OwnId => "own_id",
            Self::ForeignSealKey => "foreign_seal_key",
            Self::Version => "version",
            Self::Superseded => "superseded",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::CertificateForeign => "certificate_foreign",
            Self::Tls => "tls",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Busy => "busy",
        }
    }
}

/// What answers other nodes.
pub trait Service: Send + Sync {
    /// Looks at a call before it is served: a message that cannot be read here is refused, and counted. See
    /// [`readable`].
    ///
    /// # Errors
    /// The reason to refuse it.
    fn check(&self, from: &Caller, body: &[u8]) -> Result<(), Rejected> {
        let (_, _) = (from, body);
        Ok(())
    }

    /// Answers one call. Calls of one connection are served side by side.
    fn serve(&self, from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;
}

/// Who calls, as its [`Hello`] said and the handshake checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its id. A caller without a certificate may claim any.
    pub node: NodeId,
    /// What the connection is for.
    pub class: Class,
    /// Which start of its process it is.
    pub incarnation: u64,
    /// Its cluster, if it has one yet; the same as ours if we have one, too.
    pub cluster: Option<ClusterId>,
    /// Where it says it can be reached.
    pub peer: String,
    /// The version both speak.
    pub version: u16,
    /// Whether it showed a certificate of this cluster, or none is asked for because there is no TLS.
    pub is_verified: bool,
}

/// The first message of both sides of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// The cluster, if the node has one yet.
    pub cluster: Option<ClusterId>,
    /// The node.
    pub node: NodeId,
    /// Which start of its process it is.
    pub incarnation: u64,
    /// The lowest and the highest version of the protocol it speaks.
    pub versions: (u16, u16),
    /// What the connection is for; the side that accepted repeats what it heard.
    pub class: Class,
    /// The key it seals secrets with, by id.
    pub seal_key: Option<[u8; 8]>,
    /// Where it can be reached.
    pub peer: String,
}

impl Message for Hello {
    // Kinds 64 to 79 are this module's.
    const KIND: u16 = 64;
    const SCHEMA: u16 = 1;
    const LIMIT: usize = 1 << 10;
}

/// Sockets: the system's in production, simulated ones in a simulation.
pub trait Net: Send + Sync {
    /// Opens a connection to `host:port`.
    fn dial(&self, address: &str) -> BoxFuture<'_, io::Result<BoxedIo>>;

    /// Begins to listen.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Accept>>>;
}

/// A listening socket.
pub trait Accept: Send {
    /// Where it listens: the port that the system chose for port 0.
    ///
    /// # Errors
    /// Those of the system.
    fn address(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedIo, SocketAddr)>>;
}

/// A connection's bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any connection.
pub type BoxedIo = Box<dyn Io>;
