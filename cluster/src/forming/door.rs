//! The side that is asked: tells newcomers whose this node is, and lets them in.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use troupe_proto::command::{Command, Note, Reply};
use troupe_proto::id::ClusterId;
use troupe_proto::member::Member;
use troupe_proto::secret::KeyHash;
use troupe_proto::wire;

use super::words::{Answer, Ask};
use crate::consensus::{Reshape, ReshapeError};
use crate::handle::Handle;
use crate::transport::ca::{Issuer, Validity};
use crate::transport::{Caller, Class, Rejected, Service, readable};

/// How long a certificate holds that is given for a token.
const CERTIFICATE_DAYS: u32 = 365;

/// Answers other nodes: newcomers by itself, members through consensus.
pub struct Door {
    expect: Option<u32>,
    wall: fn() -> i64,
    /// What members say is for consensus, once this node belongs to a cluster.
    inside: OnceLock<Inside>,
    /// Who hears facts, once this node gossips.
    ear: OnceLock<Arc<dyn Service>>,
}

/// What there is once this node belongs to a cluster.
pub struct Inside {
    /// Which one.
    pub cluster: ClusterId,
    /// What it agreed on.
    pub handle: Handle,
    /// Answers what members say.
    pub members: Arc<dyn Service>,
    /// Signs certificates, where this node may.
    pub issuer: Option<Arc<Issuer>>,
}

impl Door {
    /// The door of a node that belongs to no cluster yet and expects to form one with so many. `wall` reads the wall
    /// clock, in milliseconds since 1970.
    pub const fn new(expect: Option<u32>, wall: fn() -> i64) -> Self {
        Self { expect, wall, inside: OnceLock::new(), ear: OnceLock::new() }
    }

    /// Says that the node belongs to a cluster from now on. Only the first word counts.
    pub fn open(&self, inside: Inside) {
        if self.inside.set(inside).is_err() {
            tracing::error!("a node that belongs to a cluster was told of another");
        }
    }

    /// Says who hears the facts that members push. Only the first word counts.
    pub fn hear(&self, ear: Arc<dyn Service>) {
        if self.ear.set(ear).is_err() {
            tracing::error!("a node that gossips was told to do so anew");
        }
    }

    async fn answer(&self, from: &Caller, ask: Ask) -> Answer {
        match (ask, self.inside.get()) {
            (Ask::Meet { .. }, inside) => self.met(inside),
            (Ask::Enter { .. }, None) => Answer::Later("this node belongs to no cluster itself".to_owned()),
            (Ask::Enter { token, csr_pem, member }, Some(inside)) => {
                self.enter(from, inside, token, csr_pem, member).await.unwrap_or_else(|no| no)
            }
        }
    }

    fn met(&self, inside: Option<&Inside>) -> Answer {
        let members = inside.map(|inside| {
            let vitals = inside.handle.vitals();
            vitals.voters.iter().chain(&vitals.learners).map(|(node, _)| *node).collect()
        });
        Answer::Met { expect: self.expect, members: members.unwrap_or_default() }
    }

