//! The loops of a comparison: every contestant in turn, round after round.

use std::sync::Arc;
use std::time::Duration;

use super::config::TRANSLATED;
use super::legs::{Leg, World};
use super::report::{AtOnce, Report, Sample, StageReport};
use super::{CompareError, Settings, Stage};
use crate::load::client::Requests;
use crate::load::plan::{Load, Mode};
use crate::load::process::Process;
use crate::load::record::Record;
use crate::load::run;
use crate::load::streams::{self, Wire};
use crate::load::units::float;

/// Share of a closed loop that warms a leg up.
const WARM_UP: u64 = 10;
/// The begin of an open loop that does not count.
const OPEN_WARM_UP: Duration = Duration::from_millis(300);
/// Requests of an open loop that may wait: two seconds of the largest rate.
const BACKLOG: u32 = 10_000;

/// What every leg of a stage does.
pub(super) struct Work {
    pub(super) name: String,
    kind: Kind,
    model: String,
    events: Option<u64>,
    who: Who,
}

#[derive(Clone, Copy)]
enum Kind {
    Closed { requests: u64 },
    Open { rate: u64 },
}

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    /// Troupe alone: with the same wire, and translated.
    Translated,
}

/// One leg in one stage.
struct Contestant<'a> {
    label: String,
    leg: &'a Leg,
    requests: Arc<Requests>,
    load: Load,
}

/// Gives what a stage consists of.
pub(super) fn works(settings: &Settings, stage: Stage) -> Vec<Work> {
    let amounts = &settings.amounts;
    let (words, events) = (amounts.words, amounts.events);
    let whole = |name: &str, kind, who| Work {
        name: name.to_owned(),
        kind,
        model: format!("mock+words={words}"),
        events: None,
        who,
    };
    let stream = |name: &str, who| Work {
        name: name.to_owned(),
        kind: Kind::Closed { requests: amounts.streams },
        model: format!("mock+events={events}"),
        events: Some(events),
        who,
    };
    let closed = Kind::Closed { requests: amounts.requests };
    match stage {
        Stage::Whole => vec![whole("whole", closed, Who::All)],
        Stage::Stream => vec![stream("stream", Who::All)],
        Stage::Translated => {
            vec![whole("translated", closed, Who::Translated), stream("translated-stream", Who::Translated)]
        }
        Stage::Open => {
            let rates = amounts.rates.iter();
            rates.map(|rate| whole(&format!("open-{rate}"), Kind::Open { rate: *rate }, Who::All)).collect()
        }
        Stage::Memory | Stage::Streams => Vec::new(),
    }
}

impl Work {
    fn contestants<'a>(&self, settings: &Settings, world: &'a World) -> Result<Vec<Contestant<'a>>, CompareError> {
        let mut contestants = Vec::new();
        for leg in &world.legs {
            let Some(kind) = self.for_leg(leg) else { continue };
            let load = self.load(settings, kind);
            let mut add = |label: &str, model: &str| {
                let requests = leg.requests(model, self.events, 0)?;
                contestants.push(Contestant { label: label.to_owned(), leg, requests, load });
                Ok::<_, CompareError>(())
            };
            match self.who {
                Who::All => add(&leg.name, &self.model)?,
                Who::Translated if leg.name == "troupe" => {
                    // The same twice: what the two differ by is the noise.
                    add("same wire", &self.model)?;
                    add("same wire-2", &self.model)?;
                    add("translated", &self.model.replacen("mock", TRANSLATED, 1))?;
                }
                Who::Translated => {}
            }
        }
        Ok(contestants)
    }

    /// A slow peer does less, or nothing.
    fn for_leg(&self, leg: &Leg) -> Option<Kind> {
        let Some(peer) = &leg.peer else { return Some(self.kind) };
        match self.kind {
            Kind::Closed { requests } => {
                let most = if self.events.is_some() { peer.streams } else { peer.requests };
                let requests = requests.min(most.unwrap_or(u64::MAX));
                (requests > 0).then_some(Kind::Closed { requests })
            }
            Kind::Open { rate } => (rate <= peer.rate_max.unwrap_or(u64::MAX)).then_some(self.kind),
        }
    }

    fn load(&self, settings: &Settings, kind: Kind) -> Load {
        let amounts = &settings.amounts;
        let (mode, warm_up, time, requests) = match kind {
            Kind::Closed { requests } => (Mode::Closed, Duration::ZERO, amounts.leg_time_max, Some(requests)),
            Kind::Open { rate } => (Mode::Open { rate }, OPEN_WARM_UP, amounts.open_time, None),
        };
        let timeout = amounts.leg_time_max;
        let connections = amounts.connections;
        Load { mode, connections, backlog: BACKLOG, warm_up, time: Some(time), requests, timeout }
    }
}

