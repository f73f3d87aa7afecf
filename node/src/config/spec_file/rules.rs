use std::fmt::Display;
use std::str::FromStr;

use troupe_proto::spec::{Breaker, Retries, Rules, Timeouts};
use troupe_proto::unit::Wait;

use super::sections::{BREAKER, RETRIES, TIMEOUTS};
use crate::config::source::{Found, Table};

/// The rules that stand in a table, be it the defaults, a provider or a model.
pub(super) fn read(table: &Table<'_>) -> Rules {
    let timeouts = table.get("timeouts").and_then(|found| found.table(&TIMEOUTS));
    let retries = table.get("retries").and_then(|found| found.table(&RETRIES));
    let breaker = table.get("breaker").and_then(|found| found.table(&BREAKER));
    Rules {
        timeouts: timeouts.map(|table| read_timeouts(&table)).unwrap_or_default(),
        retries: retries.map(|table| read_retries(&table)).unwrap_or_default(),
        breaker: breaker.map(|table| read_breaker(&table)).unwrap_or_default(),
    }
}

fn read_timeouts(table: &Table<'_>) -> Timeouts {
    let wait = |name| table.get(name).and_then(|found| within::<Wait>(&found, "1ms", "24h"));
    Timeouts { connect: wait("connect"), first_byte: wait("first_byte"), idle: wait("idle"), total: wait("total") }
}

fn read_retries(table: &Table<'_>) -> Retries {
    Retries {
        attempts: table.get("attempts").and_then(|found| found.whole(1, 10)),
        budget: table.get("budget").and_then(|found| found.parsed()),
    }
}

fn read_breaker(table: &Table<'_>) -> Breaker {
    let wait = |name, max| table.get(name).and_then(|found| within::<Wait>(&found, "100ms", max));
    let rest = wait("rest", "1h");
    let rest_max = wait("rest_max", "24h");
    if let (Some(rest), Some(rest_max), Some(found)) = (rest, rest_max, table.get("rest_max"))
        && rest_max < rest
    {
        found.problem(format_args!("the longest rest is shorter than the first, {rest}"));
    }
    Breaker {
        failures: table.get("failures").and_then(|found| found.whole(1, 1000)),
        window: wait("window", "1h"),
        rest,
        rest_max,
    }
}

/// A quantity between two others, which are written as an operator would.
pub(in crate::config) fn within<T>(found: &Found<'_>, min: &str, max: &str) -> Option<T>
where
    T: FromStr<Err: Display> + PartialOrd,
{
    let value: T = found.parsed()?;
    let is_within = min.parse().is_ok_and(|min: T| value >= min) && max.parse().is_ok_and(|max: T| value <= max);
    if !is_within {
        found.problem(format_args!("expected {min} to {max}"));
    }
    is_within.then_some(value)
}
