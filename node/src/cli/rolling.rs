//! Restarts the nodes of a cluster one after another, so that clients behind a balancer notice nothing.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use http::Method;
use serde_json::Value;
use troupe_proto::unit::Wait;

use super::Exit;
use super::access::{Access, Ask};
use super::cluster::{CONFIRMED_MS, human_members};
use super::key::span;
use super::print::{Changing, items, talk, text};
use crate::clock;

/// How often a node is asked whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most entries that a node which is up to date may lack: they go on coming.
const BEHIND_MAX: u64 = 100;

#[derive(Args)]
pub(super) struct RollingRestart {
    /// Where a node's admin listener is, if not where the members say: `gw-2=http://10.0.0.2:8081`. May be repeated.
    #[arg(long = "at", value_name = "NODE=URL")]
    places: Vec<String>,
    /// How long each node may take to drain, to start and to catch up.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = span)]
    within: String,
    /// Restarts also a node that is alone: nobody serves meanwhile.
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    changing: Changing,
}

/// One node on the way.
struct Stop {
    name: String,
    id: String,
    leads: bool,
    votes: bool,
    access: Access,
}

/// What a node says of itself.
struct Word {
    incarnation: u64,
    /// Why it is not well, if it is not.
    ails: Option<String>,
}

/// Has each node drain and exit in turn; its supervisor (systemd, Kubernetes, Compose) starts it again. The next one's
/// turn comes when all are well.
pub(super) fn run(args: &RollingRestart) -> anyhow::Result<Exit> {
    let within = args.within.parse::<Wait>().map_err(|error| anyhow::anyhow!("--within: {error}"))?.0;
    let asking = &args.changing.asking;
    let mut stops = stops(args, &asking.access)?;
    if stops.len() < 2 && !args.alone {
        bail!("this node is alone: nobody serves while it restarts. Say --alone if that is meant");
    }
    let ailing: Vec<String> = stops.iter().filter_map(|stop| Some(format!("{}: {}", stop.name, ails(stop)?))).collect();
    if !ailing.is_empty() {
        talk(&format!("not all nodes are well, so none is restarted:\n  {}", ailing.join("\n  ")));
        return Ok(Exit::Unhealthy);
    }
    // Those without a vote first: nothing depends on them. Whoever leads last: leadership moves once.
    stops.sort_by_key(|stop| (stop.leads, stop.votes));
    for at in 0..stops.len() {
        let Some(stop) = stops.get(at) else { break };
        let deadline = clock::now() + within;
        let before = word(stop)?.incarnation;
        talk(&format!("{}: drains", stop.name));
        let ask = Ask::change(Method::POST, &["node", "drain"], args.changing.reason.as_deref());
        stop.access.ask(&ask.query("stop", "true"))?;
        if let Some(why) = back(stop, before, deadline).or_else(|| all_well(&stops, deadline)) {
            talk(&format!("{why}\nthe other nodes are left as they are"));
            return Ok(Exit::Unhealthy);
        }
        talk(&format!("{}: is back, and all are well", stop.name));
    }
    asking.print(&asking.access.ask(&Ask::get(&["cluster", "members"]))?, human_members)
}

/// Every node, and where its operators go.
fn stops(args: &RollingRestart, access: &Access) -> anyhow::Result<Vec<Stop>> {
    let document = access.ask(&Ask::get(&["cluster", "members"]))?;
    let scheme = access.url().split("://").next().unwrap_or("http").to_owned();
    let is = |item: &Value, field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
    let stops = items(&document).iter().map(|item| {
        let (name, id) = (text(item, "name"), text(item, "node"));
        let named = args.places.iter().filter_map(|place| place.split_once('='));
        let named = named.filter(|(node, _)| *node == name || *node == id).map(|(_, url)| url.to_owned()).next();
        let url = match (named, item.get("admin").and_then(Value::as_str)) {
            (Some(url), _) => url,
            (None, Some(admin)) => format!("{scheme}://{admin}"),
            (None, None) => bail!("where the operators of {name} go is not known: say --at {name}=URL"),
        };
        Ok(Stop { name, id, leads: is(item, "leads"), votes: is(item, "votes"), access: access.at(url) })
    });
    stops.collect()
}

/// What a node says of itself.
fn word(stop: &Stop) -> anyhow::Result<Word> {
    let (node, cluster) = (stop.access.ask(&Ask::get(&["node"]))?, stop.access.ask(&Ask::get(&["cluster"]))?);
    let confirmed = cluster.get("confirmed_ms").and_then(Value::as_u64);
    let ails = match (text(&node, "ready").as_str(), confirmed) {
        _ if text(&node, "node") != stop.id => Some(format!("what answers there is {}", text(&node, "name"))),
        ("ready", Some(ms)) if ms <= CONFIRMED_MS => None,
        ("ready", _) => Some("it has not heard from a majority".to_owned()),
        (other, _) => Some(format!("it is {other}")),
    };
    Ok(Word { incarnation: node.get("incarnation").and_then(Value::as_u64).unwrap_or(0), ails })
}

fn ails(stop: &Stop) -> Option<String> {
    match word(stop) {
        Ok(word) => word.ails,
        Err(error) => Some(error.to_string()),
    }
}

/// Waits until a node was started again; why it was not, if so.
fn back(stop: &Stop, before: u64, deadline: Instant) -> Option<String> {
    loop {
        if word(stop).is_ok_and(|word| word.incarnation > before) {
            return None;
        }
        if clock::now() > deadline {
            return Some(format!("{} did not come back: does something start it again when it ends?", stop.name));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until all are well and hold what there is; what is not so, otherwise.
fn all_well(stops: &[Stop], deadline: Instant) -> Option<String> {
    loop {
        let ailing = stops.iter().find_map(|stop| Some(format!("{}: {}", stop.name, ails(stop)?)));
        let why = ailing.or_else(|| lagging(stops))?;
        if clock::now() > deadline {
            return Some(why);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A node that lacks entries, as whoever leads tells.
fn lagging(stops: &[Stop]) -> Option<String> {
    let members = stops.iter().find_map(|stop| {
        let document = stop.access.ask(&Ask::get(&["cluster", "members"])).ok()?;
        let leads = items(&document)
            .iter()
            .any(|item| item.get("leads").and_then(Value::as_bool).unwrap_or(false) && text(item, "node") == stop.id);
        leads.then_some(document)
    });
    let Some(members) = members else { return Some("nobody leads".to_owned()) };
    let lag = |item: &Value| item.get("behind").and_then(Value::as_u64).unwrap_or(0);
    let last = items(&members).iter().find(|item| lag(item) > BEHIND_MAX)?;
    Some(format!("{} lacks {} entries", text(last, "name"), lag(last)))
}
