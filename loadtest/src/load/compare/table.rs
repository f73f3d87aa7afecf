//! The report as text for a terminal.

use super::report::{AtOnce, Footprint, LegReport, Memory, Report, StageReport};
use super::targets::Judged;
use crate::load::units::float;

const NAME_WIDTH: usize = 11;
const WIDTH: usize = 12;

impl Report {
    /// Gives the report as text for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let place = match self.gateway_cpu {
            Some(cpu) => format!("gateways on processor {cpu}, mock and driver on the others"),
            None => "no processor reserved".to_owned(),
        };
        text.push_str(&format!("{} connections, {} rounds, {place}\n\n", self.connections, self.rounds));
        for stage in &self.stages {
            stage_table(&mut text, stage);
            text.push('\n');
        }
        if !self.at_once.is_empty() {
            at_once_table(&mut text, &self.at_once);
            text.push('\n');
        }
        if !self.memory.is_empty() {
            memory_table(&mut text, &self.memory);
            text.push('\n');
        }
        footprint_table(&mut text, &self.footprints);
        if !self.targets.is_empty() {
            text.push('\n');
            targets_table(&mut text, &self.targets);
        }
        text
    }
}

fn shown(number: Option<f64>, places: usize) -> String {
    let number = number.filter(|number| number.is_finite());
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.places$}"))
}

/// Names stand left, numbers right.
fn line(text: &mut String, name: &str, cells: &[String]) {
    let cells: String = cells.iter().map(|cell| format!(" {cell:>WIDTH$}")).collect();
    text.push_str(format!("{name:<NAME_WIDTH$}{cells}").trim_end());
    text.push('\n');
}

fn heads(text: &mut String, name: &str, heads: &[&str]) {
    line(text, name, &heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>());
}

/// Makes the cells of one leg's line.
type Cells = fn(&LegReport) -> Vec<String>;

fn stage_table(text: &mut String, stage: &StageReport) {
    let events = stage.events.map_or_else(String::new, |events| format!(", {events} events"));
    let kind = stage.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop at {rate}/s"));
    text.push_str(&format!("{}: {kind}, model {}{events}\n", stage.name, stage.model));
    let (names, cells): (&[&str], Cells) = match stage.rate {
        Some(_) => (
            &[
                "p50 us",
                "p99 us",
                "p99.9 us",
                "added p50",
                "added p99",
                "added p99.9",
                "/ floor's",
                "/ floor's",
                "/ floor's",
            ],
            open_cells,
        ),
        None => (&["req/s", "p50 us", "p99 us", "CPU us/req", "x floor", "CPU us/event", "mock us/req"], closed_cells),
    };
    heads(text, "leg", names);
    for leg in &stage.legs {
        let mut cells = cells(leg);
        if leg.median.failed > 0 {
            let fault = leg.median.fault.as_deref().unwrap_or_default();
            cells.push(format!("{} FAILED: {fault}", leg.median.failed));
        }
        line(text, &leg.name, &cells);
    }
    if let Some(twin) = stage.leg("floor-2") {
        text.push_str(&format!("A/A: the two floors differ by {}\n", noise(stage, twin)));
    }
    let cpu = |leg: &str| stage.leg(leg).and_then(|leg| leg.median.cpu_us_per_request);
    if let Some((translated, same)) = cpu("translated").zip(cpu("same wire")) {
        text.push_str(&format!("translated / same wire: {:.2}\n", translated / same.max(1e-9)));
    }
}

/// Says how far the second floor is from the first, in the numbers that the stage is for.
fn noise(stage: &StageReport, twin: &LegReport) -> String {
    let percent = |ratio: Option<f64>| shown(ratio.map(|ratio| (ratio - 1.0).abs() * 100.0), 1);
    let cpu = format!("{} % in CPU", percent(twin.cpu_by_floor));
    let floor = stage.leg("floor").and_then(|floor| floor.added);
    match (stage.rate, twin.added.zip(floor)) {
        (Some(_), Some((twin, floor))) => {
            let us = |pick: fn(&super::report::Latency) -> f64| shown(Some((pick(&twin) - pick(&floor)).abs()), 0);
            format!("{} us in p50, {} in p99, {} in p99.9; {cpu}", us(|of| of.p50), us(|of| of.p99), us(|of| of.p999))
        }
        _ => cpu,
    }
}

fn open_cells(leg: &LegReport) -> Vec<String> {
    let latency = leg.median.latency;
    let of = |added: Option<super::report::Latency>, places| {
        [added.map(|of| of.p50), added.map(|of| of.p99), added.map(|of| of.p999)].map(|number| shown(number, places))
    };
    let own = [latency.p50, latency.p99, latency.p999].map(|number| shown(Some(number), 0));
    own.into_iter().chain(of(leg.added, 0)).chain(of(leg.added_by_floor, 2)).collect()
}

