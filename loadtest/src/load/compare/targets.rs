//! What the project wants of its own speed, beside what was measured. Nothing here decides anything.

use serde::Serialize;

use super::peer::Peer;
use super::report::{LegReport, Report, ratio};

/// One target and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What is measured.
    pub what: String,
    /// What it came to; none where the run did not measure it.
    pub measured: Option<f64>,
    /// It should be at most this.
    pub at_most: f64,
    /// It would be good to be at most this.
    pub aim: Option<f64>,
    /// The same for the second floor in Troupe's place: how far from 1 it is, is the noise.
    pub control: Option<f64>,
    /// Whether it is within the bound; none where it was not measured.
    pub is_met: Option<bool>,
    /// Whether an error as large as the control's would turn the verdict round.
    pub is_within_noise: bool,
}

impl Judged {
    /// Takes what came of the same comparison between two of a kind.
    fn controlled(self, control: Option<f64>) -> Self {
        let Some(control) = control.filter(|control| control.is_finite()) else { return self };
        // Two of a kind that differ by a factor may hide or pretend that factor, either way.
        let factor = if control > 0.0 { control.max(1.0 / control) } else { f64::INFINITY };
        let is_within_noise = match (self.measured, self.is_met) {
            (Some(measured), Some(true)) => measured * factor > self.at_most,
            (Some(measured), Some(false)) => measured / factor <= self.at_most,
            _ => false,
        };
        Self { control: Some(control), is_within_noise, ..self }
    }
}

/// CPU of a request by the floor's.
const CPU_MAX: f64 = 1.6;
const CPU_AIM: f64 = 1.2;
/// CPU of an event of a stream by the floor's.
const EVENT_MAX: f64 = 1.35;
/// Added latency by the floor's.
const ADDED_P50_MAX: f64 = 1.4;
const ADDED_P99_MAX: f64 = 2.0;
/// CPU of a translated request by one of the same wire.
const TRANSLATED_MAX: f64 = 1.5;
/// What a node of a cluster spends, by what one alone does.
const CLUSTER_MAX: f64 = 1.05;
const RSS_MAX_MIB: f64 = 60.0;
/// Memory at rest again, by memory at rest before.
const RSS_BACK_MAX: f64 = 1.1;

fn judged(what: impl Into<String>, measured: Option<f64>, at_most: f64) -> Judged {
    let measured = measured.filter(|measured| measured.is_finite());
    let is_met = measured.map(|measured| measured <= at_most);
    Judged { what: what.into(), measured, at_most, aim: None, control: None, is_met, is_within_noise: false }
}

/// Judges everything that the run's stages measured of Troupe.
pub(super) fn judge(report: &Report, peers: &[Peer]) -> Vec<Judged> {
    let mut all = Vec::new();
    let of = |stage: &str, leg: &str, pick: fn(&LegReport) -> Option<f64>| {
        report.stage(stage).and_then(|stage| stage.leg(leg)).and_then(pick).filter(|number| number.is_finite())
    };
    let mut by_floor = |what: String, stage: &str, pick: fn(&LegReport) -> Option<f64>, at_most, aim| {
        if report.stage(stage).is_some_and(|stage| stage.leg("troupe").is_some()) {
            let control = of(stage, "floor-2", pick);
            all.push(Judged { aim, ..judged(what, of(stage, "troupe", pick), at_most).controlled(control) });
        }
    };
    by_floor("CPU of a request / floor".to_owned(), "whole", |leg| leg.cpu_by_floor, CPU_MAX, Some(CPU_AIM));
    by_floor("CPU of a stream's event / floor".to_owned(), "stream", |leg| leg.cpu_by_floor, EVENT_MAX, None);
    for stage in &report.stages {
        let Some(rate) = stage.rate else { continue };
        let p50 = |leg: &LegReport| leg.added_by_floor.map(|added| added.p50);
        let p99 = |leg: &LegReport| leg.added_by_floor.map(|added| added.p99);
        by_floor(format!("added p50 at {rate}/s / floor's"), &stage.name, p50, ADDED_P50_MAX, None);
        by_floor(format!("added p99 at {rate}/s / floor's"), &stage.name, p99, ADDED_P99_MAX, None);
    }
    for (stage, what) in [("translated", "request"), ("translated-stream", "stream")] {
        let cpu = |leg: &str| of(stage, leg, |leg| leg.median.cpu_us_per_request);
        if let Some((translated, same)) = cpu("translated").zip(cpu("same wire")) {
            let what = format!("CPU of a translated {what} / same wire");
            let control = cpu("same wire-2").and_then(|twin| ratio(twin, same));
            all.push(judged(what, ratio(translated, same), TRANSLATED_MAX).controlled(control));
        }
    }
    cluster(report, &mut all);
    memory(report, &mut all);
    for peer in peers {
        let cpu = |leg: &str| of("whole", leg, |leg| leg.median.cpu_us_per_request);
        let share = cpu("troupe").zip(cpu(&peer.name)).and_then(|(troupe, peer)| ratio(troupe, peer));
        if let Some(at_most) = peer.cpu_of_troupe_max.filter(|_| share.is_some()) {
            let control = of("whole", "floor-2", |leg| leg.cpu_by_floor);
            all.push(judged(format!("CPU of a request / {}", peer.name), share, at_most).controlled(control));
        }
    }
    all
}

