//! Whether datagrams pass between this node and another one, as both tell.

use serde_json::Value;

use super::Finding;
use crate::cli::print::text;

/// A member that is silent for longer does not get through: each pair exchanges something every second or so.
const SILENT_MS: u64 = 10_000;

/// What one side hears of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Its own datagrams come.
    Itself(u64),
    /// Others speak of it; nothing came from itself for so long, or ever.
    ThroughOthers(Option<u64>),
    /// It was heard, and is silent for so long.
    Dead(Option<u64>),
    /// Nothing was ever heard of it.
    Never,
}

/// What is told of a member.
fn heard(member: &Value) -> Heard {
    let millis = |field: &str| member.get(field).and_then(Value::as_u64);
    match (member.get("alive").and_then(Value::as_bool), millis("heard_ms")) {
        (Some(true), Some(ago)) if ago <= SILENT_MS => Heard::Itself(ago),
        // A build before this one does not tell who was heard by whom.
        (Some(true), None) if member.get("heard_ms").is_none() => Heard::Itself(millis("seen_ms").unwrap_or(0)),
        (Some(true), ago) => Heard::ThroughOthers(ago),
        (Some(false), ago) => Heard::Dead(ago.or(millis("seen_ms"))),
        (None, _) => Heard::Never,
    }
}

const ADVICE: &str = "let UDP pass on the peer port both ways, also where TCP passes; `who is refused here` and the clocks \
                      say whether they come and are not taken. If it is down, start it";

/// Whether datagrams of a member come here. `here` is what this node tells of it.
pub(super) fn from(here: &Value) -> Finding {
    let name = text(here, "name");
    judge(format!("datagrams of {name}"), heard(here), "this node hears", "it")
}

/// Whether those of this node come there. `there` is what the other one tells of this node.
pub(super) fn to(name: &str, there: &Value) -> Option<Finding> {
    let finding = judge(format!("datagrams to {name}"), heard(there), "it hears", "this node");
    // What is well was said already, from the other side.
    (finding.verdict != super::Verdict::Good).then_some(finding)
}

fn judge(what: String, heard: Heard, who: &str, whom: &str) -> Finding {
    let ago = |ago: Option<u64>| match ago {
        Some(ago) => format!("for {} s", ago / 1000),
        None => "since it was started".to_owned(),
    };
    match heard {
        Heard::Itself(millis) => Finding::good(what, format!("the last one came {millis} ms ago")),
        Heard::ThroughOthers(silent) => Finding::doubtful(
            what,
            format!("{who} of {whom} from others only: none came from {whom} {}", ago(silent)),
            ADVICE,
        ),
        Heard::Dead(silent) => Finding::bad(what, format!("{who} nothing of {whom} {}", ago(silent)), ADVICE),
        Heard::Never => Finding::bad(what, format!("{who} nothing of {whom}, and never did"), ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn datagrams_that_do_not_come_are_told_from_a_node_that_others_hear() {
        let told = |alive: Value, seen: Value, heard: Value| {
            from(&json!({"name": "gw-2", "alive": alive, "seen_ms": seen, "heard_ms": heard}))
        };

        let well = told(json!(true), json!(90), json!(120));
        let others = told(json!(true), json!(90), json!(61_000));
        let never_itself = told(json!(true), json!(90), json!(null));
        let dead = told(json!(false), json!(45_000), json!(45_000));
        let never = told(json!(null), json!(null), json!(null));

        let findings = [well, others, never_itself, dead, never];
        let verdicts = findings.each_ref().map(|finding| finding.verdict);
        assert_eq!(
            verdicts,
            [Verdict::Good, Verdict::Doubtful, Verdict::Doubtful, Verdict::Bad, Verdict::Bad],
            "{findings:?}"
        );
        assert!(findings[1].seen.ends_with("none came from it for 61 s"), "{findings:?}");
        assert!(findings[3].seen.ends_with("nothing of it for 45 s"), "{findings:?}");
    }

    #[test]
    fn the_other_direction_is_told_only_where_it_is_not_well() {
        let there = |alive: bool, heard: u64| json!({"name": "gw-1", "alive": alive, "heard_ms": heard});

        assert_eq!(to("gw-2", &there(true, 80)), None);
        let finding = to("gw-2", &there(false, 20_000)).unwrap();
        assert_eq!((finding.verdict, finding.what.as_str()), (Verdict::Bad, "datagrams to gw-2"));
        assert!(finding.seen.contains("it hears nothing of this node for 20 s"), "{finding:?}");
        // An older build: what it saw is all there is.
        assert_eq!(to("gw-2", &json!({"alive": true, "seen_ms": 3})), None);
    }
}
