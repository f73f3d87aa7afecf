//! Closed-loop CPU per request: direct, floor and Troupe in turn, in one run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::driver::{self, DriveError, Outcome, Plan};
use super::process::{self, Process, ProcessError};
use super::report::{Footprint, Mode, Report, Sample, float};

/// The virtual key of the run; the child reads it from this variable.
const KEY_VAR: &str = "TROUPE_COMPARE_KEY";
const KEY: &str = "sk-troupe-compare-0123456789abcdef";
/// Share of a round that warms each leg up.
const WARM_UP: u64 = 10;
/// How long the first 200 through a started gateway may take.
const FIRST_REPLY_MAX: Duration = Duration::from_secs(10);

/// What is compared, and how hard.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `troupe-mock`.
    pub mock: PathBuf,
    /// `troupe-floor`; none leaves the leg out.
    pub floor: Option<PathBuf>,
    /// `troupe`; none leaves the leg out.
    pub troupe: Option<PathBuf>,
    /// Value of `[log] access` for Troupe.
    pub access_log: String,
    /// More arguments for `troupe serve`.
    pub troupe_args: Vec<String>,
    /// Connections of the closed loop.
    pub connections: u32,
    /// Rounds, each with every leg.
    pub rounds: u32,
    /// Whole replies of a leg in a round; 0 leaves the mode out.
    pub requests: u64,
    /// Words of a whole reply.
    pub words: u64,
    /// Streams of a leg in a round; 0 leaves the mode out.
    pub streams: u64,
    /// Content events of a stream.
    pub events: u64,
    /// Longest a leg may take in a round.
    pub leg_time_max: Duration,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A child could not be started or measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A leg could not be driven.
    #[error("driving {leg}")]
    Drive {
        /// Which one.
        leg: String,
        /// Why.
        source: DriveError,
    },
    /// The configuration of a child cannot be written.
    #[error("cannot write a configuration")]
    Write(#[source] std::io::Error),
}

/// One way to the mock.
struct Leg {
    name: &'static str,
    addr: SocketAddr,
    key: Option<&'static str>,
    /// None: straight to the mock.
    gateway: Option<Process>,
    footprint: Footprint,
}

/// Starts all processes, drives every leg in turn, and reports; the processes end with it.
///
/// # Errors
/// A child that cannot be started, ends, or does not answer in time. Failed requests are numbers of the report.
pub async fn run(settings: &Settings) -> Result<Report, CompareError> {
    let dir = tempfile::tempdir().map_err(CompareError::Write)?;
    let mock_addr = process::free_addr()?;
    let listen = ["--listen".to_owned(), mock_addr.to_string()];
    let mut mock = Process::start("mock", &settings.mock, &listen, &[], dir.path())?;
    mock.ready(mock_addr, None).await?;
    let mut legs = vec![Leg { name: "direct", addr: mock_addr, key: None, gateway: None, footprint: none("direct") }];
    if let Some(floor) = &settings.floor {
        legs.push(start_floor(floor, mock_addr, dir.path()).await?);
    }
    if let Some(troupe) = &settings.troupe {
        legs.push(start_troupe(settings, troupe, mock_addr, dir.path()).await?);
    }
    let mut modes = Vec::new();
    if settings.requests > 0 {
        let model = format!("mock+words={}", settings.words);
        let work = Work { name: "whole", model, requests: settings.requests, events: None };
        modes.push(rounds(settings, &work, &mock, &legs).await?);
    }
    if settings.streams > 0 {
        let model = format!("mock+events={}", settings.events);
        let work = Work { name: "stream", model, requests: settings.streams, events: Some(settings.events) };
        modes.push(rounds(settings, &work, &mock, &legs).await?);
    }
    let mut footprints = Vec::new();
    for leg in &legs {
        if let Some(gateway) = &leg.gateway {
            footprints.push(Footprint { rss_after_kib: gateway.rss_kib()?, ..leg.footprint.clone() });
        }
    }
    Ok(Report { connections: settings.connections, rounds: settings.rounds, modes, footprints })
}

/// What every request of a mode is.
struct Work {
    name: &'static str,
    model: String,
    requests: u64,
    events: Option<u64>,
}

