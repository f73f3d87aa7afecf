//! Samples of the rounds, their medians, and the table of a comparison.

use std::fmt::Write as _;

use serde::Serialize;

/// What one leg did in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Requests a second.
    pub requests_per_s: f64,
    /// Median latency of a whole reply, microseconds.
    pub latency_p50_us: f64,
    /// 99th percentile of the same.
    pub latency_p99_us: f64,
    /// CPU the gateway spent on one request, microseconds; none for the direct leg.
    pub cpu_us_per_request: Option<f64>,
    /// CPU the mock spent on one request, microseconds: what all legs share.
    pub mock_cpu_us_per_request: f64,
    /// Requests that failed.
    pub failed: u64,
}

/// One leg over all rounds of one mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leg {
    /// `direct`, `floor` or `troupe`.
    pub name: String,
    /// The median of every number over the rounds; failures are summed.
    pub median: Sample,
    /// CPU of a request by the floor's; none without one of them.
    pub ratio_to_floor: Option<f64>,
    /// CPU of one event of a stream, microseconds.
    pub cpu_us_per_event: Option<f64>,
    /// All rounds, in order.
    pub rounds: Vec<Sample>,
}

/// One mode: whole replies, or streams.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mode {
    /// `whole` or `stream`.
    pub name: String,
    /// Model name asked for.
    pub model: String,
    /// Requests of one leg in one round.
    pub requests: u64,
    /// Content events of one stream.
    pub events: Option<u64>,
    /// In order of the table.
    pub legs: Vec<Leg>,
}

/// What a gateway process holds and how fast it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Name of the leg.
    pub name: String,
    /// From starting the process to the first 200 through it, milliseconds.
    pub start_to_first_200_ms: u64,
    /// Memory before any load, KiB.
    pub rss_idle_kib: u64,
    /// Memory after all load, KiB.
    pub rss_after_kib: u64,
}

/// A whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Connections of the closed loop.
    pub connections: u32,
    /// Rounds of each mode.
    pub rounds: u32,
    /// Modes in the order they ran.
    pub modes: Vec<Mode>,
    /// Gateways in the order they ran.
    pub footprints: Vec<Footprint>,
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

impl Mode {
    /// Puts the rounds of each leg together; `events` per stream in stream mode.
    pub fn new(
        name: &str,
        model: &str,
        requests: u64,
        events: Option<u64>,
        rounds: Vec<(String, Vec<Sample>)>,
    ) -> Self {
        let mut legs: Vec<Leg> = rounds
            .into_iter()
            .filter_map(|(name, rounds)| {
                let median = sample_median(&rounds)?;
                let per_event = |cpu: f64| events.filter(|events| *events > 0).map(|events| cpu / float(events));
                let cpu_us_per_event = median.cpu_us_per_request.and_then(per_event);
                Some(Leg { name, median, ratio_to_floor: None, cpu_us_per_event, rounds })
            })
            .collect();
        let floor = legs.iter().find(|leg| leg.name == "floor").and_then(|leg| leg.median.cpu_us_per_request);
        for leg in &mut legs {
            let of = |floor: f64| leg.median.cpu_us_per_request.map(|cpu| cpu / floor);
            leg.ratio_to_floor = floor.filter(|floor| *floor > 0.0).and_then(of);
        }
        Self { name: name.to_owned(), model: model.to_owned(), requests, events, legs }
    }
}

fn sample_median(rounds: &[Sample]) -> Option<Sample> {
    let of = |pick: fn(&Sample) -> f64| median(rounds.iter().map(pick));
    Some(Sample {
        requests_per_s: of(|round| round.requests_per_s)?,
        latency_p50_us: of(|round| round.latency_p50_us)?,
        latency_p99_us: of(|round| round.latency_p99_us)?,
        cpu_us_per_request: median(rounds.iter().filter_map(|round| round.cpu_us_per_request)),
        mock_cpu_us_per_request: of(|round| round.mock_cpu_us_per_request)?,
        failed: rounds.iter().map(|round| round.failed).sum(),
    })
}

/// Counts are far below 2^53, where f64 is exact.
#[expect(clippy::cast_precision_loss, reason = "counts of a bounded run are exact in f64")]
pub fn float(count: u64) -> f64 {
    count as f64
}

impl Report {
    /// Gives the number of failed requests in all rounds.
    pub fn failed(&self) -> u64 {
        self.modes.iter().flat_map(|mode| &mode.legs).map(|leg| leg.median.failed).sum()
    }

