//! Very many keys and targets through the real program: start, `troupe apply`, memory, and what a request costs.
//!
//! ```sh
//! cargo run --release -p troupe-tests --bin scale -- [--keys 100000] [--targets 1000] [--calls 1000] [--no-callgrind] [--program PATH]
//! ```
//! The program is the one built beside this one unless named. It prints each figure beside its bound. What is wrong ends it with 1; what is slow only says so, for machines differ.
#![expect(clippy::unwrap_used, reason = "a drill may fail by panicking, as tests do")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;
use troupe_node::clock;
use troupe_tests::churn::verdict;
use troupe_tests::crew::Crew;
use troupe_tests::instructions::{self, Cost};
use troupe_tests::scale::{self, Size, Witness};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a node with all of it on disk may take until it is ready.
const START_MAX: Duration = Duration::from_secs(2);
/// What `troupe apply` may take.
const APPLY_MAX: Duration = Duration::from_secs(10);
/// Instructions of a request with very many keys, by those with ten.
const COST_MAX: f64 = 1.05;
/// The longest line of the audit: what one command changed.
const AUDIT_LINE_MAX: usize = 128 << 10;
/// After a burst, memory goes back within this.
const SETTLE: Duration = Duration::from_secs(20);
/// Keys without a hash in the file: the node makes secrets for them.
const UNHASHED: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, otherwise: usize| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let keys = number("--keys", 100_000);
    let size = Size { keys, unhashed: UNHASHED.min(keys / 2), targets: number("--targets", 1_000) };
    let named = args.iter().position(|arg| arg == "--program").and_then(|at| args.get(at + 1));
    let beside = || std::env::current_exe().unwrap().with_file_name("troupe-under-test");
    let program = named.map_or_else(beside, PathBuf::from);
    let mut table = Table::default();
    three_nodes(&program, size, &mut table).await;
    if !args.iter().any(|arg| arg == "--no-callgrind") {
        requests(&program, size, number("--calls", 1_000), &mut table).await;
    }
    if table.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lines as they come.
#[derive(Default)]
struct Table {
    wrong: usize,
}

impl Table {
    /// A figure without a bound.
    fn tell(&mut self, what: &str, figure: &str) {
        writeln!(std::io::stdout().lock(), "     {what:<62} {figure}").unwrap();
    }

    /// A figure that should be within a bound, which decides nothing.
    fn bound(&mut self, what: &str, figure: &str, at_most: &str, is_met: bool) {
        let word = if is_met { "ok" } else { "SLOW" };
        writeln!(std::io::stdout().lock(), "{word:<4} {what:<62} {figure} (at most {at_most})").unwrap();
    }

    fn within(&mut self, what: &str, took: Duration, at_most: Duration) {
        self.bound(what, &format!("{took:.2?}"), &format!("{at_most:?}"), took < at_most);
    }

    /// What must hold.
    fn must(&mut self, what: &str, holds: bool, told: &str) {
        let word = if holds { "ok" } else { "FAIL" };
        writeln!(std::io::stdout().lock(), "{word:<4} {what:<62} {told}").unwrap();
        self.wrong += usize::from(!holds);
    }

    fn memory(&mut self, crew: &Crew, when: &str) {
        let mib: Vec<u64> = (0..crew.nodes.len()).map(|at| scale::resident(crew, at) >> 20).collect();
        self.tell(&format!("resident, {when}"), &format!("{mib:?} MiB"));
    }
}

