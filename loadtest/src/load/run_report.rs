//! What a run brought, as numbers, JSON and a table.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::{Mode, Plan};
use super::record::{Record, SLICE, Slice};
use super::units::{float, shown_us};

/// The numbers of one run; its warm-up is left out but for `slices` and failures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Name of the plan.
    pub name: String,
    /// `open`, `closed` or `sustained`.
    pub mode: &'static str,
    /// Who was asked.
    pub url: String,
    /// Requests a second that were due; none in a closed loop.
    pub rate: Option<u64>,
    /// In mode `sustained`: the largest rate that held, if any did.
    pub held_rate: Option<u64>,
    /// Connections.
    pub connections: u32,
    /// From the end of the warm-up to the last byte, seconds.
    pub seconds: f64,
    /// Good replies.
    pub done: u64,
    /// Good replies a second.
    pub per_second: f64,
    /// Requests that failed, warm-up included.
    pub failed: u64,
    /// Of these: requests that found no room.
    pub not_sent: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<String, u64>,
    /// Content events of good streams.
    pub events: u64,
    /// Bytes of good replies.
    pub bytes: u64,
    /// From the time due (open loop) or sent (closed loop) to the last byte.
    pub latency: Percentiles,
    /// From the same to the first content event of a stream.
    pub first_event: Option<Percentiles>,
    /// Between two content events of a stream.
    pub gap: Option<Percentiles>,
    /// Latency over percentile.
    pub curve: Vec<CurvePoint>,
    /// The run over time.
    pub slices: Vec<SlicePoint>,
    /// The rates tried, in order.
    pub steps: Vec<Step>,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Percentiles {
    /// Of all.
    pub mean: f64,
    /// Half are at most this.
    pub p50: u64,
    /// 90 of 100.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p999: u64,
    /// 9,999 of 10,000.
    pub p9999: u64,
    /// The largest.
    pub max: u64,
}

impl Percentiles {
    /// Reads them off a histogram of microseconds; none of an empty one.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
        })
    }
}

/// One point of the percentile curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// 0 to 1.
    pub quantile: f64,
    /// Latency there, microseconds.
    pub us: u64,
}

/// One slice of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SlicePoint {
    /// Its begin, seconds since the run's.
    pub at: f64,
    /// Good replies a second, of requests due in it.
    pub per_second: f64,
    /// Failed requests.
    pub failed: u64,
    /// Median latency, microseconds.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// One rate of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Requests a second.
    pub rate: u64,
    /// 99th percentile of latency, microseconds.
    pub p99_us: u64,
    /// Failed requests.
    pub failed: u64,
    /// Whether the rate held.
    pub does_hold: bool,
}

impl RunReport {
    /// Puts the numbers of a record together.
    pub fn new(plan: &Plan, record: &Record, rate: Option<u64>) -> Self {
        let seconds = record.counted_time().as_secs_f64();
        let mode = match plan.load.mode {
            Mode::Open { .. } => "open",
            Mode::Closed => "closed",
            Mode::Sustained { .. } => "sustained",
        };
        Self {
            name: plan.name.clone(),
            mode,
            url: plan.target.base_url.to_string(),
            rate,
            held_rate: None,
            connections: plan.load.connections,
            seconds,
            done: record.done,
            per_second: if seconds > 0.0 { float(record.done) / seconds } else { 0.0 },
            failed: record.failed,
            not_sent: record.not_sent,
            faults: record.faults.clone(),
            events: record.events,
            bytes: record.bytes,
            latency: Percentiles::of(&record.latency).unwrap_or_default(),
            first_event: Percentiles::of(&record.first_event),
            gap: Percentiles::of(&record.gap),
            curve: curve(&record.latency),
            slices: record.slices.iter().enumerate().map(|(index, slice)| slice_point(index, slice)).collect(),
            steps: Vec::new(),
        }
    }

    /// Gives the report as text for a terminal.
    pub fn table(&self) -> String {
        let rate = self.rate.map_or_else(String::new, |rate| format!(" at {rate}/s"));
        let mut lines = vec![
            format!("{}: {} loop{rate}, {} connections, {}", self.name, self.mode, self.connections, self.url),
            format!(
                "{} good replies in {:.1} s, {:.0}/s; {} failed, {} of them never sent",
                self.done, self.seconds, self.per_second, self.failed, self.not_sent
            ),
        ];
        lines.extend(self.faults.iter().map(|(fault, count)| format!("{count:>8} x {fault}")));
        let heads = ["", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];
        lines.push(row(&heads.map(str::to_owned)));
        let rows = [("latency", Some(self.latency)), ("first event", self.first_event), ("gap", self.gap)];
        for (name, percentiles) in rows {
            let Some(at) = percentiles else { continue };
            let whole = [at.p50, at.p90, at.p99, at.p999, at.p9999, at.max].map(|us| shown_us(float(us)));
            let [p50, p90, p99, p999, p9999, max] = whole;
            lines.push(row(&[name.to_owned(), p50, p90, p99, p999, p9999, max, shown_us(at.mean)]));
        }
        for step in &self.steps {
            let verdict = if step.does_hold { "holds" } else { "does not hold" };
            let p99 = shown_us(float(step.p99_us));
            lines.push(format!("{:>8}/s  p99 {p99}, {} failed: {verdict}", step.rate, step.failed));
        }
        if self.mode == "sustained" {
            lines.push(match self.held_rate {
                Some(rate) => format!("sustained rate: {rate}/s"),
                None => "sustained rate: none of those tried".to_owned(),
            });
        }
        lines.join("\n") + "\n"
    }
}

fn row(cells: &[String; 8]) -> String {
    let [name, numbers @ ..] = cells;
    let numbers: String = numbers.iter().map(|number| format!(" {number:>10}")).collect();
    format!("{name:<12}{numbers}")
}

/// Points that are dense where the tail is: each nine gets ten.
fn curve(latency: &Histogram<u64>) -> Vec<CurvePoint> {
    if latency.is_empty() {
        return Vec::new();
    }
    let mut points = Vec::new();
    for tenth in 0..=60 {
        let quantile = 1.0 - 10_f64.powf(-f64::from(tenth) / 10.0);
        points.push(CurvePoint { quantile, us: latency.value_at_quantile(quantile) });
        // Beyond the last request there is nothing to read off.
        if (1.0 - quantile) * float(latency.len()) < 1.0 {
            break;
        }
    }
    points
}

fn slice_point(index: usize, slice: &Slice) -> SlicePoint {
    let number = u64::try_from(index).unwrap_or(0);
    let at = |quantile| slice.latency.value_at_quantile(quantile);
    SlicePoint {
        at: float(number) * SLICE.as_secs_f64(),
        per_second: float(slice.done) / SLICE.as_secs_f64(),
        failed: slice.failed,
        p50: at(0.5),
        p99: at(0.99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_grows_denser_towards_the_tail_and_ends_with_the_last_request() {
        let mut latency = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        for us in 1..=1000 {
            latency.record(us).unwrap();
        }

        let curve = curve(&latency);

        assert_eq!(curve.first().map(|point| point.quantile), Some(0.0));
        assert_eq!(curve.last().map(|point| point.us), Some(1000));
        assert!(curve.windows(2).all(|pair| pair[0].quantile < pair[1].quantile && pair[0].us <= pair[1].us));
        assert!((30..=33).contains(&curve.len()), "{}", curve.len());
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        let empty = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();

        assert_eq!((Percentiles::of(&empty), curve(&empty)), (None, Vec::new()));
    }
}
