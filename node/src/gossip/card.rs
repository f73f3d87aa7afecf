//! What this node tells the others of itself, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use troupe_proto::health::{CARD_TOPIC, Card, Load, Millis, Phase};
use troupe_proto::member::VERSION;
use troupe_proto::wire;

use super::Gossiping;
use crate::admin;
use crate::clock;
use crate::config::Boot;
use crate::house::House;

/// How often it is told at most; what did not change is not told again.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the node is about to leave, or ready: that shall not wait.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ages are told in steps, or every card would be another one.
const STEP_MS: u32 = 1000;

/// What does not change in a process's life.
#[derive(Clone, Debug)]
pub struct Name {
    /// What operators call the node.
    pub name: String,
    /// Where clients reach it.
    pub data: String,
    /// Where operators reach it.
    pub admin: String,
}

impl Name {
    /// The name of the node that is started with `boot`.
    pub fn of(boot: &Boot) -> Self {
        let (data, admin) = (boot.listen.data.to_string(), boot.listen.admin.to_string());
        Self { name: boot.node.name.clone(), data, admin }
    }
}

/// Tells the others of this node for as long as it runs.
pub async fn keep_told(gossip: Gossiping, house: Arc<House>, name: Name) {
    // A node without others has nobody to tell.
    gossip.begun().await;
    let mut told: Option<(Card, std::time::Instant)> = None;
    loop {
        let (card, now) = (card(&house, &name), clock::now());
        let is_due = told.as_ref().is_none_or(|(last, at)| {
            let is_urgent = (last.phase, last.is_ready) != (card.phase, card.is_ready);
            is_urgent || now.saturating_duration_since(*at) >= EVERY
        });
        if is_due {
            match wire::encode(&card) {
                Ok(bytes) => {
                    if let Err(error) = gossip.put(CARD_TOPIC, &bytes) {
                        tracing::debug!(%error, "the others are not told of this node");
                    }
                }
                Err(error) => tracing::error!(%error, "this node's card cannot be written"),
            }
            told = Some((card, now));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What there is to tell at the moment.
fn card(house: &House, name: &Name) -> Card {
    let confirmed = house.agreement.freshness().age(clock::now());
    let phase = match house.health.phase() {
        admin::Phase::Starting => Phase::Starting,
        admin::Phase::Serving => Phase::Serving,
        admin::Phase::Draining => Phase::Draining,
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Card {
        name: name.name.clone(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        version: VERSION,
        data: name.data.clone(),
        admin: name.admin.clone(),
        phase,
        is_ready: house.health.readyz(false).0.is_success(),
        confirmed: confirmed.map(|age| Millis(Millis::of(age).0 / STEP_MS * STEP_MS)),
        revision: house.agreement.handle().state().revision().0,
        load: Load {
            in_flight: count(house.in_flight()),
            in_flight_max: count(house.limits.in_flight),
            connections: u32::try_from(house.metrics.connections_open()).unwrap_or(u32::MAX),
            busy: None,
        },
    }
}
