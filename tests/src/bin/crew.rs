//! A cluster of real processes under real faults.
//!
//! ```sh
//! cargo run --release -p troupe-tests --bin crew -- kills [--rounds 20]     all three killed at random points
//! cargo run --release -p troupe-tests --bin crew -- churn [--changes 1000]  the leader killed every 5 s
//! cargo run --release -p troupe-tests --bin crew -- revoke [--keys 100]     how fast a revoked key is refused
//! cargo run --release -p troupe-tests --bin crew -- tell [--rounds 30]      how fast all know of a target that fails at one
//! ```
//! It prints what it saw and ends with 1 when something was lost, made twice, or too slow.
#![expect(clippy::unwrap_used, reason = "a drill may fail by panicking, as tests do")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::time::sleep;
use troupe_loadtest::mock::Strike;
use troupe_node::clock;
use troupe_tests::churn::{Fate, Pace, Writers, verdict};
use troupe_tests::crew::{Crew, attempt, heard_of};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Between two kills of the leader.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// How long a killed leader stays away.
const AWAY: Duration = Duration::from_millis(1500);
/// The longest that half of the gaps may take, and the longest of all.
const GAPS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
/// What a revoked key may take to be refused at every node.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);
/// What it may take until all nodes know that a target fails at one.
const KNOWN_WITHIN: Duration = Duration::from_millis(200);
/// What they may take to have forgotten it again.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, otherwise: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let is_good = match args.first().map(String::as_str) {
        Some("kills") => kills(number("--rounds", 20)).await,
        Some("churn") => churn(number("--changes", 1000)).await,
        Some("revoke") => revoke(number("--keys", 100)).await,
        Some("tell") => tell(number("--rounds", 30)).await,
        _ => {
            say("say which: kills, churn, revoke or tell");
            return ExitCode::from(2);
        }
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").unwrap();
}

/// The program, built beside this one.
fn program() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("troupe-under-test")
}

/// Tells what is wrong, and whether nothing is.
fn told(wrong: &[String]) -> bool {
    for line in wrong.iter().take(20) {
        say(&format!("  WRONG {line}"));
    }
    wrong.is_empty()
}

/// All processes killed at random points under write load, again and again.
async fn kills(rounds: u64) -> bool {
    let mut crew = Crew::start(&program(), 3).await;
    let mut is_good = true;
    for round in 1..=rounds {
        let pace =
            Pace { tasks: 8, changes: u64::MAX, pause: Duration::ZERO, prefix: format!("r{round}-"), shared: None };
        let writers = Writers::start(&crew, &pace);
        sleep(Duration::from_millis(200 + clock::dice() % 1500)).await;
        for at in [0, 1, 2] {
            crew.kill(at);
            sleep(Duration::from_micros(clock::dice() % 20_000)).await;
        }
        let ledger = writers.stop().await;
        for at in [0, 1, 2] {
            crew.run(at);
        }
        crew.all_ready().await;
        let wrong = verdict(&crew, &ledger).await;
        say(&format!(
            "round {round}: {} acknowledged, {} unknown, {} refused",
            ledger.count(Fate::Acknowledged),
            ledger.count(Fate::Unknown),
            ledger.count(Fate::Refused)
        ));
        is_good &= told(&wrong) && ledger.count(Fate::Acknowledged) > 0;
    }
    say(&format!("{} kills -9 of all three nodes: {}", rounds, if is_good { "nothing lost" } else { "FAILED" }));
    is_good
}

/// Changes sent to the nodes in turn while the leader is killed again and again.
async fn churn(changes: u64) -> bool {
    let mut crew = Crew::start(&program(), 3).await;
    let pace = Pace { tasks: 2, changes, pause: Duration::from_millis(50), prefix: "c".to_owned(), shared: Some(7) };
    let writers = Writers::start(&crew, &pace);
    let mut kills = Vec::new();
    while !writers.is_done() {
        sleep(KILL_EVERY - AWAY).await;
        let Some(at) = crew.leader().await else { continue };
        kills.push(clock::now());
        crew.kill(at);
        sleep(AWAY).await;
        crew.run(at);
    }
    let ledger = writers.stop().await;
    crew.all_ready().await;
    let mut wrong = verdict(&crew, &ledger).await;
    let mut gaps = ledger.gaps(&kills);
    gaps.sort_unstable();
    let (median, longest) = (gaps.get(gaps.len() / 2).copied(), gaps.last().copied());
    if median.is_none_or(|gap| gap > GAPS.0) || longest.is_none_or(|gap| gap > GAPS.1) {
        wrong.push(format!("writes stood still for too long: {gaps:?}"));
    }
    say(&format!(
        "{changes} changes, leader killed {} times: {} acknowledged, {} unknown, {} refused; gaps: median {median:?}, \
         longest {longest:?}",
        kills.len(),
        ledger.count(Fate::Acknowledged),
        ledger.count(Fate::Unknown),
        ledger.count(Fate::Refused)
    ));
    told(&wrong) && !kills.is_empty()
}

