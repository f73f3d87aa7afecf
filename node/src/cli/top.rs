//! A live view of the nodes and of what they do, for a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use troupe_proto::unit::Wait;

use super::access::{Access, AdminError, Ask};
use super::fleet::{self, ANSWER_WITHIN, Node};
use super::key::span;
use super::output::table;
use super::page::{Page, label, read, sum};
use super::print::text;
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

/// One node as it was seen last.
struct Seen {
    node: Node,
    ready: String,
    page: Page,
    /// The page before, and the time between the two.
    before: Option<(Page, Duration)>,
    /// When it answered last.
    answered: Option<Instant>,
    /// Since when it has not answered; nothing while it does.
    silent_since: Option<Instant>,
}

/// What a node answers at one look.
struct Answer {
    ready: String,
    page: Page,
    members: Value,
}

/// Shows nodes, targets and models again and again, until it is interrupted.
pub(super) fn run(args: &Top) -> anyhow::Result<Exit> {
    let every = args.every.parse::<Wait>().map_err(|error| anyhow::anyhow!("--every: {error}"))?.0;
    let nodes = fleet::known(&args.access, clock::now() + ANSWER_WITHIN)?;
    let mut seen: Vec<Seen> = nodes.into_iter().map(Seen::unasked).collect();
    let mut looks = 0;
    loop {
        look(&args.access, &mut seen);
        let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
        say(&mut std::io::stdout().lock(), &format!("{clear}{}", screen(&seen, clock::now())));
        looks += 1;
        if args.times.is_some_and(|times| looks >= times) {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(every);
    }
}

/// Asks all nodes at the same time. Of one that does not answer, what it said last stays.
fn look(access: &Access, seen: &mut Vec<Seen>) {
    let deadline = clock::now() + ANSWER_WITHIN;
    let answers = fleet::all(seen, |seen| Some((ask(seen.node.access.as_ref()?, deadline), clock::now())));
    let mut members = None;
    for (seen, answer) in seen.iter_mut().zip(answers) {
        match answer {
            Some((Ok(answer), at)) => members = members.or(Some(seen.take(answer, at))),
            Some((Err(_), at)) => seen.silent_since = seen.silent_since.or(Some(at)),
            // Nobody knows where to ask it yet.
            None => {}
        }
    }
    // Whoever answers knows who is there by now.
    let listed = members.map(|members| fleet::listed(&members, access)).unwrap_or_default();
    if listed.is_empty() {
        return;
    }
    let mut before: BTreeMap<String, Seen> = seen.drain(..).map(|seen| (seen.node.id.clone(), seen)).collect();
    seen.extend(listed.into_iter().map(|node| match before.remove(&node.id) {
        Some(known) => Seen { node, ..known },
        None => Seen::unasked(node),
    }));
}

fn ask(access: &Access, deadline: Instant) -> Result<Answer, AdminError> {
    let access = access.by(deadline);
    let ready = text(&access.ask(&Ask::get(&["node"]))?, "ready");
    let page = read(&String::from_utf8_lossy(&access.fetch(&Ask::metrics())?));
    Ok(Answer { ready, page, members: access.ask(&fleet::members())? })
}

impl Seen {
    const fn unasked(node: Node) -> Self {
        Self { node, ready: String::new(), page: Page::new(), before: None, answered: None, silent_since: None }
    }

    /// Takes what the node says now; gives the members it knows.
    fn take(&mut self, answer: Answer, now: Instant) -> Value {
        let Answer { ready, page, members } = answer;
        let last = std::mem::replace(&mut self.page, page);
        self.before = self.answered.map(|at| (last, now.saturating_duration_since(at)));
        (self.ready, self.answered, self.silent_since) = (ready, Some(now), None);
        members
    }

    /// Whether its figures are those of now.
    const fn answers(&self) -> bool {
        self.answered.is_some() && self.silent_since.is_none()
    }

    /// How it is.
    fn state(&self, now: Instant) -> String {
        match (self.silent_since, self.answered) {
            (None, Some(_)) => self.ready.clone(),
            (None, None) => "not asked yet".to_owned(),
            (Some(_), None) => "no answer".to_owned(),
            (Some(_), Some(last)) => {
                format!("no answer for {} s", now.saturating_duration_since(last).as_secs())
            }
        }
    }

    /// What a counter gained a second since the look before; nothing where it began anew.
    fn rate(&self, metric: &str, with: impl Fn(&str) -> bool) -> f64 {
        let Some((before, took)) = &self.before else { return 0.0 };
        let gained = sum(&self.page, metric, &with) - sum(before, metric, &with);
        if took.is_zero() { 0.0 } else { gained.max(0.0) / took.as_secs_f64() }
    }
}

/// What is counted of each node.
const FIGURES: [&str; 8] = ["REQ/S", "5XX/S", "NOW", "STREAMS", "CONNS", "CPU", "MEMORY", "FRESH"];

fn screen(seen: &[Seen], now: Instant) -> String {
    let all = |_: &str| true;
    let failed = |series: &str| label(series, "status_class") == Some("5xx");
    let nodes: Vec<Vec<String>> = seen
        .iter()
        .map(|node| {
            let named = [node.node.name.clone(), node.node.role.to_owned(), node.state(now)];
            if node.answered.is_none() {
                return named.into_iter().chain(FIGURES.map(|_| "-".to_owned())).collect();
            }
            let figures = [
                format!("{:.1}", node.rate(names::REQUESTS.name, all)),
                format!("{:.1}", node.rate(names::REQUESTS.name, failed)),
                format!("{:.0}", sum(&node.page, names::REQUESTS_IN_FLIGHT.name, all)),
                format!("{:.0}", sum(&node.page, names::STREAMS_OPEN.name, all)),
                format!("{:.0}", sum(&node.page, names::CONNECTIONS_OPEN.name, all)),
                format!("{:.0}%", node.rate("process_cpu_seconds_total", all) * 100.0),
                format!("{:.0}M", sum(&node.page, "process_resident_memory_bytes", all) / 1_048_576.0),
                format!("{:.1}s", sum(&node.page, names::FRESHNESS.name, all)),
            ];
            named.into_iter().chain(figures).collect()
        })
        .collect();
    let heads: Vec<&str> = ["NODE", "ROLE", "READY"].into_iter().chain(FIGURES).collect();
    // Figures of a node that is silent are old: they are shown as its own, and add nothing to what goes on now.
    let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.answers()).collect();
    let mut out = table(&heads, &nodes, &[3, 4, 5, 6, 7, 8, 9, 10]);
    out.push('\n');
    out.push_str(&table(&["MODEL", "REQ/S", "5XX/S", "TOKENS/S"], &models(&seen), &[1, 2, 3]));
    out.push('\n');
    out.push_str(&table(&["TARGET", "NOW", "RESTS AT"], &targets(&seen), &[1]));
    out
}

