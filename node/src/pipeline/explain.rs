//! What a call would meet at this moment, told to an operator instead of walked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use troupe_actors::{Standing as Stands, Target};
use troupe_proto::failure::ErrorCode;
use troupe_proto::id::{KeyId, TargetId};
use troupe_proto::spec::{self, Table};
use troupe_proto::unit::PerMille;

use super::controls::Pin;
use super::pick::{Seen, is_clearly_worse};
use crate::admin::explain::{self, Facts, KeyFacts, MemberFacts, NodeBelief, PoolFacts, Question, Report, Standing};
use crate::clock;
use crate::config::nearest;
use crate::view::{Member, Pool, View};

/// What other nodes believe of a target.
pub(crate) type Beliefs<'a> = &'a dyn Fn(&Target) -> Vec<NodeBelief>;

/// Says where a call would go now, and why nowhere else.
///
/// # Errors
/// The code and the sentence: the model or the key does not exist, or the target is not named as one.
pub(crate) fn explain(
    view: &View,
    keys: &Table<KeyId, spec::Key>,
    question: &Question,
    beliefs: Beliefs<'_>,
) -> Result<Report, (ErrorCode, String)> {
    let key = match &question.key {
        Some(name) => Some(keys.get_key_value(name.as_str()).ok_or_else(|| no_such_key(name, keys))?),
        None => None,
    };
    let pin = match &question.target {
        Some(target) => Some(Pin::parse(target).map_err(|refusal| (refusal.code, refusal.message.into()))?),
        None => None,
    };
    let asked = question.model.as_str();
    let pool = view.pool(asked).ok_or_else(|| no_such_model(asked, view))?;
    let now = clock::now();
    let pools = pools(view, pool, asked, |name| key.is_none_or(|(_, key)| key.may_use(name)));
    let facts = Facts {
        key: key.map(|(id, key)| KeyFacts {
            id: id.clone(),
            may_pin: key.pin,
            is_expired: key.is_expired(clock::unix_seconds()),
        }),
        pools: pools.iter().map(|stage| pool_facts(stage, pin.as_ref(), beliefs, now)).collect(),
    };
    Ok(explain::explain(question, &facts, is_worse))
}

fn no_such_model(asked: &str, view: &View) -> (ErrorCode, String) {
    let names = view.model_names();
    (ErrorCode::ModelNotFound, format!("no model serves the name {asked:?}{}", hint(nearest(asked, names.into_iter()))))
}

fn no_such_key(name: &str, keys: &Table<KeyId, spec::Key>) -> (ErrorCode, String) {
    let hint = hint(nearest(name, keys.keys().map(KeyId::as_str)));
    (ErrorCode::InvalidField, format!("there is no virtual key {name:?}{hint}"))
}

fn hint(near: Option<&str>) -> String {
    near.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default()
}

/// A model on the way of the call.
struct Stage<'a> {
    asked: &'a str,
    pool: &'a Arc<Pool>,
    is_allowed: bool,
}

/// The asked model, its fallbacks and theirs, in the order of a plan. One that the key may not use is told and not
/// followed.
fn pools<'a>(view: &'a View, pool: &'a Arc<Pool>, asked: &'a str, may_use: impl Fn(&str) -> bool) -> Vec<Stage<'a>> {
    let mut stages = vec![Stage { asked, pool, is_allowed: may_use(asked) }];
    let mut at = 0;
    while let Some(stage) = stages.get(at) {
        let followed: &[_] = if stage.is_allowed { &stage.pool.fallbacks } else { &[] };
        for name in followed {
            let name = name.as_str();
            if let Some(pool) = view.pool(name).filter(|_| stages.iter().all(|stage| stage.asked != name)) {
                stages.push(Stage { asked: name, pool, is_allowed: may_use(name) });
            }
        }
        at += 1;
    }
    stages
}

