use clap::Args;
use serde_json::Value;
use troupe_proto::unit::Wait;

use super::Exit;
use super::access::{AdminError, Ask};
use super::output::table;
use super::print::{Asking, items, text};
use crate::clock;
use crate::config::spec_file::time_text;

#[derive(Args)]
pub(super) struct Audit {
    /// The first entry: its index, or a time such as 2027-01-01T00:00:00Z. Default: the last entries are shown.
    #[arg(long, value_name = "INDEX|TIME")]
    from: Option<String>,
    /// The last entry: its index, or a time.
    #[arg(long, value_name = "INDEX|TIME")]
    to: Option<String>,
    /// From so long ago on, such as 2h.
    #[arg(long, value_name = "SPAN", conflicts_with = "from")]
    since: Option<String>,
    /// At most so many entries, 1 to 1000.
    #[arg(long, value_name = "N", default_value = "100")]
    limit: String,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(args: &Audit) -> anyhow::Result<Exit> {
    let since = match &args.since {
        Some(span) => {
            let span: Wait = span.parse().map_err(|error| AdminError::Usage(format!("--since: {error}")))?;
            let seconds = i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
            Some(time_text(clock::unix_seconds().saturating_sub(seconds)))
        }
        None => None,
    };
    let mut ask = Ask::get(&["audit"]).query("limit", &args.limit);
    for (name, value) in [("from", args.from.as_ref().or(since.as_ref())), ("to", args.to.as_ref())] {
        if let Some(value) = value {
            ask = ask.query(name, value);
        }
    }
    args.asking.print(&args.asking.access.ask(&ask)?, human)
}

fn human(document: &Value) -> String {
    let row = |line: &Value| {
        let changes = line.get("changes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut told: Vec<String> = changes.iter().take(3).map(change).collect();
        if changes.len() > told.len() || line.get("more").is_some() {
            told.push("...".to_owned());
        }
        let reason = match line.get("reason").and_then(Value::as_str) {
            None | Some("") => "-".to_owned(),
            Some(reason) => reason.to_owned(),
        };
        let cells = [text(line, "index"), text(line, "at"), text(line, "actor"), told.join(", "), reason];
        cells.to_vec()
    };
    let rows: Vec<Vec<String>> = items(document).iter().map(row).collect();
    table(&["INDEX", "AT", "ACTOR", "CHANGES", "REASON"], &rows, &[0])
}

/// `added key team`.
fn change(change: &Value) -> String {
    ["did", "what", "name"].map(|name| text(change, name)).join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_a_line_per_entry() {
        let document = json!({"items": [
            {"index": 7, "at": "2026-01-01T00:00:00Z", "actor": "ann", "reason": "",
             "changes": [{"did": "added", "what": "key", "name": "team"}], "more": {"key": 9}},
        ]});

        assert_eq!(
            human(&document),
            "INDEX  AT                    ACTOR  CHANGES              REASON\n    \
             7  2026-01-01T00:00:00Z  ann    added key team, ...  -\n"
        );
    }
}