/// A node of three beside one alone; in latencies, what each adds.
fn cluster(report: &Report, all: &mut Vec<Judged>) {
    type Pick = fn(&LegReport) -> Option<f64>;
    let cpu: Pick = |leg| leg.median.cpu_us_per_request;
    let event: Pick = |leg| leg.median.cpu_us_per_event;
    let p50: Pick = |leg| leg.added.map(|added| added.p50);
    let p99: Pick = |leg| leg.added.map(|added| added.p99);
    for stage in &report.stages {
        let picks: &[(&str, Pick)] = match (stage.name.as_str(), stage.rate) {
            ("whole", _) => &[("CPU of a request", cpu)],
            ("stream", _) => &[("CPU of a stream's event", event)],
            (_, Some(_)) => &[("added p50", p50), ("added p99", p99)],
            (_, None) => &[],
        };
        for (what, pick) in picks {
            let of = |leg: &str| stage.leg(leg).and_then(pick).filter(|number| number.is_finite());
            let Some((many, alone)) = of("cluster").zip(of("troupe")) else { continue };
            let rate = stage.rate.map_or_else(String::new, |rate| format!(" at {rate}/s"));
            let control = of("floor-2").zip(of("floor")).and_then(|(twin, floor)| ratio(twin, floor));
            let what = format!("{what}{rate}, one node of three / alone");
            all.push(judged(what, ratio(many, alone), CLUSTER_MAX).controlled(control));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes of a process and counts of streams are exact in f64")]
fn memory(report: &Report, all: &mut Vec<Judged>) {
    if let Some(memory) = report.memory.iter().find(|memory| memory.leg == "troupe") {
        let mib = memory.busy_kib as f64 / 1024.0;
        all.push(judged(format!("RSS at {} connections, MiB", memory.connections), Some(mib), RSS_MAX_MIB));
        let back = ratio(memory.after_kib as f64, memory.idle_kib as f64);
        all.push(judged("RSS afterwards / idle", back, RSS_BACK_MAX));
    }
    if let Some(at_once) = report.at_once.iter().find(|at_once| at_once.leg == "troupe") {
        let broken = at_once.streams.saturating_sub(at_once.whole) as f64;
        all.push(judged(format!("broken of {} streams at once", at_once.streams), Some(broken), 0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::compare::report::tests::sample;
    use crate::load::compare::report::{Memory, StageReport};

    fn report() -> Report {
        let legs = |floor: f64, twin: f64, troupe: f64| {
            let leg = |name: &str, cpu, p50| (name.to_owned(), vec![sample(cpu, p50, 0)]);
            vec![
                leg("direct", None, 50.0),
                leg("floor", Some(floor), 90.0),
                leg("floor-2", Some(twin), 90.0),
                leg("troupe", Some(troupe), 110.0),
                leg("cluster", Some(troupe * 1.02), 111.0),
                leg("other", Some(20_000.0), 9000.0),
            ]
        };
        let memory = Memory {
            leg: "troupe".to_owned(),
            connections: 512,
            ready_kib: 20 << 10,
            idle_kib: 22 << 10,
            busy_kib: 61 << 10,
            after_kib: 24 << 10,
            failed: 0,
        };
        Report {
            connections: 64,
            rounds: 1,
            gateway_cpu: None,
            stages: vec![
                StageReport::new("whole", "mock", None, None, legs(20.0, 21.0, 30.0)),
                StageReport::new("open-1000", "mock", Some(1000), None, legs(20.0, 21.0, 30.0)),
            ],
            memory: vec![memory],
            at_once: Vec::new(),
            footprints: Vec::new(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn what_was_measured_is_judged_and_the_rest_is_left_out() {
        let judged = judge(&report(), &[]);
        let find = |what: &str| judged.iter().find(|judged| judged.what.starts_with(what)).unwrap();

        let cpu = find("CPU of a request");
        assert_eq!((cpu.measured, cpu.control, cpu.is_met), (Some(1.5), Some(1.05), Some(true)));
        let added = find("added p50 at 1000/s");
        assert_eq!((added.measured, added.is_met), (Some(1.5), Some(false)));
        assert_eq!(find("RSS at 512").is_met, Some(false));
        assert_eq!(find("RSS afterwards").is_met, Some(true));
        assert!(!judged.iter().any(|judged| judged.what.contains("translated")));
    }

    #[test]
    fn one_node_of_three_is_judged_by_one_alone() {
        let judged = judge(&report(), &[]);
        let find = |what: &str| judged.iter().find(|judged| judged.what.starts_with(what)).unwrap();

        let cpu = find("CPU of a request, one node of three");
        assert!((cpu.measured.unwrap() - 1.02).abs() < 1e-9 && cpu.is_within_noise, "{cpu:?}");
        let added = find("added p50 at 1000/s, one node of three");
        assert!((added.measured.unwrap() - 61.0 / 60.0).abs() < 1e-9, "{added:?}");
    }

    #[test]
    fn a_verdict_that_the_noise_could_turn_round_says_so() {
        let of = |measured: f64, control: f64| {
            let judged = judged("x", Some(measured), 1.4).controlled(Some(control));
            (judged.is_met, judged.is_within_noise)
        };

        assert_eq!(of(1.0, 1.1), (Some(true), false));
        assert_eq!(of(1.3, 0.9), (Some(true), true));
        assert_eq!(of(1.5, 1.1), (Some(false), true));
        assert_eq!(of(2.0, 1.1), (Some(false), false));
        // A stall that struck one of two equals leaves nothing to say.
        assert_eq!(of(0.9, 0.2), (Some(true), true));
        assert_eq!(of(0.1, -0.3), (Some(true), true));
    }

    #[test]
    fn a_peer_is_judged_by_its_own_bound() {
        let peer = "name = \"other\"\ncommand = [\"x\"]\ncpu_of_troupe_max = 0.0033\n";
        let peer = Peer::parse(peer).unwrap();

        let judged = judge(&report(), &[peer]).pop().unwrap();

        assert_eq!((judged.what.as_str(), judged.is_met), ("CPU of a request / other", Some(true)));
        assert!((judged.measured.unwrap() - 0.0015).abs() < 1e-12);
    }
}
