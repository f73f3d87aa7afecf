//! A plan carried out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::bisect::Bisection;
use super::client::Requests;
use super::closed::{self, Closed};
use super::open::{Crew, Open};
use super::plan::{Load, Mode, Plan};
use super::progress::Progress;
use super::record::{Record, Shared};
use super::run_report::{RunReport, Step};
use super::schedule::Schedule;
use super::units::micros;
use crate::clock;

/// Why a run could not be made. Failed requests are numbers of its report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan's texts cannot stand in a request.
    #[error("the plan makes no request")]
    Request(#[from] http::Error),
    /// The timer of the open loop cannot be had.
    #[error("no timer")]
    Timer(#[from] io::Error),
    /// The histogram refused its own settings.
    #[error("the histogram cannot be made")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// Longest a closed loop that is bounded by its requests alone may take.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Most steps of a search; doubling and halving need far fewer.
const STEPS_MAX: usize = 60;

/// Carries the plan out.
///
/// # Errors
/// [`RunError`] when no request could be made at all.
pub async fn run(plan: &Plan, progress: Progress) -> Result<RunReport, RunError> {
    let requests = Arc::new(Requests::new(&plan.target, &plan.ask, plan.load.timeout)?);
    match plan.load.mode {
        Mode::Open { rate } => {
            let record = open(&requests, &plan.load, rate, progress).await?;
            Ok(RunReport::new(plan, &record, Some(rate)))
        }
        Mode::Closed => {
            let record = closed(&requests, &plan.load, progress).await?;
            Ok(RunReport::new(plan, &record, None))
        }
        Mode::Sustained { p99_max, rate_min, rate_max, precision_percent } => {
            let search = Bisection::new(rate_min, rate_max, precision_percent);
            sustained(&requests, plan, search, p99_max, progress).await
        }
    }
}

/// Runs one open loop at `rate` for the load's warm-up and time.
///
/// # Errors
/// [`RunError::Timer`] and [`RunError::Histogram`], neither in practice.
pub async fn open(requests: &Arc<Requests>, load: &Load, rate: u64, progress: Progress) -> Result<Record, RunError> {
    let opening = Shared::new(Record::new(clock::now(), Duration::ZERO)?);
    let crew = Open { connections: load.connections, backlog: load.backlog };
    let crew = Crew::gather(Arc::clone(requests), crew, &opening).await;
    let begin = clock::now();
    *opening.lock() = Record::new(begin, load.warm_up)?;
    let time = load.time.map(|time| time + load.warm_up);
    let schedule = Schedule::new(begin, rate, time, load.requests);
    let watch = progress.watch(&format!("open loop, {rate}/s"), &opening);
    crew.drive(schedule, &opening).await?;
    drop(watch);
    take(&opening)
}

/// Runs one closed loop for the load's warm-up and time, or its requests.
///
/// # Errors
/// [`RunError::Histogram`], never in practice.
pub async fn closed(requests: &Arc<Requests>, load: &Load, progress: Progress) -> Result<Record, RunError> {
    let begin = clock::now();
    let record = Shared::new(Record::new(begin, load.warm_up)?);
    let until = begin + load.warm_up + load.time.unwrap_or(TIME_MAX);
    let count = load.requests.unwrap_or(u64::MAX);
    let watch = progress.watch(&format!("closed loop, {} connections", load.connections), &record);
    closed::drive(requests, Closed { connections: load.connections, requests: count, until }, &record).await;
    drop(watch);
    take(&record)
}

async fn sustained(
    requests: &Arc<Requests>,
    plan: &Plan,
    mut search: Bisection,
    p99_max: Duration,
    progress: Progress,
) -> Result<RunReport, RunError> {
    let (mut steps, mut best, mut last) = (Vec::new(), None, None);
    while let Some(rate) = search.next_rate().filter(|_| steps.len() < STEPS_MAX) {
        let record = open(requests, &plan.load, rate, progress).await?;
        let p99_us = record.latency.value_at_quantile(0.99);
        let does_hold = record.failed == 0 && record.done > 0 && p99_us <= micros(p99_max);
        steps.push(Step { rate, p99_us, failed: record.failed, does_hold });
        search.tell(rate, does_hold);
        let kept = if does_hold { &mut best } else { &mut last };
        *kept = Some((record, rate));
    }
    // Without a rate that holds, the numbers are those of the one that did not.
    let held_rate = search.best();
    let (record, rate) = match best.or(last) {
        Some(kept) => kept,
        None => (Record::new(clock::now(), Duration::ZERO)?, 0),
    };
    Ok(RunReport { steps, held_rate, ..RunReport::new(plan, &record, Some(rate)) })
}

fn take(record: &Shared) -> Result<Record, RunError> {
    let empty = Record::new(clock::now(), Duration::ZERO)?;
    Ok(std::mem::replace(&mut *record.lock(), empty))
}
