//! Drills at full rate: a node in this process under 2,000 calls a second, while its providers and its actors die.
//!
//! ```sh
//! cargo run --release -p troupe-tests --bin drill [-- --rate 2000]
//! ```
//! It prints a table and ends with 1 when a call failed, a share did not come back, an actor was not restarted, or an
//! outage became a storm. The same drills at a small rate are tests (`tests/it/drills.rs` and its neighbours).
#![expect(clippy::unwrap_used, reason = "a drill may fail by panicking, as tests do")]

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;
use troupe_actors::Role;
use troupe_loadtest::mock::{MockHandle, Strike};
use troupe_node::clock;
use troupe_tests::World;
use troupe_tests::load::{Load, Tally};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `both` has two targets of equal weight, `frail` the same and a breaker that never opens, `long` continues streams.
const SPEC: &str = r#"
[providers.one]
wire = "openai"
base_url = "{mock}/v1"
keys = [{ name = "k", secret = "secret-one" }]
[providers.two]
wire = "openai"
base_url = "{mock2}/v1"
keys = [{ name = "k", secret = "secret-two" }]
[models.both]
targets = [{ provider = "one", model = "m" }, { provider = "two", model = "m" }]
timeouts = { connect = "5s", first_byte = "10s" }
on_break = "continue"
[models.frail]
targets = [{ provider = "one", model = "f" }, { provider = "two", model = "f" }]
breaker = { failures = 1000, window = "100ms" }
[models.long]
targets = [{ provider = "one", model = "l" }, { provider = "two", model = "l", priority = 1 }]
on_break = "continue"
breaker = { failures = 1000, window = "100ms" }
"#;
/// What a share of half may take to come back.
const BACK: Duration = Duration::from_secs(30);
/// A share that counts as half, of a thousand.
const HALF: u64 = 400;
/// How often the target is killed.
const KILLS: usize = 3;
/// How often the actors of a role are killed, and how often poisoned.
const FALLS: u64 = 4;
/// Between two falls: more often, and supervision is right to give up.
const FALL_EVERY: Duration = Duration::from_millis(1500);
/// How long an outage lasts.
const OUTAGE: Duration = Duration::from_secs(15);
/// The floor of the retry budget: 10 a second, over the outage and the window before it.
const FLOOR: u64 = 10 * (15 + 10);

