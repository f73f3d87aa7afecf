//! Load against a gateway: what a request costs, and whether streams are whole.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use troupe_loadtest::load::compare::peer::Peer;
use troupe_loadtest::load::plan::{Overrides, Plan};
use troupe_loadtest::load::process::pin::Pin;
use troupe_loadtest::load::progress::Progress;
use troupe_loadtest::load::{compare, process, run, streams, svg};
use troupe_loadtest::mock::{Mock, MockOptions};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load against a gateway; every run is bounded in count and time.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carries out a plan: open loop, closed loop, or the search for the rate that holds; fails when a request failed.
    Run(Run),
    /// Measures what gateways cost: straight to the mock, through the floor, through Troupe and its peers, in turn.
    Compare(Compare),
    /// Opens many streams at once and checks every event of each; fails when one is lost, doubled or late.
    Streams(Streams),
}

#[derive(Debug, Args)]
struct Run {
    /// The plan, a TOML file; loadtest/plans has some.
    plan: PathBuf,
    /// In place of the plan's `target.base_url`.
    #[arg(long)]
    base_url: Option<Uri>,
    /// In place of the plan's `target.key`.
    #[arg(long)]
    key: Option<String>,
    /// Starts a mock inside this program and asks that; to try a plan out.
    #[arg(long, conflicts_with = "base_url")]
    mock: bool,
    /// Also writes the report here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also draws the run here, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Compare {
    /// A run of one to two minutes: three rounds, fewer requests.
    #[arg(long)]
    quick: bool,
    /// What is measured, all unless named.
    #[arg(long, value_enum, value_delimiter = ',')]
    stages: Vec<Stage>,
    /// The gateway; `troupe` beside this program unless given.
    #[arg(long)]
    troupe: Option<PathBuf>,
    /// Leaves Troupe out.
    #[arg(long, conflicts_with = "troupe")]
    without_troupe: bool,
    /// Also measures Troupe as one of three nodes that agree; the other two run beside the mock.
    #[arg(long, conflicts_with = "without_troupe")]
    cluster: bool,
    /// One more argument for `troupe serve`; may stand more than once.
    #[arg(long, allow_hyphen_values = true)]
    troupe_arg: Vec<String>,
    /// Where Troupe writes its access log: off, stdout or a path; a file that goes with the run unless given.
    #[arg(long)]
    access_log: Option<String>,
    /// Another gateway, a TOML file as in loadtest/peers; may stand more than once.
    #[arg(long)]
    peer: Vec<PathBuf>,
    /// Where loadtest/peers/install put the programs of the peers.
    #[arg(long)]
    peers_dir: Option<PathBuf>,
    /// Lets everything run on every processor instead of giving the gateways one of their own.
    #[arg(long)]
    no_pin: bool,
    /// Rounds; the report shows their medians.
    #[arg(long)]
    rounds: Option<u32>,
    /// Connections of the loops.
    #[arg(long)]
    connections: Option<u32>,
    /// Whole replies of each leg in each round.
    #[arg(long)]
    requests: Option<u64>,
    /// Words of a whole reply.
    #[arg(long)]
    words: Option<u64>,
    /// Streams of each leg in each round.
    #[arg(long)]
    streams: Option<u64>,
    /// Content events of a stream.
    #[arg(long)]
    events: Option<u64>,
    /// Rates of the open loops, requests a second.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<u64>,
    /// Length of an open loop in one round, seconds.
    #[arg(long)]
    open_seconds: Option<u64>,
    /// Longest one leg may take in one round, seconds.
    #[arg(long)]
    leg_seconds: Option<u64>,
    /// Also writes the report here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    Memory,
    Whole,
    Stream,
    Translated,
    Open,
    Streams,
}

#[derive(Debug, Args)]
struct Streams {
    /// As the wire's SDK takes it: with /v1 for openai, without for anthropic.
    #[arg(long)]
    base_url: Uri,
    /// Sent as Bearer.
    #[arg(long)]
    key: Option<String>,
    /// Whose streams are read.
    #[arg(long, value_enum, default_value_t = Wire::Openai)]
    wire: Wire,
    /// Streams open at once.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Content events of each.
    #[arg(long, default_value_t = 50)]
    events: u64,
    /// Model asked for; `mock+events=EVENTS+drip=20ms` unless given.
    #[arg(long)]
    model: Option<String>,
    /// Shares HTTP/2 connections (h2c) instead of one HTTP/1.1 connection a stream.
    #[arg(long)]
    http2: bool,
    /// The check fails after this, seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wire {
    Openai,
    Anthropic,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Run(args) => runtime.block_on(run(args)),
        Command::Compare(args) => runtime.block_on(compare(args)),
        Command::Streams(args) => runtime.block_on(streams(args)),
    }
}

