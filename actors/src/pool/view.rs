use std::time::Duration;

use troupe_proto::unit::PerMille;

use crate::layout::MemberLayout;

/// A view older than this says nothing any more.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(15);
/// What a configured weight of one is in a view.
pub(crate) const WHOLE: u64 = 1_000;

/// What requests read of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its members, in the order of the layout.
    pub members: Vec<MemberView>,
    /// Whether so few members are available that rests for failures are ignored.
    pub is_panicking: bool,
}

/// What requests read of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The weight in force, in thousandths of the configured one: times slow start, times what is left of its quota.
    pub weight: u64,
    /// Mean time to the first token in microseconds, made worse by failures; 0: not known, or too long ago to count.
    pub latency_us: u32,
    /// The share of its calls that failed lately, the client's own faults left out.
    pub failing: PerMille,
}

impl MemberView {
    /// What is read where nothing is known.
    pub(crate) fn neutral(weight: u64) -> Self {
        Self { weight: weight.saturating_mul(WHOLE), latency_us: 0, failing: PerMille::ZERO }
    }
}

impl View {
    /// The pool as configured.
    pub(crate) fn neutral(members: &[MemberLayout]) -> Self {
        let members = members.iter().map(|member| MemberView::neutral(member.weight)).collect();
        Self { members, is_panicking: false }
    }
}
