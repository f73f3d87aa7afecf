//! The handle on the supervision tree.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, warn};
use troupe_proto::health::{Opinions, Scope};
use troupe_proto::id::{NodeId, ProviderId};

use crate::breaker::actor::BREAKERS;
use crate::hearsay::{Belief, CutOff, Hearsay, HearsayVitals};
use crate::inbox::{Knock, knock};
use crate::layout::PoolLayout;
use crate::pool::PoolCell;
use crate::pool::actor::POOLS;
use crate::ports::{HealthBoard, Probed, Prober};
use crate::probe::PROBERS;
use crate::registry::House;
use crate::restart::{Falls, Intensity, Verdict};
use crate::supervise::{Branch, Supervisor};
use crate::target::Target;
use crate::vitals::{Role, Vitals};

/// What actors take from outside.
#[derive(Clone)]
pub struct Settings {
    /// The monotonic clock.
    pub now: fn() -> Instant,
    /// A die: for spreading rests and restarts.
    pub dice: fn() -> u64,
    /// How many data threads count in lanes of their own.
    pub lanes: usize,
    /// Asks resting targets whether they are back.
    pub prober: Arc<dyn Prober>,
    /// Carries what is learned to other nodes; `None`: there are none.
    pub board: Option<Arc<dyn HealthBoard>>,
}

/// Says why the tree did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The root did not start.
    #[error("the root of the actors did not start")]
    Root(#[source] Box<SpawnErr>),
}

/// A handle on the supervision tree. It works also while actors are down: what it gives out are cells, not actors.
#[derive(Clone)]
pub struct Actors {
    house: Arc<House>,
}

impl Actors {
    /// Starts the tree on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// [`StartError::Root`] when the root does not come up; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let house = Arc::new(House::new(settings));
        let (root, ended) = start_root(&house).await.map_err(|error| StartError::Root(Box::new(error)))?;
        house.enrol(Role::Root, &root_name(), root);
        tokio::spawn(guard(house.clone(), ended));
        Ok(Self { house })
    }

    /// Makes the cells of `pools`, or keeps those whose layout did not change, in their order. Waits for no actor.
    ///
    /// Targets that stay keep what was learned of them, in whatever pool they are.
    pub fn lay_out(&self, pools: Vec<PoolLayout>) -> Vec<Arc<PoolCell>> {
        let cells = self.house.lay_out(pools);
        for role in [Role::Pools, Role::Breakers, Role::Probers] {
            // Who is down looks when it comes up.
            for actor in self.house.actors(role) {
                knock(&actor, Knock::Wake);
            }
        }
        cells
    }

    /// Takes who lives in the cluster now. What others said counts no more.
    pub fn living(&self, nodes: BTreeSet<NodeId>) {
        self.house.hearsay.living(nodes);
    }

    /// Takes who of the other nodes takes traffic now. Only beside such a one this node may be cut off.
    pub fn ready(&self, nodes: BTreeSet<NodeId>) {
        self.house.hearsay.ready(nodes);
    }

    /// Whether this node reaches none of its providers while another node does: then that one should have its clients.
    pub fn cut_off(&self) -> watch::Receiver<Option<CutOff>> {
        self.house.hearsay.cut_off()
    }

    /// Takes what another node says of a provider. What is older than what is known of it is left out.
    pub fn hear(&self, from: NodeId, opinions: &Opinions) {
        self.house.hearsay.hear(from, opinions, self.house.now());
    }

    /// What other nodes believe of a target, by node.
    pub fn beliefs(&self, target: &Target) -> Vec<Belief> {
        self.house.hearsay.beliefs(&target.id, Some(target.fingerprint), self.house.now())
    }

    /// How hearsay does.
    pub fn hearsay(&self) -> HearsayVitals {
        self.house.hearsay.vitals()
    }

    /// Probes that this node made of each provider, by what they found.
    pub fn probes(&self) -> Vec<(ProviderId, Vec<(Probed, u64)>)> {
        self.house.providers().into_iter().map(|(id, provider)| (id, provider.probes())).collect()
    }

    /// Every target that is laid out, also those of single names behind wildcards, in order.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.house.known_targets().into_iter().map(|(target, _)| target).collect()
    }

    /// Has targets forget why they rest, and forgets what other nodes said of them; how many were meant.
    pub fn reset(&self, scope: &Scope) -> usize {
        self.house.reset(scope)
    }

    /// How the actors do.
    pub fn vitals(&self) -> Vitals {
        self.house.vitals()
    }

    /// Kills every actor of a role now: a drill.
    pub fn kill(&self, role: Role) {
        for actor in self.house.actors(role) {
            actor.kill();
        }
    }

    /// Makes every actor of a role panic now: a drill.
    pub fn poison(&self, role: Role) {
        for actor in self.house.actors(role) {
            knock(&actor, Knock::Poison);
        }
    }

    /// Waits until supervision gives up: actors fall too often, and learn nothing any more. Cells still work.
    pub async fn failed(&self) {
        let mut failed = self.house.failed.subscribe();
        // The sender lives in the house, which this handle keeps.
        failed.wait_for(|has_failed| *has_failed).await.ok();
    }

    /// Stops every actor and waits until the root is gone.
    pub async fn stop(&self) {
        self.house.is_stopping.store(true, Ordering::Release);
        for root in self.house.actors(Role::Root) {
            // It fails only where the root is gone already.
            root.stop_and_wait(None, None).await.ok();
        }
    }
}

