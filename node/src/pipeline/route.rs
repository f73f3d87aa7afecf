//! In which order the targets of a pool are tried.

use std::sync::Arc;

use troupe_proto::failure::ErrorCode;

use super::refusal::Refusal;
use crate::view::{Member, Pool};

/// Targets in the order they are to be tried; never empty.
pub(crate) struct Plan {
    pool: Arc<Pool>,
    order: Vec<usize>,
}

impl Plan {
    /// The first choice.
    pub(crate) fn first(&self) -> &Member {
        self.targets().next().expect("a plan without targets is refused when it is made")
    }

    /// The targets, the first choice first.
    fn targets(&self) -> impl Iterator<Item = &Member> {
        self.order.iter().filter_map(|at| self.pool.members.get(*at))
    }
}

/// Plans a call of a model that a client asked for by the name `asked`.
///
/// Within a priority the order is drawn by weight; `dice` gives the next number of a fair die. Members come sorted by
/// priority.
///
/// # Errors
/// `no_target` when no credential is good for the model.
pub(crate) fn route(pool: &Arc<Pool>, asked: &str, mut dice: impl FnMut() -> u64) -> Result<Plan, Refusal> {
    let mut order: Vec<usize> =
        pool.members.iter().enumerate().filter(|(_, member)| member.takes(asked)).map(|(at, _)| at).collect();
    if order.is_empty() {
        let message = format!("no provider key is good for the model {asked:?}");
        return Err(Refusal::new(ErrorCode::NoTarget, message));
    }
    let member = |at: usize| pool.members.get(at);
    let mut rest = order.as_mut_slice();
    while rest.len() > 1 {
        let Some(priority) = rest.first().and_then(|at| member(*at)).map(|first| first.priority) else { break };
        let tier = rest.iter().take_while(|at| member(**at).is_some_and(|m| m.priority == priority)).count();
        let (same, lower) = std::mem::take(&mut rest).split_at_mut(tier);
        shuffle(same, |at| member(at).map_or(1, |m| m.weight), &mut dice);
        rest = lower;
    }
    Ok(Plan { pool: pool.clone(), order })
}

/// Draws an order by weight, without putting back.
fn shuffle(tier: &mut [usize], weight: impl Fn(usize) -> u64, dice: &mut impl FnMut() -> u64) {
    for place in 0..tier.len().saturating_sub(1) {
        let Some(left) = tier.get_mut(place..) else { return };
        let total: u64 = left.iter().fold(0, |sum, at| sum.saturating_add(weight(*at)));
        let mut at = dice() % total.max(1);
        let drawn = left.iter().position(|candidate| {
            let share = weight(*candidate);
            let is_drawn = at < share;
            at = at.saturating_sub(share);
            is_drawn
        });
        left.swap(0, drawn.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_drawn_by_weight() {
        let mut seed = 0;
        let mut first = [0; 2];

        for _ in 0..1000 {
            let mut tier = [0, 1];
            shuffle(&mut tier, |at| [9, 1][at], &mut || {
                seed += 1;
                seed
            });
            first[tier[0]] += 1;
        }

        assert_eq!(first, [900, 100]);
    }

    #[test]
    fn every_target_keeps_a_place() {
        let mut tier = [0, 1, 2, 3];

        shuffle(&mut tier, |_| 1, &mut || 7);

        tier.sort_unstable();
        assert_eq!(tier, [0, 1, 2, 3]);
    }
}
