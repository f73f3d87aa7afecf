//! The cluster: its nodes, who leads, and who may join.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_cluster::State;
use troupe_cluster::backup;
use troupe_cluster::consensus::{Machine, Reshape, ReshapeError, Role, Vitals};
use troupe_cluster::gossip::{PeerStats, Stats};
use troupe_proto::command::{Command, Note, Reply as Applied, Reshaped, Seats};
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{JoinTokenId, NodeId};
use troupe_proto::secret::KeyHash;
use troupe_proto::unit::Wait;

use super::token;
use crate::admin::call::Call;
use crate::admin::failure::{Code, Failure};
use crate::admin::reply::{self, Reply};
use crate::admin::targets::millis;
use crate::clock;
use crate::config::new_join_token;
use crate::config::spec_file::time_text;

/// The longest silence of a quorum that counts as none.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(3);
/// How long a join token works unless the caller says otherwise.
const TOKEN_FOR: Wait = Wait::from_secs(24 * 60 * 60);

pub(in crate::admin) async fn status(call: &Call<'_>) -> Result<Reply, Failure> {
    let handle = &call.state.cluster;
    // Asked whether it can still be confirmed: a status that waited for a leader would say nothing when there is none.
    let confirmed = if call.flag("hash")? { call.synchronised().await.is_ok() } else { true };
    let (state, vitals) = (handle.state(), handle.vitals());
    let mut document = json!({
        "cluster": state.cluster().map(|cluster| cluster.to_string()),
        "version": state.cluster_version(),
        "revision": state.revision().0,
        "node": handle.process().node.to_string(),
        "name": call.state.node,
        "role": word(vitals.role),
        "leader": vitals.leader.map(|leader| leader.to_string()),
        "term": vitals.term,
        "last_log": vitals.last_log,
        "committed": vitals.committed,
        "applied": vitals.applied,
        "voters": vitals.voters.len(),
        "learners": vitals.learners.len(),
        "confirmed_ms": vitals.confirmed.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        "quorum": has_quorum(&vitals),
        "problems": problems(call, &vitals),
        "voters_lost": lost(call, &vitals),
    });
    if call.flag("hash")? {
        if !confirmed {
            return Err(Failure::new(Code::NoLeader, "whether this node holds all there is cannot be confirmed"));
        }
        let saved = state.save().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        let hash = Sha256::digest(&saved);
        document["state_hash"] = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
    }
    Ok(reply::json(&document))
}

/// Whether a quorum confirmed a moment ago that this node knows all there is. A change of leaders takes less.
fn has_quorum(vitals: &Vitals) -> bool {
    vitals.role != Role::Stopped && vitals.confirmed.is_some_and(|age| age <= CONFIRMED_WITHIN)
}

/// Clocks further apart than this are a problem: keys and tokens end at another time at each node. A datagram that was late
/// makes its sender's clock look slow, by less.
const CLOCKS_APART_MS: u64 = 5_000;

/// The nodes whose clocks are not this node's. Beyond half a minute gossip hears nothing of them.
fn clocks(state: &State, heard: &Stats) -> Vec<String> {
    let told = |(node, peer): (&NodeId, &PeerStats)| {
        let ahead = peer.clock_ahead_ms.filter(|ahead| ahead.unsigned_abs() > CLOCKS_APART_MS)?;
        let name = state.members().get(node).map_or_else(|| node.to_string(), |member| member.name.clone());
        let (by, way) = (ahead.unsigned_abs() / 1000, if ahead > 0 { "ahead of" } else { "behind" });
        Some(format!(
            "the clock of {name} is {by} s {way} this node's: keys and tokens end by the clock of the node that is asked; keep \
             clocks together (chrony, ntpd)"
        ))
    };
    heard.peers.iter().filter_map(told).collect()
}

/// How long a node that was just started waits to hear of the others before it misses them.
const HEARD_WITHIN_SECONDS: u64 = 10;

/// The other voters that gossip finds dead, or never heard of. Without gossip nobody is missed.
fn lost(call: &Call<'_>, vitals: &Vitals) -> Vec<Value> {
    let (state, me) = (call.state.cluster.state(), call.state.cluster.process().node);
    let Some(heard) = (call.state.heard)() else { return Vec::new() };
    let is_new = call.state.metrics.uptime_seconds() < HEARD_WITHIN_SECONDS;
    let others = vitals.voters.iter().map(|(node, _)| *node).filter(|node| *node != me);
    let lost = others.filter_map(|node| {
        let peer = heard.peers.get(&node);
        let is_lost = match peer.and_then(|peer| peer.is_alive) {
            Some(is_alive) => !is_alive,
            None => !is_new,
        };
        is_lost.then(|| {
            json!({
                "node": node.to_string(),
                "name": state.members().get(&node).map(|member| &member.name),
                "seen_ms": peer.and_then(|peer| peer.seen_ago).map(millis),
            })
        })
    });
    lost.collect()
}

