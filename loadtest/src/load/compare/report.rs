//! Samples of the rounds, their medians, and what they say of each leg.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Settings;
use super::targets::Judged;
use crate::load::record::Record;
use crate::load::units::float;

/// What one leg did in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Good replies a second.
    pub requests_per_s: f64,
    /// Latency of a whole reply.
    #[serde(flatten)]
    pub latency: Latency,
    /// CPU the gateway spent on one request, microseconds; none for the direct leg.
    pub cpu_us_per_request: Option<f64>,
    /// The same by content event of a stream.
    pub cpu_us_per_event: Option<f64>,
    /// CPU the mock spent on one request, microseconds.
    pub mock_cpu_us_per_request: f64,
    /// Requests that failed.
    pub failed: u64,
    /// The first thing that went wrong, in words.
    pub fault: Option<String>,
}

/// Latencies, or differences or ratios of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
}

/// One leg over all rounds of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LegReport {
    /// Its name.
    pub name: String,
    /// The median of every number over the rounds; failures are summed.
    pub median: Sample,
    /// CPU of a request by the floor's.
    pub cpu_by_floor: Option<f64>,
    /// Microseconds on top of the direct leg: in each round, then the median.
    pub added: Option<Latency>,
    /// `added` by the floor's.
    pub added_by_floor: Option<Latency>,
    /// The latency itself by the floor's.
    pub latency_by_floor: Option<Latency>,
    /// All rounds, in order.
    pub rounds: Vec<Sample>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// `whole`, `stream`, `translated`, `open-RATE` ...
    pub name: String,
    /// Model of the mock.
    pub model: String,
    /// Requests a second of an open loop.
    pub rate: Option<u64>,
    /// Content events of a stream.
    pub events: Option<u64>,
    /// In order of the table.
    pub legs: Vec<LegReport>,
}

/// What a gateway process holds and how fast it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Name of the leg.
    pub name: String,
    /// From starting the process to the first 200 through it, milliseconds.
    pub start_to_first_200_ms: u64,
    /// Memory before any load, KiB.
    pub rss_ready_kib: u64,
    /// Memory at the end of the run, KiB.
    pub rss_after_kib: u64,
}

/// Memory of one gateway under many connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Name of the leg.
    pub leg: String,
    /// Connections of the load.
    pub connections: u32,
    /// Before the first request.
    pub ready_kib: u64,
    /// At rest after 2,000 requests over four connections, which brought its code in.
    pub idle_kib: u64,
    /// The most seen under load.
    pub busy_kib: u64,
    /// Afterwards: as soon as it is within 10 % of idle, at the latest when the wait is over.
    pub after_kib: u64,
    /// Requests that failed.
    pub failed: u64,
}

/// Many streams at once through one leg.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtOnce {
    /// Name of the leg.
    pub leg: String,
    /// Streams that were open at once.
    pub streams: usize,
    /// Of these: without a fault.
    pub whole: usize,
    /// From the first request to the last byte.
    pub seconds: f64,
    /// CPU the gateway spent on one event, microseconds.
    pub cpu_us_per_event: Option<f64>,
    /// How many streams had each fault.
    pub faults: BTreeMap<String, usize>,
}

/// A whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Connections of the loops.
    pub connections: u32,
    /// Rounds of each stage.
    pub rounds: u32,
    /// Processor of the gateways, where they had one to themselves.
    pub gateway_cpu: Option<usize>,
    /// Stages in the order they ran.
    pub stages: Vec<StageReport>,
    /// Memory, by gateway.
    pub memory: Vec<Memory>,
    /// Many streams at once, by leg.
    pub at_once: Vec<AtOnce>,
    /// Gateways in the order they ran.
    pub footprints: Vec<Footprint>,
    /// What was hoped for, beside what was measured.
    pub targets: Vec<Judged>,
}

/// Gives the middle of the numbers, between the two middle ones when they are even in number.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    sorted.get(middle.checked_sub(1)?).map(|lower| lower.midpoint(upper))
}

/// Divides, where there is something to divide by.
pub fn ratio(number: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| number / by)
}

impl Latency {
    fn each(self, other: Self, with: fn(f64, f64) -> f64) -> Self {
        Self { p50: with(self.p50, other.p50), p99: with(self.p99, other.p99), p999: with(self.p999, other.p999) }
    }

    /// A floor that adds nothing, by the noise of the run, leaves nothing to divide by.
    fn by(self, floor: Self) -> Self {
        self.each(floor, |number, by| ratio(number, by).unwrap_or(f64::NAN))
    }

