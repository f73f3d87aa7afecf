//! How far the clocks of two nodes are apart.

use serde_json::Value;

use super::Finding;

/// Clocks this far apart are worth a word: expiries are judged by each node's own.
const APART_DOUBTFUL_MS: i64 = 1_000;
/// This far apart, datagrams are refused, and certificates and expiries are judged differently.
const APART_BAD_MS: i64 = 30_000;

/// How far a clock is ahead of the one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    millis: i64,
    /// It may be so much less, or more: half of the time that the question and its answer took.
    give_or_take: i64,
}

impl Ahead {
    /// Of a node that said what time it is, somewhere between `began` and `ended` here, in milliseconds since 1970.
    pub(super) fn of(node: &Value, began: i64, ended: i64) -> Option<Self> {
        let theirs = node.get("time_ms").and_then(Value::as_i64)?;
        let (middle, took) = (began.midpoint(ended), ended.saturating_sub(began).max(0));
        Some(Self { millis: theirs.saturating_sub(middle), give_or_take: took / 2 + took % 2 })
    }

    /// By what another node's datagrams say, in seconds.
    pub(super) fn heard(seconds: f64) -> Option<Self> {
        let millis: i64 = format!("{:.0}", seconds * 1000.0).parse().ok()?;
        Some(Self { millis, give_or_take: 0 })
    }

    /// What is certain of it.
    const fn at_least(self) -> i64 {
        self.millis.saturating_abs().saturating_sub(self.give_or_take)
    }
}

pub(super) fn judge(name: &str, ahead: Ahead) -> Finding {
    let what = format!("clock of {name}");
    let (seconds, millis) = (ahead.millis.unsigned_abs() / 1000, ahead.millis.unsigned_abs() % 1000);
    let side = if ahead.millis < 0 { "behind" } else { "ahead of" };
    let seen = format!("{seconds}.{millis:03} s {side} the one here, give or take {} ms", ahead.give_or_take);
    let advice = "let chrony or systemd-timesyncd set both: expiries and certificates are judged by each node's own, and \
                  datagrams from 30 s off are refused";
    match ahead.at_least() {
        APART_BAD_MS.. => Finding::bad(what, seen, advice),
        APART_DOUBTFUL_MS.. => Finding::doubtful(what, seen, advice),
        _ => Finding::good(what, seen),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_is_certain_of_it() {
        let at = |theirs: i64, took: i64| {
            let ahead = Ahead::of(&json!({ "time_ms": theirs }), 100_000, 100_000 + took).unwrap();
            let finding = judge("gw-2", ahead);
            (finding.verdict, finding.seen)
        };

        assert_eq!(at(100_050, 100), (Verdict::Good, "0.000 s ahead of the one here, give or take 50 ms".to_owned()));
        // A second and a half, of which a second may be the way there.
        assert_eq!(at(102_500, 2_000).0, Verdict::Good);
        assert_eq!(at(101_200, 10), (Verdict::Doubtful, "1.195 s ahead of the one here, give or take 5 ms".to_owned()));
        assert_eq!(at(60_000, 0), (Verdict::Bad, "40.000 s behind the one here, give or take 0 ms".to_owned()));
        assert_eq!(at(i64::MIN, 0).0, Verdict::Bad);
        assert_eq!(Ahead::of(&json!({}), 0, 0), None);
        assert_eq!(judge("gw-2", Ahead::heard(-31.5).unwrap()).verdict, Verdict::Bad);
    }
}