/// What is wrong with this node's part. One that leads goes on believing so when it is cut off, so that is said too.
fn problems(call: &Call<'_>, vitals: &Vitals) -> Vec<String> {
    let mut problems = call.state.health.troubles().all();
    let heard = (call.state.heard)();
    problems.extend(heard.iter().flat_map(|heard| clocks(&call.state.cluster.state(), heard)));
    if !has_quorum(vitals) && call.state.follows.is_none() && vitals.role != Role::Stopped {
        let since = match vitals.confirmed {
            Some(age) => format!("for {} s", age.as_secs()),
            None => "since it was started".to_owned(),
        };
        problems.push(match vitals.role {
            Role::Leader => format!(
                "no quorum confirms this node {since}: it believes that it leads, and another node may lead by now"
            ),
            Role::Follower | Role::Candidate | Role::Learner | Role::Stopped => {
                format!("no quorum confirms this node {since}: what it shows may be old")
            }
        });
    }
    problems
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

pub(in crate::admin) async fn members(call: &Call<'_>) -> Result<Reply, Failure> {
    if !call.flag("stale")? {
        call.synchronised().await?;
    }
    Ok(listed(call))
}

fn listed(call: &Call<'_>) -> Reply {
    let handle = &call.state.cluster;
    let (state, vitals) = (handle.state(), handle.vitals());
    let heard = (call.state.heard)();
    let taking_part = vitals.voters.iter().map(|member| (member, true));
    let taking_part = taking_part.chain(vitals.learners.iter().map(|member| (member, false)));
    let items: Vec<Value> = taking_part
        .map(|((node, peer), votes)| {
            let told = state.members().get(node);
            let peer_stats = heard.as_ref().and_then(|stats| stats.peers.get(node));
            let seen = peer_stats.and_then(|peer| peer.seen_ago);
            let heard = peer_stats.and_then(|peer| peer.heard_ago);
            let millis = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            let text = |field: fn(&troupe_proto::member::Member) -> &str| told.map(field);
            json!({
                "node": node.to_string(),
                "name": text(|member| &member.name),
                "votes": votes,
                "leads": vitals.leader == Some(*node),
                "peer": peer,
                "admin": text(|member| &member.admin),
                "data": text(|member| &member.data),
                "zone": told.and_then(|member| member.zone.as_deref()),
                "version": told.map(|member| member.version),
                "behind": behind(&vitals, *node),
                "alive": peer_stats.and_then(|peer| peer.is_alive),
                "seen_ms": seen.map(millis),
                "heard_ms": heard.map(millis),
            })
        })
        .collect();
    reply::json(&json!({ "items": items }))
}

/// How many entries a node lacks, where this one can tell.
fn behind(vitals: &Vitals, node: NodeId) -> Option<u64> {
    vitals.behind.iter().find(|(id, _)| *id == node).map(|(_, entries)| *entries)
}

/// A node by its id, or by its name if only one that takes part has it.
fn find(call: &Call<'_>, text: &str) -> Result<NodeId, Failure> {
    let vitals = call.state.cluster.vitals();
    let takes_part = |node: &NodeId| vitals.voters.iter().chain(&vitals.learners).any(|(id, _)| id == node);
    if let Some(node) = text.parse().ok().filter(takes_part) {
        return Ok(node);
    }
    let state = call.state.cluster.state();
    let named = state.members().iter().filter(|(node, member)| member.name == text && takes_part(node));
    let named: Vec<NodeId> = named.map(|(node, _)| *node).collect();
    match named[..] {
        [] => Err(Failure::not_found("node", text)),
        [only] => Ok(only),
        _ => {
            let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
            let detail = format!("several nodes are named {text:?}, give the id of one: {}", ids.join(", "));
            Err(Failure::new(Code::Conflict, detail))
        }
    }
}

/// The nodes that a call is about: the one of the path, and those behind `with`.
fn meant(call: &Call<'_>) -> Result<Vec<NodeId>, Failure> {
    let others = call.query("with").unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    std::iter::once(call.name()).chain(others).map(|name| find(call, name)).collect()
}

/// Changes who takes part, and tells who does then.
async fn reshape(call: &Call<'_>, change: Reshape) -> Result<Reply, Failure> {
    carry_out(call, change).await?;
    members(call).await
}

/// Changes who takes part, and has the audit keep it.
async fn carry_out(call: &Call<'_>, change: Reshape) -> Result<(), Failure> {
    call.check_writable()?;
    call.check_unconditional()?;
    // What is known here may be older than what the change meets.
    call.synchronised().await?;
    let before = seats(&call.state.cluster.vitals());
    let done = carried_out(call, change.clone()).await;
    match &done {
        Ok(()) => {}
        // It may yet be in force, and then somebody asks who did it.
        Err(failure) if failure.code == Code::OutcomeUnknown => {}
        Err(_) => return done,
    }
    if let Some((how, after)) = reseated(&before, &change)
        && after != before
        && let Err(failure) = note(call, Command::Reshaped { how, before, after }).await
    {
        // A change that is in force is no failure, and asked for again it would not be noted either.
        tracing::error!(
            ?how,
            actor = call.asker.name,
            detail = failure.detail,
            "the audit lacks a change of who takes part"
        );
    }
    done
}

/// Has the audit keep what was done.
async fn note(call: &Call<'_>, command: Command) -> Result<(), Failure> {
    // The name of the call is for the change of the state that may follow, not for the line about it.
    let note = Note { idempotency: None, ..call.note()? };
    match call.propose(&note, command).await? {
        Applied::Applied(_) | Applied::Repeated(_) => Ok(()),
        Applied::Refused(refusal) => Err(Failure::new(Code::Conflict, refusal.to_string())),
    }
}

fn seats(vitals: &Vitals) -> Seats {
    let ids = |nodes: &[(NodeId, String)]| {
        let mut ids: Vec<NodeId> = nodes.iter().map(|(node, _)| *node).collect();
        ids.sort_unstable();
        ids
    };
    Seats { voters: ids(&vitals.voters), learners: ids(&vitals.learners), leader: vitals.leader }
}

/// Who takes part after a change: worked out, because this node may learn of it late, or never if it is out itself.
/// `None` for what is no change of an operator's.
fn reseated(before: &Seats, change: &Reshape) -> Option<(Reshaped, Seats)> {
    let mut after = before.clone();
    let Seats { voters, learners, leader } = &mut after;
    let mut move_to = |gain: bool, nodes: &[NodeId]| {
        let (from, to) = if gain { (&mut *learners, &mut *voters) } else { (&mut *voters, &mut *learners) };
        for node in nodes.iter().filter(|node| from.contains(node)) {
            to.push(*node);
        }
        from.retain(|node| !nodes.contains(node));
        to.sort_unstable();
    };
    let how = match change {
        Reshape::AddLearner { .. } => return None,
        Reshape::Promote(nodes) => {
            move_to(true, nodes);
            Reshaped::Promoted
        }
        Reshape::Demote(nodes) => {
            move_to(false, nodes);
            Reshaped::Demoted
        }
        Reshape::Replace { old, new } => {
            move_to(true, &[*new]);
            voters.retain(|node| node != old);
            learners.retain(|node| node != old);
            Reshaped::Replaced
        }
        Reshape::Remove(old) => {
            voters.retain(|node| node != old);
            learners.retain(|node| node != old);
            Reshaped::Removed
        }
        Reshape::TransferLeader(to) => {
            *leader = Some(*to);
            Reshaped::Led
        }
    };
    Some((how, after))
}

async fn carried_out(call: &Call<'_>, change: Reshape) -> Result<(), Failure> {
    call.state.cluster.reshape(change).await.map_err(|error| match error {
        ReshapeError::Refused(why) => Failure::new(Code::Conflict, why),
        ReshapeError::NoLeader => {
            Failure::new(Code::NoLeader, "no leader can be reached from here: nothing was changed")
        }
        ReshapeError::Unknown | ReshapeError::Stopped => {
            Failure::new(Code::OutcomeUnknown, "no answer in time: look at the members before you try again")
        }
        ReshapeError::Alone => Failure::new(Code::ReadOnly, error.to_string()),
    })
}

pub(in crate::admin) async fn promote(call: &Call<'_>) -> Result<Reply, Failure> {
    reshape(call, Reshape::Promote(meant(call)?)).await
}

pub(in crate::admin) async fn demote(call: &Call<'_>) -> Result<Reply, Failure> {
    reshape(call, Reshape::Demote(meant(call)?)).await
}

pub(in crate::admin) async fn replace(call: &Call<'_>) -> Result<Reply, Failure> {
    let by =
        call.query("by").ok_or_else(|| Failure::new(ErrorCode::InvalidField, "name who gets the vote: ?by=NODE"))?;
    let (old, new) = (find(call, call.name())?, find(call, by)?);
    carry_out(call, Reshape::Replace { old, new }).await?;
    forget(call, old).await
}

pub(in crate::admin) async fn remove(call: &Call<'_>) -> Result<Reply, Failure> {
    let node = find(call, call.name())?;
    carry_out(call, Reshape::Remove(node)).await?;
    forget(call, node).await
}

/// A node that was taken out is refused whatever it still says.
async fn forget(call: &Call<'_>, node: NodeId) -> Result<Reply, Failure> {
    call.command(Command::RemoveMember(node), true).await?;
    // One that is out itself is told nothing new any more.
    if node != call.state.cluster.process().node {
        call.synchronised().await?;
    }
    Ok(listed(call))
}

/// Takes this node out, and has it stop.
pub(in crate::admin) async fn leave(call: &Call<'_>) -> Result<Reply, Failure> {
    call.check_writable()?;
    call.synchronised().await?;
    let handle = &call.state.cluster;
    let (me, vitals) = (handle.process().node, handle.vitals());
    let others: Vec<NodeId> = vitals.voters.iter().map(|(node, _)| *node).filter(|node| *node != me).collect();
    if others.len() == vitals.voters.len() {
        carry_out(call, Reshape::Remove(me)).await?;
    } else {
        let heir = match call.query("by") {
            Some(name) => Some(find(call, name)?),
            None => vitals.learners.first().map(|(node, _)| *node),
        };
        let Some(heir) = heir else {
            let detail = "this node has a vote, and there is no learner to give it to: let one join first, or demote \
                          this node together with another";
            return Err(Failure::new(Code::Conflict, detail));
        };
        if vitals.role == Role::Leader
            && let Some(next) = others.first()
        {
            carry_out(call, Reshape::TransferLeader(*next)).await?;
        }
        carry_out(call, Reshape::Replace { old: me, new: heir }).await?;
    }
    let reply = match forget(call, me).await {
        Ok(reply) => reply,
        Err(failure) => {
            // It is out; what stays of it is a line among the members.
            tracing::warn!(
                detail = failure.detail,
                "the others may still list this node: `troupe cluster remove` it there"
            );
            listed(call)
        }
    };
    call.state.leave.notify_one();
    Ok(reply)
}

pub(in crate::admin) async fn transfer_leader(call: &Call<'_>) -> Result<Reply, Failure> {
    let to = call.query("to").ok_or_else(|| Failure::new(ErrorCode::InvalidField, "name who is to lead: ?to=NODE"))?;
    reshape(call, Reshape::TransferLeader(find(call, to)?)).await
}

pub(in crate::admin) async fn reseal(call: &Call<'_>) -> Result<Reply, Failure> {
    call.check_writable()?;
    call.check_unconditional()?;
    let resealed = call.state.cluster.reseal(call.note()?).await;
    let resealed = resealed.map_err(|error| Failure::new(Code::Unsealed, error.to_string()))?;
    Ok(reply::json(&json!({ "resealed": resealed })))
}

pub(in crate::admin) async fn snapshot(call: &Call<'_>) -> Result<Reply, Failure> {
    if !call.flag("stale")? {
        call.synchronised().await?;
    }
    let handle = call.state.cluster.clone();
    let made = tokio::task::spawn_blocking(move || {
        let state = handle.state();
        backup::encode(&state, handle.vitals().applied, clock::unix_millis())
    });
    let internal = |why: String| Failure::new(ErrorCode::Internal, why);
    let file = made.await.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
    Ok(reply::body(StatusCode::OK, "application/octet-stream", file))
}

pub(in crate::admin) async fn list_tokens(call: &Call<'_>) -> Result<Reply, Failure> {
    call.synchronised().await?;
    let state = call.state.cluster.state();
    let now = clock::unix_seconds();
    let items: Vec<Value> = state
        .join_tokens()
        .iter()
        .map(|(id, token)| {
            let state = match token.used {
                Some(_) => "used",
                None if token.expires <= now => "expired",
                None => "open",
            };
            json!({
                "name": id.as_str(),
                "state": state,
                "expires": time_text(token.expires),
                "used_by": token.used.map(|node| node.to_string()),
            })
        })
        .collect();
    Ok(reply::json(&json!({ "items": items })))
}

/// The body of a new join token. Each is of use once, so there is no number to ask for.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    expires: Option<String>,
    expires_in: Option<String>,
}