/// A cluster of three: the file applied through a follower, again, and with all keys changed; starts.
async fn three_nodes(program: &Path, size: Size, table: &mut Table) {
    let mut crew = Crew::start(program, 3).await;
    let few =
        write(&crew, "few.toml", &Size { keys: 10, unhashed: 0, targets: 2 }.spec(&crew.mock.openai_url(), "few"));
    scale::apply(program, &crew, 0, &few).await;
    sleep(Duration::from_secs(1)).await;
    table.memory(&crew, "10 keys");
    let changes = scale::leader_changes(&crew).await;
    let leader = crew.some_leader().await;
    let other = (leader + 1) % 3;
    let witness = Witness::start(&crew, &Size::secret(9), &Size::model(0));

    let all = write(&crew, "all.toml", &size.spec(&crew.mock.openai_url(), "team"));
    let bytes = std::fs::metadata(&all).unwrap().len();
    table.tell("the file", &format!("{} keys, {} targets, {:.1} MiB", size.keys, size.targets, mib(bytes)));
    // Ten keys are there already, with another word of metadata, and a hash where the file has none.
    let first = scale::apply(program, &crew, other, &all).await;
    table.within("troupe apply of the file, through a follower", first.took, APPLY_MAX);
    table.memory(&crew, "right after it");
    let began = clock::now();
    let everywhere = scale::all_have(&crew, size.keys, Duration::from_secs(30)).await;
    table.must("every node has all keys", everywhere, &format!("{:.2?} later", began.elapsed()));
    let made = first.out["made"].as_array().cloned().unwrap_or_default();
    let expected = size.unhashed.saturating_sub(10);
    table.must("secrets are made for keys without a hash", made.len() == expected, &made.len().to_string());
    let made = made.last().and_then(|made| made["secret"].as_str()).unwrap_or_default().to_owned();
    let last = size.keys - 1;
    let serves = scale::is_served(&crew, &Size::secret(last), &Size::model(size.models() - 1)).await;
    table.must("a key of the file calls a model at every node", serves, "");
    table.must("a made key, too", scale::is_served(&crew, &made, &Size::model(0)).await, "");

    let again = scale::apply(program, &crew, leader, &all).await;
    table.within("the same file again: nothing to be changed", again.took, APPLY_MAX);
    table.must("nothing is changed by it", is_nothing(&again.out), &format!("revision {}", again.out["revision"]));
    let other_words = write(&crew, "other.toml", &size.spec(&crew.mock.openai_url(), "group"));
    let changed = scale::apply(program, &crew, leader, &other_words).await;
    table.within("another file, which changes every key, at the leader", changed.took, APPLY_MAX);
    let left = scale::apply(program, &crew, other, &other_words).await;
    table.must("every key is changed by it", is_nothing(&left.out), &changed.out["changed"].to_string());

    let seen = witness.stop().await;
    let after = scale::leader_changes(&crew).await;
    table.must("the leader is the same all the time", changes == after, &format!("{changes:?}, {after:?}"));
    let told =
        format!("{} calls, {} failed, {} over 10 ms, longest {:.1?}", seen.good, seen.bad, seen.slow, seen.longest);
    table.must("calls of a model meanwhile", seen.bad == 0 && seen.good > 0, &told);
    let began = clock::now();
    let wrong = verdict(&crew, &size.ledger()).await;
    table.must("all nodes list all keys, with one state hash", wrong.is_empty(), &wrong.join("; "));
    table.tell("listing all keys at three nodes, 1,000 a page", &format!("{:.2?}", began.elapsed()));
    sleep(SETTLE).await;
    table.memory(&crew, "settled");

    starts(&mut crew, leader, other, table).await;
    let wrong = verdict(&crew, &size.ledger()).await;
    table.must("all nodes list all keys, with one state hash", wrong.is_empty(), &wrong.join("; "));
    table.memory(&crew, "started again");
}

/// Whether an answer says that nothing was to be changed.
fn is_nothing(applied: &serde_json::Value) -> bool {
    ["added", "changed", "removed"].iter().all(|name| applied[name] == 0)
}

async fn starts(crew: &mut Crew, leader: usize, other: usize, table: &mut Table) {
    crew.kill(other);
    let took = scale::restart(crew, other).await;
    table.within("start of a follower, from its log", took, START_MAX);
    crew.kill(leader);
    let took = scale::restart(crew, leader).await;
    table.within("start of the killed leader, from its log", took, START_MAX);
    for at in 0..3 {
        crew.kill(at);
    }
    let took = together(crew).await;
    table.within("start of all three at once, from their logs", took, START_MAX);
    for at in 0..3 {
        crew.kill(at);
        let kept = scale::keep_snapshot(&crew.nodes[at].dir).await;
        if at == 0 {
            let bytes = u64::try_from(kept.snapshot_bytes).unwrap();
            table.tell("a snapshot", &format!("{:.1} MiB", mib(bytes)));
            let is_bounded = kept.audit_line_bytes < AUDIT_LINE_MAX;
            table.must("the longest line of the audit is bounded", is_bounded, &format!("{} B", kept.audit_line_bytes));
        }
    }
    let took = together(crew).await;
    table.within("start of all three at once, from snapshots", took, START_MAX);
    crew.kill(other);
    let took = scale::restart(crew, other).await;
    table.within("start of one, from its snapshot", took, START_MAX);
}

async fn together(crew: &mut Crew) -> Duration {
    let began = clock::now();
    for at in 0..3 {
        crew.run(at);
    }
    crew.all_ready().await;
    began.elapsed()
}

/// What a request costs with ten keys and with all of them, in instructions.
async fn requests(program: &Path, size: Size, calls: usize, table: &mut Table) {
    let few = Size { keys: 10, unhashed: 0, targets: 2 };
    let costs = [cost(program, few, calls).await, cost(program, Size { unhashed: 0, ..size }, calls).await];
    let [Some(few), Some(many)] = costs else {
        return table.tell("instructions of a request", "not counted: callgrind gives no figures here");
    };
    let by = |few: f64, many: f64| format!("{few:.0} with 10 keys, {many:.0} with {}: {:.3}", size.keys, many / few);
    let is_met = many.data / few.data < COST_MAX;
    table.bound("instructions of a request, on its thread", &by(few.data, many.data), &COST_MAX.to_string(), is_met);
    // What goes on beside is for time that passes, of which callgrind takes fifty times as much.
    table.tell("the same with all that went on meanwhile", &by(few.all, many.all));
}

async fn cost(program: &Path, size: Size, calls: usize) -> Option<Cost> {
    let mut native = Crew::start(program, 1).await;
    let file = write(&native, "all.toml", &size.spec(&native.mock.openai_url(), "team"));
    scale::apply(program, &native, 0, &file).await;
    native.kill(0);
    // A start under callgrind takes fifty times as long: it begins with a snapshot.
    scale::keep_snapshot(&native.nodes[0].dir).await;
    instructions::of_a_request(program, &native, size, calls).await
}

fn write(crew: &Crew, name: &str, text: &str) -> PathBuf {
    let path = crew.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a file are exact in f64")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
