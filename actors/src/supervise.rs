//! One-for-one supervision: who falls is started again, who falls too often takes the branch along.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tracing::{debug, warn};

use crate::inbox::{Knock, knock};
use crate::registry::House;
use crate::restart::{Falls, Intensity, Verdict};
use crate::vitals::Role;

/// An actor about to start.
pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<ActorRef<Knock>, SpawnErr>> + Send>>;

/// A part of the tree, as data: who should be there, and how each is started.
pub(crate) struct Branch {
    pub(crate) role: Role,
    /// What a child is there for, by its name.
    pub(crate) child: fn(&str) -> Role,
    pub(crate) intensity: Intensity,
    /// The names of those who should be there now.
    pub(crate) wanted: fn(&House) -> BTreeSet<Arc<str>>,
    /// Starts one, linked to its supervisor.
    pub(crate) start: fn(Arc<House>, Arc<str>, ActorCell) -> Starting,
    /// What the branch does on its own clock, and when next; `None`: it has no clock.
    pub(crate) tick: Option<fn(&House, Instant) -> Duration>,
}

/// Supervises one branch.
pub(crate) struct Supervisor {
    pub(crate) house: Arc<House>,
    pub(crate) branch: &'static Branch,
}

/// What a supervisor knows of its children. It is lost with it, and made anew from what is wanted.
#[derive(Default)]
pub(crate) struct Children {
    up: BTreeMap<Arc<str>, ActorRef<Knock>>,
    falls: BTreeMap<Arc<str>, Falls>,
    /// When the fallen start again.
    due: BTreeMap<Arc<str>, Instant>,
}

/// A child fell too often.
#[derive(Debug, thiserror::Error)]
#[error("{role} {name} does not stay up")]
struct GivesUp {
    role: &'static str,
    name: Arc<str>,
}

/// Knocks at `actor` after a while. The timer ends with itself; a dead actor hears nothing.
pub(crate) fn knock_after(actor: ActorRef<Knock>, after: Duration, word: Knock) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        knock(&actor, word);
    });
}

impl Supervisor {
    /// Starts who should be there and is not, and stops who should not.
    async fn look(&self, myself: &ActorRef<Knock>, children: &mut Children) -> Result<(), ActorProcessingErr> {
        let wanted = (self.branch.wanted)(&self.house);
        let unwanted: Vec<_> = children.up.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in unwanted {
            if let Some(child) = children.up.remove(&name) {
                self.house.strike((self.branch.child)(&name), &name, &child);
                child.stop(None);
            }
        }
        children.falls.retain(|name, _| wanted.contains(name));
        children.due.retain(|name, _| wanted.contains(name));
        let now = self.house.now();
        for name in wanted {
            let is_due = children.due.get(&name).is_none_or(|due| *due <= now);
            if !children.up.contains_key(&name) && is_due {
                self.start(myself, children, name).await?;
            }
        }
        Ok(())
    }

    async fn start(
        &self,
        myself: &ActorRef<Knock>,
        children: &mut Children,
        name: Arc<str>,
    ) -> Result<(), ActorProcessingErr> {
        let role = (self.branch.child)(&name);
        let is_restart = children.due.remove(&name).is_some();
        match (self.branch.start)(self.house.clone(), name.clone(), myself.get_cell()).await {
            Ok(child) => {
                self.house.enrol(role, &name, child.clone());
                children.up.insert(name, child);
                if is_restart {
                    self.house.restarted(role);
                }
                Ok(())
            }
            Err(error) => {
                warn!(role = role.as_str(), name = %name, %error, "an actor did not start");
                self.fell(myself, children, name)
            }
        }
    }

    /// Plans the restart of one that fell, or gives up, which makes this supervisor fall in turn.
    fn fell(
        &self,
        myself: &ActorRef<Knock>,
        children: &mut Children,
        name: Arc<str>,
    ) -> Result<(), ActorProcessingErr> {
        let (now, role) = (self.house.now(), (self.branch.child)(&name));
        let falls = children.falls.entry(name.clone()).or_default();
        match falls.fell(now, self.house.dice(), self.branch.intensity) {
            Verdict::Restart { after } => {
                children.due.insert(name, now + after);
                knock_after(myself.clone(), after, Knock::Wake);
                Ok(())
            }
            Verdict::GiveUp => Err(Box::new(GivesUp { role: role.as_str(), name })),
        }
    }

    fn arm(&self, myself: &ActorRef<Knock>) {
        if let Some(tick) = self.branch.tick {
            knock_after(myself.clone(), tick(&self.house, self.house.now()), Knock::Tick);
        }
    }
}

impl Actor for Supervisor {
    type Msg = Knock;
    type State = Children;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Knock>, (): ()) -> Result<Children, ActorProcessingErr> {
        Ok(Children::default())
    }

    async fn post_start(&self, myself: ActorRef<Knock>, children: &mut Children) -> Result<(), ActorProcessingErr> {
        self.arm(&myself);
        self.look(&myself, children).await
    }

    async fn handle(
        &self,
        myself: ActorRef<Knock>,
        message: Knock,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Knock::Wake => self.look(&myself, children).await,
            Knock::Tick => {
                self.arm(&myself);
                Ok(())
            }
            Knock::Poison => poisoned(self.branch.role),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Knock>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let (who, reason) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, reason.unwrap_or_default()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        let name = children.up.iter().find(|(_, child)| child.get_id() == who.get_id()).map(|(name, _)| name.clone());
        // One that was stopped because nobody wants it any more is not among the children.
        let Some(name) = name else { return Ok(()) };
        let role = (self.branch.child)(&name);
        if let Some(child) = children.up.remove(&name) {
            self.house.strike(role, &name, &child);
        }
        if self.house.is_stopping.load(std::sync::atomic::Ordering::Acquire) {
            debug!(role = role.as_str(), name = %name, "an actor ended");
            return Ok(());
        }
        warn!(role = role.as_str(), name = %name, reason, "an actor fell");
        self.fell(&myself, children, name)
    }
}

/// The end of an actor in a drill: what a fault of ours would look like.
#[expect(clippy::panic, reason = "a drill must fall the way a fault would")]
pub(crate) fn poisoned(role: Role) -> Result<(), ActorProcessingErr> {
    panic!("{} was poisoned", role.as_str())
}
