//! Calls to other nodes, as openraft makes them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use troupe_proto::id::NodeId;
use troupe_proto::wire::{self, Message};

use super::machine::Carried;
use super::message::{Answer, Ask, Candidacy, Piece, PieceAnswer};
use super::plain::Meta;
use super::settings::{Settings, more_for};
use super::types::{self, Node, Types};
use crate::transport::{CallError, Class, Links};

/// A piece of a snapshot; with what belongs to it, it stays below the limit of its class.
const PIECE_BYTES: usize = 1 << 20;

/// Makes clients.
pub(super) struct Network {
    pub(super) links: Arc<dyn Links>,
    pub(super) settings: Arc<Settings>,
}

impl Network {
    fn client(&self, to: NodeId, node: &Node, class: Class) -> Client {
        let (links, settings) = (Arc::clone(&self.links), Arc::clone(&self.settings));
        Client { to, address: node.addr.clone(), class, links, settings }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> Client {
        self.client(target, node, Class::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Node) -> Client {
        self.client(target, node, Class::Vote)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Node) -> Client {
        self.client(target, node, Class::Snapshot)
    }
}

/// Calls to one node.
pub(super) struct Client {
    to: NodeId,
    address: String,
    class: Class,
    links: Arc<dyn Links>,
    settings: Arc<Settings>,
}

/// Why a call came to nothing, before openraft has its word for it.
enum Trouble {
    /// It is of no use to try again at once.
    Away(String),
    /// It may have been served.
    Lost(String),
}

impl From<Trouble> for RPCError<Types> {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Away(why) => Unreachable::from_string(why).into(),
            Trouble::Lost(why) => NetworkError::from_string(why).into(),
        }
    }
}

impl From<Trouble> for StreamingError<Types> {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Away(why) => Unreachable::from_string(why).into(),
            Trouble::Lost(why) => NetworkError::from_string(why).into(),
        }
    }
}

fn unable() -> Trouble {
    Trouble::Away("the node takes no part in consensus".to_owned())
}

impl Client {
    async fn call<A: Message>(&self, class: Class, ask: &impl Message, within: Duration) -> Result<A, Trouble> {
        let body = wire::encode(ask).map_err(|error| Trouble::Away(error.to_string()))?;
        let within = within + more_for(body.len());
        let answer =
            self.links.call(self.to, &self.address, class, body, within).await.map_err(|error| match error {
                CallError::Unreachable | CallError::Refused(_) | CallError::TooLarge => {
                    Trouble::Away(error.to_string())
                }
                CallError::Lost | CallError::Deadline => Trouble::Lost(error.to_string()),
            })?;
        wire::decode(&answer).map_err(|error| Trouble::Lost(format!("the answer cannot be read: {error}")))
    }

    async fn ask_vote(&self, ask: Ask, within: Duration) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.call(Class::Vote, &ask, within).await? {
            Answer::Voted { vote, is_granted, last } => {
                Ok(VoteResponse { vote: vote.into(), vote_granted: is_granted, last_log_id: last.map(Into::into) })
            }
            _ => Err(unable().into()),
        }
    }

    async fn send_pieces(
        &self,
        vote: types::Vote,
        meta: Meta,
        state: &[u8],
        install: Duration,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let total = u64::try_from(state.len()).unwrap_or(u64::MAX);
        let (mut offset, mut begun) = (0, 0);
        loop {
            let rest = state.get(offset..).unwrap_or_default();
            let bytes = rest.get(..PIECE_BYTES).unwrap_or(rest);
            let is_last = bytes.len() == rest.len();
            let from = u64::try_from(offset).unwrap_or(u64::MAX);
            let piece = Piece { vote: vote.into(), meta: meta.clone(), total, offset: from, bytes: bytes.to_vec() };
            // With the last piece the other node puts all of it in force.
            let within = if is_last { install } else { self.settings.piece_within };
            match self.call(Class::Snapshot, &piece, within).await? {
                PieceAnswer::Next(next) => {
                    let next = usize::try_from(next).unwrap_or(usize::MAX);
                    begun += usize::from(next == 0);
                    // It began anew too often, or asks for what is not there.
                    if next > state.len() || begun > 3 || (is_last && next == offset + bytes.len()) {
                        return Err(Trouble::Lost("the node does not take the snapshot".to_owned()).into());
                    }
                    offset = next;
                }
                PieceAnswer::Done(vote) => return Ok(SnapshotResponse::new(vote.into())),
                PieceAnswer::Unable => return Err(unable().into()),
            }
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Arc<[u8]>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let within = match self.class {
            // A heartbeat that comes late is of no use.
            Class::Vote => option.hard_ttl(),
            // openraft gives entries the time of a heartbeat, too, in which large ones never arrive.
            Class::Append | Class::Snapshot | Class::Forward | Class::Join | Class::Push => self.settings.append_within,
        };
        let ask = Ask::Append {
            vote: rpc.vote.into(),
            before: rpc.prev_log_id.map(Into::into),
            entries: rpc.entries.into_iter().map(Into::into).collect(),
            committed: rpc.leader_commit.map(Into::into),
        };
        match self.call(self.class, &ask, within).await? {
            Answer::Appended => Ok(AppendEntriesResponse::Success),
            Answer::AppendedTo(last) => Ok(AppendEntriesResponse::PartialSuccess(last.map(Into::into))),
            Answer::Conflict => Ok(AppendEntriesResponse::Conflict),
            Answer::Outvoted(vote) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            _ => Err(unable().into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Ask::Vote(candidacy(rpc)), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Ask::PreVote(candidacy(rpc)), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: types::Vote,
        snapshot: Carried,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let meta = Meta::from(&snapshot.meta);
        let sending = pin!(self.send_pieces(vote, meta, &snapshot.snapshot, option.hard_ttl()));
        match select(sending, pin!(cancel)).await {
            Either::Left((result, _)) => result,
            Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let last = rpc.last_log_id().copied().map(Into::into);
        let ask = Ask::Transfer { vote: (*rpc.from_leader()).into(), to: *rpc.to_node_id(), last };
        match self.call(Class::Vote, &ask, option.hard_ttl()).await? {
            Answer::Standing => Ok(Ok(())),
            Answer::VoteChanged { expected, actual } => {
                Ok(Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() }))
            }
            Answer::LogBehind { expected, actual } => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(Into::into),
                actual: actual.map(Into::into),
            })),
            _ => Err(unable().into()),
        }
    }
}

fn candidacy(rpc: VoteRequest<Types>) -> Candidacy {
    Candidacy { vote: rpc.vote.into(), last: rpc.last_log_id.map(Into::into), is_transfer: rpc.leadership_transfer }
}
