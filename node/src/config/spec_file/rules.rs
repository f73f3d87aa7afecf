use std::fmt::Display;
use std::str::FromStr;

use troupe_proto::spec::{Breaker, Concurrency, Retries, Rules, Timeouts};
use troupe_proto::unit::Wait;

use super::sections::{BREAKER, CONCURRENCY, RETRIES, TIMEOUTS};
use crate::config::source::{Found, Table};

/// The rules that stand in a table, be it the defaults, a provider or a model.
pub(super) fn read(table: &Table<'_>) -> Rules {
    let timeouts = table.get("timeouts").and_then(|found| found.table(&TIMEOUTS));
    let retries = table.get("retries").and_then(|found| found.table(&RETRIES));
    let breaker = table.get("breaker").and_then(|found| found.table(&BREAKER));
    let concurrency = table.get("concurrency").and_then(|found| found.table(&CONCURRENCY));
    Rules {
        timeouts: timeouts.map(|table| read_timeouts(&table)).unwrap_or_default(),
        retries: retries.map(|table| read_retries(&table)).unwrap_or_default(),
        breaker: breaker.map(|table| read_breaker(&table)).unwrap_or_default(),
        concurrency: concurrency.map(|table| read_concurrency(&table)),
    }
}

fn read_timeouts(table: &Table<'_>) -> Timeouts {
    let wait = |name| wait(table, name, "1ms", "24h");
    Timeouts { connect: wait("connect"), first_byte: wait("first_byte"), idle: wait("idle"), total: wait("total") }
}

fn read_retries(table: &Table<'_>) -> Retries {
    let backoff = wait(table, "backoff", "1ms", "1m");
    let backoff_max = wait(table, "backoff_max", "1ms", "5m");
    check_order(table, "backoff_max", backoff, backoff_max, "the longest back-off is shorter than the first");
    Retries {
        attempts: table.get("attempts").and_then(|found| found.whole(1, 10)),
        budget: table.get("budget").and_then(|found| found.parsed()),
        backoff,
        backoff_max,
        wait_max: wait(table, "wait_max", "0s", "10m"),
    }
}

fn read_breaker(table: &Table<'_>) -> Breaker {
    let rest = wait(table, "rest", "100ms", "1h");
    let rest_max = wait(table, "rest_max", "100ms", "24h");
    check_order(table, "rest_max", rest, rest_max, "the longest rest is shorter than the first");
    Breaker {
        failures: table.get("failures").and_then(|found| found.whole(1, 1000)),
        window: wait(table, "window", "100ms", "1h"),
        share: table.get("share").and_then(|found| found.parsed()),
        rest,
        rest_max,
        credential_rest: wait(table, "credential_rest", "1s", "24h"),
        slow_start: wait(table, "slow_start", "0s", "1h"),
        panic: table.get("panic").and_then(|found| found.parsed()),
    }
}

fn read_concurrency(table: &Table<'_>) -> Concurrency {
    let count = |name| table.get(name).and_then(|found| found.whole(1, 100_000));
    let (min, max) = (count("min"), count("max"));
    check_order(table, "max", min, max, "the most is less than the least");
    Concurrency { min, max }
}

fn wait(table: &Table<'_>, name: &str, min: &str, max: &str) -> Option<Wait> {
    table.get(name).and_then(|found| within(&found, min, max))
}

/// Reports, at the field `last_name`, a range of one table that ends before it begins. One that is put together from several
/// tables is mended by [`Rules::settled`] instead: no single line of the file is wrong then.
fn check_order<T: PartialOrd + Display>(
    table: &Table<'_>,
    last_name: &str,
    first: Option<T>,
    last: Option<T>,
    message: &str,
) {
    if let (Some(first), Some(last), Some(found)) = (first, last, table.get(last_name))
        && last < first
    {
        found.problem(format_args!("{message}, {first}"));
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
