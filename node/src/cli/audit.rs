use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use troupe_cluster::audit::{self, Report};
use troupe_proto::unit::Wait;

use super::Exit;
use super::access::{Access, AdminError, Ask};
use super::apply::{Format, human_future, print_spec};
use super::output::{Output, table};
use super::print::{Asking, items, talk, text};
use crate::admin::{Compared, Was, hex};
use crate::clock;
use crate::config::spec_file::time_text;
use crate::peers::AUDIT_DIR;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Option<Command>,
    /// The first entry: its index, or a time such as 2027-01-01T00:00:00Z. Default: the last entries are shown.
    #[arg(long, value_name = "INDEX|TIME", value_parser = point)]
    from: Option<String>,
    /// The last entry: its index, or a time.
    #[arg(long, value_name = "INDEX|TIME", value_parser = point)]
    to: Option<String>,
    /// From so long ago on, such as 2h.
    #[arg(long, value_name = "SPAN", conflicts_with = "from")]
    since: Option<String>,
    /// At most so many entries, 1 to 1000.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what changed in the spec between two entries, whatever came and went in between.
    Diff(Diff),
    /// Prints the spec as it was behind an earlier entry, as `export` does.
    AsOf(AsOf),
    /// Checks the files of a node's audit: that no line was altered, taken out or put in. Asks no node.
    Verify(Verify),
}

#[derive(Args)]
struct Verify {
    /// The node's data directory.
    #[arg(long, value_name = "DIR", default_value = "troupe-data")]
    data_dir: PathBuf,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
struct Diff {
    /// The entry behind which it begins.
    #[arg(value_name = "FROM")]
    from: u64,
    /// The entry behind which it ends. Default: what is in force.
    #[arg(value_name = "TO")]
    to: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
struct AsOf {
    /// The entry.
    #[arg(value_name = "INDEX")]
    index: u64,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Toml)]
    output: Format,
    #[command(flatten)]
    access: Access,
}

/// The index of an entry, or a time, as a node reads it.
fn point(text: &str) -> Result<String, String> {
    let is_index = text.parse::<u64>().is_ok();
    if is_index || text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("expected the index of an entry, or a time such as 2027-01-01T00:00:00Z".to_owned())
}

pub(super) fn run(args: &Audit) -> anyhow::Result<Exit> {
    match &args.command {
        None => list(args),
        Some(Command::Diff(args)) => diff(args),
        Some(Command::AsOf(args)) => as_of(args),
        Some(Command::Verify(args)) => verify(args),
    }
}

fn diff(args: &Diff) -> anyhow::Result<Exit> {
    let (from, to) = (args.from.to_string(), args.to.map(|to| to.to_string()));
    let mut ask = Ask::get(&["audit", "diff"]).query("from", &from);
    if let Some(to) = &to {
        ask = ask.query("to", to);
    }
    let document = args.asking.access.ask(&ask)?;
    let Compared { applied, .. } = serde_json::from_value(document.clone())?;
    args.asking.print(&document, |_| human_between(&applied))
}

fn human_between(applied: &crate::admin::Applied) -> String {
    if applied.changes.is_empty() { "nothing differs\n".to_owned() } else { human_future(applied) }
}

fn as_of(args: &AsOf) -> anyhow::Result<Exit> {
    let index = args.index.to_string();
    let was: Was = serde_json::from_value(args.access.ask(&Ask::get(&["audit", "as-of"]).query("index", &index))?)?;
    was.notes.iter().for_each(|note| talk(&format!("note: {note}")));
    print_spec(&was.spec, args.output)
}

fn verify(args: &Verify) -> anyhow::Result<Exit> {
    let dir = args.data_dir.join(AUDIT_DIR);
    let Report { lines, span, gaps, head } = audit::verify(&dir)?;
    let Some((first, last)) = span else { anyhow::bail!("{}: no line of an audit is kept there", dir.display()) };
    let document = json!({ "lines": lines, "first": first, "last": last, "gaps": gaps.len(), "head": hex(&head) });
    args.output.print(&document, |document| {
        let [lines, first, last, gaps, head] =
            ["lines", "first", "last", "gaps", "head"].map(|name| text(document, name));
        format!(
            "{lines} lines, of the entries {first} to {last}, are as they were written; {gaps} gaps\n\
             head {head}: what `troupe audit -o json --from {last} --to {last}` shows as `hash` at another node\n"
        )
    })
}

fn list(args: &Audit) -> anyhow::Result<Exit> {
    let since = match &args.since {
        Some(span) => {
            let span: Wait = span.parse().map_err(|error| AdminError::Usage(format!("--since: {error}")))?;
            let seconds = i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX);
            Some(time_text(clock::unix_seconds().saturating_sub(seconds)))
        }
        None => None,
    };
    let limit = args.limit.to_string();
    let mut ask = Ask::get(&["audit"]).query("limit", &limit);
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
    let gaps = document.get("gaps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let told: String = gaps.iter().map(gap).collect();
    table(&["INDEX", "AT", "ACTOR", "CHANGES", "REASON"], &rows, &[0]) + &told
}

fn gap(gap: &Value) -> String {
    let before = text(gap, "before");
    match gap.get("after") {
        Some(after) => format!("gap: this node does not have what changed behind {after} and before {before}\n"),
        None => format!("gap: this node does not have what changed before {before}\n"),
    }
}

/// `added key team`; of a switch also to what: `changed provider switch openai to disabled`.
fn change(change: &Value) -> String {
    let told = ["did", "what", "name"].map(|name| text(change, name)).join(" ");
    let after = change.get("after").and_then(|after| after.get("state")).and_then(Value::as_str);
    match (text(change, "what").as_str(), after) {
        ("provider switch", Some("off")) => told + " to disabled",
        ("provider switch", Some("on")) => told + " to enabled",
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_switch_is_told_with_where_it_was_put() {
        let switched = |state: &str| {
            change(&json!({"did": "changed", "what": "provider switch", "name": "openai", "after": {"state": state}}))
        };

        assert_eq!(switched("off"), "changed provider switch openai to disabled");
        assert_eq!(switched("on"), "changed provider switch openai to enabled");
    }

    #[test]
    fn people_read_a_line_per_entry() {
        let document = json!({"items": [
            {"index": 7, "at": "2026-01-01T00:00:00Z", "actor": "ann", "reason": "",
             "changes": [{"did": "added", "what": "key", "name": "team"}], "more": {"key": 9}},
        ], "gaps": [{"before": 3}, {"after": 3, "before": 7}]});

        assert_eq!(
            human(&document),
            "INDEX  AT                    ACTOR  CHANGES              REASON\n    \
             7  2026-01-01T00:00:00Z  ann    added key team, ...  -\n\
             gap: this node does not have what changed before 3\n\
             gap: this node does not have what changed behind 3 and before 7\n"
        );
    }
}
