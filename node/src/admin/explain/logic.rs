use std::time::Duration;

use troupe_actors::Why;
use troupe_proto::failure::ErrorCode;

use super::facts::{Facts, KeyFacts, MemberFacts, NodeBelief, PoolFacts, Question, Standing};
use super::report::{NodeReport, Place, PoolReport, Report, State, TargetReport};
use super::words;

/// Says where the next call goes, and why it goes nowhere else.
///
/// `is_clearly_worse(a, b)` is the router's own judgement: whether `a`, drawn first, loses its turn to `b`.
pub fn explain(
    question: &Question,
    facts: &Facts,
    is_clearly_worse: impl Fn(&MemberFacts, &MemberFacts) -> bool,
) -> Report {
    let refusal = refusal(question, facts);
    let mut is_served = refusal.is_some();
    let mut pools = Vec::new();
    for (at, pool) in facts.pools.iter().enumerate() {
        let place = if at == 0 { Place::Asked } else { Place::Fallback };
        let turn = match &refusal {
            Some(_) => Turn::Never("the call is refused before any target is asked"),
            None if !pool.is_allowed => Turn::Never("the key may not use this model"),
            None if is_served => Turn::Later("a model before this one can serve"),
            None => Turn::Now,
        };
        let report = pool_report(pool, place, turn, &is_clearly_worse);
        is_served |= report.targets.iter().any(|target| target.state == State::Serves);
        pools.push(report);
    }
    let serves = likeliest(&pools).map(|target| target.target.clone());
    let error = match (&serves, &refusal) {
        (Some(_), _) => None,
        (None, Some((code, _))) => Some(*code),
        (None, None) => Some(nothing_serves(facts)),
    };
    Report {
        asked: question.model.clone(),
        key: question.key.clone(),
        pin: question.target.clone(),
        verdict: verdict(&pools, refusal.as_ref(), error),
        serves,
        error: error.map(|code| code.as_str().to_owned()),
        pools,
    }
}

