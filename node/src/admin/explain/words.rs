//! The sentences of a report.

use std::time::Duration;

use troupe_actors::{Belief, Why};
use troupe_proto::health::Finding;

use super::facts::{MemberFacts, Standing};

/// Why a target rests, for people.
const fn reason(why: Why) -> &'static str {
    match why {
        Why::Failures => "it failed too often",
        Why::Unreachable => "it cannot be reached",
        Why::Credential => "the provider refused its key",
        Why::Quota => "its account is out of quota",
        Why::RetryAfter => "the provider said when to come again",
        Why::Paced => "its quota is nearly used up",
    }
}

/// Why a member cannot be called now.
pub(super) fn out(member: &MemberFacts) -> String {
    match member.standing {
        Standing::Resting { ends_in, why } => {
            let again = match member.streak {
                0 | 1 => String::new(),
                streak => format!(", for the {} time in a row", ordinal(streak)),
            };
            let by = if member.is_told { ", as other nodes say" } else { "" };
            format!("rests{again}{by}: {}; {} to go", reason(why), span(ends_in))
        }
        Standing::Probed => "its rest is over, and the call that decides is under way".to_owned(),
        Standing::Full { limit } => {
            format!("has {} calls in flight, as many as its limit of {limit} allows", member.in_flight)
        }
        Standing::Off => "an operator switched its provider off: nobody calls it".to_owned(),
        Standing::Ready | Standing::Probation => String::new(),
    }
}

/// What another node believes.
pub(super) fn says(belief: &Belief) -> String {
    let mut parts = Vec::new();
    if let Some((why, left)) = belief.rests {
        parts.push(format!("it rests there: {}; {} to go", reason(why), span(left)));
    }
    if belief.suspects {
        parts.push("a call reached nobody".to_owned());
    }
    if let Some(ago) = belief.worked {
        parts.push(format!("a call went well {} ago", span(ago)));
    }
    if let Some((finding, ago)) = belief.probe {
        let found = match finding {
            Finding::Alive => "found it well",
            Finding::Answers => "got an answer",
            Finding::Dead => "reached nobody",
            Finding::CredentialRefused => "was told that the key is no good",
            Finding::Unknown => "learned nothing",
        };
        parts.push(format!("its probe {} ago {found}", span(ago)));
    }
    if parts.is_empty() {
        parts.push("nothing to find fault with".to_owned());
    }
    // Why it may count for nothing.
    let caveats = [
        (!belief.is_same_credential, "with another key or address"),
        (belief.is_cut_off, "it reaches no provider at all"),
        (!belief.counts, "not heard of any more"),
    ];
    let caveats: Vec<&str> = caveats.iter().filter(|(holds, _)| *holds).map(|(_, caveat)| *caveat).collect();
    let text = parts.join("; ");
    if caveats.is_empty() { text } else { format!("{text} ({})", caveats.join(", ")) }
}

/// What speaks for or against a member that can be called.
pub(super) fn remarks(member: &MemberFacts) -> String {
    let mut remarks = String::new();
    let mut add = |remark: String| {
        remarks.push_str("; ");
        remarks.push_str(&remark);
    };
    match member.standing {
        Standing::Probation => add("its rest is over, and the next call decides".to_owned()),
        Standing::Resting { why, .. } => {
            add(format!("it rests ({}), which a panicking pool ignores", reason(why)));
        }
        Standing::Ready | Standing::Probed | Standing::Off | Standing::Full { .. } => {}
    }
    if member.weight_now < member.weight {
        add(format!("{} of its weight counts now", percent(member.weight_now, member.weight)));
    }
    remarks
}

/// A share as people read it; never 0 % for what is more than nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    match tenths {
        0 if part > 0 => "less than 0.1 %".to_owned(),
        tenths if tenths % 10 == 0 => format!("{} %", tenths / 10),
        tenths => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

fn span(wait: Duration) -> String {
    match wait.as_secs() {
        0..60 => format!("{}.{} s", wait.as_secs(), wait.subsec_millis() / 100),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn ordinal(n: u32) -> String {
    let ending = match (n % 10, n % 100) {
        (1, teens) if teens != 11 => "st",
        (2, teens) if teens != 12 => "nd",
        (3, teens) if teens != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([1, 2, 3, 4, 11, 22].map(ordinal), ["1st", "2nd", "3rd", "4th", "11th", "22nd"]);
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 4), "25 %");
        assert_eq!(percent(1, 100_000), "less than 0.1 %");
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(span(Duration::from_millis(3250)), "3.2 s");
        assert_eq!(span(Duration::from_secs(1790)), "29 min 50 s");
        assert_eq!(span(Duration::from_secs(7260)), "2 h 1 min");
    }
}
