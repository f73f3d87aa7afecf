//! How nodes come to belong to one cluster.
//!
//! ```text
//! no cluster ── Meet everybody of `join` ──▶ logic ──▶ form it | adopt it | Enter it | wait
//! ```
//! A cluster is formed by one node only: the one with the lowest id among exactly those that were expected. Whoever
//! else wants to take part is let in by a member, without a vote.

mod door;
mod logic;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::time::sleep;
use troupe_proto::id::{ClusterId, NodeId};
use troupe_proto::member::Member;
use troupe_proto::secret::Secret;
use troupe_proto::wire;

pub use door::{Door, Inside};
pub use logic::{Newcomer, Waiting};
pub use words::{Answer, Ask};

use crate::transport::{CallError, Hello, Rejected, Transport};
use logic::{Met, Step, decide};

/// Between two rounds of questions.
const ROUND_EVERY: Duration = Duration::from_millis(200);
/// What one question may take.
const MEET_WITHIN: Duration = Duration::from_secs(2);
/// What being let in may take.
const ENTER_WITHIN: Duration = Duration::from_secs(10);
/// How many rounds pass between two lines of the log that say the same.
const SAY_EVERY: u32 = 50;

/// A node that looks for its cluster.
pub struct Seeker {
    /// What it is.
    pub me: Newcomer,
    /// Where others listen.
    pub join: Vec<String>,
    /// How they are reached.
    pub transport: Transport,
    /// What it tells of itself.
    pub member: Member,
    /// Lets it in, and the request for a certificate that goes with it.
    pub token: Option<(Secret<String>, String)>,
}

/// What a seeker does with what it finds.
pub trait Found: Send + Sync {
    /// Writes down for ever that this node belongs to a cluster.
    ///
    /// # Errors
    /// Those of the disk.
    fn adopt(&self, cluster: ClusterId) -> io::Result<()>;

    /// Begins a cluster of these voters; its id is drawn here.
    fn form(&self, voters: BTreeMap<NodeId, String>) -> BoxFuture<'_, io::Result<ClusterId>>;

    /// Keeps the certificate that was given, and that of its CA.
    ///
    /// # Errors
    /// Those of the disk.
    fn certificate(&self, certificate_pem: &str, ca_pem: &str) -> io::Result<()>;
}

/// Why a node belongs to no cluster, and asking again does not help.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// A member said no.
    #[error("{at} does not let this node in: {why}")]
    Refused {
        /// Who.
        at: String,
        /// Why.
        why: String,
    },
    /// What must not be forgotten cannot be written.
    #[error("what this node must not forget cannot be written: {0}")]
    Disk(#[from] io::Error),
}

impl Seeker {
    /// Looks for a cluster until this node belongs to one.
    ///
    /// # Errors
    /// [`FormError`]
    pub async fn seek(self, found: &dyn Found) -> Result<ClusterId, FormError> {
        let mut said = None;
        let mut rounds = 0_u32;
        loop {
            let (met, refused) = self.meet().await;
            match decide(&self.me, &met, &refused) {
                Step::Form(voters) => return Ok(found.form(voters).await?),
                Step::Adopt(cluster) => {
                    found.adopt(cluster)?;
                    return Ok(cluster);
                }
                Step::Enter(_, doors) => {
                    let is_everybody = doors.len() >= self.others().count();
                    if let Some(cluster) = self.enter_by(&doors, is_everybody, found).await? {
                        return Ok(cluster);
                    }
                }
                Step::Wait(waiting) => {
                    if said.as_ref() != Some(&waiting) || rounds.is_multiple_of(SAY_EVERY) {
                        match &waiting {
                            // Waiting alone does not end it.
                            Waiting::Refused { .. } => tracing::warn!("no cluster yet: {waiting}"),
                            other => tracing::info!("no cluster yet: {other}"),
                        }
                        said = Some(waiting);
                    }
                }
            }
            rounds = rounds.wrapping_add(1);
            sleep(ROUND_EVERY).await;
        }
    }

