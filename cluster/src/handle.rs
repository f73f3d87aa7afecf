use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use troupe_proto::command::{Change, Command, Entry, Note, Refusal, Reply, Resealed};
use troupe_proto::id::{NodeId, ProviderId};
use troupe_proto::secret::CredentialSecret;
use troupe_proto::spec::{Provider, Spec};
use troupe_proto::wire::{self, WireError};

use crate::audit::{self, AuditError, History, Point, Span, Told, Writer};
use crate::consensus::{Consensus, Local, Machine, ProposeError, ReadError, Reshape, ReshapeError, Vitals};
use crate::desk::Desk;
use crate::seal::{Keyring, SealError};
use crate::state::State;

impl Machine for State {
    type Command = Entry;
    type Reply = Reply;

    fn apply(&mut self, index: u64, entry: &Entry) -> Reply {
        Self::apply(self, index, entry)
    }

    fn is_from(from: NodeId, entry: &Entry) -> bool {
        entry.origin.node == from
    }

    fn stamp(entry: &mut Entry, at_ms: i64) -> bool {
        let Command::UseJoinToken { at, .. } = &mut entry.command else { return false };
        // A token is refused where either clock says that its time is over.
        *at = (*at).max(at_ms.div_euclid(1000));
        true
    }

    fn version(&self) -> u64 {
        self.changes()
    }

    fn save(&self) -> Result<Vec<u8>, WireError> {
        wire::encode(self)
    }

    fn load(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes)
    }
}

/// Starts clusters.
pub struct Cluster;

impl Cluster {
    /// A cluster of this process alone, with an empty state that lives as long as its handles.
    pub fn start_local(keyring: Keyring) -> Handle {
        Self::over(Arc::new(Local::new(State::newest())), Process { node: NodeId(0), incarnation: 1 }, keyring)
    }

    /// Joins a consensus and the state: what is proposed through the handle is proposed by `process`.
    ///
    /// One process has one handle, and its clones: two would give different entries the same number.
    pub fn over(consensus: Arc<dyn Consensus<State>>, process: Process, keyring: Keyring) -> Handle {
        Handle {
            inner: Arc::new(Inner {
                consensus,
                desk: Desk::new(process),
                keyring,
                opened: Mutex::default(),
                audit: OnceLock::new(),
            }),
        }
    }
}

/// A process of a node, by which what it proposes is told from what others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The node.
    pub node: NodeId,
    /// Which start of it this is; each later one has a greater number.
    pub incarnation: u64,
}

/// The one way to read and to change what nodes agree on. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    consensus: Arc<dyn Consensus<State>>,
    desk: Desk,
    keyring: Keyring,
    /// The last spec whose secrets were opened.
    opened: Mutex<Option<Opened>>,
    /// Where the audit of this node is kept.
    audit: OnceLock<PathBuf>,
}

struct Opened {
    sealed: Arc<Spec>,
    open: Arc<Spec>,
}

/// Why the secrets in the state were not sealed again.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// One of them cannot be opened, or none can be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The change could not be made.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Whether this node has seen what became of it is not known.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The change was refused.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// They changed each time before they were sealed again.
    #[error("the secrets changed too often in the meantime: try again")]
    Unsettled,
}

/// Secrets sealed again by one command.
const RESEALED_MAX: usize = 1_000;

/// Commands that sealing all of them may take.
const RESEALS_MAX: usize = 1_000;

impl Handle {
    /// Has a command applied, and says what it came to. A refused command changes nothing. Open secrets in it are sealed
    /// on the way; what leaves this process has none.
    ///
    /// # Errors
    /// [`ProposeError`]; each variant says whether the command may still take effect.
    pub async fn propose(&self, note: Note, command: Command) -> Result<Reply, ProposeError> {
        let mut command = command;
        self.seal(&mut command).map_err(|_| ProposeError::Unsealed)?;
        if let Some(refusal) = self.too_new(&command).await? {
            return Ok(Reply::Refused(refusal));
        }
        let ticket = self.inner.desk.ticket().await;
        let entry = Entry { origin: ticket.origin(), note, command };
        match self.inner.consensus.propose(entry).await? {
            // An earlier copy of it may have been applied and settled since.
            Reply::Refused(refusal @ (Refusal::Stale | Refusal::Fenced)) => {
                let Process { node, incarnation } = self.process();
                tracing::error!(%node, incarnation, %refusal, "the cluster does not listen to this process: was its data directory copied or put back?");
                Err(ProposeError::Unknown)
            }
            reply => Ok(reply),
        }
    }

