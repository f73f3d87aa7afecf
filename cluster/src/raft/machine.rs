//! Applies what was agreed, publishes what it comes to, and saves and loads it.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::{Notify, watch};
use troupe_proto::wire;

use super::plain::Meta;
use super::types::{Bytes, LogId, Payload, SnapshotMeta, StoredMembership, Types};
use crate::consensus::Machine;
use crate::storage::{Snapshot, SnapshotStore};

/// A snapshot as openraft hands it around.
pub(super) type Carried = openraft::alias::SnapshotOf<Types, Arc<[u8]>>;

/// A command longer than this is long work: a spec with 100,000 keys has 20 MiB, and takes longer than a heartbeat.
pub(super) const LONG_BYTES: usize = 64 << 10;

/// Where long work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// On threads of its own, so that it delays no heartbeat.
    #[default]
    Aside,
    /// Right where it comes up: a simulation has one thread.
    Here,
}

impl Work {
    /// Does it there.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Aside => tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?,
            Self::Here => work(),
        }
    }
}

/// What others see of a machine.
#[derive(Clone)]
pub(super) struct Published<M> {
    pub(super) machine: Arc<watch::Sender<Arc<M>>>,
    /// The index of the last entry that the published machine holds.
    pub(super) applied: Arc<watch::Sender<u64>>,
    /// Wakes who waits for an entry, in the order they came.
    pub(super) moved: Arc<Notify>,
}

/// The machine under openraft.
pub(super) struct Applier<M> {
    machine: M,
    last: Option<LogId>,
    membership: StoredMembership,
    published: Published<M>,
    snapshots: Arc<dyn SnapshotStore>,
    work: Work,
}

impl<M: Machine> Applier<M> {
    /// Begins with the newest snapshot, or with `machine` where there is none.
    pub(super) fn open(machine: M, snapshots: Arc<dyn SnapshotStore>, work: Work) -> io::Result<Self> {
        let published = Published {
            machine: Arc::new(watch::Sender::new(Arc::new(machine.clone()))),
            applied: Arc::new(watch::Sender::new(0)),
            moved: Arc::default(),
        };
        let mut applier =
            Self { machine, last: None, membership: StoredMembership::default(), published, snapshots, work };
        if let Some(snapshot) = applier.snapshots.load()? {
            let machine = M::load(&snapshot.state).map_err(io::Error::other)?;
            let meta: SnapshotMeta = snapshot.meta.try_into().map_err(io::Error::other)?;
            applier.replace(machine, &meta);
        }
        Ok(applier)
    }

    pub(super) fn published(&self) -> Published<M> {
        self.published.clone()
    }

    /// The last entry that the snapshot it began with holds.
    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    fn replace(&mut self, machine: M, meta: &SnapshotMeta) {
        self.machine = machine;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
    }

    fn publish(&self) {
        self.published.machine.send_if_modified(|current| {
            let is_changed = current.version() != self.machine.version();
            *current = Arc::new(self.machine.clone());
            // What readers need not see wakes nobody.
            is_changed
        });
        // After the machine: who waits for an index finds it in the machine.
        self.published.applied.send_replace(self.last.map_or(0, |last| last.index));
        self.published.moved.notify_waiters();
    }

    async fn apply_one(&mut self, at: LogId, payload: Payload) -> io::Result<Bytes> {
        let reply = match payload {
            Payload::Blank => Bytes::none(),
            Payload::Normal(Bytes(command)) if command.len() > LONG_BYTES => {
                let mut machine = self.machine.clone();
                let (machine, reply) = self
                    .work
                    .run(move || {
                        let reply = apply(&mut machine, at.index, &command)?;
                        Ok((machine, reply))
                    })
                    .await?;
                self.machine = machine;
                reply
            }
            Payload::Normal(Bytes(command)) => apply(&mut self.machine, at.index, &command)?,
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(at), membership);
                Bytes::none()
            }
        };
        self.last = Some(at);
        Ok(reply)
    }
}

/// Applies a command in its envelope. Whoever cannot read an entry must not go on without it: an error here ends
/// consensus at this node.
fn apply<M: Machine>(machine: &mut M, index: u64, command: &[u8]) -> io::Result<Bytes> {
    let command: M::Command = wire::decode(command).map_err(io::Error::other)?;
    let reply = machine.apply(index, &command);
    Ok(wire::encode(&reply).map_err(io::Error::other)?.into())
}

impl<M: Machine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotData = Arc<[u8]>;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let reply = self.apply_one(entry.log_id, entry.payload).await?;
            replies.extend(responder.map(|responder| (responder, reply)));
        }
        // Before the replies: who was answered finds its own change.
        self.publish();
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() };
        Builder { machine: self.machine.clone(), meta, snapshots: Arc::clone(&self.snapshots), work: self.work }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, state: Arc<[u8]>) -> io::Result<()> {
        let snapshot = Snapshot { meta: Meta::from(meta), state };
        let snapshots = Arc::clone(&self.snapshots);
        let machine = self
            .work
            .run(move || {
                // Loaded first: what cannot be read here must not become the newest snapshot.
                let machine = M::load(&snapshot.state).map_err(io::Error::other)?;
                snapshots.save(&snapshot)?;
                Ok(machine)
            })
            .await?;
        self.replace(machine, meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Carried>> {
        let snapshots = Arc::clone(&self.snapshots);
        let found = self.work.run(move || snapshots.load()).await?;
        found
            .map(|Snapshot { meta, state }| {
                let meta = meta.try_into().map_err(io::Error::other)?;
                Ok(Carried { meta, snapshot: state })
            })
            .transpose()
    }
}

/// A machine at one entry, about to become a snapshot.
pub(super) struct Builder<M> {
    machine: M,
    meta: SnapshotMeta,
    snapshots: Arc<dyn SnapshotStore>,
    work: Work,
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    type SnapshotData = Arc<[u8]>;

    async fn build_snapshot(&mut self) -> io::Result<Carried> {
        let (machine, meta) = (self.machine.clone(), Meta::from(&self.meta));
        let snapshots = Arc::clone(&self.snapshots);
        let state = self
            .work
            .run(move || {
                let state: Arc<[u8]> = machine.save().map_err(io::Error::other)?.into();
                snapshots.save(&Snapshot { meta, state: Arc::clone(&state) })?;
                Ok(state)
            })
            .await?;
        Ok(Carried { meta: self.meta.clone(), snapshot: state })
    }
}