    /// For a node of `cluster`: asks everybody of `join` whether they still belong together, and says loudly if not.
    pub async fn look_around(&self, cluster: ClusterId) {
        let Ok(ask) = wire::encode(&Ask::Meet { expect: self.me.expect }) else { return };
        for at in self.others() {
            match self.transport.ask(at, ask.clone(), MEET_WITHIN).await {
                Err(CallError::Refused(Rejected::ForeignCluster)) => tracing::error!(
                    at,
                    %cluster,
                    "two clusters were formed: this node and that one refuse each other; remove the data directory of \
                     one of them to have it join the other's cluster"
                ),
                Ok((_, body)) => {
                    if let Ok(Answer::Met { members, .. }) = wire::decode(&body)
                        && !members.is_empty()
                        && !members.contains(&self.me.node)
                    {
                        tracing::warn!(
                            at,
                            "that node says that this one was taken out of the cluster; remove the data directory, and \
                             it joins under a new id"
                        );
                    }
                }
                Err(error) => tracing::debug!(at, %error, "a node of `join` does not answer"),
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = &String> {
        self.join.iter().filter(|address| **address != self.me.peer)
    }

    /// Asks everybody; whoever does not answer is asked again in the next round. Also gives who could not be asked because
    /// of a refusal.
    async fn meet(&self) -> (Vec<Met>, Vec<(String, Rejected)>) {
        let (mut met, mut refused) = (Vec::<Met>::new(), Vec::new());
        let Ok(ask) = wire::encode(&Ask::Meet { expect: self.me.expect }) else { return (met, refused) };
        let calls = self.others().map(|address| self.transport.ask(address, ask.clone(), MEET_WITHIN));
        for (address, answer) in self.others().zip(join_all(calls).await) {
            match answer.map(|(hello, body)| (hello, wire::decode(&body))) {
                Ok((hello, Ok(Answer::Met { expect, members }))) => {
                    let Hello { node, peer, cluster, .. } = hello;
                    let is_new = node != self.me.node && met.iter().all(|met| met.node != node);
                    if is_new {
                        met.push(Met { node, peer, cluster, expect, members: members.into_iter().collect() });
                    }
                }
                // This node under another name.
                Err(CallError::Refused(Rejected::OwnId)) => {}
                Ok((_, Ok(other))) => tracing::warn!(?other, "a node of `join` does not say who it is"),
                Ok((_, Err(error))) => tracing::warn!(%error, "a node of `join` cannot be understood"),
                Err(CallError::Refused(why)) => refused.push((address.clone(), why)),
                Err(error) => tracing::debug!(%error, "a node of `join` does not answer"),
            }
        }
        (met, refused)
    }

    /// Tries one door after the other. Those of members that cannot do it are no reason to give up, unless there are no
    /// others.
    async fn enter_by(
        &self,
        doors: &[String],
        is_everybody: bool,
        found: &dyn Found,
    ) -> Result<Option<ClusterId>, FormError> {
        let mut sent_on = Vec::new();
        for door in doors {
            match self.enter(door).await? {
                Answer::Entered { cluster, certificate } => {
                    if let Some((certificate, ca)) = certificate {
                        found.certificate(&certificate, &ca)?;
                    }
                    found.adopt(cluster)?;
                    return Ok(Some(cluster));
                }
                Answer::Refused(why) => return Err(FormError::Refused { at: door.clone(), why }),
                Answer::Elsewhere(why) => sent_on.push((door, why)),
                Answer::Later(why) => {
                    tracing::info!(at = door, why, "not let in yet");
                    return Ok(None);
                }
                Answer::Met { .. } => tracing::warn!(at = door, "the answer is to another question"),
            }
        }
        match sent_on.pop() {
            Some((door, why)) if is_everybody && sent_on.len() + 1 == doors.len() => {
                Err(FormError::Refused { at: door.clone(), why: format!("{why}, nor has any other node of `join`") })
            }
            Some((door, why)) => {
                tracing::info!(at = door, why, "not let in yet");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn enter(&self, door: &str) -> Result<Answer, FormError> {
        let (token, csr_pem) = self.token.clone().unzip();
        let token = token.map(|token| token.expose().clone());
        let ask = wire::encode(&Ask::Enter { token, csr_pem, member: self.member.clone() });
        let ask = ask.map_err(io::Error::other)?;
        let answer = self.transport.ask(door, ask, ENTER_WITHIN).await;
        Ok(match answer.map(|(_, body)| wire::decode(&body)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Later(format!("its answer cannot be read: {error}")),
            Err(error) => Answer::Later(error.to_string()),
        })
    }
}
