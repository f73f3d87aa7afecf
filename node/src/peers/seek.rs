//! How this node comes to belong to a cluster, and tells the others of itself.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;
use troupe_cluster::consensus::{Reshape, Vitals};
use troupe_cluster::forming::{Found, Newcomer, Seeker};
use troupe_cluster::raft::{FormError, Raft};
use troupe_cluster::transport::Transport;
use troupe_cluster::{Handle, State};
use troupe_proto::command::{Command, Note, Refusal, Reply};
use troupe_proto::id::{AdminTokenId, ClusterId, NodeId, Revision};
use troupe_proto::member::{Member, VERSION};
use troupe_proto::secret::{KeyHash, Secret};
use troupe_proto::token::{AdminToken, Role};

use super::identity::Identity;
use super::{ShowToken, causes};
use crate::clock;
use crate::config::{Boot, new_admin_token};

/// Between two tries to tell the others of itself.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How often certificates are read again.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How often the nodes of `join` are asked whether they still belong to this one's cluster.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The token that is made with a cluster.
const FIRST_TOKEN: &str = "first";

/// Everything that belonging to a cluster takes.
pub(super) struct Seeking {
    me: Newcomer,
    join: Vec<String>,
    member: Member,
    transport: Transport,
    handle: Handle,
    finder: Finder,
    show: Arc<ShowToken>,
    refused: watch::Sender<Option<String>>,
}

struct Finder {
    raft: Raft<State>,
    transport: Transport,
    identity: Arc<Identity>,
    opens: Box<dyn Fn(ClusterId) + Send + Sync>,
}