/// How long a revoked key goes on being admitted, at any node.
async fn revoke(keys: u64) -> bool {
    let crew = Crew::start(&program(), 3).await;
    let mut took = Vec::new();
    let mut fresh = Vec::new();
    for number in 0..keys {
        let (made_at, revoked_at) = (usize::try_from(number % 3).unwrap(), usize::try_from((number + 1) % 3).unwrap());
        let (name, secret) = (format!("k{number}"), format!("sk-revoke-{number}"));
        let path = format!("/admin/v1/keys/{name}");
        let made = crew.ask(made_at, Method::PUT, &path, Some(json!({ "secret": secret }))).await.unwrap();
        assert!(made.status < 300, "{}", made.text());
        let began = clock::now();
        for seat in &crew.nodes {
            let reply = attempt(seat.data, Method::GET, "/v1/models", &secret, "").await.unwrap();
            assert_eq!(reply.status, 200, "a key made a moment ago at another node: {}", reply.text());
        }
        fresh.push(began.elapsed());
        let revoke = format!("{path}/revoke");
        let revoked = crew.ask(revoked_at, Method::POST, &revoke, None).await.unwrap();
        assert!(revoked.status < 300, "{}", revoked.text());
        let began = clock::now();
        for seat in &crew.nodes {
            while attempt(seat.data, Method::GET, "/v1/models", &secret, "").await.unwrap().status == 200 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        took.push(began.elapsed());
    }
    took.sort_unstable();
    fresh.sort_unstable();
    say(&format!(
        "{keys} keys made at one node, used at all, revoked at another: used after p50 {:?} p99 {:?}; refused by all \
         after p50 {:?} p99 {:?}",
        percentile(&fresh, 50),
        percentile(&fresh, 99),
        percentile(&took, 50),
        percentile(&took, 99)
    ));
    percentile(&took, 99).is_some_and(|p99| p99 < REVOKED_WITHIN)
}

/// The time that so many of them stay below; in order.
fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    times.get((times.len() * percent / 100).min(times.len().checked_sub(1)?)).copied()
}

/// How long it takes until all nodes know that a target fails at one of them: it refuses the credential, or dies.
async fn tell(rounds: u64) -> bool {
    let crew = Crew::start(&program(), 3).await;
    crew.furnish().await;
    let rules = json!({ "defaults": { "retries": { "attempts": 1 }, "breaker": { "failures": 1 } } });
    let reply = crew.ask(0, Method::POST, "/admin/v1/apply", Some(rules)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut is_good = true;
    for (what, knobs, why) in [("refuses its key", "status=401", "credential"), ("dies", "reset", "unreachable")] {
        let mut known = Vec::new();
        for round in 0..rounds {
            settle(&crew).await;
            let first = usize::try_from(round % 3).unwrap();
            crew.mock.fail(Strike::new(knobs)).unwrap();
            while crew.breaker(first).await["state"] == "closed" {
                crew.chat(first, "sk-team").await;
            }
            let began = clock::now();
            for other in [0, 1, 2].into_iter().filter(|at| *at != first) {
                while heard_of(&crew.breaker(other).await, &crew.nodes[first].name).as_deref() != Some(why) {
                    assert!(began.elapsed() < SETTLED_WITHIN, "never told: {}", crew.breaker(other).await);
                    sleep(Duration::from_millis(1)).await;
                }
            }
            known.push(began.elapsed());
        }
        known.sort_unstable();
        let p99 = percentile(&known, 99);
        say(&format!("a target {what} at one node: all know after p50 {:?} p99 {p99:?}", percentile(&known, 50)));
        is_good &= p99.is_some_and(|p99| p99 < KNOWN_WITHIN);
    }
    is_good
}

/// Mends the mock, and waits until every node serves by it and nobody holds anything against it.
async fn settle(crew: &Crew) {
    crew.mock.heal();
    let deadline = clock::now() + SETTLED_WITHIN;
    loop {
        let reply = crew.ask(0, Method::POST, "/admin/v1/breakers/reset", Some(json!({}))).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut is_settled = true;
        for (at, seat) in crew.nodes.iter().enumerate() {
            // Nobody is told who was not heard of yet.
            let live = crew.members(at).await.iter().filter(|member| member["alive"] == true).count();
            is_settled &= live == crew.nodes.len() - 1;
            is_settled &= crew.chat(at, "sk-team").await == 200;
            let breaker = crew.breaker(at).await;
            is_settled &= breaker["state"] == "closed";
            is_settled &=
                crew.nodes.iter().all(|other| other.name == seat.name || heard_of(&breaker, &other.name).is_none());
        }
        if is_settled {
            return;
        }
        assert!(clock::now() < deadline, "the crew does not settle: {}", crew.breaker(0).await);
        sleep(Duration::from_millis(20)).await;
    }
}