    fn median(all: &[Self]) -> Option<Self> {
        let of = |pick: fn(&Self) -> f64| median(all.iter().map(pick));
        Some(Self { p50: of(|one| one.p50)?, p99: of(|one| one.p99)?, p999: of(|one| one.p999)? })
    }
}

impl Sample {
    /// Reads one run off its record; CPU is shared by all requests that were sent, good or bad.
    pub fn of(record: &Record, gateway: Option<Duration>, mock: Duration, events: Option<u64>) -> Self {
        let requests = float(record.settled.saturating_sub(record.not_sent).max(1));
        let per_request = |spent: Duration| spent.as_secs_f64() * 1e6 / requests;
        let seconds = record.counted_time().as_secs_f64();
        let at = |quantile| float(record.latency.value_at_quantile(quantile));
        let cpu = gateway.map(per_request);
        let events = events.filter(|events| *events > 0);
        Self {
            requests_per_s: ratio(float(record.done), seconds).unwrap_or(0.0),
            latency: Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) },
            cpu_us_per_request: cpu,
            cpu_us_per_event: cpu.zip(events).map(|(cpu, events)| cpu / float(events)),
            mock_cpu_us_per_request: per_request(mock),
            failed: record.failed,
            fault: record.faults.keys().next().cloned(),
        }
    }

    fn median(rounds: &[Self]) -> Option<Self> {
        let of = |pick: fn(&Self) -> f64| median(rounds.iter().map(pick));
        let latencies: Vec<Latency> = rounds.iter().map(|round| round.latency).collect();
        Some(Self {
            requests_per_s: of(|round| round.requests_per_s)?,
            latency: Latency::median(&latencies)?,
            cpu_us_per_request: median(rounds.iter().filter_map(|round| round.cpu_us_per_request)),
            cpu_us_per_event: median(rounds.iter().filter_map(|round| round.cpu_us_per_event)),
            mock_cpu_us_per_request: of(|round| round.mock_cpu_us_per_request)?,
            failed: rounds.iter().map(|round| round.failed).sum(),
            fault: rounds.iter().find_map(|round| round.fault.clone()),
        })
    }
}

impl StageReport {
    /// Puts the rounds of each leg together.
    pub fn new(
        name: &str,
        model: &str,
        rate: Option<u64>,
        events: Option<u64>,
        rounds: Vec<(String, Vec<Sample>)>,
    ) -> Self {
        let direct = rounds.iter().find(|(name, _)| name == "direct").map(|(_, rounds)| rounds.clone());
        let mut legs: Vec<LegReport> = rounds
            .into_iter()
            .filter_map(|(name, rounds)| {
                let median = Sample::median(&rounds)?;
                let direct = direct.as_ref().filter(|_| name != "direct");
                let added = direct.and_then(|direct| {
                    let pairs = rounds.iter().zip(direct);
                    let added: Vec<Latency> = pairs
                        .map(|(leg, direct)| leg.latency.each(direct.latency, |leg, direct| leg - direct))
                        .collect();
                    Latency::median(&added)
                });
                let (cpu_by_floor, added_by_floor, latency_by_floor) = (None, None, None);
                Some(LegReport { name, median, cpu_by_floor, added, added_by_floor, latency_by_floor, rounds })
            })
            .collect();
        if let Some(floor) = legs.iter().find(|leg| leg.name == "floor").cloned() {
            for leg in legs.iter_mut().filter(|leg| leg.name != "direct") {
                let cpu = leg.median.cpu_us_per_request.zip(floor.median.cpu_us_per_request);
                leg.cpu_by_floor = cpu.and_then(|(leg, floor)| ratio(leg, floor));
                leg.added_by_floor = leg.added.zip(floor.added).map(|(leg, floor)| leg.by(floor));
                leg.latency_by_floor = Some(leg.median.latency.by(floor.median.latency));
            }
        }
        Self { name: name.to_owned(), model: model.to_owned(), rate, events, legs }
    }

    /// Finds a leg.
    pub fn leg(&self, name: &str) -> Option<&LegReport> {
        self.legs.iter().find(|leg| leg.name == name)
    }
}

