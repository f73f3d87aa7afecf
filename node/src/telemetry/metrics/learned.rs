//! What the actors know, for a scrape.

use std::time::Duration;

use troupe_actors::{HearsayVitals, Probed, ViewKind, Vitals};
use troupe_proto::id::{ModelId, ProviderId, TargetId};

use super::text::{Seconds, Text};
use super::{Agreed, names};

/// What is learned at one moment.
#[derive(Debug, Default)]
pub struct Learned {
    /// How the actors do; `None` before there are any.
    pub vitals: Option<Vitals>,
    /// The age of each pool's view.
    pub views: Vec<(ModelId, Duration)>,
    /// Every configured target, once.
    pub targets: Vec<TargetNow>,
    /// Whether the node takes traffic.
    pub is_ready: bool,
    /// What that depends on, by name, and whether it is well.
    pub checks: Vec<(&'static str, bool)>,
    /// How it goes with what other nodes say.
    pub hearsay: HearsayVitals,
    /// Probes of each provider by this node, by what they found.
    pub probes: Vec<(ProviderId, Vec<(Probed, u64)>)>,
    /// How agreement goes; `None` where a node follows a file.
    pub agreed: Option<Agreed>,
}

/// A target at one moment.
#[derive(Debug)]
pub struct TargetNow {
    /// Which.
    pub id: TargetId,
    /// Whether it gets no calls.
    pub is_resting: bool,
    /// Whether that is because other nodes say so.
    pub is_told: bool,
    /// Calls that are there now.
    pub in_flight: u32,
}

impl Learned {
    pub(super) fn render_targets(&self, text: &mut Text) {
        text.head(&names::TARGET_RESTING);
        for target in &self.targets {
            text.sample(&names::TARGET_RESTING, &labels(&target.id), u8::from(target.is_resting));
        }
        text.head(&names::TARGET_TOLD);
        for target in &self.targets {
            text.sample(&names::TARGET_TOLD, &labels(&target.id), u8::from(target.is_told));
        }
        text.single(&names::TARGETS_DISPUTED, self.hearsay.disputed);
        text.head(&names::HEARSAY);
        let HearsayVitals { told, heard, stale, disputed: _ } = self.hearsay;
        for (what, count) in [("told", told), ("heard", heard), ("stale", stale)] {
            text.sample(&names::HEARSAY, &[what], count);
        }
        text.head(&names::PROBES);
        for (provider, findings) in &self.probes {
            for (probed, count) in findings.iter().filter(|(_, count)| *count > 0) {
                text.sample(&names::PROBES, &[provider.as_str(), probed.as_str()], count);
            }
        }
        text.head(&names::TARGET_IN_FLIGHT);
        for target in &self.targets {
            text.sample(&names::TARGET_IN_FLIGHT, &labels(&target.id), target.in_flight);
        }
    }

    pub(super) fn render_checks(&self, text: &mut Text) {
        text.single(&names::READY, u8::from(self.is_ready));
        text.head(&names::READY_CHECK);
        for (name, is_well) in &self.checks {
            text.sample(&names::READY_CHECK, &[name], u8::from(*is_well));
        }
    }

    pub(super) fn render_actors(&self, text: &mut Text) {
        let roles = self.vitals.as_ref().map_or(&[][..], |vitals| vitals.roles.as_slice());
        text.head(&names::ACTORS);
        roles.iter().for_each(|role| text.sample(&names::ACTORS, &[role.role.as_str()], role.alive));
        text.head(&names::ACTOR_RESTARTS);
        roles.iter().for_each(|role| text.sample(&names::ACTOR_RESTARTS, &[role.role.as_str()], role.restarts));
        text.head(&names::ACTOR_INBOX);
        roles.iter().for_each(|role| text.sample(&names::ACTOR_INBOX, &[role.role.as_str()], role.inbox_depth));
        text.head(&names::ACTOR_DROPPED);
        roles.iter().for_each(|role| text.sample(&names::ACTOR_DROPPED, &[role.role.as_str()], role.dropped));
        text.head(&names::VIEW_AGE);
        for (model, age) in &self.views {
            let age = Seconds(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
            text.sample(&names::VIEW_AGE, &[ViewKind::Pool.as_str(), model.as_str()], age);
        }
    }
}

fn labels(id: &TargetId) -> [&str; 3] {
    let credential = id.credential.as_ref().map_or("", |credential| credential.as_str());
    [id.provider.as_str(), credential, &id.model]
}
