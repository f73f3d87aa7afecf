//! What a gateway costs: straight to the mock, through the floor and through Troupe, in turn, in one run.
//!
//! [`legs`](self) are started once. Every stage warms each leg up and then takes
//! them in turn, round after round, so that a slow moment of the machine falls on
//! all of them; the report shows medians over the rounds. The floor runs twice,
//! as two processes: what those two differ by is what this run cannot tell apart.

mod cluster;
mod config;
mod legs;
mod memory;
pub mod peer;
pub mod report;
mod stages;
mod table;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use super::process::ProcessError;
use super::process::pin::Pin;
use super::progress::Progress;
use super::run::RunError;
use legs::World;
use peer::{Peer, PeerError};
use report::Report;

/// What is compared, and how hard.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `troupe-mock`.
    pub mock: PathBuf,
    /// `troupe-floor`; none leaves the legs out.
    pub floor: Option<PathBuf>,
    /// `troupe`; none leaves the leg out.
    pub troupe: Option<PathBuf>,
    /// Whether Troupe also runs as one of three nodes that agree.
    pub cluster: bool,
    /// Other gateways.
    pub peers: Vec<Peer>,
    /// Where `peers/install` put their programs.
    pub peers_dir: Option<PathBuf>,
    /// Value of `[log] access` for Troupe; none writes it to a file of the run.
    pub access_log: Option<String>,
    /// More arguments for `troupe serve`.
    pub troupe_args: Vec<String>,
    /// Where the gateways run; none lets everything run everywhere.
    pub pin: Option<Pin>,
    /// Rounds, each with every leg.
    pub rounds: u32,
    /// What is measured, in this order.
    pub stages: Vec<Stage>,
    /// How much of it.
    pub amounts: Amounts,
    /// Who is told how it goes.
    pub progress: Progress,
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Memory idle, with many connections, and afterwards.
    Memory,
    /// CPU of a whole reply, closed loop.
    Whole,
    /// CPU of an event of a stream, closed loop.
    Stream,
    /// CPU of replies and streams translated from the other wire, beside the same wire's.
    Translated,
    /// Latency at fixed rates, open loop.
    Open,
    /// Many streams at once, every event checked.
    Streams,
}

/// How much is measured; each number is of one leg in one round.
#[derive(Debug, Clone)]
pub struct Amounts {
    /// Connections of the loops.
    pub connections: u32,
    /// Whole replies.
    pub requests: u64,
    /// Words of a whole reply.
    pub words: u64,
    /// Streams.
    pub streams: u64,
    /// Content events of a stream.
    pub events: u64,
    /// Rates of the open loops, requests a second.
    pub rates: Vec<u64>,
    /// Length of an open loop.
    pub open_time: Duration,
    /// Connections of the memory stage.
    pub memory_connections: u32,
    /// How long they are busy.
    pub memory_time: Duration,
    /// How long a gateway may take to come to rest, before and after. Not less in a quick run: memory that goes back by a
    /// clock takes as long there.
    pub rest_max: Duration,
    /// Streams open at once.
    pub streams_at_once: usize,
    /// Longest a leg may take in a round.
    pub leg_time_max: Duration,
}

impl Amounts {
    /// Several minutes for all stages in five rounds.
    pub fn full() -> Self {
        Self {
            connections: 64,
            requests: 40_000,
            words: 20,
            streams: 2_000,
            events: 50,
            rates: vec![1_000, 5_000],
            open_time: Duration::from_secs(4),
            memory_connections: 512,
            memory_time: Duration::from_secs(5),
            rest_max: Duration::from_secs(20),
            streams_at_once: 1_000,
            leg_time_max: Duration::from_secs(60),
        }
    }

    /// One to two minutes for all stages in three rounds.
    pub fn quick() -> Self {
        Self {
            requests: 12_000,
            streams: 500,
            open_time: Duration::from_secs(1),
            memory_time: Duration::from_secs(2),
            leg_time_max: Duration::from_secs(20),
            ..Self::full()
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A child could not be started or measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A leg could not be driven.
    #[error("a leg cannot be driven")]
    Run(#[from] RunError),
    /// A leg's texts cannot stand in a request.
    #[error("a leg makes no request")]
    Request(#[from] http::Error),
    /// A peer's file cannot be used.
    #[error("peer {name}")]
    Peer {
        /// Which one.
        name: String,
        /// Why.
        source: PeerError,
    },
    /// The configuration of a child cannot be written.
    #[error("cannot write a configuration")]
    Write(#[source] std::io::Error),
}

/// Starts all processes, takes every leg in turn, and reports; the processes end with it.
///
/// # Errors
/// A child that cannot be started, ends, or does not answer in time. Failed requests are numbers of the report.
pub async fn run(settings: &Settings) -> Result<Report, CompareError> {
    let mut world = World::start(settings).await?;
    let mut report = Report::new(settings);
    for stage in &settings.stages {
        match stage {
            Stage::Memory => memory::measure(settings, &world, &mut report).await?,
            Stage::Whole | Stage::Stream | Stage::Translated | Stage::Open => {
                for work in stages::works(settings, *stage) {
                    report.stages.push(stages::rounds(settings, &world, &work).await?);
                }
            }
            Stage::Streams => stages::streams_at_once(settings, &world, &mut report).await?,
        }
    }
    for leg in &mut world.legs {
        if let Some(gateway) = &leg.gateway {
            leg.footprint.rss_after_kib = gateway.rss_kib()?;
            report.footprints.push(leg.footprint.clone());
        }
    }
    settings.progress.say("");
    report.targets = targets::judge(&report, &settings.peers);
    Ok(report)
}
