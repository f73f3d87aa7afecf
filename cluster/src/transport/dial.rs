//! From an address to a connection on which calls can be made.

use tokio::time::timeout;
use troupe_proto::id::NodeId;
use troupe_proto::wire;

use super::counts::Direction;
use super::endpoint::Shared;
use super::frame::{Frame, Kind};
use super::hello;
use super::stream::{Ended, Reader, Writer, frames};
use super::tls;
use super::{CallError, Class, Hello, Rejected};

/// A connection whose handshake is done.
pub(super) struct Connection {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// What the other side said.
    pub(super) hello: Hello,
}

/// Why there is no connection.
enum Failure {
    /// Nobody answers.
    Unreachable,
    /// One of the two sides does not want it.
    Rejected(Rejected),
}

/// Opens a connection, to `expected` if it is known who should answer.
pub(super) async fn open(
    shared: &Shared,
    address: &str,
    class: Class,
    expected: Option<NodeId>,
) -> Result<Connection, CallError> {
    let opened = timeout(shared.settings.dial_max, shake(shared, address, class, expected)).await;
    match opened.unwrap_or(Err(Failure::Unreachable)) {
        Ok(connection) => Ok(connection),
        Err(Failure::Unreachable) => Err(CallError::Unreachable),
        Err(Failure::Rejected(reason)) => {
            shared.book.rejected(Direction::Out, reason, address);
            Err(CallError::Refused(reason))
        }
    }
}

async fn shake(shared: &Shared, address: &str, class: Class, expected: Option<NodeId>) -> Result<Connection, Failure> {
    let io = shared.net.dial(address).await.map_err(|error| {
        tracing::debug!(address, %error, "a node cannot be dialled");
        Failure::Unreachable
    })?;
    let (io, shown) = match &shared.tls {
        Some(tls) => tls.dial(io).await.map_err(Failure::Rejected)?,
        None => (io, tls::Shown::default()),
    };
    let own = shared.introduction();
    let (mut reader, mut writer) = frames(io);
    let stall = shared.settings.stall_max;
    let hello = wire::encode(&own.hello(class)).map_err(|_| Failure::Rejected(Rejected::TooLarge))?;
    writer.put(&Frame::new(Kind::Hello, 0, hello), stall).await.map_err(broken)?;
    writer.flush(stall).await.map_err(broken)?;
    let frame = reader.next(shared.settings.dial_max, stall).await.map_err(broken)?;
    let hello = match frame.kind {
        Kind::Hello => hello::read(&frame.body).map_err(Failure::Rejected)?,
        Kind::Refuse => return Err(Failure::Rejected(frame.reason())),
        Kind::Call | Kind::Answer | Kind::Fail | Kind::Ping | Kind::Pong => {
            return Err(Failure::Rejected(Rejected::Malformed));
        }
    };
    own.judge(&hello, expected).map_err(Failure::Rejected)?;
    shown.check(own.cluster, hello.node).map_err(Failure::Rejected)?;
    reader.admit(class);
    Ok(Connection { reader, writer, hello })
}

/// A refused certificate is told by TLS at the first byte that is read or written after it was shown.
fn broken(ended: Ended) -> Failure {
    match ended {
        Ended::Broken(error) => match tls::reason(&error) {
            Rejected::Tls => Failure::Unreachable,
            reason => Failure::Rejected(reason),
        },
        Ended::Rejected(reason) => Failure::Rejected(reason),
        Ended::Closed | Ended::Idle => Failure::Unreachable,
    }
}
