//! The tree at work: real actors, a paused clock, a scripted prober.

mod drills;
mod keys;
mod last;
mod learns;
mod lives;
mod probes;
mod rests;
mod town;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use troupe_proto::failure::Fault;
use troupe_proto::id::{CredentialId, ModelId, ProviderId, TargetId};
use troupe_proto::unit::PerMille;

use crate::{
    Actors, Failure, Fingerprint, HealthBoard, HedgeRules, MemberLayout, PoolCell, PoolLayout, Probed, Prober,
    RetryRules, Role, Settings, Standing, TargetRules, Why,
};

fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A die that is fair enough and the same each run of one test process.
fn die() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(7);
    SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rules() -> TargetRules {
    TargetRules {
        failures: 5,
        window: secs(10),
        share: PerMille::new(500),
        rest: secs(5),
        rest_max: secs(60),
        credential_rest: secs(1800),
        slow_start: secs(10),
        panic: PerMille::ZERO,
        concurrency: None,
    }
}

fn member(provider: &str, model: &str) -> MemberLayout {
    let id = TargetId {
        provider: ProviderId::new(provider),
        credential: Some(CredentialId::new("main")),
        model: model.into(),
    };
    MemberLayout {
        id,
        is_open: model == "*",
        weight: 1,
        priority: 0,
        rules: rules(),
        fingerprint: Fingerprint::default(),
    }
}

fn pool(id: &str, members: Vec<MemberLayout>) -> PoolLayout {
    PoolLayout {
        id: ModelId::new(id),
        members,
        has_fallbacks: false,
        retries: RetryRules { budget: PerMille::new(200) },
        hedge: Some(HedgeRules { budget: PerMille::new(50) }),
    }
}

/// What the scripted prober does next.
#[derive(Clone, Copy, Debug)]
enum Script {
    Says(Probed),
    Hangs,
    Panics,
}

struct Scripted {
    script: Mutex<Script>,
    probed: Mutex<Vec<TargetId>>,
}

impl Prober for Scripted {
    fn probe(&self, target: &TargetId) -> Pin<Box<dyn Future<Output = Probed> + Send>> {
        self.probed.lock().unwrap().push(target.clone());
        let script = *self.script.lock().unwrap();
        Box::pin(async move {
            match script {
                Script::Says(probed) => probed,
                Script::Hangs => std::future::pending().await,
                Script::Panics => panic!("a drill"),
            }
        })
    }
}

/// Pools with their actors.
struct World {
    actors: Actors,
    cells: Vec<Arc<PoolCell>>,
    prober: Arc<Scripted>,
}

impl World {
    async fn start(pools: Vec<PoolLayout>) -> Self {
        Self::start_with(pools, None).await
    }

    async fn start_with(pools: Vec<PoolLayout>, board: Option<Arc<dyn HealthBoard>>) -> Self {
        let prober = Arc::new(Scripted { script: Mutex::new(Script::Says(Probed::Unknown)), probed: Mutex::default() });
        let settings = Settings { now: clock, dice: die, lanes: 2, prober: prober.clone(), board };
        let actors = Actors::start(settings).await.unwrap();
        let cells = actors.lay_out(pools);
        let world = Self { actors, cells, prober };
        world.eventually("all actors are up", |world| world.alive(Role::Pool) == world.cells.len() as u64).await;
        world
    }

    /// One pool of one member.
    async fn one() -> Self {
        Self::start(vec![pool("chat", vec![member("p", "m")])]).await
    }

    fn cell(&self) -> &Arc<PoolCell> {
        &self.cells[0]
    }

    async fn eventually(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = clock() + secs(30);
        while !is_so(self) {
            assert!(clock() < deadline, "never: {what}; {:?}", self.actors.vitals());
            tokio::time::sleep(millis(1)).await;
        }
    }

    /// Lets the actors do what they have to do.
    async fn settle(&self) {
        self.eventually("inboxes are read", |world| world.actors.vitals().roles.iter().all(|r| r.inbox_depth == 0))
            .await;
        // One turn of the ticker.
        tokio::time::sleep(millis(150)).await;
    }

    fn alive(&self, role: Role) -> u64 {
        self.actors.vitals().roles.iter().find(|vitals| vitals.role == role).map_or(0, |vitals| vitals.alive)
    }

    fn restarts(&self, role: Role) -> u64 {
        self.actors.vitals().roles.iter().find(|vitals| vitals.role == role).map_or(0, |vitals| vitals.restarts)
    }

    fn dropped(&self, role: Role) -> u64 {
        self.actors.vitals().roles.iter().find(|vitals| vitals.role == role).map_or(0, |vitals| vitals.dropped)
    }

    fn standing(&self, member: usize) -> Standing {
        let target = self.cell().target(member, "m").unwrap();
        self.cell().standing(member, &target, clock())
    }

    /// A call that gets an answer after `first_token`, or how the target stands.
    fn succeed(&self, member: usize, first_token: Duration) -> Result<(), Standing> {
        self.cell().called(0);
        let target = self.cell().target(member, "m").unwrap();
        let mut pass = self.cell().enter(member, &target, "m", 0, clock())?;
        pass.succeeded(Some(first_token));
        Ok(())
    }

    fn fail(&self, member: usize, failure: Failure) -> Result<(), Standing> {
        self.cell().called(1);
        let target = self.cell().target(member, "m").unwrap();
        let mut pass = self.cell().enter(member, &target, "m", 1, clock())?;
        pass.failed(failure);
        Ok(())
    }

    /// Fails until the target rests.
    async fn rest(&self, member: usize, failure: Failure) {
        for _ in 0..5 {
            self.fail(member, failure).ok();
        }
        let is_resting = |world: &Self| matches!(world.standing(member), Standing::Resting { .. });
        self.eventually("the target rests", is_resting).await;
    }

    fn why(&self, member: usize) -> Option<Why> {
        match self.standing(member) {
            Standing::Resting { why, .. } => Some(why),
            Standing::Ready | Standing::Probation | Standing::Probed | Standing::Full { .. } => None,
        }
    }

    fn script(&self, script: Script) {
        *self.prober.script.lock().unwrap() = script;
    }

    fn probes(&self) -> usize {
        self.prober.probed.lock().unwrap().len()
    }
}

fn failure(fault: Fault) -> Failure {
    Failure { fault, is_unreachable: false, retry_after: None, at: clock() }
}

fn unreachable() -> Failure {
    Failure { is_unreachable: true, ..failure(Fault::Provider) }
}