/// The models with the most calls.
fn models(seen: &[&Seen]) -> Vec<Vec<String>> {
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
fn targets(seen: &[&Seen]) -> Vec<Vec<String>> {
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
            let resting: Vec<&str> = resting.map(|seen| seen.node.name.as_str()).collect();
            let (provider, credential, model) = &name;
            let rests = if resting.is_empty() { "-".to_owned() } else { resting.join(",") };
            (resting.len(), calls, vec![format!("{provider}/{credential}/{model}"), format!("{calls:.0}"), rests])
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    rows.into_iter().map(|(_, _, row)| row).take(ROWS_MAX).collect()
}

fn distinct<T: Ord>(seen: &[&Seen], metric: &str, of: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let series = seen.iter().flat_map(|node| node.page.keys()).filter(|series| series.starts_with(metric));
    series.filter_map(|series| of(series)).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::fleet::fake;
    use super::*;

    fn page(calls: u32, resting: u8) -> Page {
        read(&format!(
            "# HELP x y\ntroupe_requests_total{{operation=\"chat\",model=\"gpt\",status_class=\"2xx\",outcome=\"ok\"}} {calls}\n\
             troupe_requests_total{{operation=\"chat\",model=\"gpt\",status_class=\"5xx\",outcome=\"no\"}} 4\n\
             troupe_requests_in_flight 3\n\
             troupe_streams_open 2\n\
             troupe_target_in_flight{{provider=\"p\",credential=\"c\",model=\"m\"}} 2\n\
             troupe_target_resting{{provider=\"p\",credential=\"c\",model=\"m\"}} {resting}\n"
        ))
    }

    fn node(name: &str) -> Node {
        Node { name: name.to_owned(), id: name.to_owned(), role: "leader", access: None }
    }

    fn answer(calls: u32, resting: u8) -> Answer {
        Answer { ready: "ready".to_owned(), page: page(calls, resting), members: Value::Null }
    }

    #[test]
    fn rates_are_what_was_gained_between_two_looks() {
        let (mut seen, now) = (Seen::unasked(node("gw-1")), clock::now());
        seen.take(answer(20, 0), now);
        let first = screen(std::slice::from_ref(&seen), now);
        let later = now + Duration::from_secs(2);
        seen.take(answer(40, 1), later);
        let second = screen(std::slice::from_ref(&seen), later);

        assert!(first.lines().any(|line| line.starts_with("gw-1") && line.contains(" 0.0 ")), "{first}");
        assert!(second.lines().any(|line| line.starts_with("gpt") && line.contains(" 10.0 ")), "{second}");
        assert!(second.lines().any(|line| line.starts_with("p/c/m") && line.ends_with("gw-1")), "{second}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (heads, row) = (words(second.lines().next().unwrap()), words(second.lines().nth(1).unwrap()));
        let at = |head: &str| row[heads.iter().position(|name| name == head).unwrap()].clone();
        assert_eq!([at("NOW"), at("STREAMS")], ["3", "2"], "{second}");
    }

    #[test]
    fn a_node_that_began_anew_has_no_rate_below_nothing() {
        let (mut seen, now) = (Seen::unasked(node("gw-1")), clock::now());
        seen.take(answer(50, 0), now);
        seen.take(answer(1, 0), now + Duration::from_secs(2));

        assert!(seen.rate(names::REQUESTS.name, |_| true).abs() < 1e-9);
        assert_eq!(label("a{model=\"x\"}", "provider"), None);
    }

    #[test]
    fn a_node_that_hangs_keeps_its_last_figures_and_holds_up_nobody() {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let answers = |name: &str, path: &str| {
            let page = "troupe_requests_in_flight 7\n".to_owned();
            let members = r#"{"items": []}"#.to_owned();
            let node = format!(r#"{{"name": "{name}", "ready": "ready"}}"#);
            Some(if path.contains("metrics") {
                page
            } else if path.contains("members") {
                members
            } else {
                node
            })
        };
        let well = fake::node(move |path| answers("gw-1", path));
        let hangs = fake::node(move |path| if stopped.load(Relaxed) { None } else { answers("gw-2", path) });
        let mut seen: Vec<Seen> = [("gw-1", &well), ("gw-2", &hangs)]
            .map(|(name, access)| Seen::unasked(Node { access: Some(access.clone()), ..node(name) }))
            .into();

        look(&well, &mut seen);
        is_stopped.store(true, Relaxed);
        let began = clock::now();
        look(&well, &mut seen);

        let took = clock::now() - began;
        assert!(took < 2 * ANSWER_WITHIN, "{took:?}");
        let told = screen(&seen, seen[1].answered.unwrap() + Duration::from_secs(9));
        let row = |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(row("gw-1").contains("ready"), "{told}");
        assert!(row("gw-2").contains("no answer for 9 s") && row("gw-2").contains(" 7 "), "{told}");
    }
}
