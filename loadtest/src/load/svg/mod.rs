//! Plots of a run as SVG: latency over percentile, and latency and throughput over time.
//!
//! Written by hand: a few paths and texts need no library. Colours come from
//! classes, so that one file reads well on light and on dark ground.

mod chart;

use super::run_report::RunReport;
use super::units::float;
use chart::{Axis, Chart, Line, Scale};

const WIDTH: f64 = 760.0;
const CHART_HEIGHT: f64 = 250.0;
const HEAD_HEIGHT: f64 = 44.0;

const STYLE: &str = "\
    svg{font:12px system-ui,sans-serif;background:#fff}\
    text{fill:#444}.title{font-size:15px;font-weight:600;fill:#111}\
    .grid{stroke:#ddd;stroke-width:1}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}\
    .a{stroke:#0b62c4}.b{stroke:#c2410c}.c{stroke:#15803d}.d{stroke:#dc2626}\
    text.a,text.b,text.c,text.d{stroke:none}text.a{fill:#0b62c4}text.b{fill:#c2410c}text.c{fill:#15803d}text.d{fill:#dc2626}\
    @media (prefers-color-scheme:dark){\
    svg{background:#16181d}text{fill:#b5bac4}.title{fill:#f2f4f8}.grid{stroke:#33373f}\
    .a{stroke:#6cb2ff}.b{stroke:#ff9b62}.c{stroke:#6ddf92}.d{stroke:#ff7b7b}\
    text.a{fill:#6cb2ff}text.b{fill:#ff9b62}text.c{fill:#6ddf92}text.d{fill:#ff7b7b}}";

/// Draws a run: one file, three charts.
pub fn of_run(report: &RunReport) -> String {
    let charts = [percentiles(report), latency_over_time(report), throughput(report)];
    let height = HEAD_HEIGHT + CHART_HEIGHT * float(u64::try_from(charts.len()).unwrap_or(0));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<text class=\"title\" x=\"12\" y=\"22\">{}</text>\n",
        escape(&report.name),
        escape(&headline(report)),
    );
    let mut top = HEAD_HEIGHT;
    for chart in charts {
        svg.push_str(&chart.draw(top, WIDTH, CHART_HEIGHT));
        top += CHART_HEIGHT;
    }
    svg.push_str("</svg>\n");
    svg
}

fn headline(report: &RunReport) -> String {
    let rate = report.rate.map_or_else(String::new, |rate| format!(" at {rate}/s"));
    let RunReport { name, mode, done, failed, .. } = report;
    format!("{name}: {mode} loop{rate}, {done} good replies, {failed} failed")
}

/// The x axis counts nines, so that the tail has as much room as the middle.
fn percentiles(report: &RunReport) -> Chart {
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
    let points = report.curve.iter().map(|point| (nines(point.quantile), float(point.us))).collect();
    let last = report.curve.last().map_or(1.0, |point| nines(point.quantile)).max(1.0);
    let ticks = [(0.0, "0"), (0.301, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
    let ticks = ticks.iter().filter(|(at, _)| *at <= last).map(|(at, text)| (*at, (*text).to_owned())).collect();
    Chart {
        title: "latency over percentile".to_owned(),
        x: Axis { scale: Scale::Linear, from: 0.0, to: last, ticks },
        y: latency_axis(report.curve.iter().map(|point| float(point.us))),
        lines: vec![Line { class: "a", name: "latency".to_owned(), points }],
    }
}

fn latency_over_time(report: &RunReport) -> Chart {
    // A slice in which nothing ended has no latency to show.
    let busy = || report.slices.iter().filter(|slice| slice.p99 > 0);
    let line = |class, name: &str, pick: fn(&super::run_report::SlicePoint) -> u64| Line {
        class,
        name: name.to_owned(),
        points: busy().map(|slice| (slice.at, float(pick(slice)))).collect(),
    };
    Chart {
        title: "latency over time".to_owned(),
        x: time_axis(report),
        y: latency_axis(busy().flat_map(|slice| [float(slice.p50), float(slice.p99)])),
        lines: vec![line("a", "p50", |slice| slice.p50), line("b", "p99", |slice| slice.p99)],
    }
}

fn throughput(report: &RunReport) -> Chart {
    let good = report.slices.iter().map(|slice| (slice.at, slice.per_second)).collect();
    let bad: Vec<(f64, f64)> = report.slices.iter().map(|slice| (slice.at, float(slice.failed) * 2.0)).collect();
    let most = report.slices.iter().map(|slice| slice.per_second.max(float(slice.failed) * 2.0)).fold(1.0, f64::max);
    let mut lines = vec![Line { class: "c", name: "good replies".to_owned(), points: good }];
    if bad.iter().any(|(_, failed)| *failed > 0.0) {
        lines.push(Line { class: "d", name: "failed".to_owned(), points: bad });
    }
    let top = chart::round_up(most * 1.05);
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (top * share, format!("{:.0}", top * share)));
    Chart {
        title: "requests a second, by the time they were due".to_owned(),
        x: time_axis(report),
        y: Axis { scale: Scale::Linear, from: 0.0, to: top, ticks: ticks.to_vec() },
        lines,
    }
}

fn time_axis(report: &RunReport) -> Axis {
    let end = report.slices.last().map_or(1.0, |slice| slice.at).max(0.5);
    let step = chart::round_up(end / 8.0);
    let ticks = (0..=8).map(|number| f64::from(number) * step).filter(|at| *at <= end);
    Axis { scale: Scale::Linear, from: 0.0, to: end, ticks: ticks.map(|at| (at, format!("{at} s"))).collect() }
}

/// Whole decades around all values, and lines at 1, 2 and 5 of each.
fn latency_axis(values: impl Iterator<Item = f64>) -> Axis {
    let (mut least, mut most) = (f64::MAX, 1.0_f64);
    for value in values {
        (least, most) = (least.min(value.max(1.0)), most.max(value));
    }
    let from = chart::round_down(least.min(most));
    let to = chart::round_up(most.max(from * 1.01));
    let mut ticks = Vec::new();
    for decade in 0..=9 {
        for step in [1.0, 2.0, 5.0] {
            let at = step * 10_f64.powi(decade);
            if (from..=to).contains(&at) {
                ticks.push((at, round_us(at)));
            }
        }
    }
    Axis { scale: Scale::Log, from, to, ticks }
}

/// Names 1, 2 or 5 times a power of ten microseconds without decimals.
fn round_us(us: f64) -> String {
    match us {
        small if small < 1e3 => format!("{us:.0} us"),
        middle if middle < 1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.0} s", us / 1e6),
    }
}

/// Makes a text safe between tags.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no place for control characters, not even escaped.
            control if control.is_control() => safe.push(' '),
            plain => safe.push(plain),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