/// Warms every contestant up, and takes them in turn.
pub(super) async fn rounds(settings: &Settings, world: &World, work: &Work) -> Result<StageReport, CompareError> {
    let contestants = work.contestants(settings, world)?;
    for contestant in &contestants {
        settings.progress.say(&format!("{} · warm-up · {}", work.name, contestant.label));
        let Some(requests) = contestant.load.requests else { continue };
        let some = (requests / WARM_UP).max(u64::from(contestant.load.connections)).min(requests);
        drive(settings, contestant, Some(some)).await?;
    }
    let mut samples: Vec<Vec<Sample>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..settings.rounds {
        // Each round begins with another leg, so that none always runs behind the same neighbour.
        let first = usize::try_from(round).unwrap_or(0);
        for turn in 0..contestants.len() {
            let index = (first + turn) % contestants.len();
            let (Some(contestant), Some(samples)) = (contestants.get(index), samples.get_mut(index)) else { continue };
            settings.progress.say(&format!(
                "{} · round {} of {} · {}",
                work.name,
                round + 1,
                settings.rounds,
                contestant.label
            ));
            samples.push(sample(settings, world, contestant, work.events).await?);
        }
    }
    let rounds = contestants.iter().map(|contestant| contestant.label.clone()).zip(samples).collect();
    let rate = match work.kind {
        Kind::Closed { .. } => None,
        Kind::Open { rate } => Some(rate),
    };
    Ok(StageReport::new(&work.name, &work.model, rate, work.events, rounds))
}

async fn sample(
    settings: &Settings,
    world: &World,
    contestant: &Contestant<'_>,
    events: Option<u64>,
) -> Result<Sample, CompareError> {
    let gateway = contestant.leg.gateway.as_ref();
    let gateway_before = gateway.map(Process::cpu).transpose()?;
    let mock_before = world.mock.cpu()?;
    let record = drive(settings, contestant, contestant.load.requests).await?;
    let mock = world.mock.cpu()?.saturating_sub(mock_before);
    let gateway_after = gateway.map(Process::cpu).transpose()?;
    let spent = gateway_after.zip(gateway_before).map(|(after, before)| after.saturating_sub(before));
    Ok(Sample::of(&record, spent, mock, events))
}

async fn drive(
    settings: &Settings,
    contestant: &Contestant<'_>,
    requests: Option<u64>,
) -> Result<Record, CompareError> {
    let load = Load { requests, ..contestant.load };
    Ok(match load.mode {
        Mode::Open { rate } => run::open(&contestant.requests, &load, rate, settings.progress).await?,
        // A comparison searches no rates.
        Mode::Closed | Mode::Sustained { .. } => run::closed(&contestant.requests, &load, settings.progress).await?,
    })
}

/// Opens many streams through each of our legs at once and checks every event.
pub(super) async fn streams_at_once(
    settings: &Settings,
    world: &World,
    report: &mut Report,
) -> Result<(), CompareError> {
    let (amounts, events) = (&settings.amounts, settings.amounts.events);
    for leg in &world.legs {
        let is_twin = leg.name == "floor-2";
        if is_twin || leg.peer.as_ref().is_some_and(|peer| peer.rate_max == Some(0)) {
            continue;
        }
        settings.progress.say(&format!("{} streams at once · {}", amounts.streams_at_once, leg.name));
        let target = leg.target()?;
        let check = streams::Settings {
            base_url: target.base_url,
            key: target.key,
            wire: Wire::OpenAi,
            streams: amounts.streams_at_once,
            events,
            model: leg.model(&format!("mock+events={events}+drip=20ms")),
            http2: false,
            time_max: amounts.leg_time_max,
        };
        let before = leg.gateway.as_ref().map(Process::cpu).transpose()?;
        let outcome = streams::check(&check).await;
        let after = leg.gateway.as_ref().map(Process::cpu).transpose()?;
        let all = float(u64::try_from(amounts.streams_at_once).unwrap_or(0)) * float(events);
        let spent = after.zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        report.at_once.push(AtOnce {
            leg: leg.name.clone(),
            streams: amounts.streams_at_once,
            whole: outcome.whole,
            seconds: outcome.elapsed.as_secs_f64(),
            cpu_us_per_event: spent.map(|spent| spent * 1e6 / all.max(1.0)),
            faults: outcome.faults,
        });
    }
    Ok(())
}
