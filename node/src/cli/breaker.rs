use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::Exit;
use super::access::Ask;
use super::output::table;
use super::print::{Asking, items, talk, text};
use super::route::believed;
use crate::admin::BreakerReport;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists targets and whether they rest, as this node and the others see it.
    List(Asking),
    /// Has every live node forget why targets rest: they take calls again until new evidence says otherwise.
    Reset(Reset),
}

#[derive(Args)]
pub(super) struct Reset {
    /// Which: provider, provider/key or provider/key/model.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(asking) => {
            let document = asking.access.list(&["breakers"])?;
            let breakers: Vec<BreakerReport> = serde_json::from_value(document["items"].clone())?;
            asking.print(&document, |_| human(&breakers))
        }
        Command::Reset(args) => {
            let body = meant(args.target.as_deref());
            let document =
                args.asking.access.ask(&Ask::change(Method::POST, &["breakers", "reset"], None).body(&body))?;
            args.asking.print(&document, |document| {
                format!(
                    "{} targets take calls again, and those of the other nodes that are alive\n",
                    text(document, "reset")
                )
            })
        }
    }
}

/// What a target's name says, in the order of its parts: a model may have slashes of its own.
fn meant(target: Option<&str>) -> Value {
    let parts = target.map(|target| target.splitn(3, '/')).into_iter().flatten();
    let named = ["provider", "key", "model"].into_iter().zip(parts).filter(|(_, part)| *part != "-");
    Value::Object(named.map(|(name, part)| (name.to_owned(), Value::from(part))).collect::<Map<_, _>>())
}

fn human(breakers: &[BreakerReport]) -> String {
    let row = |breaker: &BreakerReport| {
        let why = match (&breaker.rests_for, breaker.is_told) {
            (Some(why), true) => format!("{why}, as other nodes say"),
            (Some(why), false) => why.clone(),
            (None, _) if breaker.state == "disabled" => "its provider is switched off".to_owned(),
            (None, _) => "-".to_owned(),
        };
        let ends =
            breaker.rest_ends_in_ms.map_or_else(|| "-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
        let counts = format!("{}/{}", breaker.failures, breaker.streak);
        vec![breaker.target.clone(), breaker.state.clone(), ends, counts, why]
    };
    let rows: Vec<Vec<String>> = breakers.iter().map(row).collect();
    let others = believed(breakers.iter().map(|breaker| (breaker.target.as_str(), breaker.nodes.as_slice())));
    table(&["TARGET", "STATE", "TO GO", "FAILED/RESTS", "WHY"], &rows, &[2, 3]) + &others
}

/// Prints what a provider answered to each of its keys; exits 6 where one of them is of no use.
pub(super) fn tested(asking: &Asking, document: &Value) -> anyhow::Result<Exit> {
    asking.print(document, |document| {
        let row = |test: &Value| {
            let problem = if test.get("problem").is_some() { text(test, "problem") } else { text(test, "url") };
            vec![text(test, "key"), text(test, "finding"), text(test, "status"), text(test, "took_ms") + " ms", problem]
        };
        table(
            &["KEY", "FINDING", "STATUS", "TOOK", "ASKED"],
            &items(document).iter().map(row).collect::<Vec<_>>(),
            &[3],
        )
    })?;
    if text(document, "state") == "disabled" {
        let name = text(document, "name");
        talk(&format!(
            "{name} is switched off, and was asked all the same; `troupe provider enable {name}` has it called"
        ));
    }
    let is_well = |test: &Value| matches!(text(test, "finding").as_str(), "alive" | "answers");
    Ok(if items(document).iter().all(is_well) { Exit::Ok } else { Exit::Unhealthy })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_is_named_by_as_many_parts_as_are_meant() {
        assert_eq!(meant(None), json!({}));
        assert_eq!(meant(Some("openai")), json!({ "provider": "openai" }));
        assert_eq!(meant(Some("local/-/llama/3")), json!({ "provider": "local", "model": "llama/3" }));
    }

    #[test]
    fn people_read_a_line_for_each_target_and_each_node_that_says_something() {
        let breakers: Vec<BreakerReport> = serde_json::from_value(json!([
            {"target": "openai/main/gpt-4o", "state": "rests", "rests_for": "unreachable", "rest_ends_in_ms": 4_120,
             "is_told": true, "failures": 1, "streak": 0,
             "nodes": [{"node": "gw-2", "says": "a call reached nobody", "counts": true}]},
            {"target": "openai/spare/gpt-4o", "state": "closed", "is_told": false, "failures": 0, "streak": 0},
            {"target": "spare/-/gpt-4o", "state": "disabled", "is_told": false, "failures": 0, "streak": 0}
        ]))
        .unwrap();

        assert_eq!(
            human(&breakers),
            "TARGET               STATE     TO GO  FAILED/RESTS  WHY\n\
             openai/main/gpt-4o   rests     4.1 s           1/0  unreachable, as other nodes say\n\
             openai/spare/gpt-4o  closed        -           0/0  -\n\
             spare/-/gpt-4o       disabled      -           0/0  its provider is switched off\n\
             as other nodes see it\n\
             \x20 openai/main/gpt-4o at gw-2: a call reached nobody\n"
        );
    }
}