impl Work {
    fn plan(&self, settings: &Settings, leg: &Leg, requests: u64) -> Plan {
        Plan {
            authority: leg.addr.to_string(),
            path: "/v1/chat/completions".to_owned(),
            key: leg.key.map(str::to_owned),
            body: body(&self.model, self.events.is_some()),
            connections: settings.connections,
            requests,
            time_max: settings.leg_time_max,
        }
    }
}

fn body(model: &str, stream: bool) -> Bytes {
    let messages = json!([
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say something about gateways, and be brief about it."}
    ]);
    Bytes::from(json!({"model": model, "messages": messages, "temperature": 0.7, "stream": stream}).to_string())
}

async fn rounds(settings: &Settings, work: &Work, mock: &Process, legs: &[Leg]) -> Result<Mode, CompareError> {
    for leg in legs {
        let some = (work.requests / WARM_UP).max(u64::from(settings.connections));
        drive(leg, &work.plan(settings, leg, some)).await?;
    }
    let mut all: Vec<(String, Vec<Sample>)> = legs.iter().map(|leg| (leg.name.to_owned(), Vec::new())).collect();
    // Legs alternate within a round, so that a slow moment of the machine falls on all of them.
    for _ in 0..settings.rounds {
        for (leg, (_, samples)) in legs.iter().zip(&mut all) {
            let cpu = |process: &Process| process.cpu();
            let gateway_before = leg.gateway.as_ref().map(cpu).transpose()?;
            let mock_before = mock.cpu()?;
            let outcome = drive(leg, &work.plan(settings, leg, work.requests)).await?;
            let mock_spent = mock.cpu()?.saturating_sub(mock_before);
            let gateway_after = leg.gateway.as_ref().map(cpu).transpose()?;
            let spent = gateway_after.zip(gateway_before).map(|(after, before)| after.saturating_sub(before));
            samples.push(sample(&outcome, spent, mock_spent));
        }
    }
    Ok(Mode::new(work.name, &work.model, work.requests, work.events, all))
}

async fn drive(leg: &Leg, plan: &Plan) -> Result<Outcome, CompareError> {
    driver::closed_loop(plan).await.map_err(|source| CompareError::Drive { leg: leg.name.to_owned(), source })
}

fn sample(outcome: &Outcome, gateway: Option<Duration>, mock: Duration) -> Sample {
    let requests = float((outcome.done + outcome.failed).max(1));
    let per_request = |spent: Duration| spent.as_secs_f64() * 1e6 / requests;
    Sample {
        requests_per_s: float(outcome.done) / outcome.elapsed.as_secs_f64().max(1e-9),
        latency_p50_us: float(outcome.latency.value_at_quantile(0.5)),
        latency_p99_us: float(outcome.latency.value_at_quantile(0.99)),
        cpu_us_per_request: gateway.map(per_request),
        mock_cpu_us_per_request: per_request(mock),
        failed: outcome.failed,
    }
}

async fn start_floor(floor: &Path, mock: SocketAddr, dir: &Path) -> Result<Leg, CompareError> {
    let addr = process::free_addr()?;
    let args = ["--listen".to_owned(), addr.to_string(), "--upstream".to_owned(), format!("http://{mock}")];
    let mut gateway = Process::start("floor", floor, &args, &[], dir)?;
    gateway.ready(addr, None).await?;
    let footprint = first_reply(&gateway, "floor", addr, None).await?;
    Ok(Leg { name: "floor", addr, key: None, gateway: Some(gateway), footprint })
}

async fn start_troupe(settings: &Settings, troupe: &Path, mock: SocketAddr, dir: &Path) -> Result<Leg, CompareError> {
    let (data, admin) = (process::free_addr()?, process::free_addr()?);
    let (node, spec) = (dir.join("node.toml"), dir.join("spec.toml"));
    let data_dir = dir.join("data");
    std::fs::write(&node, node_toml(&data_dir, data, admin, &settings.access_log)).map_err(CompareError::Write)?;
    std::fs::write(&spec, spec_toml(mock)).map_err(CompareError::Write)?;
    let paths = [node.display().to_string(), spec.display().to_string()];
    let [node, spec] = paths;
    let mut args = vec!["serve".to_owned(), "--config".to_owned(), node, "--spec".to_owned(), spec];
    args.extend(settings.troupe_args.iter().cloned());
    let mut gateway = Process::start("troupe", troupe, &args, &[(KEY_VAR, KEY)], dir)?;
    gateway.ready(data, Some("/healthz")).await?;
    let footprint = first_reply(&gateway, "troupe", data, Some(KEY)).await?;
    Ok(Leg { name: "troupe", addr: data, key: Some(KEY), gateway: Some(gateway), footprint })
}

