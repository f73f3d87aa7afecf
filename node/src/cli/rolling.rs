//! Restarts the nodes of a cluster one after another, so that clients behind a balancer notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::Value;
use troupe_proto::unit::Wait;

use super::Exit;
use super::access::{Access, Ask};
use super::cluster::{CONFIRMED_MS, human_members};
use super::fleet;
use super::key::span;
use super::print::{Changing, items, talk, text};
use crate::clock;

/// How often a node is asked whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most entries that a node which is up to date may lack: they go on coming.
const BEHIND_MAX: u64 = 100;
/// What a node may take to say how it is: one that hangs is not well, and takes the others no time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What it may take to say that it will drain.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

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
    let mut stops = stops(args, &asking.access, clock::now() + within)?;
    if stops.len() < 2 && !args.alone {
        bail!("this node is alone: nobody serves while it restarts. Say --alone if that is meant");
    }
    let ailing = ailing(&stops, clock::now() + within);
    if !ailing.is_empty() {
        talk(&format!("not all nodes are well, so none is restarted:\n  {}", ailing.join("\n  ")));
        return Ok(Exit::Unhealthy);
    }
    // Those without a vote first: nothing depends on them. Whoever leads last: leadership moves once.
    stops.sort_by_key(|stop| (stop.leads, stop.votes));
    for at in 0..stops.len() {
        let Some(stop) = stops.get(at) else { break };
        let deadline = clock::now() + within;
        let before = word(stop, deadline).with_context(|| stop.name.clone())?.incarnation;
        talk(&format!("{}: drains", stop.name));
        let ask = Ask::change(Method::POST, &["node", "drain"], args.changing.reason.as_deref());
        let access = stop.access.by(deadline.min(clock::now() + TAKEN_WITHIN));
        access.ask(&ask.query("stop", "true")).with_context(|| stop.name.clone())?;
        if let Some(why) = back(stop, before, deadline).or_else(|| all_well(&stops, deadline)) {
            talk(&format!("{why}\nthe other nodes are left as they are"));
            return Ok(Exit::Unhealthy);
        }
        talk(&format!("{}: is back, and all are well", stop.name));
    }
    asking.print(&asking.access.ask(&Ask::get(&["cluster", "members"]))?, human_members)
}

/// Every node, and where its operators go.
fn stops(args: &RollingRestart, access: &Access, deadline: Instant) -> anyhow::Result<Vec<Stop>> {
    let document = access.by(deadline).ask(&Ask::get(&["cluster", "members"]))?;
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

/// What a node says of itself, before `deadline` and without taking long over it.
fn word(stop: &Stop, deadline: Instant) -> anyhow::Result<Word> {
    let access = stop.access.by(deadline.min(clock::now() + ANSWER_WITHIN));
    let (node, cluster) = (access.ask(&Ask::get(&["node"]))?, access.ask(&Ask::get(&["cluster"]))?);
    let confirmed = cluster.get("confirmed_ms").and_then(Value::as_u64);
    let ails = match (text(&node, "ready").as_str(), confirmed) {
        _ if text(&node, "node") != stop.id => Some(format!("what answers there is {}", text(&node, "name"))),
        ("ready", Some(ms)) if ms <= CONFIRMED_MS => None,
        ("ready", _) => Some("it has not heard from a majority".to_owned()),
        (other, _) => Some(format!("it is {other}")),
    };
    Ok(Word { incarnation: node.get("incarnation").and_then(Value::as_u64).unwrap_or(0), ails })
}

/// What is wrong with each node that is not well. All are asked at the same time.
fn ailing(stops: &[Stop], deadline: Instant) -> Vec<String> {
    let ails = fleet::all(stops, |stop| match word(stop, deadline) {
        Ok(word) => word.ails,
        Err(error) => Some(error.to_string()),
    });
    stops.iter().zip(ails).filter_map(|(stop, ails)| Some(format!("{}: {}", stop.name, ails?))).collect()
}

/// Waits until a node was started again; why it was not, if so.
fn back(stop: &Stop, before: u64, deadline: Instant) -> Option<String> {
    loop {
        let said = match word(stop, deadline) {
            Ok(word) if word.incarnation > before => return None,
            Ok(_) => "it still runs as before".to_owned(),
            Err(error) => error.to_string(),
        };
        if !rest(deadline) {
            return Some(format!(
                "{} did not come back: does something start it again when it ends? {said}",
                stop.name
            ));
        }
    }
}

/// Waits until all are well and hold what there is; what is not so, otherwise.
fn all_well(stops: &[Stop], deadline: Instant) -> Option<String> {
    loop {
        let ailing = ailing(stops, deadline);
        let why = if ailing.is_empty() { lagging(stops, deadline)? } else { ailing.join("\n") };
        if !rest(deadline) {
            return Some(why);
        }
    }
}

/// Waits for the next look; `false` if there is no time for one.
fn rest(deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(clock::now());
    if left <= LOOK_EVERY {
        return false;
    }
    std::thread::sleep(LOOK_EVERY);
    true
}

/// A node that lacks entries, as whoever leads tells.
fn lagging(stops: &[Stop], deadline: Instant) -> Option<String> {
    let members = fleet::all(stops, |stop| {
        let access = stop.access.by(deadline.min(clock::now() + ANSWER_WITHIN));
        let document = access.ask(&Ask::get(&["cluster", "members"])).ok()?;
        let leads = items(&document)
            .iter()
            .any(|item| item.get("leads").and_then(Value::as_bool).unwrap_or(false) && text(item, "node") == stop.id);
        leads.then_some(document)
    });
    let Some(members) = members.into_iter().flatten().next() else { return Some("nobody leads".to_owned()) };
    let lag = |item: &Value| item.get("behind").and_then(Value::as_u64).unwrap_or(0);
    let last = items(&members).iter().find(|item| lag(item) > BEHIND_MAX)?;
    Some(format!("{} lacks {} entries", text(last, "name"), lag(last)))
}

#[cfg(test)]
mod tests {
    use super::super::fleet::fake;
    use super::*;

    fn stop(name: &str, access: Access) -> Stop {
        Stop { name: name.to_owned(), id: name.to_owned(), leads: false, votes: true, access }
    }

    fn well(name: &'static str) -> Stop {
        let answer = move |path: &str| {
            let node = format!(r#"{{"name": "{name}", "node": "{name}", "ready": "ready", "incarnation": 3}}"#);
            Some(if path.contains("/cluster") { r#"{"confirmed_ms": 5}"#.to_owned() } else { node })
        };
        stop(name, fake::node(answer))
    }

    #[test]
    fn a_node_that_hangs_is_named_and_takes_no_more_than_the_time_there_is() {
        let stops = [well("gw-1"), stop("gw-2", fake::hanging()), well("gw-3")];
        let began = clock::now();
        let deadline = began + Duration::from_millis(700);

        let told = all_well(&stops, deadline).unwrap();
        let not_back = back(&stops[1], 3, deadline).unwrap();

        let took = clock::now() - began;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(told.starts_with("gw-2: ") && !told.contains("gw-1") && !told.contains("gw-3"), "{told}");
        assert!(not_back.starts_with("gw-2 did not come back") && not_back.contains("no answer within"), "{not_back}");
    }

    #[test]
    fn a_node_is_back_once_it_was_started_again() {
        let deadline = clock::now() + Duration::from_millis(400);

        assert_eq!(back(&well("gw-1"), 2, deadline), None);
        let told = back(&well("gw-1"), 3, deadline).unwrap();
        assert!(told.ends_with("it still runs as before"), "{told}");
    }
}