    /// Lets a node in that shows a certificate of this cluster, or a token that was not used yet.
    async fn enter(
        &self,
        from: &Caller,
        inside: &Inside,
        token: Option<String>,
        csr_pem: Option<String>,
        member: Member,
    ) -> Result<Answer, Answer> {
        let handle = &inside.handle;
        if handle.state().is_removed(from.node) {
            let text = "this node was taken out of the cluster: remove its data directory, and it joins under a new id";
            return Err(Answer::Refused(text.to_owned()));
        }
        // Before the token is used up: it is of use at another door.
        let issuer = match (&csr_pem, &inside.issuer) {
            (Some(_), None) => {
                let text = "this node has no CA key to sign certificates with (cluster.tls.ca_key)";
                return Err(Answer::Elsewhere(text.to_owned()));
            }
            (_, issuer) => issuer.as_ref(),
        };
        if let Some(token) = token {
            let hash = KeyHash::of(token.as_bytes());
            self.check_id(from, handle, &hash)?;
            let at = (self.wall)().div_euclid(1000);
            self.propose(handle, &member, Command::UseJoinToken { hash, node: from.node, at }).await?;
        } else if !from.is_verified {
            return Err(Answer::Refused("show a certificate of this cluster, or a join token".to_owned()));
        }
        let certificate = match csr_pem.zip(issuer) {
            None => None,
            Some((csr, issuer)) => {
                let validity = Validity::days((self.wall)().div_euclid(1000), CERTIFICATE_DAYS);
                let signed = issuer.sign(&csr, Some(inside.cluster), Some(from.node), validity);
                let signed = signed.map_err(|error| Answer::Refused(format!("the request is not signed: {error}")))?;
                Some((signed, issuer.pem().to_owned()))
            }
        };
        let add = Reshape::AddLearner { node: from.node, peer: member.peer.clone() };
        match handle.reshape(add).await {
            Ok(()) => {}
            Err(error @ ReshapeError::Refused(_)) => return Err(Answer::Refused(error.to_string())),
            Err(error) => return Err(Answer::Later(error.to_string())),
        }
        self.propose(handle, &member, Command::PutMember(from.node, member.clone())).await?;
        Ok(Answer::Entered { cluster: inside.cluster, certificate })
    }

    /// Who shows a token shows no certificate, so it may claim any id: not one that somebody else has.
    fn check_id(&self, from: &Caller, handle: &Handle, token: &KeyHash) -> Result<(), Answer> {
        let vitals = handle.vitals();
        let is_taken = vitals.voters.iter().chain(&vitals.learners).any(|(node, _)| *node == from.node);
        let state = handle.state();
        let mut tokens = state.join_tokens().iter().map(|(_, token)| token);
        if is_taken && !tokens.any(|known| known.hash == *token && known.used == Some(from.node)) {
            return Err(Answer::Refused(format!("node {} is a member already", from.node)));
        }
        Ok(())
    }

    async fn propose(&self, handle: &Handle, member: &Member, command: Command) -> Result<(), Answer> {
        let note = Note {
            actor: format!("node {}", member.name),
            reason: "joins".to_owned(),
            at: (self.wall)(),
            ..Note::default()
        };
        match handle.propose(note, command).await {
            Ok(Reply::Applied(_) | Reply::Repeated(_)) => Ok(()),
            Ok(Reply::Refused(refusal)) => Err(Answer::Refused(refusal.to_string())),
            Err(error) => Err(Answer::Later(error.to_string())),
        }
    }
}

impl Service for Door {
    fn check(&self, from: &Caller, body: &[u8]) -> Result<(), Rejected> {
        match from.class {
            Class::Join => readable::<Ask>(body),
            Class::Push => self.ear.get().map_or(Ok(()), |ear| ear.check(from, body)),
            Class::Vote | Class::Append | Class::Snapshot | Class::Forward => {
                self.inside.get().map_or(Ok(()), |inside| inside.members.check(from, body))
            }
        }
    }

    fn serve(&self, from: Caller, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        let other = match from.class {
            Class::Join => None,
            Class::Push => Some(self.ear.get()),
            Class::Vote | Class::Append | Class::Snapshot | Class::Forward => {
                Some(self.inside.get().map(|inside| &inside.members))
            }
        };
        if let Some(service) = other {
            return match service {
                Some(service) => service.serve(from, body),
                // It has nothing to say about what it takes no part in; an empty answer is none.
                None => std::future::ready(Vec::new()).boxed(),
            };
        }
        async move {
            let answer = match wire::decode(&body) {
                Ok(ask) => self.answer(&from, ask).await,
                Err(error) => Answer::Refused(format!("the question cannot be read: {error}")),
            };
            // An answer is a few texts, each far below its limit.
            wire::encode(&answer).unwrap_or_default()
        }
        .boxed()
    }
}