fn pool_facts(stage: &Stage<'_>, pin: Option<&Pin>, beliefs: Beliefs<'_>, now: Instant) -> PoolFacts {
    let pool = stage.pool;
    let learned = pool.cell.view();
    let members = pool.members.iter().enumerate().filter_map(|(at, member)| {
        let target = pool.cell.target(at, stage.asked)?;
        let report = target.report(now);
        let weight = member.weight.saturating_mul(WEIGHT_WHOLE);
        let seen = learned.members.get(at);
        Some(MemberFacts {
            target: target_id(member, stage.asked),
            takes: member.takes(stage.asked),
            is_pinned: pin.is_none_or(|pin| pin.means(member, stage.asked)),
            priority: member.priority,
            weight,
            weight_now: seen.map_or(weight, |seen| seen.weight),
            first_token: seen.and_then(|seen| latency(seen.latency_us)),
            failing: seen.map(|seen| seen.failing).unwrap_or_default(),
            in_flight: report.in_flight,
            in_flight_max: report.limit,
            standing: standing(pool.cell.standing(at, &target, now), report.standing, now),
            failures: report.failures,
            streak: report.streak,
            quota_left: report.quota.map(|quota| quota.remaining),
            is_told: report.is_told,
            beliefs: beliefs(&target),
        })
    });
    let off = pool.off.iter().map(|member| off_facts(member, stage, pin));
    // The last one that serves is asked though it rests: a panic of its own.
    let spares = (0..pool.members.len())
        .any(|at| pool.cell.target(at, stage.asked).is_some_and(|target| pool.cell.is_spared(at, &target, now)));
    PoolFacts {
        model: pool.id.clone(),
        asked: stage.asked.to_owned(),
        is_allowed: stage.is_allowed,
        is_panicking: learned.is_panicking || spares,
        retries_left: Some(pool.cell.retries.left(now)),
        members: members.chain(off).collect(),
    }
}

/// Nothing is learned of a target that nobody calls.
fn off_facts(member: &Member, stage: &Stage<'_>, pin: Option<&Pin>) -> MemberFacts {
    let weight = member.weight.saturating_mul(WEIGHT_WHOLE);
    MemberFacts {
        target: target_id(member, stage.asked),
        takes: member.takes(stage.asked),
        is_pinned: pin.is_none_or(|pin| pin.means(member, stage.asked)),
        priority: member.priority,
        weight,
        weight_now: 0,
        first_token: None,
        failing: PerMille::ZERO,
        in_flight: 0,
        in_flight_max: None,
        standing: Standing::Off,
        failures: 0,
        streak: 0,
        quota_left: None,
        is_told: false,
        beliefs: Vec::new(),
    }
}

/// Views tell weights in thousandths of the configured ones.
const WEIGHT_WHOLE: u64 = 1_000;

fn target_id(member: &Member, asked: &str) -> TargetId {
    TargetId {
        provider: member.provider.id.clone(),
        credential: member.credential.as_ref().map(|credential| credential.id.clone()),
        model: member.model.clone().unwrap_or_else(|| asked.into()),
    }
}

fn latency(us: u32) -> Option<Duration> {
    (us > 0).then(|| Duration::from_micros(us.into()))
}

/// How a target stands in its pool. One that only serves because its pool panics is told as what it is: resting.
fn standing(in_pool: Stands, alone: Stands, now: Instant) -> Standing {
    let stands = match (in_pool, alone) {
        (Stands::Ready, Stands::Resting { .. }) => alone,
        (Stands::Ready | Stands::Probation | Stands::Probed | Stands::Resting { .. } | Stands::Full { .. }, _) => {
            in_pool
        }
    };
    match stands {
        Stands::Ready => Standing::Ready,
        Stands::Probation => Standing::Probation,
        Stands::Probed => Standing::Probed,
        Stands::Resting { until, why } => Standing::Resting { ends_in: until.saturating_duration_since(now), why },
        Stands::Full { limit } => Standing::Full { limit },
    }
}

/// The router's own judgement of the first and the second one drawn.
fn is_worse(first: &MemberFacts, second: &MemberFacts) -> bool {
    let mean = (first.weight_now.max(1) + second.weight_now.max(1)) / 2;
    let seen = |member: &MemberFacts| Seen {
        latency_us: member.first_token.map_or(0, |latency| u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)),
        failing: member.failing.get().into(),
        in_flight: member.in_flight,
        share: (member.weight_now.max(1), mean),
    };
    is_clearly_worse(&seen(first), &seen(second))
}
