//! Whether a history of calls on one object could have happened one call at a time (Wing and Gong's search, with Lowe's
//! memory of where it was before).

use std::collections::HashSet;
use std::hash::Hash;

/// What an object does, one call after the other.
pub trait Object {
    /// What it holds.
    type State: Clone + Eq + Hash;
    /// What is asked of it.
    type Ask;
    /// What it answers.
    type Told;

    /// The state after a call; `None` if the call would not have been told that. Without an answer, any will do.
    fn step(state: &Self::State, ask: &Self::Ask, told: Option<&Self::Told>) -> Option<Self::State>;
}

/// A call on the object.
#[derive(Clone, Debug)]
pub struct Call<A, T> {
    /// When it began: a place in the order of all beginnings and ends.
    pub called: u64,
    /// When it ended, and with what. Without it, it may take effect at any time after its beginning, or never.
    pub ended: Option<(u64, T)>,
    /// What was asked.
    pub ask: A,
}

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none; this many calls fit at most.
    Impossible(usize),
    /// The search was given up.
    TooLong,
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Self {
        let mut words = self.0.clone();
        words[at / 64] |= 1 << (at % 64);
        Self(words)
    }
}

/// A place in the search: what was done, what it came to, and what is to be tried next.
struct Place<S> {
    done: Done,
    state: S,
    count: usize,
    /// Calls to try, the first one last.
    next: Vec<usize>,
}

/// Searches for an order of the calls that fits what they were told and when they were made, in `steps_max` steps.
pub fn check<O: Object>(initial: &O::State, calls: &[Call<O::Ask, O::Told>], steps_max: usize) -> Verdict {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by_key(|call| call.called);
    let answered = calls.iter().filter(|call| call.ended.is_some()).count();
    let mut seen: HashSet<(Done, O::State)> = HashSet::new();
    let none = Done(vec![0; calls.len().div_ceil(64)]);
    let mut path = vec![Place { next: candidates(&calls, &none), done: none, state: initial.clone(), count: 0 }];
    let (mut steps, mut best) = (0, 0);
    while let Some(place) = path.last_mut() {
        if place.count == answered {
            return Verdict::Linearizable;
        }
        best = best.max(place.count);
        let Some(at) = place.next.pop() else {
            path.pop();
            continue;
        };
        steps += 1;
        if steps > steps_max {
            return Verdict::TooLong;
        }
        let told = calls[at].ended.as_ref().map(|(_, told)| told);
        let Some(state) = O::step(&place.state, &calls[at].ask, told) else { continue };
        let done = place.done.with(at);
        let count = place.count + usize::from(told.is_some());
        if seen.insert((done.clone(), state.clone())) {
            path.push(Place { next: candidates(&calls, &done), done, state, count });
        }
    }
    Verdict::Impossible(best)
}

/// The calls that may come next: those that began before any call that is not done ended. What ended first is tried
/// first, what never ended last.
fn candidates<A, T>(calls: &[&Call<A, T>], done: &Done) -> Vec<usize> {
    let open = || calls.iter().enumerate().filter(|(at, _)| !done.has(*at));
    let end = |call: &Call<A, T>| call.ended.as_ref().map_or(u64::MAX, |(end, _)| *end);
    let first_end = open().map(|(_, call)| end(call)).min().unwrap_or(u64::MAX);
    let mut next: Vec<usize> = open().take_while(|(_, call)| call.called < first_end).map(|(at, _)| at).collect();
    next.sort_by_key(|at| std::cmp::Reverse(end(calls[*at])));
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Register;

    #[derive(Clone, Copy, Debug)]
    enum Ask {
        Put(u64),
        Get,
    }

    impl Object for Register {
        type State = u64;
        type Ask = Ask;
        type Told = u64;

        fn step(state: &u64, ask: &Ask, told: Option<&u64>) -> Option<u64> {
            match ask {
                Ask::Put(value) => Some(*value),
                Ask::Get => told.is_none_or(|told| told == state).then_some(*state),
            }
        }
    }

    fn put(called: u64, ended: u64, value: u64) -> Call<Ask, u64> {
        Call { called, ended: Some((ended, 0)), ask: Ask::Put(value) }
    }

    fn get(called: u64, ended: u64, value: u64) -> Call<Ask, u64> {
        Call { called, ended: Some((ended, value)), ask: Ask::Get }
    }

    fn lost(called: u64, value: u64) -> Call<Ask, u64> {
        Call { called, ended: None, ask: Ask::Put(value) }
    }

    fn verdict(calls: &[Call<Ask, u64>]) -> Verdict {
        check::<Register>(&0, calls, 10_000)
    }

    #[test]
    fn calls_at_the_same_time_may_be_in_any_order() {
        assert_eq!(verdict(&[put(1, 9, 1), put(2, 8, 2), get(3, 4, 2), get(5, 6, 1)]), Verdict::Linearizable);
        assert_eq!(verdict(&[put(1, 9, 1), put(2, 8, 2), get(3, 4, 1), get(5, 6, 2)]), Verdict::Linearizable);
    }

    #[test]
    fn a_read_that_goes_back_is_impossible() {
        assert!(matches!(verdict(&[put(1, 2, 1), put(3, 4, 2), get(5, 6, 1)]), Verdict::Impossible(_)));
        let back_and_forth = [put(1, 9, 1), put(2, 8, 2), get(3, 4, 2), get(5, 6, 1), get(7, 10, 2)];
        assert!(matches!(verdict(&back_and_forth), Verdict::Impossible(_)));
    }

    #[test]
    fn a_lost_call_takes_effect_late_or_never_and_once() {
        assert_eq!(verdict(&[put(1, 2, 1), lost(3, 2), get(4, 5, 1)]), Verdict::Linearizable);
        assert_eq!(verdict(&[put(1, 2, 1), lost(3, 2), get(4, 5, 1), get(6, 7, 2)]), Verdict::Linearizable);
        assert!(matches!(verdict(&[lost(1, 2), get(2, 3, 2), put(4, 5, 1), get(6, 7, 2)]), Verdict::Impossible(_)));
        assert!(matches!(verdict(&[get(1, 2, 2), lost(3, 2)]), Verdict::Impossible(_)));
    }

    #[test]
    fn a_search_without_an_end_is_given_up() {
        let calls: Vec<_> = (0..30).map(|at| put(at, 100 + at, at)).chain([get(200, 201, 99)]).collect();

        assert_eq!(verdict(&calls), Verdict::TooLong);
    }
}
