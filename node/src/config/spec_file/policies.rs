use troupe_proto::spec::{Freshness, Policies};

use super::rules::within;
use crate::config::source::{Found, Table};

pub(super) fn read(table: &Table<'_>) -> Policies {
    let freshness = table.get("freshness").and_then(|found| read_freshness(&found));
    Policies { freshness: freshness.unwrap_or_default() }
}

/// Shorter than the least, a node would turn calls away whenever another one is elected to lead.
fn read_freshness(found: &Found<'_>) -> Option<Freshness> {
    if found.text()? == "never" {
        return Some(Freshness::Never);
    }
    within(found, "5s", "24h").map(Freshness::Within)
}
