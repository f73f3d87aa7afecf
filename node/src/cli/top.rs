//! A live view of the nodes and of what they do, for a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use troupe_proto::unit::Wait;

use super::access::{Access, Ask};
use super::key::span;
use super::output::table;
use super::print::{items, text};
use super::{Exit, say};
use crate::clock;
use crate::telemetry::metrics::names;

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Models and targets that are shown.
const ROWS_MAX: usize = 12;

#[derive(Args)]
pub(super) struct Top {
    /// Between two looks.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = span)]
    every: String,
    /// Looks this often and ends; for ever unless given. The first look has no rates yet.
    #[arg(long, value_name = "N")]
    times: Option<u32>,
    #[command(flatten)]
    access: Access,
}

/// What one node's metrics said, by the text before the value.
type Page = BTreeMap<String, f64>;

/// One node, now and at the look before.
struct Seen {
    name: String,
    role: &'static str,
    ready: String,
    page: Page,
    before: Option<(Page, Duration)>,
}

/// Shows nodes, targets and models again and again, until it is interrupted.
pub(super) fn run(args: &Top) -> anyhow::Result<Exit> {
    let every = args.every.parse::<Wait>().map_err(|error| anyhow::anyhow!("--every: {error}"))?.0;
    let mut last: BTreeMap<String, (Page, Instant)> = BTreeMap::new();
    let mut looks = 0;
    loop {
        let seen = look(&args.access, &mut last)?;
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        say(&mut std::io::stdout().lock(), &format!("{clear}{}", screen(&seen)));
        looks += 1;
        if args.times.is_some_and(|times| looks >= times) {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(every);
    }
}

fn look(access: &Access, last: &mut BTreeMap<String, (Page, Instant)>) -> anyhow::Result<Vec<Seen>> {
    let members = access.ask(&Ask::get(&["cluster", "members"]).query("stale", "true"))?;
    let scheme = access.url().split("://").next().unwrap_or("http").to_owned();
    let mut nodes: Vec<(String, &'static str, Access)> = Vec::new();
    for item in items(&members) {
        let is = |field: &str| item.get(field).and_then(Value::as_bool).unwrap_or(false);
        let role = if is("leads") {
            "leader"
        } else if is("votes") {
            "voter"
        } else {
            "learner"
        };
        let admin = item.get("admin").and_then(Value::as_str);
        nodes.extend(admin.map(|admin| (text(item, "name"), role, access.at(format!("{scheme}://{admin}")))));
    }
    if nodes.is_empty() {
        // A node that follows a file is no member of anything.
        nodes.push((text(&access.ask(&Ask::get(&["node"]))?, "name"), "alone", access.clone()));
    }
    let seen = nodes.into_iter().map(|(name, role, access)| {
        let now = clock::now();
        let page = access.fetch(&Ask::metrics()).map(|page| read(&String::from_utf8_lossy(&page)));
        let ready = match access.ask(&Ask::get(&["node"])) {
            Ok(node) => text(&node, "ready"),
            Err(_) => "no answer".to_owned(),
        };
        let page = page.unwrap_or_default();
        let before = last.insert(name.clone(), (page.clone(), now)).map(|(page, at)| (page, now - at));
        Seen { name, role, ready, page, before }
    });
    Ok(seen.collect())
}

/// Reads a page of metrics; comments and what is no number are left out.
fn read(page: &str) -> Page {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// The value of a label in a series, if it has it.
fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = series.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

fn sum(page: &Page, metric: &str, with: impl Fn(&str) -> bool) -> f64 {
    let is_of = |series: &str| series.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    page.iter().filter(|(series, _)| is_of(series) && with(series)).map(|(_, value)| value).sum()
}

impl Seen {
    /// What a counter gained a second since the look before; nothing where it began anew.
    fn rate(&self, metric: &str, with: impl Fn(&str) -> bool) -> f64 {
        let Some((before, took)) = &self.before else { return 0.0 };
        let gained = sum(&self.page, metric, &with) - sum(before, metric, &with);
        if took.is_zero() { 0.0 } else { gained.max(0.0) / took.as_secs_f64() }
    }
}

fn screen(seen: &[Seen]) -> String {
    let all = |_: &str| true;
    let failed = |series: &str| label(series, "status_class") == Some("5xx");
    let nodes: Vec<Vec<String>> = seen
        .iter()
        .map(|node| {
            vec![
                node.name.clone(),
                node.role.to_owned(),
                node.ready.clone(),
                format!("{:.1}", node.rate(names::REQUESTS.name, all)),
                format!("{:.1}", node.rate(names::REQUESTS.name, failed)),
                format!("{:.0}", sum(&node.page, names::REQUESTS_IN_FLIGHT.name, all)),
                format!("{:.0}", sum(&node.page, names::CONNECTIONS_OPEN.name, all)),
                format!("{:.0}%", node.rate("process_cpu_seconds_total", all) * 100.0),
                format!("{:.0}M", sum(&node.page, "process_resident_memory_bytes", all) / 1_048_576.0),
                format!("{:.1}s", sum(&node.page, names::FRESHNESS.name, all)),
            ]
        })
        .collect();
    let heads = ["NODE", "ROLE", "READY", "REQ/S", "5XX/S", "NOW", "CONNS", "CPU", "MEMORY", "FRESH"];
    let mut out = table(&heads, &nodes, &[]);
    out.push('\n');
    out.push_str(&table(&["MODEL", "REQ/S", "5XX/S", "TOKENS/S"], &models(seen), &[]));
    out.push('\n');
    out.push_str(&table(&["TARGET", "NOW", "RESTS AT"], &targets(seen), &[]));
    out
}

/// The models with the most calls.
fn models(seen: &[Seen]) -> Vec<Vec<String>> {
    let names = distinct(seen, names::REQUESTS.name, |series| label(series, "model").map(str::to_owned));
    let mut rows: Vec<(f64, Vec<String>)> = names
        .into_iter()
        .map(|name| {
            let rate = |metric: &str, only: fn(&str) -> bool| -> f64 {
                seen.iter().map(|node| node.rate(metric, |s| label(s, "model") == Some(name.as_str()) && only(s))).sum()
            };
            let calls = rate(names::REQUESTS.name, |_| true);
            let failed = rate(names::REQUESTS.name, |series| label(series, "status_class") == Some("5xx"));
            let tokens = rate(names::TOKENS.name, |series| label(series, "type") == Some("output"));
            (calls, vec![name.clone(), format!("{calls:.1}"), format!("{failed:.1}"), format!("{tokens:.0}")])
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.into_iter().map(|(_, row)| row).take(ROWS_MAX).collect()
}

/// The targets that rest anywhere, then those with the most calls.
fn targets(seen: &[Seen]) -> Vec<Vec<String>> {
    let place = |series: &str| {
        Some((
            label(series, "provider")?.to_owned(),
            label(series, "credential")?.to_owned(),
            label(series, "model")?.to_owned(),
        ))
    };
    let names = distinct(seen, names::TARGET_IN_FLIGHT.name, place);
    let mut rows: Vec<(usize, f64, Vec<String>)> = names
        .into_iter()
        .map(|name| {
            let is_it = |series: &str| place(series).as_ref() == Some(&name);
            let calls: f64 = seen.iter().map(|node| sum(&node.page, names::TARGET_IN_FLIGHT.name, is_it)).sum();
            let resting = seen.iter().filter(|node| sum(&node.page, names::TARGET_RESTING.name, is_it) > 0.0);
            let resting: Vec<&str> = resting.map(|node| node.name.as_str()).collect();
            let (provider, credential, model) = &name;
            let rests = if resting.is_empty() { "-".to_owned() } else { resting.join(",") };
            (resting.len(), calls, vec![format!("{provider}/{credential}/{model}"), format!("{calls:.0}"), rests])
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    rows.into_iter().map(|(_, _, row)| row).take(ROWS_MAX).collect()
}

fn distinct<T: Ord>(seen: &[Seen], metric: &str, of: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let series = seen.iter().flat_map(|node| node.page.keys()).filter(|series| series.starts_with(metric));
    series.filter_map(|series| of(series)).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(calls: u32, resting: u8) -> Page {
        read(&format!(
            "# HELP x y\ntroupe_requests_total{{operation=\"chat\",model=\"gpt\",status_class=\"2xx\",outcome=\"ok\"}} {calls}\n\
             troupe_requests_total{{operation=\"chat\",model=\"gpt\",status_class=\"5xx\",outcome=\"no\"}} 4\n\
             troupe_requests_in_flight 3\n\
             troupe_target_in_flight{{provider=\"p\",credential=\"c\",model=\"m\"}} 2\n\
             troupe_target_resting{{provider=\"p\",credential=\"c\",model=\"m\"}} {resting}\n"
        ))
    }

    #[test]
    fn rates_are_what_was_gained_between_two_looks() {
        let node = |before| Seen {
            name: "gw-1".to_owned(),
            role: "leader",
            ready: "ready".to_owned(),
            page: page(40, 1),
            before,
        };

        let first = screen(&[node(None)]);
        let second = screen(&[node(Some((page(20, 0), Duration::from_secs(2))))]);

        assert!(first.lines().any(|line| line.starts_with("gw-1") && line.contains(" 0.0 ")), "{first}");
        assert!(second.lines().any(|line| line.starts_with("gpt") && line.contains(" 10.0 ")), "{second}");
        assert!(second.lines().any(|line| line.starts_with("p/c/m") && line.ends_with("gw-1")), "{second}");
    }

    #[test]
    fn a_node_that_began_anew_has_no_rate_below_nothing() {
        let took = Duration::from_secs(2);
        let node = Seen {
            name: String::new(),
            role: "voter",
            ready: String::new(),
            page: page(1, 0),
            before: Some((page(50, 0), took)),
        };

        assert!(node.rate(names::REQUESTS.name, |_| true).abs() < 1e-9);
        assert_eq!(label("a{model=\"x\"}", "provider"), None);
    }
}