    /// Why a command must not get into the log: some member would find an entry there that it cannot read, and stop.
    /// The version in force never goes back, so what an older state allows each later one does.
    async fn too_new(&self, command: &Command) -> Result<Option<Refusal>, ProposeError> {
        let needs = command.needs();
        if needs <= self.state().cluster_version() {
            return Ok(None);
        }
        // It may have been raised without this node having heard of it.
        self.read_index().await.map_err(|_| ProposeError::NoLeader)?;
        let version = self.state().cluster_version();
        Ok((needs > version).then_some(Refusal::TooNew { needs, version }))
    }

    fn seal(&self, command: &mut Command) -> Result<(), SealError> {
        match command {
            Command::Change { base: _, changes } => changes.iter_mut().try_for_each(|change| match change {
                Change::PutProvider(id, provider) => {
                    self.keep_sealed(id, provider);
                    self.inner.keyring.seal_provider(id, provider)
                }
                Change::RemoveProvider(_)
                | Change::PutModel(..)
                | Change::RemoveModel(_)
                | Change::PutKey(..)
                | Change::RemoveKey(_)
                | Change::PutDefaults(_)
                | Change::PutPolicies(_)
                | Change::SwitchProvider(..) => Ok(()),
            }),
            Command::Form { .. }
            | Command::SetVersion(_)
            | Command::PutMember(..)
            | Command::RemoveMember(_)
            | Command::PutAdminToken(..)
            | Command::RemoveAdminToken(_)
            | Command::PutJoinToken { .. }
            | Command::RemoveJoinToken(_)
            | Command::UseJoinToken { .. }
            | Command::Reseal(_)
            | Command::Reshaped { .. } => Ok(()),
        }
    }

    /// Which process this is.
    pub fn process(&self) -> Process {
        self.inner.desk.process()
    }

    /// Waits until the state says that a later process of this node is at work. Nothing that this one proposes is applied
    /// from then on.
    pub async fn superseded(&self) {
        let Process { node, incarnation } = self.process();
        let mut states = self.watch();
        let is_later = |state: &Arc<State>| state.incarnation(node).is_some_and(|last| last > incarnation);
        if states.wait_for(is_later).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The state in force here.
    pub fn state(&self) -> Arc<State> {
        self.inner.consensus.state()
    }

    /// The states to come. A slow reader sees the newest, not each one.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.inner.consensus.watch()
    }

    /// Waits until [`Self::state`] holds everything that was acknowledged anywhere before this call.
    ///
    /// # Errors
    /// [`ReadError`]; nothing is known then.
    pub async fn read_index(&self) -> Result<(), ReadError> {
        self.inner.consensus.read_index().await
    }

    /// How consensus is at this node, as numbers.
    pub fn vitals(&self) -> Vitals {
        self.inner.consensus.vitals()
    }

    /// Changes who takes part.
    ///
    /// # Errors
    /// [`ReshapeError`]; each variant says whether the change may still take effect.
    pub async fn reshape(&self, change: Reshape) -> Result<(), ReshapeError> {
        self.inner.consensus.reshape(change).await
    }

    /// How old this node's knowledge may be before it turns calls away; `None`: however old.
    pub fn freshness(&self) -> Option<Duration> {
        self.state().spec().policies.freshness.bound()
    }

    /// The spec in force here, its secrets open.
    ///
    /// # Errors
    /// [`SealError`] for the first secret that this node's envelope keys do not open.
    pub fn spec(&self) -> Result<Arc<Spec>, SealError> {
        self.open(&self.state())
    }

    /// The spec of a state, its secrets open.
    ///
    /// # Errors
    /// As [`Self::spec`].
    pub fn open(&self, state: &State) -> Result<Arc<Spec>, SealError> {
        let sealed = state.spec();
        let mut opened = self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = Spec::clone(sealed);
        if let Some(before) = &*opened {
            if Arc::ptr_eq(&before.sealed, sealed) {
                return Ok(before.open.clone());
            }
            // Only what changed is opened again: a change of a key costs nothing here.
            open.providers = before.open.providers.clone();
            for change in before.sealed.providers.diff(&sealed.providers) {
                match change {
                    imbl::ordmap::DiffItem::Add(id, provider)
                    | imbl::ordmap::DiffItem::Update { old: _, new: (id, provider) } => {
                        let mut provider = provider.clone();
                        self.inner.keyring.open_provider(id, &mut provider)?;
                        open.providers.insert(id.clone(), provider);
                    }
                    imbl::ordmap::DiffItem::Remove(id, _) => {
                        open.providers.remove(id);
                    }
                }
            }
        } else {
            for (id, provider) in &sealed.providers {
                let mut provider = provider.clone();
                self.inner.keyring.open_provider(id, &mut provider)?;
                open.providers.insert(id.clone(), provider);
            }
        }
        let open = Arc::new(open);
        *opened = Some(Opened { sealed: sealed.clone(), open: open.clone() });
        Ok(open)
    }

