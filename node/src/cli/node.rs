use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::Exit;
use super::access::Ask;
use super::cluster::human_problems;
use super::key::span;
use super::print::{Asking, Changing, talk, text};
use crate::clock;

/// How often a node is asked whether it is drained.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Shows who a node is, and whether it takes traffic.
    Status(Asking),
    /// Takes a node out of its balancers' rotation: `/readyz` says 503 at once, connections close behind their requests
    /// after the drain delay. Nobody is refused.
    Drain(Drain),
    /// Puts a node back into rotation.
    Undrain(Changing),
}

#[derive(Args)]
pub(super) struct Drain {
    /// Stops the node once everybody is gone who was there, or the drain timeout is over.
    #[arg(long)]
    stop: bool,
    /// Waits until everybody is gone who was there; exits with 6 if somebody stays for longer.
    #[arg(long, value_name = "DURATION", conflicts_with = "stop", num_args = 0..=1, default_missing_value = "5m", value_parser = span)]
    wait: Option<String>,
    #[command(flatten)]
    changing: Changing,
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Status(asking) => asking.print(&asking.access.ask(&Ask::get(&["node"]))?, human),
        Command::Drain(args) => drain(args),
        Command::Undrain(changing) => {
            let ask = Ask::change(Method::POST, &["node", "undrain"], changing.reason.as_deref());
            changing.asking.print(&changing.asking.access.ask(&ask)?, human)
        }
    }
}

fn drain(args: &Drain) -> anyhow::Result<Exit> {
    let asking = &args.changing.asking;
    let ask = Ask::change(Method::POST, &["node", "drain"], args.changing.reason.as_deref());
    let ask = if args.stop { ask.query("stop", "true") } else { ask };
    let deadline = args.wait.as_deref().map(until).transpose()?;
    let mut document = asking.access.ask(&ask)?;
    if let Some(deadline) = deadline {
        while !is_drained(&document) {
            if clock::now() > deadline {
                asking.print(&document, human)?;
                talk("somebody who was there stays; `troupe node drain --stop` cuts them after the drain timeout");
                return Ok(Exit::Unhealthy);
            }
            std::thread::sleep(LOOK_EVERY);
            document = asking.access.ask(&Ask::get(&["node"]))?;
        }
    }
    asking.print(&document, human)
}

fn until(wait: &str) -> anyhow::Result<Instant> {
    let wait: troupe_proto::unit::Wait = wait.parse().map_err(|error| anyhow::anyhow!("--wait: {error}"))?;
    Ok(clock::now() + wait.0)
}

/// Whether a node is out of rotation, and nobody is left who was there before. It takes the drain delay at least: until
/// then, balancers may not have noticed.
fn is_drained(document: &Value) -> bool {
    document.get("drained").and_then(Value::as_bool).unwrap_or(false)
}

fn human(document: &Value) -> String {
    let rows = [
        "name",
        "node",
        "incarnation",
        "version",
        "phase",
        "ready",
        "uptime_seconds",
        "in_flight",
        "connections",
        "drained",
    ];
    let said = rows.map(|field| format!("{:<12} {}\n", field.trim_end_matches("_seconds"), text(document, field)));
    said.concat() + &human_problems(document)
}
