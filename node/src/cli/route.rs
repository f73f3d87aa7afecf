use clap::{Args, Subcommand};
use troupe_proto::failure::ErrorCode;

use super::access::{Access, Ask};
use super::output::{Output, table, yaml};
use super::{Exit, say};
use crate::admin::explain::{NodeReport, Place, PoolReport, Report, TargetReport};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Tells which target would serve a call of a model now, and why each other would not; exits 6 where all of them rest
    /// or are full.
    Explain(Explain),
}

#[derive(Args)]
pub(super) struct Explain {
    /// The model's name as a client writes it.
    model: String,
    /// As if the call came with this virtual key.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// As if the call chose its target by the header x-troupe-target: provider, provider/key or provider/key/model.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Explain(args) => {
            let mut ask = Ask::get(&["route", "explain"]).query("model", &args.model);
            for (name, value) in [("key", &args.key), ("target", &args.target)] {
                if let Some(value) = value {
                    ask = ask.query(name, value);
                }
            }
            let document = args.access.ask(&ask)?;
            let text = match args.output {
                Output::Table => human(&serde_json::from_value(document.clone())?),
                Output::Json => serde_json::to_string_pretty(&document)? + "\n",
                Output::Yaml => yaml(&document),
            };
            say(&mut std::io::stdout().lock(), &text);
            Ok(exit(document["error"].as_str()))
        }
    }
}

/// What scripts are told by the code a client would get: what the caller may not do is no sign of ill health.
fn exit(error: Option<&str>) -> Exit {
    let unhealthy = [ErrorCode::NoTarget, ErrorCode::ProviderRateLimited];
    let is_unhealthy = error.is_some_and(|error| unhealthy.iter().any(|code| code.as_str() == error));
    if is_unhealthy { Exit::Unhealthy } else { Exit::Ok }
}

fn human(report: &Report) -> String {
    let key = report.key.as_ref().map(|key| format!(" by key {key}")).unwrap_or_default();
    let pin = report.pin.as_ref().map(|pin| format!(", pinned to {pin}")).unwrap_or_default();
    let mut text = format!("{}{key}{pin}: {}\n", report.asked, report.verdict);
    for pool in &report.pools {
        text.push_str(&format!("\n{}\n{}", title(pool), targets(&pool.targets)));
        text.push_str(&believed(pool.targets.iter().map(|target| (target.target.as_str(), target.nodes.as_slice()))));
    }
    text
}

fn title(pool: &PoolReport) -> String {
    let place = match pool.place {
        Place::Asked => "model",
        Place::Fallback => "fallback",
    };
    let panic = if pool.is_panicking { ", panicking: rests for failures are ignored" } else { "" };
    let retries = pool.retries_left.map(|left| format!(", {left} retries left")).unwrap_or_default();
    format!("{place} {}{retries}{panic}", pool.model)
}

fn targets(targets: &[TargetReport]) -> String {
    let row = |target: &TargetReport| {
        let percent = |share: f64| format!("{share}%");
        let in_flight = match target.in_flight_max {
            Some(max) => format!("{}/{max}", target.in_flight),
            None => target.in_flight.to_string(),
        };
        let cells = [
            target.target.clone(),
            target.state.as_str().to_owned(),
            target.share_percent.map_or_else(nothing, percent),
            target.priority.to_string(),
            percent(target.weight_percent),
            target.first_token_ms.map_or_else(nothing, |ms| format!("{ms} ms")),
            in_flight,
            percent(target.failing_percent),
            format!("{}/{}", target.failures, target.streak),
            target.quota_left_percent.map_or_else(nothing, percent),
            target.why.clone(),
        ];
        cells.to_vec()
    };
    let rows: Vec<Vec<String>> = targets.iter().map(row).collect();
    let head = [
        "TARGET",
        "STATE",
        "SHARE",
        "PRIO",
        "WEIGHT",
        "FIRST TOKEN",
        "IN FLIGHT",
        "FAILING",
        "FAILED/RESTS",
        "QUOTA",
        "WHY",
    ];
    table(&head, &rows, &[2, 3, 4, 5, 6, 7, 8, 9])
}

/// What other nodes believe of targets, where they have something to say.
pub(super) fn believed<'a>(targets: impl Iterator<Item = (&'a str, &'a [NodeReport])>) -> String {
    let line = |target: &str, told: &NodeReport| format!("  {target} at {}: {}\n", told.node, told.says);
    let lines: String = targets.flat_map(|(target, nodes)| nodes.iter().map(move |told| line(target, told))).collect();
    if lines.is_empty() { lines } else { format!("as other nodes see it\n{lines}") }
}

fn nothing() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_a_verdict_and_a_line_per_target() {
        let report: Report = serde_json::from_value(serde_json::json!({
            "asked": "gpt-4o", "key": "team", "serves": "openai/main/gpt-4o",
            "verdict": "served at openai/main/gpt-4o",
            "pools": [
                {"model": "gpt-4o", "place": "asked", "is_panicking": false, "retries_left": 98, "targets": [
                    {"target": "openai/main/gpt-4o", "state": "serves", "why": "the only one", "share_percent": 100.0,
                     "priority": 0, "weight_percent": 90.0, "weight_now_percent": 100.0, "first_token_ms": 210.5,
                     "failing_percent": 0.0, "in_flight": 3, "in_flight_max": 8, "failures": 0, "streak": 0},
                    {"target": "local/-/llama", "state": "stands_by", "why": "priority 0 comes first", "priority": 1,
                     "weight_percent": 100.0, "weight_now_percent": 100.0, "failing_percent": 2.5, "in_flight": 0,
                     "failures": 2, "streak": 1, "quota_left_percent": 37.5,
                     "nodes": [{"node": "gw-2", "says": "a call reached nobody", "counts": true}]}
                ]},
                {"model": "claude-*", "place": "fallback", "is_panicking": true, "targets": []}
            ]
        }))
        .unwrap();

        assert_eq!(
            human(&report),
            "gpt-4o by key team: served at openai/main/gpt-4o\n\
             \n\
             model gpt-4o, 98 retries left\n\
             TARGET              STATE      SHARE  PRIO  WEIGHT  FIRST TOKEN  IN FLIGHT  FAILING  FAILED/RESTS  QUOTA  WHY\n\
             openai/main/gpt-4o  serves      100%     0     90%     210.5 ms        3/8       0%           0/0      -  the only one\n\
             local/-/llama       stands by      -     1    100%            -          0     2.5%           2/1  37.5%  priority 0 comes first\n\
             as other nodes see it\n\
             \x20 local/-/llama at gw-2: a call reached nobody\n\
             \n\
             fallback claude-*, panicking: rests for failures are ignored\n\
             TARGET  STATE  SHARE  PRIO  WEIGHT  FIRST TOKEN  IN FLIGHT  FAILING  FAILED/RESTS  QUOTA  WHY\n"
        );
    }
}