impl NewToken {
    /// When it stops working, in seconds since 1970.
    fn end(&self, call: &Call<'_>) -> Result<i64, Failure> {
        let now = clock::unix_seconds();
        let end = match (self.expires.as_deref(), self.expires_in.as_deref(), call.query("expires_in")) {
            (Some(time), None, None) => token::time(time)?,
            (None, wait, asked) if wait.is_none() || asked.is_none() => {
                let wait = wait.or(asked).map_or(Ok(TOKEN_FOR), str::parse::<Wait>);
                let wait = wait.map_err(|error| token::wrong(format!("expires_in: {error}")))?;
                if wait.0.is_zero() {
                    return Err(token::wrong("expires_in: a token that works for no time lets nobody in"));
                }
                // To whole seconds, and never to less than was asked for.
                now.saturating_add(i64::try_from(wait.0.as_millis().div_ceil(1000)).unwrap_or(i64::MAX))
            }
            _ => return Err(token::wrong("say once when it ends: `expires`, or `expires_in`")),
        };
        if end <= now {
            return Err(token::wrong("a token that has ended already lets nobody in"));
        }
        Ok(end)
    }
}

pub(in crate::admin) async fn make_token(call: &Call<'_>) -> Result<Reply, Failure> {
    let expires = call.read::<NewToken>()?.end(call)?;
    let secret = new_join_token().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    let hash = KeyHash::of(secret.expose().as_bytes());
    // A call that is asked again finds by its own name what it made before.
    let name = match call.note()?.idempotency {
        Some(named) => named.iter().take(4).map(|byte| format!("{byte:02x}")).collect(),
        None => hash.to_string().get(7..15).unwrap_or_default().to_owned(),
    };
    let id = JoinTokenId::new(&name);
    let (_, is_repeated) = call.command(Command::PutJoinToken { id: id.clone(), hash, expires }, false).await?;
    if is_repeated {
        call.synchronised().await?;
        let state = call.state.cluster.state();
        let made = state.join_tokens().get(&id).ok_or_else(|| Failure::not_found("join token", &name))?;
        return Ok(reply::json(&json!({ "name": name, "expires": time_text(made.expires) })));
    }
    let fingerprint = call.state.authority.unwrap_or_default();
    let fingerprint: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = json!({
        "name": name,
        "expires": time_text(expires),
        "token": format!("{}.{fingerprint}", secret.expose()),
    });
    Ok(reply::json(&document))
}