    /// Has each secret in the state that is under another envelope key sealed again under this node's current one. Once
    /// it was through, no node needs the older keys. Gives how many there were.
    ///
    /// # Errors
    /// [`ResealError`]; what was sealed again until then stays so.
    pub async fn reseal(&self, note: Note) -> Result<usize, ResealError> {
        let mut count = 0;
        for _ in 0..RESEALS_MAX {
            let resealed = self.resealed()?;
            if resealed.is_empty() {
                return Ok(count);
            }
            let these = resealed.len();
            match self.propose(note.clone(), Command::Reseal(resealed)).await? {
                Reply::Applied(_) | Reply::Repeated(_) => count += these,
                Reply::Refused(refusal) => return Err(refusal.into()),
            }
            // The answer may come from the leader before this node has applied the entry.
            self.read_index().await?;
        }
        Err(ResealError::Unsettled)
    }

    /// Keeps the audit in files of a directory: opens them, and gives the task that writes them, to be spawned. One
    /// process has one.
    ///
    /// # Errors
    /// [`AuditError`] when the directory cannot be used.
    pub fn keep_audit(
        &self,
        dir: &Path,
        settings: audit::Settings,
    ) -> Result<impl Future<Output = ()> + Send + 'static, AuditError> {
        let writer = Writer::open(dir, settings)?;
        // A second one would write the same; the directory's lock keeps other processes away.
        let dir = self.inner.audit.get_or_init(|| dir.to_owned());
        tracing::debug!(dir = %dir.display(), "the audit is kept");
        Ok(audit::run(writer, self.watch()))
    }

    /// What was changed, by whom and why, the oldest first: the first `limit` lines from `from` on, or the last ones up
    /// to `to` where it is `None`; and what of it is not known here. Older lines than the state holds come from this
    /// node's files.
    ///
    /// # Errors
    /// [`AuditError`] when these cannot be read.
    pub async fn audit(&self, from: Option<Point>, to: Option<Point>, limit: usize) -> Result<Told, AuditError> {
        let state = self.state();
        let mut span = Span::new(from, to, limit);
        span.take_ring(state.audit());
        let oldest = state.audit().lines().next();
        let is_whole = state.audit().base() == [0; 32]
            || match from {
                // All of the span is in the ring if what is older begins before it.
                Some(from) => oldest.is_some_and(|oldest| !from.is_reached(oldest)),
                None => span.is_full(),
            };
        match self.inner.audit.get() {
            Some(dir) if !is_whole => {
                let dir = dir.clone();
                let read = move || audit::read(Some(&dir), state.audit(), from, to, limit);
                tokio::task::spawn_blocking(read).await.map_err(|_| AuditError::Stopped)?
            }
            Some(_) | None => Ok(span.told()),
        }
    }

    /// The lines that a state can be told back by, to the entry `index` if they reach so far. It reads files: to be
    /// called where that may block.
    ///
    /// # Errors
    /// [`AuditError`] when these cannot be read.
    pub fn history(&self, state: &State, index: u64) -> Result<History, AuditError> {
        audit::history(self.inner.audit.get().map(PathBuf::as_path), state.audit(), index)
    }

    /// Gives each secret that is the one in force the form in which it is kept: the audit then says that it did not
    /// change. One under an older envelope key is sealed anew.
    fn keep_sealed(&self, id: &ProviderId, provider: &mut Provider) {
        let state = self.state();
        let (Some(sealed), Ok(open)) = (state.spec().providers.get(id), self.open(&state)) else { return };
        let Some(open) = open.providers.get(id) else { return };
        for (name, credential) in &mut provider.credentials {
            let kept = sealed.credentials.get(name).map(|credential| &credential.secret);
            let is_same = open.credentials.get(name).is_some_and(|open| open.secret == credential.secret);
            if let Some(CredentialSecret::Sealed(kept)) = kept
                && is_same
                && kept.key == self.inner.keyring.current()
            {
                credential.secret = CredentialSecret::Sealed(kept.clone());
            }
        }
    }

    fn resealed(&self) -> Result<Vec<Resealed>, SealError> {
        let keyring = &self.inner.keyring;
        let mut resealed = Vec::new();
        for (id, provider) in &self.state().spec().providers {
            for (name, credential) in &provider.credentials {
                let CredentialSecret::Sealed(old) = &credential.secret else { continue };
                if old.key == keyring.current() || resealed.len() >= RESEALED_MAX {
                    continue;
                }
                let open = keyring.open(id, name, &credential.secret)?;
                let new = keyring.seal(id, name, &CredentialSecret::Open(open))?;
                resealed.push(Resealed { provider: id.clone(), credential: name.clone(), old: old.clone(), new });
            }
        }
        Ok(resealed)
    }
}

#[cfg(test)]
mod tests;