fn closed_cells(leg: &LegReport) -> Vec<String> {
    let median = &leg.median;
    vec![
        format!("{:.0}", median.requests_per_s),
        format!("{:.0}", median.latency.p50),
        format!("{:.0}", median.latency.p99),
        shown(median.cpu_us_per_request, 1),
        shown(leg.cpu_by_floor, 2),
        shown(median.cpu_us_per_event, 2),
        format!("{:.1}", median.mock_cpu_us_per_request),
    ]
}

fn mib(kib: u64) -> String {
    format!("{:.1}", float(kib) / 1024.0)
}

fn at_once_table(text: &mut String, all: &[AtOnce]) {
    text.push_str("streams at once, every event checked\n");
    heads(text, "leg", &["streams", "whole", "seconds", "CPU us/event"]);
    for at_once in all {
        let mut cells = vec![
            at_once.streams.to_string(),
            at_once.whole.to_string(),
            format!("{:.1}", at_once.seconds),
            shown(at_once.cpu_us_per_event, 2),
        ];
        cells.extend(at_once.faults.iter().map(|(fault, count)| format!("{count} x {fault}")));
        line(text, &at_once.leg, &cells);
    }
}

fn memory_table(text: &mut String, all: &[Memory]) {
    text.push_str("memory, MiB\n");
    heads(text, "leg", &["ready", "idle", "busy", "afterwards", "/ idle"]);
    for memory in all {
        let back = float(memory.after_kib) / float(memory.idle_kib.max(1));
        let mut cells = [memory.ready_kib, memory.idle_kib, memory.busy_kib, memory.after_kib].map(mib).to_vec();
        cells.push(format!("{back:.2}"));
        if memory.failed > 0 {
            cells.push(format!("{} FAILED", memory.failed));
        }
        line(text, &memory.leg, &cells);
    }
}

fn footprint_table(text: &mut String, all: &[Footprint]) {
    heads(text, "leg", &["first 200 ms", "RSS ready", "RSS at end"]);
    for footprint in all {
        let Footprint { name, start_to_first_200_ms, rss_ready_kib, rss_after_kib } = footprint;
        line(text, name, &[start_to_first_200_ms.to_string(), mib(*rss_ready_kib), mib(*rss_after_kib)]);
    }
}

fn targets_table(text: &mut String, targets: &[Judged]) {
    text.push_str(&format!("{:<40} {:>9} {:>9} {:>9} {:>7}\n", "target", "measured", "at most", "aim", "A/A"));
    for target in targets {
        // Shares of a far slower peer are small.
        let places = if target.at_most < 0.1 && target.at_most > 0.0 { 5 } else { 2 };
        let verdict = match (target.is_met, target.is_within_noise) {
            (Some(true), false) => "met",
            (Some(true), true) => "met, within the noise",
            (Some(false), false) => "NOT MET",
            (Some(false), true) => "NOT MET, within the noise",
            (None, _) => "not measured",
        };
        let numbers = [target.measured, Some(target.at_most), target.aim].map(|number| shown(number, places));
        let [measured, at_most, aim] = numbers;
        let control = shown(target.control, 2);
        let what = &target.what;
        text.push_str(&format!("{what:<40} {measured:>9} {at_most:>9} {aim:>9} {control:>7}  {verdict}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::compare::report::tests::sample;

    #[test]
    fn the_table_names_every_leg_its_failures_and_the_noise() {
        let leg = |name: &str, cpu, p50, failed| (name.to_owned(), vec![sample(cpu, p50, failed)]);
        let legs = || {
            vec![
                leg("direct", None, 50.0, 0),
                leg("floor", Some(20.0), 90.0, 0),
                leg("floor-2", Some(21.0), 92.0, 0),
                leg("troupe", Some(30.0), 100.0, 7),
            ]
        };
        let stages = vec![
            StageReport::new("whole", "mock", None, None, legs()),
            StageReport::new("open-1000", "mock", Some(1000), None, legs()),
        ];
        let target = Judged {
            what: "CPU of a request / floor".to_owned(),
            measured: Some(1.5),
            at_most: 1.6,
            aim: Some(1.2),
            control: Some(1.05),
            is_met: Some(true),
            is_within_noise: false,
        };
        let report = Report {
            connections: 4,
            rounds: 1,
            gateway_cpu: Some(1),
            stages,
            memory: Vec::new(),
            at_once: Vec::new(),
            footprints: Vec::new(),
            targets: vec![target],
        };

        let table = report.table();

        assert_eq!(report.failed(), 14);
        for part in ["floor-2", "1.50", "7 FAILED: status 503", "5.0 % in CPU", "2 us in p50", "1.25", "1.05  met"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
    }
}