/// What hangs from the root.
const BRANCHES: [Role; 4] = [Role::Pools, Role::Breakers, Role::Probers, Role::Hearsay];

/// The branches, and how each is started.
static ROOT: Branch = Branch {
    role: Role::Root,
    child: branch_role,
    intensity: Intensity::BRANCH,
    wanted: |_| BRANCHES.iter().map(|role| role.as_str().into()).collect::<BTreeSet<_>>(),
    start: |house, name, root| {
        Box::pin(async move {
            let branch = match branch_role(&name) {
                Role::Breakers => &BREAKERS,
                Role::Probers => &PROBERS,
                Role::Hearsay => {
                    return Actor::spawn_linked(None, Hearsay { house }, (), root).await.map(|(actor, _)| actor);
                }
                Role::Root | Role::Pools | Role::Pool | Role::Breaker | Role::Prober => &POOLS,
            };
            let supervisor = Supervisor { house, branch };
            Actor::spawn_linked(None, supervisor, (), root).await.map(|(actor, _)| actor)
        })
    },
    tick: None,
};

fn branch_role(name: &str) -> Role {
    BRANCHES.into_iter().find(|role| role.as_str() == name).unwrap_or(Role::Pools)
}

fn root_name() -> Arc<str> {
    Role::Root.as_str().into()
}

async fn start_root(house: &Arc<House>) -> Result<(ActorRef<Knock>, JoinHandle<()>), SpawnErr> {
    Actor::spawn(None, Supervisor { house: house.clone(), branch: &ROOT }, ()).await
}

/// Starts the root again when it falls; gives up when it falls too often.
async fn guard(house: Arc<House>, mut ended: JoinHandle<()>) {
    let mut falls = Falls::default();
    loop {
        // The handle of an actor's task never fails; if it did, the actor would be gone all the same.
        ended.await.ok();
        let next = loop {
            if house.is_stopping.load(Ordering::Acquire) {
                return;
            }
            let Verdict::Restart { after } = falls.fell(house.now(), house.dice(), Intensity::ROOT) else {
                error!("the actors do not stay up: targets are no longer rested, probed or weighed");
                house.failed.send_replace(true);
                return;
            };
            warn!(role = Role::Root.as_str(), "an actor fell");
            tokio::time::sleep(after).await;
            match start_root(&house).await {
                Ok(next) => break next,
                Err(error) => warn!(role = Role::Root.as_str(), %error, "an actor did not start"),
            }
        };
        house.restarted(Role::Root);
        house.enrol(Role::Root, &root_name(), next.0);
        ended = next.1;
    }
}