impl Report {
    /// Begins an empty report.
    pub fn new(settings: &Settings) -> Self {
        Self {
            connections: settings.amounts.connections,
            rounds: settings.rounds,
            gateway_cpu: settings.pin.as_ref().map(|pin| pin.gateway_cpu),
            stages: Vec::new(),
            memory: Vec::new(),
            at_once: Vec::new(),
            footprints: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Finds a stage.
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Gives the number of requests and streams that failed on our own legs; a peer's are a peer's.
    pub fn failed(&self) -> u64 {
        let ours = |name: &str| {
            ["direct", "floor", "floor-2", "troupe", "same wire", "same wire-2", "translated"].contains(&name)
        };
        let legs = self.stages.iter().flat_map(|stage| &stage.legs).filter(|leg| ours(&leg.name));
        let memory = self.memory.iter().filter(|memory| ours(&memory.leg));
        let streams = self.at_once.iter().filter(|at_once| ours(&at_once.leg));
        let broken = |at_once: &AtOnce| u64::try_from(at_once.streams - at_once.whole).unwrap_or(u64::MAX);
        legs.map(|leg| leg.median.failed).sum::<u64>()
            + memory.map(|memory| memory.failed).sum::<u64>()
            + streams.map(broken).sum::<u64>()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn sample(cpu: Option<f64>, p50: f64, failed: u64) -> Sample {
        Sample {
            requests_per_s: 1000.0,
            latency: Latency { p50, p99: p50 * 4.0, p999: p50 * 10.0 },
            cpu_us_per_request: cpu,
            cpu_us_per_event: cpu.map(|cpu| cpu / 10.0),
            mock_cpu_us_per_request: 5.0,
            failed,
            fault: (failed > 0).then(|| "status 503".to_owned()),
        }
    }

    fn rounds(name: &str, all: &[(Option<f64>, f64)]) -> (String, Vec<Sample>) {
        (name.to_owned(), all.iter().map(|(cpu, p50)| sample(*cpu, *p50, 0)).collect())
    }

    #[test]
    fn the_median_of_few_numbers_is_their_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn what_a_leg_adds_is_taken_round_by_round() {
        // The machine was slow in the second round, for all of them.
        let stage = StageReport::new(
            "open-1000",
            "mock",
            Some(1000),
            None,
            vec![
                rounds("direct", &[(None, 50.0), (None, 500.0), (None, 52.0)]),
                rounds("floor", &[(Some(20.0), 90.0), (Some(22.0), 540.0), (Some(20.0), 92.0)]),
                rounds("floor-2", &[(Some(21.0), 92.0), (Some(21.0), 541.0), (Some(21.0), 96.0)]),
                rounds("troupe", &[(Some(30.0), 100.0), (Some(33.0), 550.0), (Some(28.0), 102.0)]),
            ],
        );

        let leg = |name: &str| stage.leg(name).unwrap();
        assert_eq!(leg("floor").added.unwrap().p50, 40.0);
        assert_eq!(leg("troupe").added.unwrap().p50, 50.0);
        assert_eq!(leg("troupe").added_by_floor.unwrap().p50, 1.25);
        assert_eq!(leg("troupe").cpu_by_floor, Some(1.5));
        assert_eq!((leg("direct").added, leg("direct").cpu_by_floor), (None, None));
        // The two floors: what the run cannot tell apart.
        assert_eq!(leg("floor-2").cpu_by_floor, Some(1.05));
        assert_eq!(leg("floor-2").added_by_floor.unwrap().p50, 42.0 / 40.0);
    }

    #[test]
    fn a_floor_that_adds_nothing_gives_no_ratio() {
        let stage = StageReport::new(
            "open-1000",
            "mock",
            Some(1000),
            None,
            vec![
                rounds("direct", &[(None, 50.0)]),
                rounds("floor", &[(Some(0.0), 50.0)]),
                rounds("troupe", &[(Some(30.0), 60.0)]),
            ],
        );

        let troupe = stage.leg("troupe").unwrap();
        assert!(troupe.added_by_floor.unwrap().p50.is_nan());
        assert_eq!(troupe.cpu_by_floor, None);
    }

    #[test]
    fn cpu_is_shared_by_all_requests_that_were_sent() {
        let begin = crate::clock::now();
        let mut record = Record::new(begin, Duration::ZERO).unwrap();
        let ended = begin + Duration::from_millis(500);
        let reply = crate::load::client::Reply { ended, first_event: None, gaps: Vec::new(), bytes: 1 };
        for _ in 0..3 {
            record.good(begin, &reply);
        }
        record.bad(begin, "status 503".to_owned(), None);
        record.not_sent(begin);

        let sample = Sample::of(&record, Some(Duration::from_millis(1)), Duration::from_micros(400), Some(5));

        assert_eq!(sample.cpu_us_per_request, Some(250.0));
        assert_eq!(sample.cpu_us_per_event, Some(50.0));
        assert_eq!(sample.mock_cpu_us_per_request, 100.0);
        assert_eq!((sample.requests_per_s, sample.failed), (6.0, 2));
    }
}