/// One line of the table.
struct Row {
    drill: String,
    tally: Tally,
    seen: String,
    is_good: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let rate = rate();
    let mut rows = Vec::new();
    for drill in 0..4 {
        let world = World::new().spec(SPEC).start().await;
        let more = match drill {
            0 => vec![target_killed(&world, rate).await],
            1 => actors_fall(&world, rate).await,
            2 => vec![storm(&world, rate).await],
            _ => vec![streams_cut(&world, rate).await],
        };
        for row in more {
            show(&row);
            rows.push(row);
        }
    }
    if rows.iter().all(|row| row.is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn rate() -> u64 {
    let mut args = std::env::args().skip_while(|arg| arg != "--rate");
    args.nth(1).and_then(|rate| rate.parse().ok()).unwrap_or(2000)
}

fn show(row: &Row) {
    let verdict = if row.is_good { "ok  " } else { "FAIL" };
    let mut out = std::io::stdout().lock();
    let Tally { sent, slowest, retries, .. } = &row.tally;
    writeln!(
        out,
        "{verdict} {:<28} {sent:>7} calls, {:>3} failed, {retries:>6} retried, slowest {:>5} ms  {}",
        row.drill,
        row.tally.failed(),
        slowest.as_millis(),
        row.seen
    )
    .unwrap();
    for (what, count) in row.tally.bad.iter().filter(|_| !row.is_good) {
        writeln!(out, "       {count} x {what}").unwrap();
    }
}

/// The part of the calls that go to the first mock, per mille, over a second.
async fn share(mock: &MockHandle, other: &MockHandle) -> u64 {
    let before = (mock.counts().calls, other.counts().calls);
    sleep(Duration::from_secs(1)).await;
    let (here, there) = (mock.counts().calls - before.0, other.counts().calls - before.1);
    here * 1000 / (here + there).max(1)
}

/// How long it takes until about half of the calls go to the first mock again.
async fn back(world: &World) -> Option<Duration> {
    let began = clock::now();
    while clock::now() - began < BACK {
        if share(&world.mock, world.mock2()).await >= HALF {
            return Some(clock::now() - began);
        }
    }
    None
}

async fn target_killed(world: &World, rate: u64) -> Row {
    let load = Load::whole("both", rate).start(&world.client()).await;
    sleep(Duration::from_secs(2)).await;
    let mut times = Vec::new();
    for _ in 0..KILLS {
        world.mock.kill();
        sleep(Duration::from_secs(4)).await;
        world.mock.revive().unwrap();
        times.push(back(world).await);
    }
    let tally = load.end().await;
    let is_good = tally.failed() == 0 && times.iter().all(Option::is_some);
    Row { drill: "target killed".to_owned(), tally, seen: format!("share back after {times:.1?}"), is_good }
}

async fn actors_fall(world: &World, rate: u64) -> Vec<Row> {
    let actors = &world.node.house.actors;
    let restarts = |role: Role| actors.vitals().roles.iter().find(|one| one.role == role).map_or(0, |one| one.restarts);
    let mut rows = Vec::new();
    for role in Role::ALL {
        let load = Load::whole("both", rate).start(&world.client()).await;
        // Probers are there for what rests: one target does, all the time.
        world.mock2().kill();
        let before = restarts(role);
        let began = clock::now();
        for _ in 0..FALLS {
            actors.kill(role);
            sleep(FALL_EVERY).await;
            actors.poison(role);
            sleep(FALL_EVERY).await;
        }
        let counted = restarts(role) - before;
        let tally = load.end().await;
        world.mock2().revive().unwrap();
        let is_back = recovered(world, rate).await;
        let is_good = tally.failed() == 0 && counted >= FALLS && is_back && !actors.vitals().has_failed;
        let took = (clock::now() - began).as_secs();
        let seen = format!("{counted} restarts, share {} within {took} s", if is_back { "back" } else { "LOST" });
        rows.push(Row { drill: format!("{} killed and poisoned", role.as_str()), tally, seen, is_good });
    }
    rows
}

/// Whether the target that rested during a drill gets its share again, and no call fails meanwhile.
async fn recovered(world: &World, rate: u64) -> bool {
    let load = Load::whole("both", rate).start(&world.client()).await;
    let began = clock::now();
    let mut is_back = false;
    while clock::now() - began < BACK && !is_back {
        is_back = share(world.mock2(), &world.mock).await >= HALF;
    }
    is_back && load.end().await.failed() == 0
}

async fn storm(world: &World, rate: u64) -> Row {
    for mock in [&world.mock, world.mock2()] {
        // A success now and then keeps the breakers out of it: what is left is the budget.
        mock.fail(Strike::new("status=500").share(990)).unwrap();
    }
    let load = Load::whole("frail", rate).start(&world.client()).await;
    sleep(OUTAGE).await;
    let mut tally = load.end().await;
    let upstream = world.mock.counts().calls + world.mock2().counts().calls;
    let most = tally.sent + tally.sent / 5 + FLOOR;
    let told = tally.bad.remove("500 provider_error").unwrap_or(0);
    let is_good = upstream >= tally.sent && upstream <= most && told + tally.good == tally.sent;
    let seen = format!("{upstream} upstream calls, {most} allowed");
    Row { drill: "every target fails".to_owned(), tally, seen, is_good }
}

async fn streams_cut(world: &World, rate: u64) -> Row {
    // More than a fifth would be beyond the retry budget.
    world.mock.fail(Strike::new("random-cut=2026").share(150)).unwrap();
    let load = Load::streams("long", rate / 2).start(&world.client()).await;
    sleep(Duration::from_secs(10)).await;
    let tally = load.end().await;
    let continued = world.mock2().counts().calls;
    let is_good = tally.failed() == 0 && continued > tally.sent / 10;
    Row { drill: "streams cut".to_owned(), tally, seen: format!("{continued} continued"), is_good }
}