    /// Gives the report as text for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for mode in &self.modes {
            let events = mode.events.map_or_else(String::new, |events| format!(" of {events} events"));
            let what = format!(
                "{}{events}: {} requests x {} rounds, {} connections, model {}",
                mode.name, mode.requests, self.rounds, self.connections, mode.model
            );
            let heads = ["leg", "req/s", "p50 us", "p99 us", "CPU us/req", "x floor", "CPU us/event", "mock us/req"];
            line(&mut text, &[what.as_str()], 0);
            line(&mut text, &heads, 12);
            for leg in &mode.legs {
                let shown = |number: Option<f64>, places: usize| {
                    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.places$}"))
                };
                let median = &leg.median;
                let failed = if median.failed > 0 { format!("{} FAILED", median.failed) } else { String::new() };
                let cells = [
                    leg.name.clone(),
                    format!("{:.0}", median.requests_per_s),
                    format!("{:.0}", median.latency_p50_us),
                    format!("{:.0}", median.latency_p99_us),
                    shown(median.cpu_us_per_request, 1),
                    shown(leg.ratio_to_floor, 2),
                    shown(leg.cpu_us_per_event, 2),
                    format!("{:.1}", median.mock_cpu_us_per_request),
                    failed,
                ];
                line(&mut text, &cells.each_ref().map(String::as_str), 12);
            }
            text.push('\n');
        }
        line(&mut text, &["leg", "first 200 ms", "RSS idle MiB", "RSS after MiB"], 13);
        for footprint in &self.footprints {
            let mib = |kib: u64| format!("{:.1}", float(kib) / 1024.0);
            let cells = [
                footprint.name.clone(),
                footprint.start_to_first_200_ms.to_string(),
                mib(footprint.rss_idle_kib),
                mib(footprint.rss_after_kib),
            ];
            line(&mut text, &cells.each_ref().map(String::as_str), 13);
        }
        text
    }
}

fn line(text: &mut String, cells: &[&str], width: usize) {
    for (index, cell) in cells.iter().enumerate() {
        // Names stand left, numbers right. Writing to a String cannot fail.
        let written = if index == 0 { write!(text, "{cell:<8}") } else { write!(text, " {cell:>width$}") };
        debug_assert!(written.is_ok(), "a String takes all text");
    }
    let end = text.trim_end().len();
    text.truncate(end);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: Option<f64>, failed: u64) -> Sample {
        Sample {
            requests_per_s: 1000.0,
            latency_p50_us: 10.0,
            latency_p99_us: 90.0,
            cpu_us_per_request: cpu,
            mock_cpu_us_per_request: 5.0,
            failed,
        }
    }

    #[test]
    fn the_median_of_few_numbers_is_their_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn ratios_are_by_the_floor_of_the_same_mode() {
        let rounds = vec![
            ("direct".to_owned(), vec![sample(None, 0)]),
            ("floor".to_owned(), vec![sample(Some(30.0), 0), sample(Some(10.0), 0), sample(Some(20.0), 0)]),
            ("troupe".to_owned(), vec![sample(Some(50.0), 1), sample(Some(30.0), 2)]),
        ];

        let mode = Mode::new("stream", "mock", 10, Some(8), rounds);

        assert_eq!(mode.legs[0].ratio_to_floor, None);
        assert_eq!(mode.legs[1].ratio_to_floor, Some(1.0));
        assert_eq!(mode.legs[2].ratio_to_floor, Some(2.0));
        assert_eq!(mode.legs[2].cpu_us_per_event, Some(5.0));
        assert_eq!(mode.legs[2].median.failed, 3);
    }

    #[test]
    fn the_table_names_every_leg_and_its_failures() {
        let mode = Mode::new("whole", "mock", 10, None, vec![("floor".to_owned(), vec![sample(Some(20.0), 7)])]);
        let footprint =
            Footprint { name: "floor".to_owned(), start_to_first_200_ms: 3, rss_idle_kib: 2048, rss_after_kib: 3072 };
        let report = Report { connections: 4, rounds: 1, modes: vec![mode], footprints: vec![footprint] };

        let table = report.table();

        assert_eq!(report.failed(), 7);
        for shown in ["whole", "floor", "20.0", "1.00", "7 FAILED", "2.0", "3.0"] {
            assert!(table.contains(shown), "{shown} in\n{table}");
        }
    }
}
