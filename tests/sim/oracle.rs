//! What must hold of a run that is over: nothing acknowledged is lost, nothing is done twice, and everybody could have
//! taken their turn.

use std::collections::BTreeSet;

use troupe_cluster::State;
use troupe_cluster::consensus::Machine;
use troupe_proto::command::Reply;

use super::history::{Ask, Keys, SLOTS, Ticket, Token, Told, View, calls};
use super::linear::{Object, Verdict, check};
use super::world::{Applied, Inner, reason, state_hash};

/// How many steps a search may take. Real histories need few more than they have calls.
const STEPS_MAX: usize = 300_000;

/// Checks everything, and notes every breach.
pub fn judge(world: &mut Inner) {
    outcomes(world);
    order(world);
    reads(world);
    replay(world);
    linearizable(world);
}

/// What was acknowledged is there, with the reply that was given; what was refused is not.
fn outcomes(world: &mut Inner) {
    for at in 0..world.history.len() {
        let op = world.history[at].clone();
        let Some((_, told)) = op.ended else { continue };
        if op.ask == Ask::Read {
            continue;
        }
        let places = world.outcomes.get(&op.id).cloned().unwrap_or_default();
        let replies: Vec<&Applied> = places.iter().filter_map(|place| world.log.get(place)).collect();
        let has_effect = replies.iter().any(|applied| applied.has_effect);
        let fits = match &told {
            Told::Never => replies.is_empty(),
            Told::Unknown => true,
            Told::Applied(revision) => {
                replies.iter().any(|applied| matches!(applied.reply, Reply::Applied(r) if r.0 == *revision))
            }
            Told::Conflict(_) | Told::UsedBy(_) | Told::NoToken | Told::Seen(_) => {
                !has_effect && replies.iter().any(|applied| Told::of(&applied.reply).as_ref() == Ok(&told))
            }
        };
        if !fits {
            let breach = format!("op {} ({:?}) was told {told:?}, the log has it at {replies:?}", op.id, op.ask);
            world.record.breach(breach);
        }
    }
}

/// Effects stand in the log in an order that fits when they were asked for and answered.
fn order(world: &mut Inner) {
    let mut effects: Vec<(u64, u64, u64)> = world
        .history
        .iter()
        .filter_map(|op| {
            let place = world.outcomes.get(&op.id)?.iter().copied().find(|at| world.log[at].has_effect)?;
            let ended = match &op.ended {
                Some((ended, Told::Applied(_))) => *ended,
                Some(_) | None => u64::MAX,
            };
            Some((place, op.called, ended))
        })
        .collect();
    effects.sort_unstable();
    let mut latest = (0, 0);
    for (place, called, ended) in effects {
        // Whatever stands before this one must have been asked for before this one was answered.
        if ended < latest.1 {
            let breach = format!("entry {} stands before entry {place}, and was asked for after its answer", latest.0);
            world.record.breach(breach);
        }
        if called > latest.1 {
            latest = (place, called);
        }
    }
}

/// A read sees a state that was there, with everything acknowledged before it and nothing asked for after it.
fn reads(world: &mut Inner) {
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    let mut asked: Vec<(u64, u64)> = Vec::new();
    for op in &world.history {
        let places = world.outcomes.get(&op.id);
        let effect =
            places.and_then(|places| places.iter().find_map(|at| Some(&world.log[at]).filter(|a| a.has_effect)));
        let Some(effect) = effect else { continue };
        asked.push((effect.changes, op.called));
        if let Some((ended, Told::Applied(_))) = &op.ended {
            acknowledged.push((*ended, effect.changes));
        }
    }
    acknowledged.sort_unstable();
    asked.sort_unstable();
    let mut breaches = Vec::new();
    for op in &world.history {
        let Some((ended, Told::Seen(view))) = &op.ended else { continue };
        let must = acknowledged.iter().take_while(|(at, _)| *at < op.called).map(|(_, changes)| *changes).max();
        if must.is_some_and(|must| must > view.changes) {
            breaches.push(format!("op {} read {} changes, but {must:?} were acknowledged before", op.id, view.changes));
        }
        let early = asked.iter().take_while(|(changes, _)| *changes <= view.changes).map(|(_, called)| *called).max();
        if early.is_some_and(|called| called > *ended) {
            breaches.push(format!("op {} read what was asked for later", op.id));
        }
        let was = if view.changes == 0 { Some(&EMPTY) } else { world.views.get(&view.changes) };
        if was != Some(&**view) {
            breaches.push(format!("op {} read {view}, but after as many changes it was {was:?}", op.id));
        }
    }
    for breach in breaches {
        world.record.breach(breach);
    }
}

