//! Memory at rest, under many connections, and at rest again.

use std::time::Duration;

use super::legs::{Leg, World};
use super::report::{Memory, Report};
use super::{CompareError, Settings};
use crate::clock;
use crate::load::plan::{Load, Mode};
use crate::load::process::Process;
use crate::load::run;

/// Bytes of a request under the load.
const BODY_BYTES: u64 = 2048;
/// Requests that bring a gateway's code in before it counts as idle.
const WARM_UP: u64 = 2_000;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks without a change of more than a percent after which memory counts as at rest.
const LOOKS_AT_REST: u32 = 10;

/// Measures every gateway once: what a process holds does not vary from round to round as its speed does.
pub(super) async fn measure(settings: &Settings, world: &World, report: &mut Report) -> Result<(), CompareError> {
    for leg in &world.legs {
        // A peer without open loops is marked as too slow for this many connections.
        if leg.name == "floor-2" || leg.peer.as_ref().is_some_and(|peer| peer.rate_max == Some(0)) {
            continue;
        }
        if let Some(gateway) = &leg.gateway {
            settings.progress.say(&format!("memory · {}", leg.name));
            report.memory.push(of(settings, leg, gateway).await?);
        }
    }
    Ok(())
}

async fn of(settings: &Settings, leg: &Leg, gateway: &Process) -> Result<Memory, CompareError> {
    let load = |connections, requests, time| Load {
        mode: Mode::Closed,
        connections,
        backlog: 1,
        warm_up: Duration::ZERO,
        time,
        requests,
        timeout: settings.amounts.leg_time_max,
    };
    let requests = leg.requests("mock", None, BODY_BYTES)?;
    let most_time = Some(settings.amounts.leg_time_max);
    run::closed(&requests, &load(4, Some(WARM_UP), most_time), settings.progress).await?;
    let idle = at_rest(gateway, settings.amounts.rest_max).await?;
    let (connections, time) = (settings.amounts.memory_connections, settings.amounts.memory_time);
    let busy_load = load(connections, None, Some(time));
    let busy_run = run::closed(&requests, &busy_load, settings.progress);
    let mut busy_run = std::pin::pin!(busy_run);
    let mut busy_kib = 0;
    let record = loop {
        tokio::select! {
            record = &mut busy_run => break record?,
            () = tokio::time::sleep(LOOK_EVERY) => busy_kib = gateway.rss_kib()?.max(busy_kib),
        }
    };
    // The loop has closed its connections. Whatever is given back later than this counts as kept.
    let (begun, limit) = (clock::now(), idle + idle / 10);
    let mut after_kib = gateway.rss_kib()?;
    while after_kib > limit && clock::now() - begun < settings.amounts.rest_max {
        tokio::time::sleep(LOOK_EVERY).await;
        after_kib = gateway.rss_kib()?;
    }
    // Not the first look that will do, which would always be just within the limit.
    if after_kib <= limit {
        after_kib = at_rest(gateway, settings.amounts.rest_max).await?;
    }
    Ok(Memory {
        leg: leg.name.clone(),
        connections,
        ready_kib: leg.footprint.rss_ready_kib,
        idle_kib: idle,
        busy_kib,
        after_kib,
        failed: record.failed,
    })
}

/// Waits until memory no longer changes.
async fn at_rest(gateway: &Process, max: Duration) -> Result<u64, CompareError> {
    let (begun, mut still, mut last) = (clock::now(), 0, gateway.rss_kib()?);
    while still < LOOKS_AT_REST && clock::now() - begun < max {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = gateway.rss_kib()?;
        still = if now.abs_diff(last) * 100 <= last { still + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