/// Whether a pool is asked.
#[derive(Clone, Copy)]
enum Turn {
    /// It is its turn.
    Now,
    /// Others come first, because.
    Later(&'static str),
    /// It is not asked at all, because.
    Never(&'static str),
}

/// Why the call is refused whatever the targets are up to.
fn refusal(question: &Question, facts: &Facts) -> Option<(ErrorCode, String)> {
    let asked = facts.pools.first()?;
    if let Some(KeyFacts { id, may_pin, is_expired }) = &facts.key {
        if *is_expired {
            return Some((ErrorCode::KeyExpired, format!("the time of key {id} has run out")));
        }
        if !asked.is_allowed {
            return Some((ErrorCode::ModelForbidden, format!("key {id} may not use the model {:?}", question.model)));
        }
        if question.target.is_some() && !may_pin {
            return Some((ErrorCode::PinForbidden, format!("key {id} may not choose its target")));
        }
    }
    let allowed = || facts.pools.iter().filter(|pool| pool.is_allowed).flat_map(|pool| &pool.members);
    if let Some(target) = &question.target
        && !allowed().any(|member| member.takes && member.is_pinned)
    {
        return Some((ErrorCode::InvalidField, format!("the model {:?} has no target {target}", question.model)));
    }
    if !allowed().any(is_called) && allowed().any(is_fit) {
        let message = format!("every provider of the model {:?} is switched off by an operator", question.model);
        return Some((ErrorCode::NoTarget, message));
    }
    if !allowed().any(|member| member.takes) {
        let message = format!("no provider key is good for the model {:?}", question.model);
        return Some((ErrorCode::NoTarget, message));
    }
    None
}

/// What a client is told when every target is out: to slow down if that is all that is wrong.
fn nothing_serves(facts: &Facts) -> ErrorCode {
    let mut fit =
        facts.pools.iter().filter(|pool| pool.is_allowed).flat_map(|pool| &pool.members).filter(|m| is_called(m));
    let waits = |member: &MemberFacts| match member.standing {
        Standing::Resting { why, .. } => matches!(why, Why::RetryAfter | Why::Paced),
        Standing::Ready | Standing::Probation | Standing::Probed | Standing::Off | Standing::Full { .. } => false,
    };
    if fit.all(waits) { ErrorCode::ProviderRateLimited } else { ErrorCode::NoTarget }
}

/// Whether it could be called if nothing kept it for a while.
fn is_called(member: &MemberFacts) -> bool {
    is_fit(member) && member.standing != Standing::Off
}

const fn is_fit(member: &MemberFacts) -> bool {
    member.takes && member.is_pinned
}

/// Whether the router may enter it now.
const fn is_open(member: &MemberFacts, is_panicking: bool) -> bool {
    match member.standing {
        Standing::Ready | Standing::Probation => true,
        Standing::Resting { why, .. } => is_panicking && why.is_soft(),
        Standing::Probed | Standing::Off | Standing::Full { .. } => false,
    }
}

fn pool_report(
    pool: &PoolFacts,
    place: Place,
    turn: Turn,
    is_clearly_worse: &impl Fn(&MemberFacts, &MemberFacts) -> bool,
) -> PoolReport {
    let can_serve = |member: &MemberFacts| is_fit(member) && is_open(member, pool.is_panicking);
    let best = pool.members.iter().filter(|member| can_serve(member)).map(|member| member.priority).min();
    let tier: Vec<&MemberFacts> =
        pool.members.iter().filter(|member| can_serve(member) && Some(member.priority) == best).collect();
    let shares = shares(&tier, is_clearly_worse);
    let targets = pool.members.iter().map(|member| {
        let share = tier.iter().zip(&shares).find(|(other, _)| std::ptr::eq(**other, member)).map(|(_, share)| *share);
        let (state, why) = match turn {
            // Said also where the call is refused because of it.
            Turn::Never(_) | Turn::Now | Turn::Later(_) if member.standing == Standing::Off => {
                (State::Off, words::out(member))
            }
            Turn::Never(why) => (State::Refused, why.to_owned()),
            Turn::Now | Turn::Later(_) if !member.takes => {
                (State::Unfit, "its provider's key is not good for this model".to_owned())
            }
            Turn::Now | Turn::Later(_) if !member.is_pinned => {
                (State::NotPinned, "the call chooses another target".to_owned())
            }
            Turn::Now | Turn::Later(_) if !is_open(member, pool.is_panicking) => {
                (out_state(member), words::out(member))
            }
            Turn::Later(why) => (State::StandsBy, format!("{why}{}", words::remarks(member))),
            Turn::Now => match share {
                Some(share) => (State::Serves, chosen(member, share, tier.len())),
                None => {
                    (State::StandsBy, format!("priority {} comes first{}", best.unwrap_or(0), words::remarks(member)))
                }
            },
        };
        let share = share.filter(|_| state == State::Serves);
        target_report(member, pool, state, why, share)
    });
    let (model, is_panicking) = (pool.model.to_string(), pool.is_panicking);
    PoolReport { model, place, is_panicking, retries_left: pool.retries_left, targets: targets.collect() }
}

const fn out_state(member: &MemberFacts) -> State {
    match member.standing {
        Standing::Resting { .. } => State::Rests,
        Standing::Probed => State::Probed,
        Standing::Full { .. } => State::Full,
        Standing::Off => State::Off,
        Standing::Ready | Standing::Probation => State::StandsBy,
    }
}

fn chosen(member: &MemberFacts, share: f64, rivals: usize) -> String {
    let share = match rivals {
        0 | 1 => "the only one that can be chosen now".to_owned(),
        _ => format!("chosen for {share:.1} % of the next calls"),
    };
    share + &words::remarks(member)
}

/// The share of the next calls that each of a tier gets, in percent: two are drawn by weight, and the second takes the
/// turn of the first if that is clearly worse. Each draw is summed up, so the shares are exact, not sampled.
fn shares(tier: &[&MemberFacts], is_clearly_worse: &impl Fn(&MemberFacts, &MemberFacts) -> bool) -> Vec<f64> {
    let weight = |member: &MemberFacts| as_f64(member.weight_now.max(1));
    let total: f64 = tier.iter().map(|member| weight(member)).sum();
    let mut shares = vec![0.0; tier.len()];
    for (first_at, first) in tier.iter().enumerate() {
        let first_drawn = weight(first) / total;
        let others = total - weight(first);
        for (second_at, second) in tier.iter().enumerate().filter(|(at, _)| *at != first_at) {
            let drawn = first_drawn * weight(second) / others;
            let winner = if is_clearly_worse(first, second) { second_at } else { first_at };
            if let Some(share) = shares.get_mut(winner) {
                *share += drawn * 100.0;
            }
        }
    }
    if let [only] = shares.as_mut_slice() {
        *only = 100.0;
    }
    shares
}

fn target_report(
    member: &MemberFacts,
    pool: &PoolFacts,
    state: State,
    why: String,
    share_percent: Option<f64>,
) -> TargetReport {
    let tier = pool.members.iter().filter(|other| other.priority == member.priority);
    let whole = tier.fold(0u64, |sum, other| sum.saturating_add(other.weight));
    let (rests_for, rest_ends_in_ms) = match member.standing {
        Standing::Resting { ends_in, why } => (Some(why.as_str().to_owned()), Some(millis(ends_in))),
        Standing::Ready | Standing::Probation | Standing::Probed | Standing::Off | Standing::Full { .. } => {
            (None, None)
        }
    };
    TargetReport {
        target: member.target.to_string(),
        state,
        why,
        share_percent: share_percent.map(rounded),
        priority: member.priority,
        weight_percent: part_percent(member.weight, whole),
        weight_now_percent: part_percent(member.weight_now, member.weight),
        first_token_ms: member.first_token.map(|latency| rounded(latency.as_secs_f64() * 1000.0)),
        failing_percent: f64::from(member.failing.get()) / 10.0,
        in_flight: member.in_flight,
        in_flight_max: member.in_flight_max,
        failures: member.failures,
        streak: member.streak,
        rests_for,
        rest_ends_in_ms,
        quota_left_percent: member.quota_left.map(|left| f64::from(left.get()) / 10.0),
        is_told: member.is_told,
        nodes: member.beliefs.iter().map(node_report).collect(),
    }
}

/// What another node believes, as operators read it.
pub(crate) fn node_report(told: &NodeBelief) -> NodeReport {
    let belief = &told.belief;
    NodeReport {
        node: told.node.clone(),
        says: words::says(belief),
        counts: belief.counts && belief.is_same_credential,
        rests_for: belief.rests.map(|(why, _)| why.as_str().to_owned()),
        rest_ends_in_ms: belief.rests.map(|(_, left)| millis(left)),
    }
}

fn likeliest(pools: &[PoolReport]) -> Option<&TargetReport> {
    let chosen = pools.iter().flat_map(|pool| &pool.targets).filter(|target| target.state == State::Serves);
    // The first of equals, so that the answer does not change with the order of the list.
    chosen.reduce(|best, other| if other.share_percent > best.share_percent { other } else { best })
}

fn verdict(pools: &[PoolReport], refusal: Option<&(ErrorCode, String)>, error: Option<ErrorCode>) -> String {
    if let Some((code, message)) = refusal {
        return format!("refused with {} ({}): {message}", code.status(), code.as_str());
    }
    let serving = pools.iter().find(|pool| pool.targets.iter().any(|target| target.state == State::Serves));
    match (serving, likeliest(pools), error) {
        (Some(pool), Some(target), _) => {
            let by = match pool.place {
                Place::Asked => String::new(),
                Place::Fallback => format!(" by the fallback {:?}", pool.model),
            };
            let count = pool.targets.iter().filter(|target| target.state == State::Serves).count();
            match count {
                1 => format!("served{by} at {}", target.target),
                count => format!("served{by} by one of {count} targets, most likely {}", target.target),
            }
        }
        (None, _, Some(code)) => {
            format!("refused with {} ({}): no target can serve now", code.status(), code.as_str())
        }
        (Some(_), None, _) | (None, _, None) => String::new(),
    }
}

fn part_percent(part: u64, whole: u64) -> f64 {
    rounded(as_f64(part) * 100.0 / as_f64(whole.max(1)))
}

/// To a tenth: more digits would not be true a moment later.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a share for people: the 53rd bit of a weight is nothing to them")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}