async fn run(args: Run) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&args.plan).with_context(|| format!("cannot read {}", args.plan.display()))?;
    let mock = if args.mock { Some(Mock::start(MockOptions::default())?) } else { None };
    let of_mock = mock.as_ref().map(|mock| mock.base_url.parse()).transpose()?;
    let overrides = Overrides { base_url: args.base_url.or(of_mock), key: args.key };
    let plan = Plan::parse(&text, &overrides).with_context(|| format!("{} is no plan", args.plan.display()))?;
    let report = run::run(&plan, Progress::detect()).await?;
    write!(std::io::stdout().lock(), "{}", report.table())?;
    if let Some(path) = args.json {
        write_json(&path, &report)?;
    }
    if let Some(path) = args.svg {
        std::fs::write(&path, svg::of_run(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_json(path: &Path, report: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

async fn compare(args: Compare) -> anyhow::Result<ExitCode> {
    raise_file_limit();
    let settings = compare_settings(&args)?;
    if let Some(pin) = &settings.pin {
        pin.settle_here().context("cannot choose a processor; try --no-pin")?;
    }
    let report = tokio::select! {
        report = compare::run(&settings) => report?,
        // The children stand in groups of their own, so that a terminal's Ctrl-C reaches only us.
        () = told_to_stop() => anyhow::bail!("stopped; the children are gone"),
    };
    write!(std::io::stdout().lock(), "{}", report.table())?;
    if let Some(path) = args.json {
        write_json(&path, &report)?;
    }
    // Speed decides nothing here; a failed request does.
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare_settings(args: &Compare) -> anyhow::Result<compare::Settings> {
    let troupe = match (args.without_troupe, &args.troupe) {
        (true, _) => None,
        (false, Some(path)) => Some(path.clone()),
        (false, None) => Some(process::sibling("troupe")?),
    };
    if let Some(path) = troupe.as_ref().filter(|path| !path.exists()) {
        anyhow::bail!("there is no {}: build it, name it with --troupe, or say --without-troupe", path.display());
    }
    let mut peers = Vec::new();
    for path in &args.peer {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        peers.push(Peer::parse(&text).with_context(|| format!("{} is no peer", path.display()))?);
    }
    let base = if args.quick { compare::Amounts::quick() } else { compare::Amounts::full() };
    let amounts = compare::Amounts {
        connections: args.connections.unwrap_or(base.connections).max(1),
        requests: args.requests.unwrap_or(base.requests).max(1),
        words: args.words.unwrap_or(base.words),
        streams: args.streams.unwrap_or(base.streams).max(1),
        events: args.events.unwrap_or(base.events).max(1),
        rates: if args.rates.is_empty() { base.rates.clone() } else { args.rates.clone() },
        open_time: args.open_seconds.map_or(base.open_time, Duration::from_secs),
        leg_time_max: args.leg_seconds.map_or(base.leg_time_max, Duration::from_secs),
        ..base
    };
    anyhow::ensure!(amounts.rates.iter().all(|rate| (1..=1_000_000).contains(rate)), "--rates must be 1 to 1000000");
    let all = [Stage::Memory, Stage::Whole, Stage::Stream, Stage::Translated, Stage::Open, Stage::Streams];
    let stages = if args.stages.is_empty() { &all[..] } else { &args.stages[..] };
    let stage = |stage: &Stage| match stage {
        Stage::Memory => compare::Stage::Memory,
        Stage::Whole => compare::Stage::Whole,
        Stage::Stream => compare::Stage::Stream,
        Stage::Translated => compare::Stage::Translated,
        Stage::Open => compare::Stage::Open,
        Stage::Streams => compare::Stage::Streams,
    };
    Ok(compare::Settings {
        mock: process::sibling("troupe-mock")?,
        floor: Some(process::sibling("troupe-floor")?),
        troupe,
        cluster: args.cluster,
        peers,
        peers_dir: args.peers_dir.clone(),
        access_log: args.access_log.clone(),
        troupe_args: args.troupe_arg.clone(),
        pin: if args.no_pin { None } else { Pin::divide() },
        rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 5 }).max(1),
        stages: stages.iter().map(stage).collect(),
        amounts,
        progress: Progress::detect(),
    })
}

/// A thousand streams are two thousand sockets of a gateway; the limit is passed on to it.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the streams that find no socket say so.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}

async fn told_to_stop() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn streams(args: Streams) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.base_url.scheme_str() == Some("http"), "--base-url must be http://HOST:PORT/...");
    let settings = streams::Settings {
        model: args.model.unwrap_or_else(|| format!("mock+events={}+drip=20ms", args.events)),
        base_url: args.base_url,
        key: args.key,
        wire: match args.wire {
            Wire::Openai => streams::Wire::OpenAi,
            Wire::Anthropic => streams::Wire::Anthropic,
        },
        streams: args.streams,
        events: args.events,
        http2: args.http2,
        time_max: Duration::from_secs(args.seconds),
    };
    let outcome = streams::check(&settings).await;
    let mut out = std::io::stdout().lock();
    let (whole, all, took) = (outcome.whole, settings.streams, outcome.elapsed.as_millis());
    writeln!(out, "{whole} of {all} streams whole, {} events each, {took} ms", settings.events)?;
    for (fault, count) in &outcome.faults {
        writeln!(out, "{count:>6} x {fault}")?;
    }
    Ok(if outcome.whole == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