impl Seeking {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part that belonging to a cluster takes, and they meet here"
    )]
    pub(super) fn new(
        boot: &Boot,
        peer: String,
        handle: &Handle,
        raft: &Raft<State>,
        transport: &Transport,
        identity: &Arc<Identity>,
        show: Arc<ShowToken>,
        refused: watch::Sender<Option<String>>,
        opens: impl Fn(ClusterId) + Send + Sync + 'static,
    ) -> Self {
        let member = Member {
            name: boot.node.name.clone(),
            peer: peer.clone(),
            admin: reached_at(boot.listen.admin, &peer),
            data: reached_at(boot.listen.data, &peer),
            version: VERSION,
            zone: boot.node.zone.clone(),
        };
        let me = Newcomer {
            node: handle.process().node,
            peer,
            expect: boot.cluster.bootstrap_expect,
            has_others: boot.cluster.has_others(),
            lacks_certificate: identity.request().is_some(),
        };
        let (raft, identity, transport) = (raft.clone(), identity.clone(), transport.clone());
        let finder = Finder { raft, transport: transport.clone(), identity, opens: Box::new(opens) };
        let join = boot.cluster.join.clone();
        Self { me, join, member, transport, handle: handle.clone(), finder, show, refused }
    }

    /// Finds its cluster, tells it of itself, and keeps its certificates up to date for as long as it runs.
    pub(super) async fn run(self) {
        let identity = Arc::clone(&self.finder.identity);
        tokio::select! {
            () = self.take_part() => {}
            // From the first moment on: one that has ended may be what keeps it out.
            () = identity.keep_certificates(REFRESH_EVERY) => {}
        }
    }

    async fn take_part(self) {
        let (_, _, known) = self.finder.identity.who();
        if known.is_none()
            && let Err(error) = self.seek().await
        {
            self.refused.send_replace(Some(causes(&error)));
            return;
        }
        self.settle(known.is_none()).await;
        let (_, _, cluster) = self.finder.identity.who();
        let seeker = self.seeker();
        loop {
            if let Some(cluster) = cluster {
                seeker.look_around(cluster).await;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn seeker(&self) -> Seeker {
        Seeker {
            me: self.me.clone(),
            join: self.join.clone(),
            transport: self.transport.clone(),
            member: self.member.clone(),
            token: self.finder.identity.request(),
        }
    }

    async fn seek(&self) -> Result<(), troupe_cluster::forming::FormError> {
        let seeker = self.seeker();
        let cluster = seeker.seek(&self.finder).await?;
        tracing::info!(%cluster, node = %self.me.node, "this node belongs to a cluster");
        (self.finder.opens)(cluster);
        Ok(())
    }

    /// Says what the state does not know yet: the cluster's id, its first token, and this node.
    async fn settle(&self, is_new: bool) {
        let (node, _, cluster) = self.finder.identity.who();
        let Some(cluster) = cluster else { return };
        let mut made: Option<Secret<String>> = None;
        loop {
            self.move_if_moved(node).await;
            let state = self.handle.state();
            // Shown once the state holds it, which it may although its proposal had no answer.
            if let Some(secret) = made.take_if(|secret| holds(&state, secret)) {
                (self.show)(secret.expose());
            }
            if state.cluster().is_none() {
                self.say(Command::Form { cluster }).await;
            } else if made.is_some() || self.lacks_a_token(&state, node, is_new) {
                let Some(secret) = made.take().or_else(|| new_admin_token().ok()) else {
                    return tracing::error!("the system has no randomness");
                };
                let hash = KeyHash::of(secret.expose().as_bytes());
                made = Some(secret);
                let token = AdminToken { hash, role: Role::Admin, expires: None };
                self.say(Command::PutAdminToken(AdminTokenId::new(FIRST_TOKEN), token)).await;
            } else if state.members().get(&node) != Some(&self.member) {
                self.say(Command::PutMember(node, self.member.clone())).await;
            } else if let Some(version) = later_version(&state, &self.handle.vitals()) {
                self.say(Command::SetVersion(version)).await;
            } else {
                break;
            }
            sleep(TELL_EVERY).await;
        }
        if let Err(error) = self.finder.identity.begun() {
            tracing::error!(error = causes(&error), "that this node has taken part cannot be written down");
        }
    }

    /// Others call a node where it was when it joined, unless it tells them that it moved.
    async fn move_if_moved(&self, node: NodeId) {
        let vitals = self.handle.vitals();
        let listed = vitals.voters.iter().chain(&vitals.learners).find(|(id, _)| *id == node);
        let peer = &self.member.peer;
        if listed.is_some_and(|(_, known)| known != peer) {
            let moved = self.handle.reshape(Reshape::AddLearner { node, peer: peer.clone() }).await;
            match moved {
                Ok(()) => tracing::info!(peer, "the cluster knows where this node is now"),
                Err(error) => tracing::warn!(peer, %error, "the cluster does not know yet where this node is now"),
            }
        }
    }

    /// Whether nobody has a token yet, and this node is the one that makes it: in the process that formed the cluster, or,
    /// if that one died first, while nothing was declared.
    fn lacks_a_token(&self, state: &State, node: NodeId, is_new: bool) -> bool {
        let is_first = self.handle.vitals().voters.first().is_some_and(|(id, _)| *id == node);
        is_first && state.admin_tokens().is_empty() && (is_new || state.revision() == Revision(0))
    }

    /// Says one thing.
    async fn say(&self, command: Command) {
        let actor = format!("node {}", self.member.name);
        let note = Note { actor, reason: "tells of itself".to_owned(), at: clock::unix_millis(), ..Note::default() };
        match self.handle.propose(note, command).await {
            Ok(Reply::Applied(_) | Reply::Repeated(_) | Reply::Refused(Refusal::Formed(_))) => {}
            Ok(Reply::Refused(refusal)) => tracing::error!(%refusal, "the cluster does not take this node's word"),
            Err(error) => tracing::debug!(%error, "the cluster does not hear this node yet"),
        }
    }
}

/// The version of the agreed state to put in force: the newest that every node knows, if that is later. The last node to
/// tell of itself sees that all do, be it new or a new build.
fn later_version(state: &State, vitals: &Vitals) -> Option<u16> {
    let members = state.members();
    let takes_part = vitals.voters.iter().chain(&vitals.learners).map(|(node, _)| node);
    let are_all_known = takes_part.into_iter().all(|node| members.contains_key(node));
    let common = members.values().map(|member| member.version).min()?;
    (are_all_known && common > state.cluster_version()).then_some(common)
}

/// Whether the state holds this as its first token.
fn holds(state: &State, secret: &Secret<String>) -> bool {
    let hash = KeyHash::of(secret.expose().as_bytes());
    state.admin_token_by_hash(&hash).is_some()
}

impl Found for Finder {
    fn adopt(&self, cluster: ClusterId) -> io::Result<()> {
        self.identity.bind(cluster).map_err(io::Error::other)?;
        self.transport.found_cluster(cluster);
        Ok(())
    }

    fn form(&self, voters: BTreeMap<NodeId, String>) -> BoxFuture<'_, io::Result<ClusterId>> {
        async move {
            let drawn = clock::secret_bytes().map_err(io::Error::other)?;
            let cluster = ClusterId(u128::from_le_bytes(drawn));
            match self.raft.form(voters).await {
                // It was formed before this process died; nobody can have adopted the id that was drawn then.
                Ok(()) | Err(FormError::Formed) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            self.adopt(cluster)?;
            Ok(cluster)
        }
        .boxed()
    }

    fn certificate(&self, certificate_pem: &str, ca_pem: &str) -> io::Result<()> {
        self.identity.certified(certificate_pem, ca_pem).map_err(io::Error::other)
    }
}

/// Where others reach a listener: one that takes every address of its machine is reached where `peer` is.
fn reached_at(listener: SocketAddr, peer: &str) -> String {
    match peer.rsplit_once(':') {
        Some((host, _)) if listener.ip().is_unspecified() => format!("{host}:{}", listener.port()),
        Some(_) | None => listener.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_where_the_node_is() {
        let at = |listener: &str, peer: &str| reached_at(listener.parse().unwrap(), peer);

        assert_eq!(at("0.0.0.0:8081", "gw-1:8082"), "gw-1:8081");
        assert_eq!(at("[::]:8081", "[2001:db8::1]:8082"), "[2001:db8::1]:8081");
        assert_eq!(at("127.0.0.1:8081", "gw-1:8082"), "127.0.0.1:8081");
    }
}