pub(in crate::admin) async fn remove_token(call: &Call<'_>) -> Result<Reply, Failure> {
    call.synchronised().await?;
    let id = JoinTokenId::new(call.name());
    if call.state.cluster.state().join_tokens().get(&id).is_none() && !call.is_repeated()? {
        return Err(Failure::not_found("join token", call.name()));
    }
    call.command(Command::RemoveJoinToken(id), true).await?;
    Ok(reply::json(&json!({ "name": call.name() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_part_after_a_change_follows_from_before() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let seats = |voters: &[u64], learners: &[u64], leader| Seats {
            voters: ids(voters),
            learners: ids(learners),
            leader: Some(NodeId(leader)),
        };
        let before = seats(&[1, 2, 3], &[4, 5], 1);
        let (replace, remove) = (Reshape::Replace { old: NodeId(2), new: NodeId(5) }, Reshape::Remove(NodeId(4)));

        for (change, after) in [
            (Reshape::Promote(ids(&[4, 5])), (Reshaped::Promoted, seats(&[1, 2, 3, 4, 5], &[], 1))),
            (Reshape::Promote(ids(&[1])), (Reshaped::Promoted, before.clone())),
            (Reshape::Demote(ids(&[2, 3])), (Reshaped::Demoted, seats(&[1], &[2, 3, 4, 5], 1))),
            (replace, (Reshaped::Replaced, seats(&[1, 3, 5], &[4], 1))),
            (remove, (Reshaped::Removed, seats(&[1, 2, 3], &[5], 1))),
            (Reshape::TransferLeader(NodeId(3)), (Reshaped::Led, seats(&[1, 2, 3], &[4, 5], 3))),
        ] {
            assert_eq!(reseated(&before, &change), Some(after), "{change:?}");
        }
        let join = Reshape::AddLearner { node: NodeId(6), peer: "gw-6:1".to_owned() };
        assert_eq!(reseated(&before, &join), None, "the door notes who comes in");
    }
}