/// Asks once more and again until a reply comes through, and notes when that was.
async fn first_reply(
    gateway: &Process,
    name: &str,
    addr: SocketAddr,
    key: Option<&str>,
) -> Result<Footprint, CompareError> {
    let idle = gateway.rss_kib()?;
    let plan = Plan {
        authority: addr.to_string(),
        path: "/v1/chat/completions".to_owned(),
        key: key.map(str::to_owned),
        body: body("mock", false),
        connections: 1,
        requests: 1,
        time_max: FIRST_REPLY_MAX,
    };
    let drive = || async {
        driver::closed_loop(&plan).await.map_err(|source| CompareError::Drive { leg: name.to_owned(), source })
    };
    let mut outcome = drive().await?;
    while outcome.done == 0 {
        if crate::clock::now() - gateway.started > FIRST_REPLY_MAX {
            let why = outcome.first_failure.unwrap_or_default();
            return Err(gateway.not_ready(&format!("answers no request ({why})")).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        outcome = drive().await?;
    }
    let took = crate::clock::now() - gateway.started;
    let start_to_first_200_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Footprint { name: name.to_owned(), start_to_first_200_ms, rss_idle_kib: idle, rss_after_kib: 0 })
}

fn none(name: &str) -> Footprint {
    Footprint { name: name.to_owned(), start_to_first_200_ms: 0, rss_idle_kib: 0, rss_after_kib: 0 }
}

/// One data thread, as the floor has; nothing else differs from what an operator would write.
fn node_toml(data_dir: &Path, data: SocketAddr, admin: SocketAddr, access_log: &str) -> String {
    let quoted = |text: &str| json!(text).to_string();
    format!(
        "[node]\nname = \"compare\"\ndata_dir = {}\n\n[listen]\ndata = \"{data}\"\nadmin = \"{admin}\"\n\n\
         [runtime]\ndata_threads = 1\n\n[log]\naccess = {}\nlevel = \"warn\"\n",
        quoted(&data_dir.display().to_string()),
        quoted(access_log),
    )
}

/// The wildcard passes the asked name on, so that the mock sees the knobs on every leg.
fn spec_toml(mock: SocketAddr) -> String {
    format!(
        "[providers.mock]\nwire = \"openai\"\nbase_url = \"http://{mock}/v1\"\n\n\
         [models.\"mock*\"]\ntargets = [{{ provider = \"mock\" }}]\n\n\
         [keys.compare]\nsecret = \"env:{KEY_VAR}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_the_run_chose() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let node = node_toml(Path::new("/tmp/a \"b\""), addr, addr, "off");

        assert!(node.contains("data_dir = \"/tmp/a \\\"b\\\"\""), "{node}");
        assert!(node.contains("data = \"127.0.0.1:9\"") && node.contains("access = \"off\""), "{node}");
        assert!(spec_toml(addr).contains("base_url = \"http://127.0.0.1:9/v1\""));
        assert!(spec_toml(addr).contains("secret = \"env:TROUPE_COMPARE_KEY\""));
    }

    #[test]
    fn cpu_is_shared_by_all_requests_that_caused_it() {
        let mut latency = hdrhistogram::Histogram::new(3).unwrap();
        latency.record(100).unwrap();
        let outcome =
            Outcome { done: 3, failed: 1, first_failure: None, elapsed: Duration::from_millis(500), latency, bytes: 0 };

        let sample = sample(&outcome, Some(Duration::from_millis(1)), Duration::from_micros(400));

        assert_eq!(sample.cpu_us_per_request, Some(250.0));
        assert_eq!(sample.mock_cpu_us_per_request, 100.0);
        assert_eq!(sample.requests_per_s, 6.0);
        assert_eq!((sample.latency_p50_us, sample.failed), (100.0, 1));
    }
}
