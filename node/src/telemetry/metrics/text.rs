//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::cell::Totals;
use super::names::{BOUNDS_MS, Metric};

/// The media type of what [`Text`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics, written from top to bottom. Writing to a `String` cannot fail, so results are not looked at.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric; its samples follow.
    pub(super) fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {}", kind.as_str()));
    }

    /// A metric of one sample that no label tells from another.
    pub(super) fn single(&mut self, metric: &Metric, value: impl Display) {
        self.head(metric);
        self.line(format_args!("{} {value}", metric.name));
    }

    /// One sample; `values` go with the metric's labels, in their order.
    pub(super) fn sample(&mut self, metric: &Metric, values: &[&str], value: impl Display) {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}: a value for each label", metric.name);
        self.0.push_str(metric.name);
        self.labels(metric, values, None);
        self.line(format_args!(" {value}"));
    }

    /// The samples of one histogram, in seconds.
    pub(super) fn histogram(&mut self, metric: &Metric, values: &[&str], totals: &Totals) {
        let mut count = 0_u64;
        let bounds = BOUNDS_MS.iter().map(|ms| Seconds::from_millis(*ms).to_string()).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(totals.buckets) {
            count = count.saturating_add(bucket);
            self.bucket(metric, values, &bound, count);
        }
        self.end_of_histogram(metric, values, Seconds(totals.sum_nanos), count);
    }

    /// The samples of a histogram with bounds of its own, in microseconds; what is beyond the last is in `count` only.
    pub(super) fn histogram_of(
        &mut self,
        metric: &Metric,
        values: &[&str],
        bounds_us: &[u64],
        buckets: &[u64],
        count: u64,
        sum: Duration,
    ) {
        let mut below = 0_u64;
        for (bound, bucket) in bounds_us.iter().zip(buckets) {
            below = below.saturating_add(*bucket);
            self.bucket(metric, values, &Seconds(bound.saturating_mul(1000)).to_string(), below);
        }
        self.bucket(metric, values, "+Inf", count);
        self.end_of_histogram(metric, values, Seconds(u64::try_from(sum.as_nanos()).unwrap_or(u64::MAX)), count);
    }

    fn bucket(&mut self, metric: &Metric, values: &[&str], bound: &str, count: u64) {
        self.0.push_str(metric.name);
        self.0.push_str("_bucket");
        self.labels(metric, values, Some(bound));
        self.line(format_args!(" {count}"));
    }

    fn end_of_histogram(&mut self, metric: &Metric, values: &[&str], sum: Seconds, count: u64) {
        self.0.push_str(metric.name);
        self.0.push_str("_sum");
        self.labels(metric, values, None);
        self.line(format_args!(" {sum}"));
        self.0.push_str(metric.name);
        self.0.push_str("_count");
        self.labels(metric, values, None);
        self.line(format_args!(" {count}"));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn labels(&mut self, metric: &Metric, values: &[&str], bound: Option<&str>) {
        let mut separator = '{';
        for (label, value) in metric.labels.iter().copied().zip(values.iter().copied()).chain(bound.map(|b| ("le", b)))
        {
            self.0.push(separator);
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
    }

    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        if self.0.write_fmt(arguments).is_ok() {
            self.0.push('\n');
        }
    }
}

/// Nanoseconds that print as seconds, exactly.
pub(super) struct Seconds(pub(super) u64);

impl Seconds {
    const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
}

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::names::Kind;

    const ONE: Metric = Metric { name: "one", kind: Kind::Counter, labels: &["a", "b"], help: "One." };

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();

        text.head(&ONE);
        text.sample(&ONE, &["x\"y\\z\n", ""], 7);

        assert_eq!(text.finish(), "# HELP one One.\n# TYPE one counter\none{a=\"x\\\"y\\\\z\\n\",b=\"\"} 7\n");
    }

    #[test]
    fn seconds_print_without_idle_digits() {
        let texts: Vec<_> = [0, 10_000_000, 1_280_000_000, 5_000_000_000, 1].map(|n| Seconds(n).to_string()).into();

        assert_eq!(texts, ["0", "0.01", "1.28", "5", "0.000000001"]);
    }
}