const EMPTY: View =
    View { changes: 0, revision: 0, keys: [None; SLOTS], tokens: [None; SLOTS], tickets: [None; SLOTS] };

/// The log alone, applied once more from the beginning, gives what every host holds; and what it holds is what its audit
/// tells.
fn replay(world: &mut Inner) {
    let mut state = State::default();
    for (index, applied) in &world.log {
        state.apply(*index, &applied.entry);
    }
    let expected = state_hash(&state);
    let through_bytes = state.save().and_then(|bytes| State::load(&bytes)).map(|state| state_hash(&state));
    if through_bytes.as_ref().ok() != Some(&expected) {
        world.record.breach("a state that was saved and loaded is another one");
    }
    let mut breaches = Vec::new();
    for (at, host) in world.hosts.iter().enumerate() {
        let Some(running) = &host.running else { continue };
        let held = state_hash(&running.handle.state());
        if held != expected {
            breaches.push(format!("{} holds {held}, the log gives {expected}", super::plan::name(at)));
        }
    }
    let told: Vec<String> = state.audit().lines().map(|line| line.body.clone()).collect();
    let effects: BTreeSet<u64> = world.log.iter().filter(|(_, a)| a.has_effect).map(|(at, _)| *at).collect();
    if told.len() < 1_000 && told.len() != effects.len() {
        breaches.push(format!("the audit tells of {} changes, there were {}", told.len(), effects.len()));
    }
    for (op, places) in &world.outcomes {
        let has_effect = places.iter().any(|place| effects.contains(place));
        let needle = format!("\"{}\"", reason(*op));
        let lines = told.iter().filter(|line| line.contains(&needle)).count();
        if told.len() < 1_000 && lines != usize::from(has_effect) {
            breaches.push(format!("the audit tells of op {op} {lines} times"));
        }
    }
    for breach in breaches {
        world.record.breach(breach);
    }
}

fn linearizable(world: &mut Inner) {
    thing::<Keys>(world, "the keys", &(0, [None; SLOTS]), |ask| {
        matches!(ask, Ask::PutKey { .. } | Ask::RemoveKey { .. } | Ask::Read)
    });
    slot::<0>(world);
    slot::<1>(world);
    slot::<2>(world);
    slot::<3>(world);
}

fn slot<const SLOT: usize>(world: &mut Inner) {
    thing::<Token<SLOT>>(world, "an operator's token", &None, |ask| match ask {
        Ask::PutToken { slot, .. } | Ask::RemoveToken { slot } => *slot == SLOT,
        Ask::Read => true,
        Ask::PutKey { .. } | Ask::RemoveKey { .. } | Ask::Issue { .. } | Ask::Claim { .. } => false,
    });
    thing::<Ticket<SLOT>>(world, "a join token", &None, |ask| match ask {
        Ask::Issue { slot, .. } | Ask::Claim { slot, .. } => *slot == SLOT,
        Ask::Read => true,
        Ask::PutKey { .. } | Ask::RemoveKey { .. } | Ask::PutToken { .. } | Ask::RemoveToken { .. } => false,
    });
}

fn thing<O: Object<Ask = Ask, Told = Told>>(
    world: &mut Inner,
    what: &str,
    initial: &O::State,
    concerns: impl Fn(&Ask) -> bool,
) {
    let calls = calls(&world.history, concerns);
    match check::<O>(initial, &calls, STEPS_MAX) {
        Verdict::Linearizable => world.record.count("histories checked"),
        Verdict::Impossible(most) => {
            let breach = format!("{what}: no order of its {} calls fits, of at most {most} one does", calls.len());
            world.record.breach(breach);
        }
        Verdict::TooLong => world.record.count("histories undecided"),
    }
}
